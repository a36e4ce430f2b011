"""Parallel text: two files side by side, translation memories, and the messages of software."""

import gettext
import gzip
import io
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled_catalogue import HEADER, compiled
from luthier.data.readers import READERS, DataFile
from luthier.data.sources import open_source
from luthier.engines.engine import Choice
from luthier.errors import InputError, LuthierError, RowError, SecurityError


def write(folder: Path, **files: str | bytes) -> Path:
    """Write files named ``en="..."`` as ``train.en``."""
    for suffix, content in files.items():
        (folder / f"train.{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return folder


def read(path: Path | str, **options):
    name = options.pop("name", None)
    return list(open_source(str(path), format=Choice(name, options) if name else None).rows())


def pairs(rows) -> list[tuple[str, str]]:
    rows = list(rows)
    assert not [row for row in rows if isinstance(row, RowError)]
    return [(row["source"], row["target"]) for row in rows]


# Two files


def test_two_files_are_read_line_by_line_with_the_place_in_the_source(tmp_path: Path):
    write(tmp_path, en="A dog.\nTwo cats.\n", fr="Un chien.\nDeux chats.\n")
    rows = read(f"{tmp_path}/train.{{en,fr}}")
    assert [dict(row) for row in rows] == [
        {"source": "A dog.", "target": "Un chien."},
        {"source": "Two cats.", "target": "Deux chats."},
    ]
    assert [(row.file, row.line) for row in rows] == [(f"{tmp_path}/train.en", 1), (f"{tmp_path}/train.en", 2)]
    assert pairs(read(f"{tmp_path}/train.{{fr,en}}"))[0] == ("Un chien.", "A dog.")


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\r"])
@pytest.mark.parametrize("encoding", [None, "utf-16"])
def test_no_other_character_ends_a_line(tmp_path: Path, char: str, encoding: str | None):
    english, french = f"one{char}two\nthree\n", "un deux\ntrois\n"
    write(tmp_path, en=english.encode(encoding or "utf-8"), fr=french.encode(encoding or "utf-8"))
    rows = list(open_source(f"{tmp_path}/train.{{en,fr}}", encoding=encoding).rows())
    assert pairs(rows) == [(f"one{char}two", "un deux"), ("three", "trois")]


def test_ends_of_lines_and_blanks_before_them_are_no_text(tmp_path: Path):
    write(tmp_path, en="one \r\n two\t\r\nthree", fr="un\u00a0\ndeux\ntrois \n")
    assert pairs(read(f"{tmp_path}/train.{{en,fr}}")) == [("one", "un"), (" two", "deux"), ("three", "trois")]


def test_a_line_that_is_blank_on_both_sides_is_no_row_and_on_one_side_an_empty_text(tmp_path: Path):
    write(tmp_path, en="one\n\n \nfour\n", fr="un\n \ntrois\nquatre\n")
    rows = read(f"{tmp_path}/train.{{en,fr}}")
    assert pairs(rows) == [("one", "un"), ("", "trois"), ("four", "quatre")]
    assert [row.line for row in rows] == [1, 3, 4]


@pytest.mark.parametrize(("lines", "other"), [(3, 5), (5, 3), (1, 2)])
def test_different_numbers_of_lines_stop_and_name_both_files_and_counts(tmp_path: Path, lines: int, other: int):
    write(tmp_path, en="a\n" * lines, fr="b\n" * other)
    with pytest.raises(InputError) as caught:
        read(f"{tmp_path}/train.{{en,fr}}")
    assert f"{tmp_path}/train.en has {lines} lines, {tmp_path}/train.fr {other}" in str(caught.value)


def test_a_missing_side_is_named_before_anything_is_read(tmp_path: Path):
    write(tmp_path, en="a\n")
    with pytest.raises(InputError, match=r"train\.fr: there is no such file\. It is the target of .*train\.\{en,fr\}"):
        open_source(f"{tmp_path}/train.{{en,fr}}")
    with pytest.raises(InputError, match=r"train\.de: there is no such file\. It is the source"):
        open_source(f"{tmp_path}/train.{{de,en}}")


def test_an_empty_side_and_a_byte_of_another_encoding_are_named(tmp_path: Path):
    write(tmp_path, en="a\nb\n", fr=b"", de=b"\xc3\xa9\n\xe9\n")
    with pytest.raises(InputError, match=r"train\.fr: the file is empty"):
        read(f"{tmp_path}/train.{{en,fr}}")
    with pytest.raises(InputError, match=r"train\.de:2: byte 3 \(0xe9\) is not utf-8"):
        read(f"{tmp_path}/train.{{en,de}}")


def test_a_byte_order_mark_is_stripped_and_noted_for_either_side(tmp_path: Path):
    write(tmp_path, en="a\n", fr=b"\xef\xbb\xbfb\n")
    source = open_source(f"{tmp_path}/train.{{en,fr}}")
    assert pairs(source.rows()) == pairs(source.rows()) == [("a", "b")]
    assert source.notes == [f"{tmp_path}/train.fr: a byte order mark was stripped"]


def test_files_and_digest_are_those_of_both_sides(tmp_path: Path):
    spec = f"{tmp_path}/train.{{en,fr}}"
    digests = set()
    for content in ({"en": "a\n", "fr": "b\n"}, {"en": "c\n"}, {"fr": "d\n"}):
        write(tmp_path, **content)
        digests.add(open_source(spec).digest())
    assert len(digests) == 3
    assert open_source(spec).files == [f"{tmp_path}/train.en", f"{tmp_path}/train.fr"]


def test_a_list_may_hold_braces_beside_other_files_and_gzip_is_read(tmp_path: Path):
    write(tmp_path, en="a\n", fr="b\n", csv="source,target\ne,f\n")
    for language, text in (("en", b"c\n"), ("fr", b"d\n")):
        (tmp_path / f"more.{language}.gz").write_bytes(gzip.compress(text))
    source = open_source([f"{tmp_path}/train.{{en,fr}}", f"{tmp_path}/*.csv", f"{tmp_path}/more.{{en,fr}}.gz"])
    assert pairs(source.rows()) == [("a", "b"), ("e", "f"), ("c", "d")]


def test_braces_are_no_pattern_and_brackets_around_them_none_either(tmp_path: Path):
    folder = tmp_path / "set [1]"
    folder.mkdir()
    write(folder, en="a\n", fr="b\n")
    assert pairs(read(f"{folder}/train.{{en,fr}}")) == [("a", "b")]
    (tmp_path / "odd{a,b}.csv").write_text("source,target\nc,d\n")
    assert pairs(read(tmp_path / "odd{a,b}.csv")) == [("c", "d")]
    with pytest.raises(InputError, match="Braces and patterns do not go together: give a list"):
        open_source(f"{folder}/*.{{en,fr}}")


@pytest.mark.parametrize("braces", ["{en,fr,de}", "{en,en}", "{en,}", "{,}", "{en,fr}.{a,b}"])
def test_braces_that_name_no_two_files_are_refused(tmp_path: Path, braces: str):
    with pytest.raises(InputError, match="do not name the two sides"):
        open_source(f"{tmp_path}/train.{braces}")


def test_braces_around_tables_are_refused_with_the_list_that_was_meant(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("source,target\nc,d\n")
        (tmp_path / f"{name}.txt").write_text("c\n")
    with pytest.raises(InputError, match=r"these would be csv\. Give a list: \[.*a\.csv, .*b\.csv\]"):
        open_source(f"{tmp_path}/{{a,b}}.csv")
    with pytest.raises(InputError, match="these would be jsonl"):
        open_source(f"{tmp_path}/{{a,b}}.txt", format=Choice("jsonl"))
    assert pairs(read(f"{tmp_path}/{{a,b}}.txt")) == [("c", "c")]


def test_one_side_alone_is_told_of_the_braces(tmp_path: Path):
    write(tmp_path, fr="b\n")
    with pytest.raises(InputError, match=r'"\.fr" tells no format.*data\.train=train\.\{en,fr\}'):
        read(tmp_path / "train.fr")


# Translation memories


def unit(*texts: tuple[str, str], lang: str = "xml:lang") -> str:
    variants = (f'<tuv {lang}="{code}"><prop type="x">no text</prop><seg>{text}</seg></tuv>' for code, text in texts)
    return f"<tu><note>no text</note>{''.join(variants)}</tu>\n"


def memory(*units: str, srclang: str = "en", before: str = '<?xml version="1.0" encoding="UTF-8"?>\n') -> str:
    return f'{before}<tmx version="1.4"><header srclang="{srclang}" segtype="sentence"/><body>\n{"".join(units)}</body></tmx>\n'


def read_memory(folder: Path, content: str | bytes, **options):
    path = folder / "memory.tmx"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return list(READERS.get("tmx")(DataFile(path), **options))


HELLO = unit(("en", "Hello"), ("fr", "Bonjour"))


def test_a_memory_of_two_languages_needs_no_options(tmp_path: Path):
    turned = unit(("fr", "Non"), ("en", "No"))
    rows = read_memory(tmp_path, memory(HELLO, turned))
    assert pairs(rows) == [("Hello", "Bonjour"), ("No", "Non")]
    assert [row.line for row in rows] == [1, 2]
    assert pairs(read_memory(tmp_path, memory(HELLO, srclang="FR"))) == [("Bonjour", "Hello")]


@pytest.mark.parametrize(
    ("english", "french", "source", "target"),
    [("en-US", "fr-CA", "en", "FR"), ("EN", "fr", "en", "fr"), ("en_GB", "FR-fr", "EN-gb", "fr_FR"), ("en", "fr", "en", None)],
)
def test_languages_are_matched_whatever_their_case_and_region(tmp_path: Path, english, french, source, target):
    text = memory(unit((english, "Hello"), (french, "Bonjour")), srclang="*all*")
    assert pairs(read_memory(tmp_path, text, source=source, target=target)) == [("Hello", "Bonjour")]


def test_a_target_alone_may_be_named_where_the_header_names_the_source(tmp_path: Path):
    text = memory(unit(("en-US", "Bus"), ("fr-FR", "Bus"), ("de-DE", "Omnibus")))
    assert pairs(read_memory(tmp_path, text, target="de")) == [("Bus", "Omnibus")]
    with pytest.raises(InputError, match="which languages are meant"):
        read_memory(tmp_path, text.replace('"en"', '"*all*"'), target="de")


def test_another_region_than_the_one_asked_for_is_not_taken(tmp_path: Path):
    text = memory(unit(("en", "Bus"), ("pt-PT", "Autocarro"), ("pt-BR", "Ônibus")), unit(("en", "Train"), ("pt-PT", "Comboio")))
    first, second = read_memory(tmp_path, text, source="en", target="pt-BR")
    assert pairs([first]) == [("Bus", "Ônibus")]
    assert str(second).endswith(":2: this unit has no target in pt-br (found: en, pt-pt)")


def test_the_first_of_several_texts_is_taken_and_noted(tmp_path: Path):
    path = tmp_path / "memory.tmx"
    path.write_text(memory(unit(("en", "Bus"), ("pt-PT", "Autocarro"), ("pt-BR", "Ônibus")), HELLO.replace("fr", "pt")))
    source = open_source(str(path), format=Choice("tmx", {"source": "en", "target": "pt"}))
    assert pairs(source.rows()) == [("Bus", "Autocarro"), ("Hello", "Bonjour")]
    assert source.notes == [f"{path}: units with several texts of a side, of which the first was taken: 1"]


def test_a_unit_without_one_of_its_sides_is_rejected(tmp_path: Path):
    rows = read_memory(tmp_path, memory(unit(("en", "Alone")), HELLO, unit(("fr", "Seul")), "<tu></tu>"))
    assert pairs(rows[1:2]) == [("Hello", "Bonjour")]
    assert [re.sub(".*tmx:", "", str(row)) for row in (rows[0], *rows[2:])] == [
        "1: this unit has no target (found: en)",
        "3: this unit has no source in en (found: fr)",
        "4: this unit has no source in en (found: nothing)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        memory(HELLO, unit(("en", "Hello"), ("de", "Hallo"))),
        memory(unit(("en", "a"), ("fr", "b"), ("de", "c"))),
        memory(HELLO, unit(("en", "a"), ("fr", "b"), ("de", "c"))),
        memory(HELLO, srclang="*all*"),
        memory(HELLO, srclang="de"),
        memory(unit(("en-US", "Color"), ("en-GB", "Colour")), srclang="en"),
    ],
)
def test_languages_that_do_not_tell_which_two_are_meant_stop(tmp_path: Path, text: str):
    with pytest.raises(InputError, match=r"which languages are meant\?.*data\.format=\{name: tmx, source: en, target: fr\}"):
        read_memory(tmp_path, text)


def test_formatting_codes_are_dropped_and_highlighted_text_is_kept(tmp_path: Path):
    marked = (
        'Press <bpt i="1">&lt;b&gt;<sub>a footnote</sub></bpt><hi type="x">the <hi>red</hi></hi><ept i="1">&lt;/b&gt;</ept> '
        "button<ph>{0}<sub>x</sub></ph><it pos='end'>]</it><ut>}</ut> &amp; <![CDATA[<wait>]]>"
    )
    rows = read_memory(tmp_path, memory(unit(("en", marked), ("fr", "\n  Appuyez \u00a0!\n"))))
    assert pairs(rows) == [("Press the red button & <wait>", "Appuyez \u00a0!")]


def test_the_language_attribute_of_old_versions_is_read_and_none_at_all_rejected(tmp_path: Path):
    first, second = read_memory(tmp_path, memory(unit(("en", "a"), ("fr", "b"), lang="lang"), unit(("", "c"), ("fr", "d"))))
    assert pairs([first]) == [("a", "b")]
    assert "has no xml:lang" in str(second)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "declared",
    [
        f'<!DOCTYPE tmx [<!ENTITY l0 "lol">{LAUGHS}]>',
        '<!DOCTYPE tmx [<!ENTITY secret SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE tmx [<!ENTITY % more SYSTEM "http://example.org/more.dtd"> %more;]>',
    ],
)
def test_declared_entities_are_refused(tmp_path: Path, declared: str):
    text = memory(unit(("en", "a"), ("fr", "&l9;&secret;")), before=f'<?xml version="1.0"?>{declared}')
    with pytest.raises(SecurityError, match="it declares the entity") as caught:
        read_memory(tmp_path, text)
    assert caught.value.exit_code == 3


