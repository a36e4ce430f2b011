"""Hub folders whose weights are a pickle (``pytorch_model.bin``), as folders with safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.errors import InputError
from luthier.interop.converted import digest_of, made_once
from luthier.interop.weights import read_pickle, save_weights

if TYPE_CHECKING:
    from torch import Tensor

_WHOLE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_VERSION = "bin 1"
"""Of what is written; a new one makes old conversions be made again."""


def only_pickled(folder: Path) -> bool:
    """Return whether a hub folder holds its weights as ``pytorch_model.bin`` and in no safe form."""
    return ((folder / _WHOLE).is_file() or (folder / _INDEX).is_file()) and not any(folder.glob("*.safetensors"))


def with_safetensors(folder: Path, cache: Path) -> Path:
    """Return a copy of a hub folder with its ``pytorch_model.bin`` as safetensors, made once.

    Args:
        cache: takes the copy, under a digest of the folder's files.

    Raises:
        SecurityError, InputError: see ``read_pickle``.
    """
    files = _pickled_files(folder)
    kept = sorted(path for path in folder.iterdir() if path.is_file() and path not in files and path.name != _INDEX)
    target = cache / f"bin-{digest_of([*kept, *files], salt=_VERSION)}"

    def make(made: Path) -> None:
        weights: dict[str, Tensor] = {}
        for path in files:
            weights |= _tensors(path)
        for path in kept:
            shutil.copyfile(path, made / path.name)
        save_weights(weights, made)

    return made_once(target, make)


def _pickled_files(folder: Path) -> list[Path]:
    if (folder / _WHOLE).is_file():
        return [folder / _WHOLE]
    try:
        names = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("it cannot be read", where=str(folder / _INDEX), fix="Get it again.") from error
    inside = {path.name for path in folder.iterdir()}
    if missing := sorted(str(name) for name in names if name not in inside):
        raise InputError(f"it names {missing[0]}, which is not there", where=str(folder / _INDEX), fix="Get it again.")
    return [folder / name for name in sorted(names)]


def _tensors(path: Path) -> dict[str, Tensor]:
    import torch

    read = read_pickle(path)
    if not isinstance(read, Mapping) or not all(isinstance(value, torch.Tensor) for value in read.values()):
        raise InputError("it holds no dictionary of tensors", where=str(path))
    return {str(name): value for name, value in read.items()}
