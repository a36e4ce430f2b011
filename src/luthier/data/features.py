"""Features: what a model reads, unpadded; and the store that holds a split's features on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from luthier.heads import Head, num_tokens

_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Feature:
    """One unpadded sequence for a model.

    Attributes:
        arrays: 1-D int32 or float32 arrays by the field's names: ``input_ids`` [T], ``token_type_ids`` [T]
            where the model has them, ``labels`` (see luthier.heads) when encoded with gold.
        facts: 1-D integer arrays for the host alone (offsets, word numbers): never sent to a device.
        cut: tokens of the text that were cut away.
        weight: multiplies the loss of this feature.
        group: the source row, set by the store; features of a group are never split by batching.
        place: the store's key and the feature's index in it, set by the store, for what a model keeps for a feature.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)
    cut: int = 0
    weight: float = 1.0
    group: int = 0
    place: tuple[object, int] | None = None

    @property
    def length(self) -> int:
        """Number of input tokens."""
        return len(self.arrays["input_ids"])


class FeatureStore(Sequence[Feature]):
    """A split's features in a memory-mapped Arrow file, beside a few numbers of each in memory.

    Attributes:
        path: the Arrow file; ``numbers`` is the file of the numbers beside it.
        lengths: int32 [N], tokens of each feature, as luthier.heads.num_tokens counts them.
        groups: int32 [N], the source row of each, ascending.
        num_targets: int32 [N]; weights: float64 [N], the weight of those targets in the loss.
        cut: int32 [N], tokens cut away.
        key: stands for this store alone.
    """

    def __init__(self, path: Path) -> None:
        self.key = object()
        self.path = path
        self._file = pa.memory_map(str(path))
        self._reader = pa.ipc.open_file(self._file)
        numbers = np.load(self.numbers)
        self.lengths: np.ndarray = numbers["lengths"]
        self.groups: np.ndarray = numbers["groups"]
        self.num_targets: np.ndarray = numbers["num_targets"]
        self.weights: np.ndarray = numbers["weights"]
        self.cut: np.ndarray = numbers["cut"]
        self.used_ids: np.ndarray = numbers["used_ids"]
        self._batches: dict[int, dict[str, Any]] = {}

    @property
    def numbers(self) -> Path:
        """The file of the numbers of each feature."""
        return self.path.with_suffix(".npz")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        chunk, row = divmod(int(index), _CHUNK)
        columns = self._columns(chunk)
        arrays: dict[str, np.ndarray] = {}
        facts: dict[str, np.ndarray] = {}
        for name, (offsets, values) in columns.items():
            kind, _, key = name.partition(":")
            (arrays if kind == "array" else facts)[key] = values[offsets[row] : offsets[row + 1]]
        return Feature(
            arrays, facts, cut=int(self.cut[index]), weight=float(self._weights(chunk)[row]), group=int(self.groups[index]),
            place=(self.key, int(index)),
        )  # fmt: skip

    def _columns(self, chunk: int) -> dict[str, Any]:
        """Return numpy views of one chunk; they cost no copy, so only the last few are kept."""
        if chunk not in self._batches:
            if len(self._batches) > 64:
                self._batches.clear()
            batch = self._reader.get_batch(chunk)
            self._batches[chunk] = {
                name: (column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=True))
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
                if name != "weight"
            }
        return self._batches[chunk]

    def _weights(self, chunk: int) -> np.ndarray:
        weights: np.ndarray = self._reader.get_batch(chunk).column("weight").to_numpy()
        return weights

    @classmethod
    def write(cls, path: Path, grouped: Iterable[Sequence[Feature]], head: Head) -> FeatureStore:
        """Write features to ``path``, one group a source row in order, and open the store.

        A group may be empty. Memory stays constant but for the numbers of each feature.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers: dict[str, list[Any]] = {"lengths": [], "groups": [], "num_targets": [], "weights": [], "cut": []}
        used = np.zeros(0, dtype=bool)
        writer: Any = None
        with pa.OSFile(str(path), "wb") as sink:
            for chunk in _chunks(grouped):
                for feature in chunk:
                    count, weight = 0, 0.0
                    if "labels" in feature.arrays:
                        count, weight = head.objective.targets(feature.arrays["labels"])
                    ids = feature.arrays["input_ids"]
                    if len(ids) and int(ids.max()) >= len(used):
                        used = np.pad(used, (0, int(ids.max()) + 1024 - len(used)))
                    used[ids] = True
                    values = (num_tokens(head, feature.arrays), feature.group, count, weight * feature.weight, feature.cut)
                    for column, value in zip(numbers.values(), values, strict=True):
                        column.append(value)
                batch = _record_batch(chunk)
                writer = writer or pa.ipc.new_file(sink, batch.schema)
                writer.write_batch(batch)
            if writer is None:
                writer = pa.ipc.new_file(sink, pa.schema([("weight", pa.float64())]))
            writer.close()
        dtypes = {"weights": np.float64}
        saved: dict[str, Any] = {name: np.asarray(column, dtype=dtypes.get(name, np.int32)) for name, column in numbers.items()}
        np.savez(path.with_suffix(".npz"), used_ids=np.flatnonzero(used), **saved)
        return cls(path)


def _chunks(grouped: Iterable[Sequence[Feature]]) -> Iterator[list[Feature]]:
    chunk: list[Feature] = []
    for group, features in enumerate(grouped):
        for feature in features:
            chunk.append(Feature(feature.arrays, feature.facts, feature.cut, feature.weight, group))
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _record_batch(chunk: Sequence[Feature]) -> pa.RecordBatch:
    names: dict[str, pa.DataType] = {}
    columns: dict[str, list[np.ndarray]] = {}
    for kind, parts in (("array", [f.arrays for f in chunk]), ("fact", [f.facts for f in chunk])):
        for key in parts[0]:
            columns[f"{kind}:{key}"] = [np.asarray(part[key]) for part in parts]
    arrays: list[pa.Array] = []
    for name, values in columns.items():
        flat = np.concatenate(values)
        dtype = np.float32 if np.issubdtype(flat.dtype, np.floating) else np.int32
        offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])]).astype(np.int32)
        arrays.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.astype(dtype, copy=False))))
        names[name] = arrays[-1].type
    arrays.append(pa.array([feature.weight for feature in chunk], type=pa.float64()))
    return pa.RecordBatch.from_arrays(arrays, names=[*names, "weight"])