def test_a_document_type_that_stands_elsewhere_is_not_fetched_and_its_entities_reject_the_unit(tmp_path: Path):
    (tmp_path / "tmx14.dtd").write_text('<!ENTITY nbsp "from outside">')
    before = '<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd">'
    first, second = read_memory(tmp_path, memory(HELLO, unit(("en", "a&nbsp;b"), ("fr", "c")), before=before))
    assert pairs([first]) == [("Hello", "Bonjour")]
    assert isinstance(second, RowError)
    assert 'the entity "&nbsp;" is not declared' in str(second)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "iso-8859-1", "windows-1252"])
def test_the_document_says_its_own_encoding(tmp_path: Path, encoding: str):
    declared = encoding.removesuffix("-sig")
    text = memory(unit(("en", "cafe"), ("fr", "café")), before=f'<?xml version="1.0" encoding="{declared}"?>')
    assert pairs(read_memory(tmp_path, text.encode(encoding))) == [("cafe", "café")]


def test_an_encoding_that_the_user_names_wins(tmp_path: Path):
    text = memory(unit(("en", "hello"), ("zh", "你好")), before='<?xml version="1.0" encoding="gb18030"?>')
    path = tmp_path / "memory.tmx"
    path.write_bytes(text.encode("gb18030"))
    with pytest.raises(InputError, match=r"no sound TMX.*data\.encoding"):
        read(path)
    assert pairs(open_source(str(path), encoding="gb18030").rows()) == [("hello", "你好")]


