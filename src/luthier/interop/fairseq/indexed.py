r"""fairseq's memory-mapped ids: ``train.en-fr.en.bin`` with its ``.idx``.

The index: ``MMIDIDX\0\0``, u64 version 1, u8 code of the type, u64 N, N int32 sizes in ids, N int64 offsets in bytes of
the ``.bin``, which holds the ids alone; all little-endian. Format: ``fairseq/data/indexed_dataset.py`` of 0.12.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from luthier.errors import InputError

_MAGIC = b"MMIDIDX\0\0"
_OLD_MAGIC = b"TNTIDX\0\0"
_HEADER = struct.Struct("<9sQBQ")
# fairseq writes Python's float, a double, under 6, and NumPy's double under 7.
_TYPES = {
    1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f8", 8: "<u2", 9: "<u4", 10: "<u8",
}  # fmt: skip
_BLOCK = 1 << 20
"""Ids that are checked at once."""
_SMALL, _LARGE = 65500, 4294967295
"""Below so many symbols fairseq writes 16 bits an id, then 32."""


class IndexedIds:
    """The sentences of a ``.bin`` and ``.idx``, read as they are asked for.

    Args:
        prefix: the path without its suffix.

    Raises:
        InputError: a file is missing or damaged; the message names the file and the byte.
    """

    def __init__(self, prefix: Path) -> None:
        self.index_path, self.path = (prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("idx", "bin"))
        header = _read(self.index_path)
        self._dtype, self._sizes, self._offsets = _index(header, self.index_path)
        try:
            length = self.path.stat().st_size
            self._ids: np.ndarray = np.memmap(self.path, np.uint8, "r") if length else np.zeros(0, np.uint8)
        except OSError as error:
            raise InputError(f"it cannot be read ({error.strerror or error})", where=str(self.path)) from error
        ends = self._offsets + self._sizes.astype(np.int64) * self._dtype.itemsize
        outside = (self._sizes < 0) | (self._offsets < 0) | (self._offsets > length) | (ends > length)
        wrong = np.flatnonzero(outside | (self._offsets % self._dtype.itemsize != 0))
        if len(wrong):
            first = int(wrong[0])
            raise InputError(
                f"it ends at byte {length}, and sentence {first + 1} lies at bytes {self._offsets[first]} to {ends[first]}",
                where=str(self.path),
                fix=f"It is torn, or {self.index_path.name} belongs to another file: write both again.",
            )
        if length != (last := int(ends.max(initial=0))):
            raise InputError(
                f"from byte {last} on there are {length - last} bytes that {self.index_path.name} knows nothing of",
                where=str(self.path),
                fix="The two do not belong together: write both again.",
            )

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return the ids of a sentence, int64, with the end that is stored."""
        start, size = int(self._offsets[number]), int(self._sizes[number])
        return self._ids[start : start + size * self._dtype.itemsize].view(self._dtype).astype(np.int64)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))

    def check(self, symbols: int) -> None:
        """Hold all ids against a dictionary.

        Raises:
            InputError: an id is not below ``symbols``; the message names the byte.
        """
        values = self._ids.view(self._dtype)
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            right = (block >= 0) & (block < symbols)
            if self._dtype.kind == "f":
                right &= block == np.floor(block)
            wrong = np.flatnonzero(~right)
            if len(wrong):
                place = start + int(wrong[0])
                raise InputError(
                    f"found the id {values[place]} at byte {place * self._dtype.itemsize}, and its dictionary has "
                    f"{symbols} symbols",
                    where=str(self.path),
                    fix="The file is damaged, or dict.txt belongs to other data.",
                )


def write_ids(prefix: Path, sentences: Iterable[Sequence[int] | np.ndarray], *, symbols: int) -> int:
    """Write ``.bin`` and ``.idx`` as fairseq-preprocess does.

    Args:
        prefix: the path without its suffix.
        sentences: the ids of each, its end included.
        symbols: how many the dictionary has; that decides the type.

    Returns:
        The number of sentences.

    Raises:
        ValueError: an id is not below ``symbols``.
    """
    code = 8 if symbols < _SMALL else 9 if symbols < _LARGE else 10
    dtype = np.dtype(_TYPES[code])
    sizes: list[int] = []
    with prefix.with_name(f"{prefix.name}.bin").open("wb") as stream:
        for sentence in sentences:
            ids = np.asarray(sentence, dtype=np.int64)
            if len(ids) and (ids.min() < 0 or ids.max() >= symbols):
                raise ValueError(f"sentence {len(sizes) + 1} has an id that is not below {symbols}")
            stream.write(ids.astype(dtype).tobytes())
            sizes.append(len(ids))
    lengths = np.asarray(sizes, dtype="<i4")
    offsets = np.zeros(len(sizes), dtype="<i8")
    np.cumsum(lengths[:-1] * np.int64(dtype.itemsize), out=offsets[1:])
    header = _HEADER.pack(_MAGIC, 1, code, len(sizes))
    prefix.with_name(f"{prefix.name}.idx").write_bytes(header + lengths.tobytes() + offsets.tobytes())
    return len(sizes)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})", where=str(path)) from error


def _index(content: bytes, path: Path) -> tuple[np.dtype, np.ndarray, np.ndarray]:
    """Return the type, the sizes and the offsets."""
    where = str(path)
    if content.startswith(_OLD_MAGIC):
        raise InputError(
            "this index is of fairseq's older kind", where=where, fix="Write the data again with --dataset-impl mmap."
        )
    if not content.startswith(_MAGIC[: min(len(content), len(_MAGIC))]) or len(content) < _HEADER.size:
        found = f"byte 0 begins {content[:8]!r}" if len(content) >= _HEADER.size else f"it ends at byte {len(content)}"
        raise InputError(f"this is no index of fairseq: {found}", where=where, fix="Write the data again.")
    _, version, code, count = _HEADER.unpack_from(content)
    if version != 1:
        raise InputError(f"byte 9 says version {version}; only 1 is known", where=where)
    if code not in _TYPES:
        raise InputError(f"byte 17 says type {code}; known are 1 to 10", where=where, fix="The file is damaged: get it again.")
    expected = _HEADER.size + 12 * count
    if len(content) != expected:
        raise InputError(
            f"it ends at byte {len(content)}, and its {count} sentences need {expected}",
            where=where,
            fix="The file is torn: get it again.",
        )
    sizes = np.frombuffer(content, "<i4", count, _HEADER.size)
    return np.dtype(_TYPES[code]), sizes, np.frombuffer(content, "<i8", count, _HEADER.size + 4 * count)
