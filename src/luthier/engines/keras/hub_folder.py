"""A folder in the hub's format: what KerasHub's converters read from it is remembered and written back in place.

A converter only moves values: it transposes, reshapes and cuts. Run on the numbers 0, 1, 2 ... in place of a weight's
values it says where each value goes, so every converter is its own inverse here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import InputError, SecurityError
from luthier.heads import BinaryCrossEntropy, Head, SequenceHead, SquaredError, TokenHead

Hook = Callable[[Any, Any], Any]
_ALIKE = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
_TIED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Where the shared embeddings of an encoder-decoder may stand instead."""


class _Exact(np.ndarray):
    """Values that a converter may move but not round: some convert to float16 on the way."""

    def astype(self, *arguments: Any, **options: Any) -> Any:
        return self


@dataclass(frozen=True, slots=True)
class Place:
    """Where a variable's values stand in the folder.

    Attributes:
        name: of the tensor, as transformers writes it.
        shape: of the tensor; the variable may be a part of it.
        hook: the converter's function of (tensor, the variable's shape); None where it takes the tensor as it is.
    """

    name: str
    shape: tuple[int, ...]
    hook: Hook | None

    def read(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the variable's values from the tensor's."""
        moved = tensor if self.hook is None else self.hook(tensor.view(_Exact), list(shape))
        return np.ascontiguousarray(np.asarray(moved).reshape(shape))

    def write(self, tensor: np.ndarray, values: np.ndarray) -> None:
        """Put the variable's values into the tensor, in place."""
        if self.hook is None:
            tensor[...] = values.reshape(self.shape)
            return
        numbers = np.arange(tensor.size, dtype=np.int64).reshape(self.shape)
        tensor.reshape(-1)[self.read(numbers, values.shape).reshape(-1)] = values.reshape(-1)


class HubWeights:
    """The tensors of a folder, with the face that KerasHub's converters know.

    Args:
        folder: holds safetensors files.
        prefix: of the body's weights, as transformers writes them under a head.
        tensors: take the place of what the folder holds.

    Attributes:
        places: by the paths of Keras' variables.
        missing: names that were asked for and are not there, by the paths of the variables.

    Raises:
        InputError: they cannot be read.
        SecurityError: the weights are a pickle.
    """

    def __init__(self, folder: Path, prefix: str, *, tensors: Mapping[str, np.ndarray] | None = None) -> None:
        self.folder, self._prefix = folder, prefix
        self._tensors = _read_tensors(folder) if tensors is None else dict(tensors)
        self._read: set[str] = set()
        self._covered: dict[str, int] = {}
        self.places: dict[str, Place] = {}
        self.missing: dict[str, str] = {}

    def get_tensor(self, name: str) -> np.ndarray:
        """Return a tensor as float32. Raises KeyError when it is not there."""
        return self._tensors[self._found(name)]

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Hook | None = None) -> None:
        """Remember where a variable's values stand; its own are left alone."""
        try:
            found = self._found(hf_weight_key)
        except KeyError:
            self.missing[keras_variable.path] = self._whole_name(hf_weight_key)
            return
        self._read.add(found)
        place = Place(self._whole_name(hf_weight_key), self._tensors[found].shape, hook_fn)
        self.places[keras_variable.path] = place
        self._covered[place.name] = self._covered.get(place.name, 0) + math.prod(keras_variable.shape)

    def values(self, variable: Any) -> np.ndarray:
        """Return a variable's values from the folder."""
        place = self.places[variable.path]
        return place.read(self.get_tensor(place.name), tuple(variable.shape))

    def take(self, name: str) -> np.ndarray | None:
        """Return a tensor of the head, or None."""
        if name not in self._tensors:
            return None
        self._read.add(name)
        return self._tensors[name]

    def remainder(self) -> dict[str, np.ndarray]:
        """Forget the tensors but those that variables take only a part of, and return these."""
        whole = {place.name: math.prod(place.shape) for place in self.places.values()}
        kept = {name: self.get_tensor(name) for name, size in whole.items() if self._covered.get(name, size) < size}
        self._tensors = {}
        return kept

    def unused(self) -> list[str]:
        """Return the names of tensors that nothing has asked for."""
        return sorted(name for name in self._tensors if name not in self._read)

    def _found(self, name: str) -> str:
        bare = name.removeprefix(self._prefix)
        candidates = [name, self._prefix + bare, bare]
        if bare == "shared.weight":
            candidates += [self._prefix + other for other in _TIED] + list(_TIED)
        for now, before in _ALIKE:
            candidates += [candidate.replace(now, before) for candidate in candidates]
            candidates += [candidate.replace(before, now) for candidate in candidates]
        for candidate in candidates:
            if candidate in self._tensors:
                return candidate
        raise KeyError(name)

    def _whole_name(self, name: str) -> str:
        for now, before in _ALIKE:
            name = name.replace(before, now)
        if name.startswith("lm_head."):
            return name
        return self._prefix + name.removeprefix(self._prefix)


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(entry.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for entry in folder.glob(pattern))
        if pickles:
            raise SecurityError(
                f"{folder}: its weights are a pickle ({pickles[0]}), and reading one can run somebody else's code. "
                "Take a version with model.safetensors, or convert it on a machine that you can lose."
            )
        raise InputError("there are no weights: no file ends in .safetensors", where=str(folder))
    tensors: dict[str, np.ndarray] = {}
    try:
        for file in files:
            with safe_open(file, framework="np") as opened:
                for name in opened.keys():  # noqa: SIM118
                    tensors[name] = np.asarray(opened.get_tensor(name)).astype(np.float32)
    except (SafetensorError, OSError) as error:
        raise InputError(f"its weights cannot be read: {error}", where=str(folder), fix="Get the file again.") from error
    broken = next((name for name, values in tensors.items() if not np.isfinite(values).all()), None)
    if broken:
        raise InputError(f"its weight {broken} holds values that are not finite", where=str(folder), fix="Get the file again.")
    return tensors


