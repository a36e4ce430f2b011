"""What of a model is written to disk between two steps, and read back to the bit: the torch engine's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from luthier.errors import InputError

_TENSORS = "state.safetensors"
_NUMBERS = "state.json"
_KINDS = ("weight", "exp_avg", "exp_avg_sq")


def write_state(folder: Path, tensors: Sequence[Mapping[str, np.ndarray]], *, step: int, applied: int) -> None:
    """Write what is trained with its two moments.

    ``state.safetensors`` holds ``weight:NAME``, ``exp_avg:NAME`` and ``exp_avg_sq:NAME``.

    Args:
        folder: is made where it is not there.
        tensors: weights, first moments, second moments, by name.
        step: updates asked for; dropout is a function of it.
        applied: updates that were finite.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    named = {
        f"{kind}:{name}": np.ascontiguousarray(value)
        for kind, values in zip(_KINDS, tensors, strict=True)
        for name, value in values.items()
    }
    save_file(named, folder / _TENSORS)
    (folder / _NUMBERS).write_text(json.dumps({"step": step, "applied": applied}), encoding="utf-8")


def read_state(folder: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[list[dict[str, np.ndarray]], int, int]:
    """Return (weights, first moments, second moments), the step and the number of steps applied.

    Raises:
        InputError: the state is not there, or belongs to another model, method or engine than ``shapes`` is of.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(folder / _TENSORS)
        numbers = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
        step, applied = int(numbers["step"]), int(numbers.get("applied", numbers["step"]))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"the saved state cannot be read: {error}", where=str(folder)) from error
    found = {name.removeprefix("weight:"): value for name, value in tensors.items() if name.startswith("weight:")}
    other = sorted(found.keys() ^ shapes.keys()) or sorted(n for n in found if found[n].shape != tuple(shapes[n]))
    if other:
        raise InputError(
            f"this state is of another model, method or engine: {len(other)} weights differ (such as {other[0]})",
            where=str(folder),
            fix="Resume with the config and data that the run began with.",
        )
    return [{name: tensors[f"{kind}:{name}"] for name in shapes} for kind in _KINDS], step, applied