@pytest.mark.parametrize(
    "text", [memory(HELLO)[:-9], memory(HELLO) + "<more/>", "no xml", "<tmx><body><tu></body></tmx>", '<?xml version="1.0"?>']
)
def test_xml_that_is_not_sound_stops(tmp_path: Path, text: str):
    with pytest.raises(InputError, match="this is no sound TMX"):
        read_memory(tmp_path, text)


def test_xml_of_another_kind_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="this is no TMX: it begins with <html>"):
        read_memory(tmp_path, "<html></html>")


def test_units_come_while_the_file_is_still_being_read(tmp_path: Path):
    path = tmp_path / "memory.tmx"
    path.write_text(memory(HELLO * 5000)[:-20])  # cut off, which only the end can tell
    rows = READERS.get("tmx")(DataFile(path))
    assert next(rows)["target"] == "Bonjour"
    with pytest.raises(InputError, match="no sound TMX"):
        list(rows)


# Messages of software


PO_HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={}\\n"\n"Plural-Forms: nplurals=2; plural=(n > 1);\\n"\n\n'


def read_messages(folder: Path, body: str, *, charset: str = "UTF-8", header: str = PO_HEADER):
    path = folder / "messages.po"
    path.write_bytes((header.format(charset) + body).encode(charset))
    source = open_source(str(path))
    return list(source.rows()), [note.removeprefix(f"{path}: ") for note in source.notes]


