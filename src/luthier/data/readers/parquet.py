"""Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError, RowError


@reader("parquet", suffixes=[".parquet"])
def read_parquet(file: DataFile) -> Iterator[Row | RowError]:
    """Yield the rows of a Parquet file, numbered from 1; a missing value is None."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open() as stream:
        try:
            table = pq.ParquetFile(pa.PythonFile(stream, mode="r"))
            names = table.schema_arrow.names
            if len(set(names)) < len(names):
                raise InputError("a column stands twice", where=file.name, fix="Rename one.")
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row({name: _value(value) for name, value in values.items()}, file=file.name, line=number)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            what = str(error).splitlines()[0]
            raise InputError(
                f"this is no sound Parquet file ({what})", where=file.name, fix="Get or write it again."
            ) from error


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
