"""The rows of one split on disk: examples are parsed again when they are needed, never held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from luthier.data.rows import Row

_CHUNK = 512
_SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("document", pa.string()), ("values", pa.string())])


class RowStore(Sequence[Row]):
    """Rows in a memory-mapped Arrow file, read by position."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._ends: list[int] = []
        for chunk in range(self._reader.num_record_batches):
            self._ends.append(self._reader.get_batch(chunk).num_rows + (self._ends[-1] if self._ends else 0))
        self._chunk: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        chunk, offset = divmod(int(index), _CHUNK)
        number, records = self._chunk
        if number != chunk:
            records = self._reader.get_batch(chunk).to_pylist()
            self._chunk = (chunk, records)
        record = records[offset]
        return Row(json.loads(record["values"]), file=record["file"], line=record["line"], document=record["document"])

    @classmethod
    def write(cls, path: Path, rows: Iterable[Row]) -> RowStore:
        """Write rows to ``path`` in constant memory and open the store."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            chunk: list[dict[str, Any]] = []
            for row in rows:
                values = json.dumps(dict(row), ensure_ascii=False, default=_plain)
                chunk.append({"file": row.file, "line": row.line, "document": row.document, "values": values})
                if len(chunk) == _CHUNK:
                    writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=_SCHEMA))
                    chunk = []
            if chunk:
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=_SCHEMA))
        return cls(path)


def _plain(value: Any) -> Any:
    """Turn what Parquet or Python rows may hold into JSON: numpy scalars and arrays, dates."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