def test_messages_with_their_contexts_plurals_and_lines(tmp_path: Path):
    body = (
        "#. for translators\n#: view.py:3\n#, python-format\n"
        'msgid "Open %s"\nmsgstr "Ouvrir %s"\n'
        '\n#| msgid "Mai"\nmsgctxt "month"\nmsgid "May"\nmsgstr "Mai"\n'
        'msgid "file"\nmsgid_plural "files"\nmsgstr[0] "fichier"\nmsgstr[1] "fichiers"\n'
    )
    rows, notes = read_messages(tmp_path, body)
    assert [dict(row) for row in rows] == [
        {"source": "Open %s", "target": "Ouvrir %s", "context": None},
        {"source": "May", "target": "Mai", "context": "month"},
        {"source": "file", "target": "fichier", "context": None},
        {"source": "files", "target": "fichiers", "context": None},
    ]
    assert [row.line for row in rows] == [9, 14, 16, 17]
    assert notes == []


def test_strings_over_several_lines_and_escapes(tmp_path: Path):
    body = 'msgid ""\n"two "\n  "lines\\n"\nmsgstr"a\\t\\"b\\" " "\\\\n \\x41\\101"\n'
    rows, _ = read_messages(tmp_path, body)
    assert pairs(rows) == [("two lines\n", 'a\t"b" \\n AA')]


