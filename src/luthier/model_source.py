"""Where a model comes from: a scheme, a path, a sample's alias, or a hub id; in this order."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import InputError, did_you_mean
from luthier.registry import Registry

CONVERTED = Registry(
    "model scheme",
    {"fairseq": "luthier.interop.fairseq.conversion:converted", "keras": "luthier.interop.keras_preset:converted"},
)
"""Schemes of other people's files: from what follows the colon, and the cache, to a folder in the hub's format."""
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_PICKLED = ["pytorch_model*.bin"]
ADAPTER_CONFIG = "adapter_config.json"
BASE_CONFIG = "base_config.json"
"""The config of an adapter's base under the task's head. As config.json it would make transformers look for the
base's weights beside it."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's folder in the hub's format, and how it was found.

    ``task`` is the content of luthier.json when Luthier has tuned the model, else None.
    """

    name: str
    folder: Path
    found_as: str
    task: dict[str, Any] | None = None


def resolve_model(name: str) -> ModelSource:
    """Find a model.

    Raises:
        InputError: nothing of that name, or a folder without a model in it.
    """
    scheme, colon, rest = name.partition(":")
    if colon and scheme == "hf":
        return _opened(name, _from_hub(rest), "hub")
    if colon and scheme in CONVERTED:
        return _opened(name, CONVERTED.get(scheme)(rest, _conversions()), f"converted from {scheme}")
    path = Path(name).expanduser()
    if path.exists():
        folder = path / "model" if _holds_model(path / "model") else path
        return _opened(name, folder, "run" if folder != path else "folder")
    from luthier.samples import SAMPLES, fetch

    if name in SAMPLES and SAMPLES.get(name).kind == "model":
        return _opened(name, fetch(name), "sample")
    if _HUB_ID.match(name) and (path.parent == Path() or "/" in name) and path.suffix != ".pt":
        try:
            return _opened(name, _from_hub(name), "hub")
        except InputError as error:
            models = [sample for sample in SAMPLES if SAMPLES.get(sample).kind == "model"]
            raise InputError(
                f"{error.what}. It is no path and no sample either", where="model", fix=did_you_mean(name, models)
            ) from error
    raise InputError(
        f'there is nothing at "{name}"', where="model", fix="Give a folder, a sample (see luthier samples) or a hub id."
    )


def _conversions() -> Path:
    """Return where conversions of foreign files are kept."""
    from luthier.samples import cache_folder

    return cache_folder() / "models"


def _from_hub(name: str) -> Path:
    """Download a model of the hub, or take it from the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
        if not any(folder.glob("*.safetensors")):  # an old model, whose weights are a pickle
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, *_PICKLED]))
        return folder
    except HFValidationError as error:
        raise InputError(f'"{name}" is no hub id', where="model") from error
    except LocalEntryNotFoundError as error:
        offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the hub cannot be reached"
        raise InputError(f'"{name}" is not in the hub\'s cache, and {offline}', where="model") from error
    except HfHubHTTPError as error:
        raise InputError(f'the hub does not give "{name}" ({str(error).splitlines()[0]})', where="model") from error


def _opened(name: str, folder: Path, found_as: str) -> ModelSource:
    if not _holds_model(folder):
        raise InputError(
            "there is no config.json in this folder",
            where=str(folder),
            fix="A model folder holds config.json, model.safetensors and tokenizer.json.",
        )
    task: dict[str, Any] | None = None
    if (folder / "luthier.json").is_file():
        try:
            task = json.loads((folder / "luthier.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError("luthier.json is damaged", where=str(folder), fix="Train again, or restore the file.") from error
    from luthier.interop.hub import only_pickled, with_safetensors

    if only_pickled(folder):
        folder = with_safetensors(folder, _conversions())
    return ModelSource(name, folder, found_as, task)


def _holds_model(folder: Path) -> bool:
    """Whether a folder holds a whole model or an adapter."""
    return (folder / "config.json").is_file() or (folder / ADAPTER_CONFIG).is_file()


def model_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's config.json; of an adapter that of its base.

    Raises:
        InputError: it is damaged, or an adapter's base is missing.
    """
    if not (folder / "config.json").is_file() and (folder / ADAPTER_CONFIG).is_file():
        if not (folder / BASE_CONFIG).is_file():
            return model_config(adapter_base(folder, _json_object(folder, ADAPTER_CONFIG)))
        return _json_object(folder, BASE_CONFIG)
    return _json_object(folder, "config.json")


def adapter_base(folder: Path, values: Mapping[str, Any]) -> Path:
    """Return the folder of the base that an adapter belongs to.

    Args:
        folder: the adapter's.
        values: its adapter_config.json.

    Raises:
        InputError: it is not there.
    """
    named = values.get("base_model_name_or_path")
    base = Path(str(named))
    if not named or not (base / "config.json").is_file():
        raise InputError(
            f'the adapter\'s base model is missing: there is no model at "{named}"',
            where=str(folder),
            fix=f"Bring it back, or write its new place into {ADAPTER_CONFIG} (base_model_name_or_path).",
        )
    return base


def _json_object(folder: Path, name: str) -> dict[str, Any]:
    try:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{name} is damaged", where=str(folder)) from error
    if not isinstance(values, dict):
        raise InputError(f"{name} holds no object", where=str(folder))
    return values


def model_limit(folder: Path) -> int | None:
    """Return how many tokens the model takes, from its config; None where it says nothing."""
    return position_limit(model_config(folder))


def position_limit(config: Mapping[str, Any]) -> int | None:
    """As ``model_limit``, of a config's values.

    RoBERTa and its kin lose two positions to their offset of padding_idx + 1.
    """
    limit = config.get("max_position_embeddings") or config.get("n_positions")
    if not isinstance(limit, int):
        return None
    offset_families = {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"}
    return limit - 2 if config.get("model_type") in offset_families else limit
