"""The first noun of the flow: a row, as it stands in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.errors import RowError


class Row(dict[str, Any]):
    """One record: a dict that knows where it came from.

    Readers fill it under the file's own column names; after column mapping the keys are the task's
    roles (``text``, ``label`` ...).

    Attributes:
        file: the path as the user gave it.
        line: 1-based line of the record's first line (the record's number, from 1, for Parquet and JSON arrays).
        document: what rows of one document share, or None. Intervals resample documents, and a
            split by share never cuts one in two.
    """

    __slots__ = ("document", "file", "line")

    def __init__(self, values: Mapping[str, Any], *, file: str, line: int, document: str | None = None) -> None:
        super().__init__(values)
        self.file, self.line, self.document = file, line, document

    def renamed(self, values: Mapping[str, Any]) -> Row:
        """Return a row with other values from the same place."""
        return Row(values, file=self.file, line=self.line, document=self.document)

    def error(self, what: str, *, column: str | None = None, fix: str | None = None) -> RowError:
        """Return (not raise) the error that names this row's file and line, and the column."""
        return RowError(f'column "{column}": {what}' if column else what, where=f"{self.file}:{self.line}", fix=fix)

    def text(self, column: str) -> str:
        """Return a column that must hold text with something in it.

        Raises:
            RowError: the column is missing, not text, or only white space.
        """
        value = self.get(column)
        if value is None:
            raise self.error("there is no value", column=column)
        if not isinstance(value, str):
            raise self.error(f"found {type(value).__name__}, expected text", column=column)
        if not value.strip():
            raise self.error("the text is empty", column=column)
        return value
