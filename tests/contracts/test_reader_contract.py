"""What every reader keeps, found through the registry."""

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compiled_catalogue import compiled
from luthier.data.readers import READERS, DataFile
from luthier.data.rows import Row
from luthier.data.sources import open_source
from luthier.engines.engine import Choice
from luthier.errors import InputError

TABLE = [{"text": "first, “quoted”", "label": "a"}, {"text": "第二 😀", "label": "b"}]
SQUAD = {"version": "v2.0", "data": [{"title": "T", "paragraphs": [
    {"context": "ada sings", "qas": [{"id": "1", "question": "who", "answers": [{"text": "ada", "answer_start": 0}]},
                                     {"id": "2", "question": "why", "answers": [], "is_impossible": True}]}]}]}  # fmt: skip


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(TABLE), path)


def write_mo(path: Path) -> None:
    path.write_bytes(compiled({"first, “quoted”": "a", "第二 😀": "b"}))


MEMORY = """<?xml version="1.0" encoding="UTF-8"?><tmx version="1.4"><header srclang="en"/><body>
<tu><tuv xml:lang="en"><seg>first, “quoted”</seg></tuv><tuv xml:lang="zh"><seg>第一</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>😀</seg></tuv><tuv xml:lang="zh"><seg>第二</seg></tuv></tu></body></tmx>"""

CONTENT = {
    "csv": 'text,label\r\n"first, “quoted”",a\r\n第二 😀,b\r\n',
    "tsv": "text\tlabel\nfirst, “quoted”\ta\n第二 😀\tb\n",
    "json": json.dumps(TABLE, ensure_ascii=False),
    "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TABLE),
    "parquet": write_parquet,
    "text": "first, “quoted”\n\n第二 😀\n",
    "conll": "Ada NNP B-PER\nsings VBZ O\n\n第二 X O\n😀 X O\n",
    "squad": json.dumps(SQUAD),
    "po": 'msgid "first, “quoted”"\nmsgstr "a"\n\nmsgid "第二 😀"\nmsgstr "b"\n',
    "mo": write_mo,
    "tmx": MEMORY,
}


def write(name: str, folder: Path) -> Path:
    path = folder / f"data.{name}"
    content = CONTENT[name]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode("utf-8"))
    return path


def test_every_reader_has_content_here():
    assert set(CONTENT) == set(READERS)


@pytest.fixture(params=sorted(CONTENT))
def name(request) -> str:
    return request.param


def test_it_yields_two_rows_with_their_places_and_can_be_read_again(name, tmp_path):
    path = write(name, tmp_path)
    source = open_source(str(path), format=Choice(name))
    rows = list(source.rows())
    assert len(rows) == 2
    assert all(isinstance(row, Row) and row.file == str(path) and row.line >= 1 for row in rows)
    assert rows[0].line < rows[1].line
    assert [dict(row) for row in source.rows()] == [dict(row) for row in rows]
    json.dumps([dict(row) for row in rows])


def test_gzip_gives_the_same_rows(name, tmp_path):
    path = write(name, tmp_path)
    plain = [dict(row) for row in open_source(str(path), format=Choice(name)).rows()]
    with path.open("rb") as stream, gzip.open(f"{path}.gz", "wb") as zipped:
        shutil.copyfileobj(stream, zipped)
    assert [dict(row) for row in open_source(f"{path}.gz", format=Choice(name)).rows()] == plain


def test_a_cut_archive_stops(name, tmp_path):
    path = write(name, tmp_path)
    zipped = gzip.compress(path.read_bytes() * 50)
    cut = tmp_path / f"cut.{name}.gz"
    cut.write_bytes(zipped[: len(zipped) // 2])
    with pytest.raises(InputError, match=r"cut off|no sound"):
        list(open_source(str(cut), format=Choice(name)).rows())


def test_an_empty_file_stops(name, tmp_path):
    path = tmp_path / f"empty.{name}"
    path.touch()
    with pytest.raises(InputError, match=r"empty\."):
        list(open_source(str(path), format=Choice(name)).rows())


def test_bytes_that_are_no_text_stop_with_their_place(name, tmp_path):
    path = tmp_path / f"bytes.{name}"
    path.write_bytes(b"text,label\nok,a\ncaf\xe9,b\n")
    with pytest.raises(InputError) as caught:
        list(READERS.get(name)(DataFile(path)))
    if name not in ("parquet", "mo", "tmx"):  # XML says its own encoding
        assert f"{path}:3: byte 19 (0xe9) is not utf-8" in str(caught.value)
        assert "data.encoding=latin-1" in str(caught.value)


def test_options_are_keyword_only_with_defaults(name):
    import inspect

    parameters = list(inspect.signature(READERS.get(name)).parameters.values())
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[1:])
