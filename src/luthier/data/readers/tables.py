"""Tables of text: csv and tsv."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError, RowError


@reader("csv", suffixes=[".csv"])
def read_csv(file: DataFile, *, delimiter: str = ",", header: bool = True, quotes: bool = True) -> Iterator[Row | RowError]:
    """Read comma-separated values (RFC 4180). Quoted cells may hold line breaks.

    Args:
        file: the file.
        delimiter: one character.
        header: whether the first row names the columns; otherwise they are called 1, 2, 3 ...
        quotes: whether double quotes enclose cells; otherwise they are plain text.
    """
    if len(delimiter) != 1:
        raise InputError(f"found {delimiter!r}; a delimiter is one character", where="data.format.delimiter")
    csv.field_size_limit(2**31 - 1)
    lines = file.lines()
    if quotes:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        rows = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    names: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                what = "a quote that is opened here is never closed"
                fix = "Close it, or read quotes as plain text: data.format={name: csv, quotes: false}"
                raise InputError(what, where=f"{file.name}:{line}", fix=fix) from error
            yield RowError(f"this row cannot be read ({error})", where=f"{file.name}:{line}")
            continue
        if not cells:
            continue
        if names is None:
            names = _names(cells, file, line) if header else [str(number) for number in range(1, len(cells) + 1)]
            if header:
                continue
        if len(cells) != len(names):
            yield RowError(f"the row has {len(cells)} cells, the header {len(names)}", where=f"{file.name}:{line}")
            continue
        yield Row(dict(zip(names, cells, strict=True)), file=file.name, line=line)


def _names(cells: Sequence[str], file: DataFile, line: int) -> list[str]:
    names = [cell.strip() or str(number) for number, cell in enumerate(cells, 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        fix = "Rename one. If the file has no header: data.format={name: csv, header: false}"
        raise InputError(f'the column "{twice[0]}" stands twice in the header', where=f"{file.name}:{line}", fix=fix)
    return names


@reader("tsv", suffixes=[".tsv", ".tab"])
def read_tsv(file: DataFile, *, header: bool = True, quotes: bool = False) -> Iterator[Row | RowError]:
    """Read tab-separated values; double quotes are plain text unless ``quotes`` is set."""
    return read_csv(file, delimiter="\t", header=header, quotes=quotes)
