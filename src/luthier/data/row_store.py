"""The rows of one split on disk: examples are parsed again when they are needed, never held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from luthier.data.rows import Row

_CHUNK = 512
_SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("document", pa.string()), ("values", pa.string())])


class RowStore(Sequence[Row]):
    """Rows in a memory-mapped Arrow file, read by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._ends: list[int] = []
        for chunk in range(self._reader.num_record_batches):
            self._ends.append(self._reader.get_batch(chunk).num_rows + (self._ends[-1] if self._ends else 0))
        self._chunk: tuple[int, list[list[Any]]] = (-1, [])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        (files, lines, documents, values), offset = self._columns(index)
        return Row(json.loads(values[offset]), file=files[offset], line=lines[offset], document=documents[offset])

    def place(self, index: int) -> tuple[str, int]:
        """Return file and line of a row, without reading it."""
        (files, lines, *_), offset = self._columns(index)
        return files[offset], lines[offset]

    def _columns(self, index: int) -> tuple[list[list[Any]], int]:
        """Return the columns of the chunk that holds a row, and where in them it stands."""
        chunk, offset = divmod(int(index), _CHUNK)
        number, columns = self._chunk
        if number != chunk:
            columns = [column.to_pylist() for column in self._reader.get_batch(chunk).columns]
            self._chunk = (chunk, columns)
        return columns, offset

    @classmethod
    def write(cls, path: Path, rows: Iterable[Row]) -> RowStore:
        """Write rows to ``path`` in constant memory and open the store."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            encode = json.JSONEncoder(ensure_ascii=False, default=_plain).encode
            records = ((row.file, row.line, row.document, encode(row)) for row in rows)
            while chunk := list(islice(records, _CHUNK)):
                columns = [
                    pa.array(column, field.type) for column, field in zip(zip(*chunk, strict=True), _SCHEMA, strict=True)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))
        return cls(path)


def _plain(value: Any) -> Any:
    """Turn what Parquet or Python rows may hold into JSON: numpy scalars and arrays, dates."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
