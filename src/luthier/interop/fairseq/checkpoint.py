"""fairseq's checkpoints: settings and weights, under the names that fairseq 0.12.2 gives them.

Format: ``fairseq/checkpoint_utils.py``. New files keep their settings in ``cfg``, old ones in the Namespace ``args``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.interop.weights import read_pickle

if TYPE_CHECKING:
    from torch import Tensor

_STALE = (
    "in_proj_weight",
    "in_proj_bias",
    "out_proj_weight",
    "out_proj_bias",
    "fc1_weight",
    "fc1_bias",
    "fc2_weight",
    "fc2_bias",
)
"""Copies that fairseq keeps in every encoder layer for a fast path; they are not what was trained."""
_BUFFERS = (".version", ".embed_positions._float_tensor", ".embed_positions.weights")
_OLD_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
_TASKS = ("translation", "language_modeling")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds, without the state of its training.

    Attributes:
        path: of the file.
        settings: of the model, such as ``encoder_layers``.
        task: settings of the task, such as ``source_lang``; ``_name`` is ``translation`` or ``language_modeling``.
        weights: float32, by fairseq's names; each stands there once, in its newest form.
    """

    path: Path
    settings: Mapping[str, Any]
    task: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def is_language_model(self) -> bool:
        """Whether it has no encoder."""
        return bool(self.task["_name"] == "language_modeling")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of fairseq.

    Raises:
        SecurityError: it holds more than weights and plain settings.
        InputError: it is damaged, is no checkpoint of fairseq, or one of another task.
    """
    state = read_pickle(path)
    if not isinstance(state, Mapping) or not isinstance(state.get("model"), Mapping):
        raise InputError('this is no checkpoint of fairseq: it holds no weights under "model"', where=str(path))
    settings, task = _settings(state, path)
    name = str(task.get("_name", "translation"))
    if name not in _TASKS:
        raise InputError(
            f'it was trained for fairseq\'s task "{name}"', where=str(path), fix=f"What can be read: {', '.join(_TASKS)}."
        )
    return Checkpoint(path, settings, {**task, "_name": name}, _weights(state["model"], path))


def _settings(state: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the model and of the task."""
    if state.get("args") is not None:
        settings = _plain(state["args"])
        if "arch" in settings:
            return settings, {**settings, "_name": settings.get("task", "translation")}
    config = state.get("cfg")
    if isinstance(config, Mapping) and config.get("model") is not None:
        settings, task = _plain(config["model"]), _plain(config.get("task"))
        task.setdefault("_name", settings.get("task", "translation"))
        return {**settings, "arch": settings.get("arch") or settings.get("_name")}, task
    raise InputError('this checkpoint says nothing of its model: neither "args" nor "cfg" is there', where=str(path))


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, argparse.Namespace):
        return dict(vars(value))
    return dict(value) if isinstance(value, Mapping) else {}


def _weights(read: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Leave out copies and buffers, give old names their new form, and take all to float32."""
    import torch

    weights: dict[str, Tensor] = {}
    for name, value in read.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(f'"{name}" is no tensor', where=str(path))
        if name.endswith(_BUFFERS) or _is_stale(name):
            continue
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"its weight {name} holds values that are not finite", where=str(path), fix="Get the file again.")
        for new, part in _renewed(name, value.float()):
            weights[new] = part
    # Older files leave the output layer out where it is the table of the targets.
    if "decoder.output_projection.weight" not in weights and "decoder.embed_tokens.weight" in weights:
        weights["decoder.output_projection.weight"] = weights["decoder.embed_tokens.weight"]
    return weights


def _is_stale(name: str) -> bool:
    parts = name.split(".")
    return parts[:2] == ["encoder", "layers"] and len(parts) == 4 and parts[3] in _STALE


def _renewed(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """Return a weight under its newest name; the joined projections of the oldest files become three."""
    parts = name.split(".")
    if len(parts) > 4 and parts[3] == "layer_norms" and parts[0] in _OLD_NORMS:
        return [(".".join([*parts[:3], _OLD_NORMS[parts[0]][int(parts[4])], *parts[5:]]), value)]
    if parts[-1] in ("in_proj_weight", "in_proj_bias"):
        kind = parts[-1].removeprefix("in_proj_")
        return [
            (".".join([*parts[:-1], f"{letter}_proj", kind]), part) for letter, part in zip("qkv", value.chunk(3), strict=True)
        ]
    return [("decoder.output_projection.weight" if name == "decoder.embed_out" else name, value)]
