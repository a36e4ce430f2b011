"""The formats that Luthier reads. A new one is one function with ``@reader`` in this package.

A reader takes a :class:`~luthier.data.readers.file.DataFile` and yields :class:`Row`, or a ``RowError`` for a
row that cannot be read. Its keyword-only arguments are its options in a config's ``data.format``.

| what is wrong | what happens |
| --- | --- |
| the file is empty or cut, not in its encoding, with NUL bytes | the whole file: ``InputError`` |
| a doubled column in the header, a quote that never closes, a .json that is no JSON | the whole file: ``InputError`` |
| too few or too many cells, a line that is no JSON object, NaN, a doubled key | that row: ``RowError``, rejected |
| parallel files with different numbers of lines, XML that is not sound | the whole source: ``InputError`` |
| XML that declares entities | the whole file: ``SecurityError`` |
| a translation unit without one of its sides, a message that cannot be parsed | that row: ``RowError``, rejected |
| fuzzy, obsolete and untranslated messages | no rows, and a note that counts them |
| a CoNLL line with another number of columns or an empty token | that sentence: ``RowError``, rejected |
| a byte order mark | stripped, and noted |
| blank lines | no rows; in CoNLL the end of a sentence |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError, RowError
from luthier.registry import Registry

Reader = Callable[..., Iterator[Row | RowError]]


class Readers(Registry):
    """The readers by name, with the suffixes that tell them."""

    def __init__(self) -> None:
        super().__init__("format")
        self._suffixes: dict[str, str] = {}

    def reader(self, name: str, *, suffixes: Sequence[str] = ()) -> Callable[[Reader], Reader]:
        """Use as ``@reader("csv", suffixes=[".csv"])`` on ``def read_csv(file, *, option=...)``."""

        def decorate(function: Reader) -> Reader:
            self.add(name, function)
            for suffix in suffixes:
                self._suffixes[suffix] = name
            return function

        return decorate

    def for_file(self, file: DataFile) -> str:
        """Return the name of the reader for a file, by its suffix and, for .json, by its content.

        Raises:
            InputError: the suffix tells nothing.
        """
        name = self._suffixes.get(file.suffix)
        if name is None:
            known = ", ".join(sorted(self._suffixes))
            fix = (
                f"Known suffixes: {known}. Or say it: data.format=NAME, one of {', '.join(self)}. "
                "Parallel text takes braces, quoted in a shell: 'data.train=train.{en,fr}'."
            )
            raise InputError(f'the suffix "{file.suffix}" tells no format', where=file.name, fix=fix)
        return name

    @property
    def suffixes(self) -> dict[str, str]:
        """Suffix -> name of the reader."""
        return dict(self._suffixes)


READERS = Readers()
reader = READERS.reader


def _load() -> None:
    """Import the readers of this package, so that they register."""
    from luthier.data.readers import conll, gettext, json_files, parquet, plain, squad, tables, tmx  # noqa: F401


_load()

__all__: list[Any] = ["READERS", "DataFile", "Reader", "reader"]
