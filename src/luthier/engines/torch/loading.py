"""From a folder in the hub's format to a network under a head."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.engines.torch.methods import is_head
from luthier.errors import InputError, SecurityError
from luthier.heads import BinaryCrossEntropy, CausalHead, Head, SequenceHead, SpanHead, SquaredError, TokenHead

_MAPPINGS = {
    SequenceHead: "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    TokenHead: "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    SpanHead: "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    CausalHead: "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network in float32 on the host, in evaluation mode.

    Attributes:
        head: ``from the checkpoint`` or ``new``.
        unused: names of weights in the folder that this network has no place for.
    """

    network: Any
    head: str
    unused: tuple[str, ...]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing to stderr: what matters is checked here and said in our own words."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def load_network(folder: Path, head: Head, *, seed: int | None) -> Loaded:
    """Load a network; a head that the folder lacks is made new from ``seed``.

    Args:
        folder: holds ``config.json`` and safetensors.
        head: chooses the class and the size of the head.
        seed: None for inference: then the folder must hold the head too.

    Raises:
        InputError: no model, one without this head, with missing or non-finite weights.
        SecurityError: the weights are a pickle, or the model wants to run its own code.
    """
    values = _checked_folder(folder)
    with quiet():
        config = _config(folder, values)
        kind = _network_class(folder, head, config.model_type)
        new = _set_head(config, head, values)
        if new and seed is None:
            raise InputError(
                "its head is another one than this task's",
                where=str(folder),
                fix="Train first, or choose a model with this head.",
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            network, info = _read(kind, folder, config)
            made = {name for name, *_ in info["mismatched_keys"]} | set(info["missing_keys"])
            if new:
                made |= _renew(network, head)
    network.eval()
    _check_weights(folder, network, made, inference=seed is None)
    return Loaded(network, "new" if made else "from the checkpoint", tuple(sorted(info["unexpected_keys"])))


def _read(kind: Any, folder: Path, config: Any) -> tuple[Any, dict[str, Any]]:
    from safetensors import SafetensorError

    try:
        network, info = kind.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError) as error:
        raise InputError(f"its weights cannot be read: {error}", where=str(folder), fix="Get the file again.") from error
    return network, info


def _checked_folder(folder: Path) -> dict[str, Any]:
    """Return config.json as it stands."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError("this folder holds no model: there is no config.json", where=str(folder))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"it cannot be read: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise InputError("it holds no JSON object", where=str(path))
    if "quantization_config" in values:
        raise InputError("its weights are quantized; only whole ones can be loaded", where=str(folder))
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(entry.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for entry in folder.glob(pattern))
        if pickles:
            raise SecurityError(
                f"{folder}: its weights are a pickle ({pickles[0]}), and reading one can run somebody else's code. "
                "Take a version with model.safetensors, or convert it on a machine that you can lose."
            )
        raise InputError("there are no weights: no file ends in .safetensors", where=str(folder))
    return values


def _config(folder: Path, values: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError, TypeError) as error:
        if "auto_map" in values:
            raise SecurityError(f"{folder}: this model wants to run code of its own, and that is never done.") from error
        found = values.get("model_type", "none")
        raise InputError(
            f'config.json names no kind of model that is known here (model_type "{found}")', where=str(folder)
        ) from error


def _network_class(folder: Path, head: Head, model_type: str) -> Any:
    """Return the class of transformers for this head; imports only the code of this kind of model."""
    import transformers
    from transformers.models.auto import modeling_auto

    names = getattr(modeling_auto, _MAPPINGS[type(head)]) if type(head) in _MAPPINGS else {}
    name = names.get(model_type)
    if name is None:
        raise InputError(f'a model of the kind "{model_type}" cannot have a {type(head).__name__}', where=str(folder))
    return getattr(transformers, name if isinstance(name, str) else name[0])


def _set_head(config: Any, head: Head, values: dict[str, Any]) -> bool:
    """Write the head into the config; return whether the folder's head must be replaced though it may fit in size."""
    if not isinstance(head, SequenceHead | TokenHead):
        return False
    known = tuple(name for _, name in sorted((values.get("id2label") or {}).items(), key=lambda pair: int(pair[0])))
    labels = head.labels or tuple(f"LABEL_{index}" for index in range(head.num_labels))
    generic = all(name == f"LABEL_{index}" for index, name in enumerate(known)) or head.labels is None
    config.num_labels = head.num_labels
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if isinstance(head, SequenceHead):
        config.problem_type = _problem_type(head)
    return not generic and known != labels


def _problem_type(head: SequenceHead) -> str:
    if isinstance(head.objective, BinaryCrossEntropy):
        return "multi_label_classification"
    return "regression" if isinstance(head.objective, SquaredError) else "single_label_classification"


def _renew(network: Any, head: Head) -> set[str]:
    """Make the output layer new: its rows belong to other labels. Return the names of its weights."""
    made: set[str] = set()
    for name, module in network.named_modules():
        outputs = getattr(module, "out_features", None)
        if isinstance(head, SequenceHead | TokenHead) and outputs == head.num_labels and is_head(network, f"{name}."):
            for parameter in module.parameters():
                parameter._is_hf_initialized = False  # else transformers keeps what was loaded
            network._init_weights(module)
            made |= {f"{name}.{key}" for key, _ in module.named_parameters()}
    return made


def _check_weights(folder: Path, network: Any, made: set[str], *, inference: bool) -> None:
    strange = sorted(name for name in made if not is_head(network, name))
    if strange:
        raise InputError(
            f"{len(strange)} of its weights are missing or of another size (such as {strange[0]})", where=str(folder)
        )
    if made and inference:
        raise InputError(
            f"it has no trained head for this task ({sorted(made)[0]} is missing)", where=str(folder), fix="Train it first."
        )
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(
                f"its weight {name} holds values that are not finite", where=str(folder), fix="Get the file again."
            )