def test_what_is_fuzzy_obsolete_or_not_translated_is_left_out_and_counted(tmp_path: Path):
    body = (
        '#, python-format, fuzzy\nmsgid "a"\nmsgstr "b"\n\n'
        '#, fuzzy\n#~ msgid "old"\n#~ msgstr "vieux"\n\n#~ msgid "older"\n#~ msgid_plural "olds"\n#~ msgstr[0] "x"\n\n'
        'msgid "c"\nmsgstr ""\n\nmsgid "d"\nmsgid_plural "ds"\nmsgstr[0] "e"\nmsgstr[1] ""\n\nmsgid "kept"\nmsgstr "gardé"\n'
    )
    rows, notes = read_messages(tmp_path, body)
    assert pairs(rows) == [("kept", "gardé")]
    assert notes == ["1 fuzzy, 2 untranslated and 2 obsolete messages left out"]
    assert read_messages(tmp_path, 'msgid "c"\nmsgstr ""\n')[1] == ["1 untranslated message left out"]


def test_the_plurals_of_many_and_of_one_form(tmp_path: Path):
    body = 'msgid "file"\nmsgid_plural "files"\nmsgstr[0] "файл"\nmsgstr[1] "файла"\nmsgstr[2] "файлов"\n'
    assert pairs(read_messages(tmp_path, body)[0]) == [("file", "файл"), ("files", "файлов")]
    body = 'msgid "file"\nmsgid_plural "files"\nmsgstr[0] "文件"\n'
    assert pairs(read_messages(tmp_path, body)[0]) == [("file", "文件"), ("files", "文件")]


