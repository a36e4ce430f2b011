"""Plain text: one row a line."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import RowError


@reader("text", suffixes=[".txt"])
def read_text(file: DataFile) -> Iterator[Row | RowError]:
    """Yield each line that is not blank under the column ``text``."""
    for number, line in enumerate(file.lines(), 1):
        if line.strip():
            yield Row({"text": line.rstrip("\r\n")}, file=file.name, line=number)
