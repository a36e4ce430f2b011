"""What a person should know of the data before training: duplicates, conflicts, overlap between splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from luthier.report import Finding

_MAX_PLACES = 5


def marks_of(given: str, gold: str) -> tuple[bytes, bytes]:
    """Return 16 bytes each of what goes in and of what should come out.

    Inputs are the same when they agree but for white space and case.
    """
    return _hash(" ".join(given.split()).casefold()), _hash(gold)


class DataChecks:
    """Sees every sound row once, by its marks alone (see ``marks_of``), never its text."""

    def __init__(self) -> None:
        self._first: dict[str, dict[bytes, bytes]] = {}
        """By split: input -> gold of its first row."""
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}

    def add(self, split: str, place: Callable[[], str], marks: tuple[bytes, bytes]) -> None:
        """Look at one row: its split, what tells its file and line, and its marks."""
        key, answer = marks
        rows = self._first.setdefault(split, {})
        if key in rows:
            if rows[key] == answer:
                self._note(f"{split}: rows that repeat an earlier one", place)
            else:
                self._note(f"{split}: rows with the text of an earlier one but another answer", place)
        else:
            rows[key] = answer
        for other, seen in self._first.items():
            if other != split and key in seen:
                self._note(f"{split}: rows whose text also stands in {other}", place)

    def _note(self, title: str, place: Callable[[], str]) -> None:
        self._counts[title] = self._counts.get(title, 0) + 1
        places = self._places.setdefault(title, [])
        if len(places) < _MAX_PLACES:
            places.append(place())

    def findings(self) -> list[Finding]:
        """Return what was found, most first."""
        counts: Mapping[str, int] = self._counts
        titles = sorted(counts, key=lambda title: -counts[title])
        return [Finding(title, counts[title], tuple(self._places[title])) for title in titles]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