def read_config(folder: Path) -> Any:
    """Return transformers' config object, with the family's defaults where config.json says nothing.

    Raises:
        InputError: there is none, or none that is known.
        SecurityError: the model wants to run its own code.
    """
    from transformers import AutoConfig

    path = folder / "config.json"
    if not path.is_file():
        fix = "Merge an adapter first: luthier export RUN --to safetensors."
        adapter = (folder / "adapter_config.json").is_file()
        raise InputError(
            "this folder holds no whole model: there is no config.json", where=str(folder), fix=fix if adapter else None
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError, TypeError) as error:
        if path.is_file() and '"auto_map"' in path.read_text(encoding="utf-8", errors="replace"):
            raise SecurityError(f"{folder}: this model wants to run code of its own, and that is never done.") from error
        raise InputError(f"config.json cannot be used: {str(error).splitlines()[0]}", where=str(folder)) from error
    if "quantization_config" in values:
        raise InputError("its weights are quantized; only whole ones can be loaded", where=str(folder))
    config.labelled = bool(values.get("id2label"))
    return config


def set_head(config: Any, head: Head) -> bool:
    """Write the head into the config; return whether the folder's head must be replaced though it may fit in size."""
    labelled = config.__dict__.pop("labelled")
    if not isinstance(head, SequenceHead | TokenHead):
        return False
    known = tuple(name for _, name in sorted(config.id2label.items(), key=lambda pair: int(pair[0]))) if labelled else ()
    labels = head.labels or tuple(f"LABEL_{index}" for index in range(head.num_labels))
    generic = all(name == f"LABEL_{index}" for index, name in enumerate(known)) or head.labels is None
    config.num_labels = head.num_labels
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if isinstance(head, SequenceHead):
        config.problem_type = (
            "multi_label_classification"
            if isinstance(head.objective, BinaryCrossEntropy)
            else "regression"
            if isinstance(head.objective, SquaredError)
            else "single_label_classification"
        )
    return not generic and known != labels


def write_folder(
    folder: Path,
    config: Any,
    body: Iterable[tuple[Place, np.ndarray]],
    others: Mapping[str, np.ndarray],
    remainder: Mapping[str, np.ndarray],
) -> None:
    """Write config.json and model.safetensors.

    Args:
        folder: is made where it is not there.
        config: transformers' object.
        body: the variables' values and where they go.
        others: tensors by the names that transformers knows.
        remainder: as HubWeights.remainder gave it.
    """
    from safetensors.numpy import save_file

    tensors = {name: values.copy() for name, values in remainder.items()}
    for place, values in body:
        if place.name not in tensors:
            tensors[place.name] = np.empty(place.shape, dtype=np.float32)
        place.write(tensors[place.name], values)
    folder.mkdir(parents=True, exist_ok=True)
    tensors |= {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in others.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))
