"""Named arrays over a pipe, for a toolchain that needs a process of its own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

_SIZE_BYTES = 8


def send(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one message."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    content = packed.getvalue()
    stream.write(len(content).to_bytes(_SIZE_BYTES, "little") + content)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, np.ndarray] | None:
    """Read one message; None where the other side has gone."""
    size = stream.read(_SIZE_BYTES)
    if len(size) < _SIZE_BYTES:
        return None
    with np.load(io.BytesIO(stream.read(int.from_bytes(size, "little"))), allow_pickle=False) as arrays:
        return dict(arrays)
