"""JSON: a file of one array of objects, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from luthier.data.readers import READERS, reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError, RowError

_HOLDERS = ("data", "rows", "examples")


class _Flaw:
    """Stands in a parsed value for what JSON must not hold."""

    def __init__(self, what: str) -> None:
        self.what = what


def _object(pairs: Sequence[tuple[str, Any]]) -> Any:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        return _Flaw(f'the key "{next(key for key in keys if keys.count(key) > 1)}" stands twice')
    return values


def _constant(name: str) -> _Flaw:
    return _Flaw(f"{name} is no JSON value")


def loads(text: str) -> Any:
    """Parse JSON, with flaws in place of doubled keys and NaN.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def flaw_in(value: Any) -> str | None:
    """Return what is wrong inside a parsed value."""
    if isinstance(value, _Flaw):
        return value.what
    if isinstance(value, str):
        return None if value.isascii() or _encodable(value) else "there is a lone surrogate, which is no text"
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((flaw for flaw in map(flaw_in, parts) if flaw is not None), None)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _row(value: Any, file: DataFile, line: int) -> Row | RowError:
    where = f"{file.name}:{line}"
    flaw = flaw_in(value)
    if flaw is not None:
        return RowError(flaw, where=where)
    if not isinstance(value, dict):
        return RowError(f"found {_kind(value)}, expected an object", where=where)
    return Row(value, file=file.name, line=line)


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


@reader("jsonl", suffixes=[".jsonl", ".ndjson"])
def read_jsonl(file: DataFile) -> Iterator[Row | RowError]:
    """Read one JSON object a line."""
    for line, text in enumerate(file.lines(), 1):
        if not text.strip():
            continue
        try:
            value = loads(text)
        except ValueError as error:
            yield RowError(f"this line is no JSON ({error})", where=f"{file.name}:{line}")
            continue
        yield _row(value, file, line)


@reader("json", suffixes=[".json"])
def read_json(file: DataFile) -> Iterator[Row | RowError]:
    """Read an array of objects, or an object that holds one under data, rows or examples.

    SQuAD is recognised by its content, and so is a file of one object a line. Rows are numbered from 1.
    """
    text = file.text()
    try:
        value = loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text[: error.pos].strip().startswith("{"):
            file.notes.append(f"{file.name}: read as one JSON object a line")
            yield from read_jsonl(file)
            return
        raise InputError(f"this is no JSON ({error.msg})", where=f"{file.name}:{error.lineno}") from error
    except ValueError as error:
        raise InputError(f"this is no JSON ({error})", where=file.name) from error
    if is_squad(value):
        yield from READERS.get("squad")(file)
        return
    rows = value
    if isinstance(value, dict):
        rows = next((value[key] for key in _HOLDERS if isinstance(value.get(key), list)), None)
    if not isinstance(rows, list):
        what = "found no array of rows"
        raise InputError(what, where=file.name, fix='Write [{...}, {...}], or an object with the rows under "data".')
    for number, row in enumerate(rows, 1):
        yield _row(row, file, number)


def is_squad(value: Any) -> bool:
    """Return whether parsed JSON has the form of SQuAD."""
    data = value.get("data") if isinstance(value, dict) else None
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "paragraphs" in data[0]
