"""From a folder in the hub's format to a network under a head."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.engines.torch import adapters, quantized, structure
from luthier.engines.torch.adapters import Adapter
from luthier.engines.torch.structure import is_head
from luthier.errors import InputError, SecurityError
from luthier.heads import (
    BinaryCrossEntropy,
    CausalHead,
    Head,
    Seq2SeqHead,
    SequenceHead,
    SpanHead,
    SquaredError,
    TokenHead,
)
from luthier.model_source import BASE_CONFIG, adapter_base

_MAPPINGS = {
    SequenceHead: "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    TokenHead: "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    SpanHead: "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    CausalHead: "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    Seq2SeqHead: "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
}


_OWN = {
    "marian-ssru": (Seq2SeqHead, "luthier.engines.torch.ssru", "MarianSSRUForConditionalGeneration"),
    "fairseq-transformer": (Seq2SeqHead, "luthier.engines.torch.fairseq", "FairseqForConditionalGeneration"),
    "fairseq-transformer-lm": (CausalHead, "luthier.engines.torch.fairseq", "FairseqForCausalLM"),
}
"""Kinds of models that transformers lacks and this engine adds: the head that they have, the module and the class.
The module's ``register`` makes transformers know them."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network in float32 on the host, in evaluation mode.

    Attributes:
        head: ``from the checkpoint`` or ``new``.
        unused: names of weights in the folder that this network has no place for.
        adapter: where the folder holds one.
        bits: of a base that was quantized.
    """

    network: Any
    head: str
    unused: tuple[str, ...]
    adapter: Adapter | None = None
    bits: int | None = None


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


def load_network(folder: Path, head: Head, *, seed: int | None, bits: int | None = None, precision: str = "float32") -> Loaded:
    """Load a network; a head that the folder lacks is made new from ``seed``.

    Args:
        folder: holds ``config.json`` and safetensors, or an adapter of a base that is here.
        head: chooses the class and the size of the head.
        seed: None for inference: then the folder must hold the head too.
        bits: 4 or 8 to quantize the linear layers of its blocks.
        precision: of the products with quantized weights.

    Raises:
        InputError: no model, one without this head, with missing or non-finite weights.
        SecurityError: the weights are a pickle, or the model wants to run its own code.
    """
    if adapters.is_adapter(folder):
        return _load_adapted(folder, head, seed=seed, precision=precision)
    values = _checked_folder(folder)
    with quiet():
        config = _config(folder, values)
        new = _set_head(config, head, values)
        if new and seed is None:
            raise _other_head(folder)
        network, made, unused = _made(folder, head, config, seed=seed or 0, bits=bits, precision=precision, renewed=new)
    _check_weights(folder, network, made, inference=seed is None)
    return Loaded(network, "new" if made else "from the checkpoint", unused, bits=bits)


def _load_adapted(folder: Path, head: Head, *, seed: int | None, precision: str) -> Loaded:
    """Load an adapter's base as it was when the adapter was trained, and put the adapter on it."""
    if seed is not None:
        raise InputError(
            "this folder holds an adapter, and another one cannot be trained on top of it",
            where=str(folder),
            fix="Merge it first (luthier export RUN --to safetensors), and train the whole model that this writes.",
        )
    base = adapter_base(folder, adapters.adapter_config(folder))
    saved = folder / BASE_CONFIG
    values = _checked_folder(base)
    described = _json_object(saved) if saved.is_file() else values
    bits = quantized.bits_of(described)
    with quiet():
        config = _config(base, values)
        if _set_head(config, head, described):
            raise _other_head(folder)
        network, made, unused = _made(base, head, config, seed=0, bits=bits, precision=precision, renewed=False)
        _check_weights(base, network, made, inference=False)
        adapter = adapters.load_adapter(network, folder, head, made=made)
    network.eval()
    return Loaded(network, "from the checkpoint", unused, adapter, bits)


def _other_head(folder: Path) -> InputError:
    return InputError(
        "its head is another one than this task's", where=str(folder), fix="Train first, or choose a model with this head."
    )


def _made(
    folder: Path, head: Head, config: Any, *, seed: int, bits: int | None, precision: str, renewed: bool
) -> tuple[Any, set[str], tuple[str, ...]]:
    """Return the network in evaluation mode, the names of weights that are new, and those that it has no place for."""
    kind = _network_class(folder, head, config.model_type)
    options = {} if bits is None else {"quantization_config": _quantization(kind, config, bits, precision)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, info = _read(kind, folder, config, **options)
        made = {name for name, *_ in info["mismatched_keys"]} | set(info["missing_keys"])
        if bits is not None:
            quantized.settle(network)
        if renewed:
            made |= _renew(network, head)
    _fix_computed(network)
    network.eval()
    return network, made, tuple(sorted(info["unexpected_keys"]))


def _fix_computed(network: Any) -> None:
    """Keep fixed what is a formula's values though it looks like a weight, or training would move it.

    FSMT's positions become buffers. Those of Marian and Pegasus are made frozen, which loading forgets, and are not saved.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Embedding) and hasattr(module, "create_weight"):
            module.weight.requires_grad_(False)
        if type(module).__name__ == "SinusoidalPositionalEmbedding":
            values = module.weight.detach()
            del module.weight
            module.register_buffer("weight", values)


def _quantization(kind: Any, config: Any, bits: int, precision: str) -> Any:
    with torch.device("meta"):
        shape = kind(config)
    chosen = structure.products(shape)
    whole = [name for name, module in shape.named_modules() if hasattr(module, "weight") and name not in chosen]
    return quantized.quantization(bits, precision=precision, whole=whole)


def _read(kind: Any, folder: Path, config: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
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
            **options,
        )
    except (SafetensorError, OSError) as error:
        raise InputError(f"its weights cannot be read: {error}", where=str(folder), fix="Get the file again.") from error
    return network, info


def _checked_folder(folder: Path) -> dict[str, Any]:
    """Return config.json as it stands."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError("this folder holds no model: there is no config.json", where=str(folder))
    values = _json_object(path)
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


def _json_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"it cannot be read: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise InputError("it holds no JSON object", where=str(path))
    return values


def _config(folder: Path, values: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    if values.get("model_type") in _OWN:
        importlib.import_module(_OWN[values["model_type"]][1]).register()
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

    if model_type in _OWN and _OWN[model_type][0] is type(head):
        _, module, own = _OWN[model_type]
        return getattr(importlib.import_module(module), own)
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