@pytest.mark.parametrize(
    ("body", "flaw", "line"),
    [
        ('msgid "a"\nmsgstr "b\n', "line 2 is no part of a message", 1),
        ('msgid "a"\nmsgstr "\\q"\n', "line 2: there is no escape \\q", 1),
        ('msgid "a"\nmsgstr "\\351"\n', "line 2: there is no escape \\351", 1),
        ('msgid "a"\nmsgstr "b"\nmsgstr "c"\n', "line 3: msgstr stands twice", 1),
        ('msgid "a"\n', "this message has no msgstr", 1),
        ('msgstr "a"\n', "this message has no msgid", 1),
        ("nonsense\n", "line 1 is no part of a message", 1),
        ('"a lone string"\n', "line 1 is no part of a message", 1),
    ],
)
def test_a_message_that_cannot_be_parsed_is_rejected_and_the_next_one_read(tmp_path: Path, body: str, flaw: str, line: int):
    rows, _ = read_messages(tmp_path, f'{body}\nmsgid "next"\nmsgstr "suivant"\n', header="")
    *bad, good = rows
    assert pairs([good]) == [("next", "suivant")]
    assert [str(error) for error in bad] == [f"{tmp_path}/messages.po:{line}: {flaw}"]


@pytest.mark.parametrize("charset", ["UTF-8", "ISO-8859-1", "gb18030", "koi8-r"])
def test_the_header_says_the_charset(tmp_path: Path, charset: str):
    text = {"gb18030": "你好", "koi8-r": "привет"}.get(charset, "déjà")
    rows, _ = read_messages(tmp_path, f'msgid "hello"\nmsgstr "{text}"\n', charset=charset)
    assert pairs(rows) == [("hello", text)]
    path = tmp_path / "messages.mo"
    path.write_bytes(compiled({"hello": text}, header=f"Content-Type: text/plain; charset={charset}\n", charset=charset))
    assert pairs(read(path)) == [("hello", text)]


def test_a_charset_that_the_user_names_wins_and_none_means_utf8(tmp_path: Path):
    path = tmp_path / "messages.po"
    path.write_bytes((PO_HEADER.format("UTF-8") + 'msgid "a"\nmsgstr "déjà"\n').encode("latin-1"))
    with pytest.raises(InputError, match=r"messages\.po:7: .* is not utf-8"):
        read(path)
    assert pairs(open_source(str(path), encoding="latin-1").rows()) == [("a", "déjà")]
    assert pairs(read_messages(tmp_path, 'msgid "a"\nmsgstr "à"\n', header="")[0]) == [("a", "à")]
    template = PO_HEADER.replace("{}", "CHARSET")
    assert pairs(read_messages(tmp_path, 'msgid "a"\nmsgstr "à"\n', header=template)[0]) == [("a", "à")]


def test_a_charset_that_is_unknown_stops(tmp_path: Path):
    for suffix, content in (
        ("po", PO_HEADER.format("rot13").encode()),
        ("mo", compiled({}, header=HEADER.replace("UTF-8", "X"))),
    ):
        path = tmp_path / f"messages.{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"its header names the charset .*data\.encoding"):
            read(path)


MESSAGES = {
    "Open %s": "Ouvrir %s",
    "month\4May": "Mai",
    "file\0files": "fichier\0fichiers",
    "menu\4tab\0tabs": "onglet\0onglets",
    "two\nlines": "deux\nlignes",
    "red 😀": "rouge 😀",
}


