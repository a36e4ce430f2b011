"""What comes of bad input: a table over all readers. Nothing escapes but InputError, and the ledger says the rest."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luthier.data.ledger import summarize_splits, write_ledger
from luthier.data.preparation import encode, prepare
from luthier.data.sources import open_source
from luthier.engines.engine import Choice
from luthier.errors import InputError
from luthier.tasks import TASKS
from luthier.units import Share
from tiny_tokenizer import tiny_tokenizer

tokenizer = pytest.fixture(scope="module")(tiny_tokenizer)

CLASSIFY, TAG, ASK = "text-classification", "token-classification", "question-answering"
GOOD = b"text,label\nred,a\nblue,b\n"


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def squad(*questions, context="ada sings in paris") -> bytes:
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}]}).encode()


ANSWERED = {"id": "1", "question": "who", "answers": [{"text": "ada", "answer_start": 0}]}
SENTENCE = b"Ada B-PER\nsings O\n\n"

# ruff: noqa: E501
# what it is, task, suffix or format, content, what must come: (sound rows, reasons of the rejected), or what the error says
CASES = [
    ("an empty csv", CLASSIFY, "csv", b"", "the file is empty"),
    ("a header alone", CLASSIFY, "csv", b"text,label\n", "there is no row"),
    ("blank lines alone", CLASSIFY, "csv", b"\n\n", "there is no row"),
    ("a byte order mark", CLASSIFY, "csv", b"\xef\xbb\xbf" + GOOD, (2, [])),
    ("utf-16 with a mark", CLASSIFY, "csv", GOOD.decode().encode("utf-16"), "this is UTF-16, not utf-8. Say so: data.encoding=utf-16"),
    ("utf-32 with a mark", CLASSIFY, "csv", GOOD.decode().encode("utf-32"), "this is UTF-32, not utf-8"),
    ("utf-16 without a mark", CLASSIFY, "csv", GOOD.decode().encode("utf-16-le"), "is NUL, so this is no text"),
    ("a latin-1 byte", CLASSIFY, "csv", b"text,label\ncaf\xe9,a\n", ":2: byte 14 (0xe9) is not utf-8"),
    ("a gb18030 text", CLASSIFY, "csv", "text,label\n你好世界,a\n".encode("gb18030"), "data.encoding=gb18030"),
    ("a NUL byte", CLASSIFY, "csv", b"text,label\nre\0d,a\n", "byte 13 is NUL"),
    ("CRLF", CLASSIFY, "csv", GOOD.replace(b"\n", b"\r\n"), (2, [])),
    ("a lone CR", CLASSIFY, "csv", GOOD.replace(b"\n", b"\r"), (2, [])),
    ("no final newline", CLASSIFY, "csv", GOOD.rstrip(b"\n"), (2, [])),
    ("U+2028 inside a text", CLASSIFY, "csv", "text,label\nre\u2028d,a\nblue,b\n".encode(), (2, [])),
    ("U+0085 inside a text", CLASSIFY, "csv", "text,label\nre\u0085d,a\nblue,b\n".encode(), (2, [])),
    ("a line break in quotes", CLASSIFY, "csv", b'text,label\n"red\n\nblue",a\nold,b\n', (2, [])),
    ("an open quote", CLASSIFY, "csv", b'text,label\n"red,a\nblue,b\n', ":2: a quote that is opened here is never closed"),
    ("text after a closing quote", CLASSIFY, "csv", GOOD + b'"old"x,a\n', (2, ["this row cannot be read"])),
    ("a cell too few", CLASSIFY, "csv", GOOD + b"old\n", (2, ["the row has 1 cells, the header 2"])),
    ("a cell too many", CLASSIFY, "csv", GOOD + b"old,a,x\n", (2, ["the row has 3 cells"])),
    ("a doubled header", CLASSIFY, "csv", b"text,text\nred,a\n", 'the column "text" stands twice'),
    ("a missing column", CLASSIFY, "csv", b"text,lable\nred,a\n", 'no column "label" (found: text, lable). Did you mean "lable"?'),
    ("no header", CLASSIFY, "csv", b"red,a\nblue,b\n", 'no column "text"'),
    ("an empty text", CLASSIFY, "csv", GOOD + b'"",a\n', (2, ["the text is empty"])),
    ("blanks for a text", CLASSIFY, "csv", GOOD + b" ,a\n", (2, ["the text is empty"])),
    ("an empty label", CLASSIFY, "csv", GOOD + b"old,\n", (2, ["there is no value"])),
    ("all labels equal", CLASSIFY, "csv", b"text,label\nred,a\nblue,a\n", 'every label is "a"'),
    ("semicolons for commas", CLASSIFY, "csv", b"text;label\nred;a\n", 'no column "text" (found: text;label)'),
    ("quotes in a tsv are text", CLASSIFY, "tsv", b'text\tlabel\n"red\ta\nblue\tb\n', (2, [])),
    ("a ragged tsv", CLASSIFY, "tsv", b"text\tlabel\nred\ta\nblue\tb\nold\n", (2, ["the row has 1 cells"])),
    ("an empty json", CLASSIFY, "json", b"", "the file is empty"),
    ("blanks for json", CLASSIFY, "json", b" \n", "this is no JSON"),
    ("a cut json", CLASSIFY, "json", b'[{"text": "red", "label"', "this is no JSON"),
    ("an object without rows", CLASSIFY, "json", b'{"a": 1}', "found no array of rows"),
    ("a number for json", CLASSIFY, "json", b"3", "found no array of rows"),
    ("an empty array", CLASSIFY, "json", b"[]", "there is no row"),
    ("json lines under .json", CLASSIFY, "json", b'{"text": "red", "label": "a"}\n{"text": "blue", "label": "b"}\n', (2, [])),
    ("NaN in json", CLASSIFY, "json", b'[{"text":"red","label":"a"},{"text":"blue","label":"b"},{"text":"x","label":NaN}]', (2, ["NaN"])),
    ("Infinity in jsonl", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"text":"b","label":-Infinity}\n',
     (2, ["-Infinity is no JSON value"])),
    ("a doubled key", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"text":"x","text":"y","label":1}\n',
     (2, ['the key "text" stands twice'])),
    ("a line that is no json", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"text": red}\n',
     (2, ["this line is no JSON"])),
    ("a line that is no object", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n[1]\n', (2, ["found an array"])),
    ("a row without the column", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"txt":"c","label":2}\n',
     (2, ['no column "text"'])),
    ("a number for a text", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"text":3,"label":2}\n',
     (2, ["found int, expected text"])),
    ("an object for a label", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"text":"c","label":{}}\n',
     (2, ["found dict"])),
    ("nested far too deep", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n' + b"[" * 100_000 + b"\n",
     (2, ["this line is no JSON"])),
    ("a lone surrogate", CLASSIFY, "jsonl", b'{"text":"red","label":1}\n{"text":"b","label":2}\n{"text":"\\ud800x","label":2}\n',
     (2, ["a lone surrogate"])),
    ("no parquet", CLASSIFY, "parquet", b"PAR1 not at all", "this is no sound Parquet file"),
    ("a cut parquet", CLASSIFY, "parquet", parquet([{"text": "red", "label": "a"}])[:-20], "this is no sound Parquet file"),
    ("an empty parquet", CLASSIFY, "parquet", b"", "this is no sound Parquet file"),
    ("bytes in a parquet", CLASSIFY, "parquet", parquet([{"text": b"red", "label": "a"}, {"text": b"x", "label": "b"}]), "found bytes"),
    ("nulls in a parquet", CLASSIFY, "parquet", parquet([{"text": "red", "label": "a"}, {"text": "x", "label": "b"}, {"text": None, "label": "b"}]),
     (2, ["there is no value"])),
    ("a cut gz", CLASSIFY, "csv.gz", gzip.compress(GOOD * 99)[:60], "the archive is cut off"),
    ("a gz that is none", CLASSIFY, "csv.gz", GOOD, "this is no sound gzip archive"),
    ("a gz with a wrong checksum", CLASSIFY, "csv.gz", gzip.compress(GOOD)[:-8] + b"\0" * 8, "this is no sound gzip archive"),
    ("an unknown suffix", CLASSIFY, "dat", GOOD, 'the suffix ".dat" tells no format'),
    ("no suffix", CLASSIFY, "", GOOD, "tells no format"),
    ("text lines without labels", CLASSIFY, "txt", b"red\nblue\n", 'no column "label"'),
    ("an empty conll", TAG, "conll", b"", "the file is empty"),
    ("a lone tab ends a sentence", TAG, "conll", b"Ada\tB-PER\n\t\nsings\tO\n", (2, [])),
    ("another number of columns", TAG, "conll", SENTENCE + b"Bob X B-PER\n\n", (1, ["line 4 has 3 columns, the first one 2"])),
    ("an empty token", TAG, "conll", b"Ada\tB-PER\n\n\tO\nsings\tO\n", (1, ["line 3 has an empty token"])),
    ("a no-break space is a token's part", TAG, "conll", "Ada\u00a0B B-PER\n".encode(), (1, [])),
    ("one column alone", TAG, "conll", b"Ada\nsings\n", 'there is no value for "tags"'),
    ("fewer tags than tokens", TAG, "jsonl", b'{"tokens":["Ada"],"tags":["B-PER"]}\n{"tokens":["a","b"],"tags":["O"]}\n', (1, ["2"])),
    ("no entity at all", TAG, "conll", b"Ada O\n", "no"),
    ("a span outside the text", TAG, "jsonl", b'{"text":"Ada","spans":[{"start":0,"end":3,"label":"P"}]}\n{"text":"Bob","spans":[{"start":0,"end":9,"label":"P"}]}\n',
     (1, ["9"])),
    ("no squad", ASK, "squad", b"[]", 'there is no "data"'),
    ("squad that is no json", ASK, "squad", b"{", "this is no JSON"),
    ("an empty context", ASK, "json", squad(ANSWERED, context=" "), "the text is empty"),
    ("a question without text", ASK, "json", squad(ANSWERED, {"id": "2", "question": "", "answers": []}), (1, ["the text is empty"])),
    ("an answer that is not there", ASK, "json", squad(ANSWERED, {**ANSWERED, "answers": [{"text": "bob", "answer_start": 0}]}),
     (1, ["bob"])),
    ("a wrong offset", ASK, "json", squad({**ANSWERED, "answers": [{"text": "sings", "answer_start": 0}]}), (1, [])),
    ("a question without answers", ASK, "json", squad(ANSWERED, {"id": "2", "question": "who"}), (1, ["there is no value for"])),
    ("articles without paragraphs", ASK, "squad", b'{"data": [{"title": "a", "paragraphs": 3}, {"paragraphs": []}]}', "no array"),
    ("no question has an answer", ASK, "json", squad({**ANSWERED, "answers": []}), "no question has an answer"),
]  # fmt: skip


def test_there_are_at_least_sixty_cases():
    assert len({case[0] for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(("name", "task", "form", "content", "expected"), CASES, ids=[case[0] for case in CASES])
def test_bad_input(tmp_path: Path, tokenizer, name, task, form, content, expected):
    path = tmp_path / (f"data.{form}" if form else "data")
    path.write_bytes(content)
    choice = Choice("squad") if form == "squad" else None

    def go():
        source = open_source(str(path), format=choice)
        prepared = prepare(TASKS.get(task)(), {"train": source}, columns={}, validation=None,
                           max_rejected=Share(60, "%"), folder=tmp_path / "work")  # fmt: skip
        encode(prepared, tokenizer, tmp_path / "work")
        return prepared

    if isinstance(expected, str):
        with pytest.raises(InputError) as caught:
            go()
        assert expected in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3
        return
    prepared = go()
    sound, reasons = expected
    write_ledger(tmp_path / "ledger.parquet", prepared.entries)
    rejected = [entry for entry in prepared.entries if entry.outcome == "rejected"]
    assert len(prepared.entries) - len(rejected) == sound
    assert len(rejected) == len(reasons)
    for entry, reason in zip(rejected, reasons, strict=True):
        assert reason in entry.reason
        assert entry.file == str(path)
        assert entry.line > 0
    (summary,) = summarize_splits(prepared.entries)
    assert summary.rows == summary.used + summary.truncated + summary.skipped + summary.rejected == sound + len(reasons)


def test_too_many_bad_rows_stop_with_the_first_ones(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_bytes(GOOD + b"old\nold\n")
    with pytest.raises(InputError, match=r"2 of 4 rows are rejected, more than data\.max_rejected allows") as caught:
        prepare(TASKS.get(CLASSIFY)(), {"train": open_source(str(path))}, columns={}, validation=None,
                max_rejected=Share(1, "%"), folder=tmp_path)  # fmt: skip
    assert f"{path}:4: the row has 1 cells" in str(caught.value)


def test_duplicates_overlap_and_conflicts_are_notes_and_an_unknown_label_is_kept(tmp_path: Path, tokenizer):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_bytes(GOOD + b"red,a\nRED ,b\n")
    test.write_bytes(b"text,label\nred,a\nold,zebra\n")
    sources = {"train": open_source(str(train)), "test": open_source(str(test))}
    prepared = prepare(TASKS.get(CLASSIFY)(), sources, columns={}, validation=None, max_rejected=Share(1, "%"), folder=tmp_path)
    encode(prepared, tokenizer, tmp_path)
    found = {finding.title: (finding.count, finding.places) for finding in prepared.findings}
    assert found == {
        "train: rows that repeat an earlier one": (1, (f"{train}:4",)),
        "train: rows with the text of an earlier one but another answer": (1, (f"{train}:5",)),
        "test: rows whose text also stands in train": (1, (f"{test}:2",)),
    }
    assert any('"zebra"' in note for note in prepared.notes)
    assert [entry.outcome for entry in prepared.entries] == ["used"] * 6


def test_what_truncation_costs_is_stated(tmp_path: Path, tokenizer):
    path = tmp_path / "data.csv"
    path.write_text("text,label\nred,a\n" + "blue " * 50 + ",b\n", encoding="utf-8")
    prepared = prepare(TASKS.get(CLASSIFY)(max_tokens=12), {"train": open_source(str(path))}, columns={}, validation=None,
                       max_rejected=Share(1, "%"), folder=tmp_path)  # fmt: skip
    encode(prepared, tokenizer, tmp_path)
    (summary,) = summarize_splits(prepared.entries)
    assert (summary.used, summary.truncated, summary.cut_tokens) == (1, 1, 40)
    assert summary.reasons == {"longer than max_tokens": 1}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("missing.csv", "there is no such file"),
        ("dta.csv", 'Did you mean "{folder}/data.csv"?'),
        ("*.xyz", "no file fits this pattern"),
        ("", "this is a folder"),
        ("nowhere/data.csv", "there is no such folder"),
        ("https://example.org/data.csv", "addresses on a network are not read"),
    ],
)
def test_a_source_that_is_not_there_says_so(tmp_path: Path, spec: str, said: str):
    (tmp_path / "data.csv").write_bytes(GOOD)
    with pytest.raises(InputError) as caught:
        open_source(spec if "://" in spec else str(tmp_path / spec))
    assert said.format(folder=tmp_path) in str(caught.value)


def test_an_unknown_encoding_is_refused(tmp_path: Path):
    (tmp_path / "data.csv").write_bytes(GOOD)
    with pytest.raises(InputError, match='there is no encoding "utf-9"'):
        open_source(str(tmp_path / "data.csv"), encoding="utf-9")


@pytest.mark.parametrize("encoding", ["latin-1", "gb18030", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_a_named_encoding_is_read(tmp_path: Path, encoding: str):
    path = tmp_path / "data.csv"
    text = "text,label\ncafé,a\n" if encoding in ("latin-1", "cp1252") else "text,label\n你好,a\n"
    path.write_bytes(text.encode(encoding))
    (row,) = open_source(str(path), encoding=encoding).rows()
    assert row["text"] == text.splitlines()[1].split(",")[0]
