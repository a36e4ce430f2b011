"""What of a model is written to disk between two steps, and read back to the bit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from luthier.errors import InputError

_TENSORS = "state.safetensors"
_NUMBERS = "state.json"


def write_state(folder: Path, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], *, step: int) -> None:
    """Write trainable weights, optimizer state and step counter.

    ``state.safetensors`` holds ``weight:NAME``, ``exp_avg:NAME``, ``exp_avg_sq:NAME``, ``step:NAME``.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weight:{name}": value for name, value in weights.items()} | dict(optimizer)
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / _TENSORS)
    (folder / _NUMBERS).write_text(json.dumps({"step": step}), encoding="utf-8")


def read_state(folder: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return (weights, optimizer state, step counter).

    Raises:
        InputError: the state is not there, or belongs to another model or method than ``shapes`` is of.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / _TENSORS)
        step = int(json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"the saved state cannot be read: {error}", where=str(folder)) from error
    weights = {name.removeprefix("weight:"): value for name, value in tensors.items() if name.startswith("weight:")}
    other = sorted(weights.keys() ^ shapes.keys()) or sorted(n for n, value in weights.items() if value.shape != shapes[n])
    if other:
        raise InputError(
            f"this state is of another model or method: {len(other)} weights differ (such as {other[0]})",
            where=str(folder),
            fix="Resume with the config and data that the run began with.",
        )
    optimizer = {name: value for name, value in tensors.items() if not name.startswith("weight:")}
    return weights, optimizer, step