@pytest.mark.parametrize("order", ["<", ">"])
def test_compiled_messages_are_those_that_pythons_gettext_finds(tmp_path: Path, order: str):
    path = tmp_path / "messages.mo"
    path.write_bytes(compiled({**MESSAGES, "nothing": ""}, order=order))
    source = open_source(str(path))
    rows = list(source.rows())
    assert source.notes == [f"{path}: 1 untranslated message left out"]
    assert [row.line for row in rows] == list(range(1, 9))
    oracle = gettext.GNUTranslations(io.BytesIO(path.read_bytes()))
    plurals = {"files": ("file", 2), "tabs": ("tab", 2), "file": ("file", 1), "tab": ("tab", 1)}
    for row in rows:
        singular, count = plurals.get(row["source"], (row["source"], 0))
        arguments = (singular, f"{singular}s", count) if count else (singular,)
        if row["context"] is None:
            assert row["target"] == (oracle.ngettext if count else oracle.gettext)(*arguments)
        else:
            assert row["target"] == (oracle.npgettext if count else oracle.pgettext)(row["context"], *arguments)
    assert {row["source"] for row in rows} == {part for key in MESSAGES for part in key.split("\4")[-1].split("\0")}


def test_text_and_compiled_form_give_the_same_rows(tmp_path: Path):
    body = ""
    for key, text in MESSAGES.items():
        context, _, ids = key.rpartition("\4")
        names = ["msgid", "msgid_plural", "msgstr[0]", "msgstr[1]"] if "\0" in key else ["msgid", "msgstr"]
        quoted = ('"' + part.replace("\n", "\\n") + '"' for part in f"{ids}\0{text}".split("\0"))
        body += f'msgctxt "{context}"\n' if context else ""
        body += "".join(f"{name} {part}\n" for name, part in zip(names, quoted, strict=True)) + "\n"
    (tmp_path / "messages.mo").write_bytes(compiled(MESSAGES))
    rows, _ = read_messages(tmp_path, body)
    assert sorted(map(repr, rows)) == sorted(map(repr, read(tmp_path / "messages.mo")))


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-5], lambda data: data[:30], lambda data: data[:10], lambda data: b"PK" + data,
     lambda data: data[:4] + b"\0\0\2\0" + data[8:], lambda data: data[:8] + b"\xff" * 4 + data[12:]],
)  # fmt: skip
def test_a_compiled_file_that_is_not_sound_stops(tmp_path: Path, damage):
    path = tmp_path / "messages.mo"
    path.write_bytes(damage(compiled(MESSAGES)))
    with pytest.raises(InputError, match=r"this is no sound \.mo file"):
        read(path)


def test_a_compiled_text_of_another_charset_stops(tmp_path: Path):
    path = tmp_path / "messages.mo"
    path.write_bytes(compiled({"a": "déjà"}, charset="latin-1"))
    with pytest.raises(InputError, match=r"message 2 is not utf-8\. Name its encoding"):
        read(path)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_that_is_written_as_a_message_is_read_back(tmp_path_factory, text: str):
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    written = "".join(escapes.get(char, char) for char in text)
    rows, _ = read_messages(tmp_path_factory.mktemp("po"), f'msgid "{written}"\nmsgstr "x{written}"\n')
    assert pairs(rows) == [(text, f"x{text}")]


@pytest.mark.parametrize("name", ["po", "mo", "tmx"])
def test_damaged_bytes_end_in_rows_or_in_an_error_that_says_so(tmp_path: Path, name: str):
    sound = {
        "po": (PO_HEADER.format("UTF-8") + 'msgctxt "x"\nmsgid "a"\nmsgid_plural "as"\nmsgstr[0] "b"\n').encode(),
        "mo": compiled(MESSAGES),
        "tmx": memory(HELLO, unit(("en", "a <ph>x</ph>"), ("fr", "b"))).encode(),
    }[name]
    generator = random.Random(0)
    errors: list[str] = []
    for _ in range(200):
        data = bytearray(sound)
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path = tmp_path / f"damaged.{name}"
        path.write_bytes(data)
        try:
            rows = list(READERS.get(name)(DataFile(path)))
        except LuthierError as error:
            errors.append(str(error))
        else:
            assert all(isinstance(row, RowError) or {"source", "target"} <= set(row) for row in rows)
    assert len(errors) > 20
    assert all(str(tmp_path) in error for error in errors)
