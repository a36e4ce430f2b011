"""Raw text for language models, one document a line of JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from luthier.samples.packages import read_member
from luthier.samples.splits import hashed

_TEST_NEWS = 600
"""Test documents that are kept: more would only make scores slower."""


def grimm_tales(archive: Path, folder: Path) -> None:
    """Fifty-odd tales of the brothers Grimm; a tenth, by a hash of the title, is test, another tenth validation."""
    splits: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    rows = ((row["Title"], row["Content"]) for row in _rows(archive, "grimm-tales"))
    for place, (title, text) in enumerate(sorted(rows, key=lambda row: hashed(row[0]))):
        splits[("test", "validation")[place % 10] if place % 10 < 2 else "train"].append({"title": title, "text": text})
    _write(folder, splits)


def reuters_news(archive: Path, folder: Path) -> None:
    """News of 1987: the official split of R52 without its labels; no text stands twice.

    A twentieth of the training documents, by a hash, is validation; of the test documents 600 are kept, by a hash.
    """
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for split in ("test", "train"):
        texts = (row["Text"] for row in _rows(archive, f"reuters-r52-{split}"))
        found[split] = [text for text in texts if not (text in seen or seen.add(text))]  # type: ignore[func-returns-value]
    test = sorted(found["test"], key=hashed)[:_TEST_NEWS]
    splits = {
        "train": [{"text": text} for text in found["train"] if hashed(text) % 20],
        "validation": [{"text": text} for text in found["train"] if not hashed(text) % 20],
        "test": [{"text": text} for text in test],
    }
    _write(folder, splits)


def _rows(archive: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of one table by the names of its columns, without blanks around; none without text."""
    text = read_member(archive, f"orangecontrib/text/datasets/{name}.tab").decode("utf-8")
    lines = csv.reader(io.StringIO(text), delimiter="\t")
    header = next(lines)
    next(lines), next(lines)  # the kinds of the columns, and which one is the class
    for line in lines:
        row = {column: cell.strip() for column, cell in zip(header, line, strict=False)}
        if all(row.get(column) for column in ("Text", "Content") if column in header):
            yield row


def _write(folder: Path, splits: dict[str, list[dict[str, str]]]) -> None:
    for name, rows in splits.items():
        write_lines(folder / f"{name}.jsonl", rows)


def write_lines(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write one JSON object a line."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="")
