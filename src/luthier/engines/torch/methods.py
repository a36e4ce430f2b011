"""Tuning methods: which weights of a loaded network are trained.

A method is a function of the network with keyword-only options; its signature is the schema of its options.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from luthier.engines.engine import Choice
from luthier.engines.torch.packing import encoder_layers
from luthier.errors import InputError
from luthier.registry import Registry

METHODS = Registry("method")


@METHODS.register("full")
def full(model: Any) -> None:
    """Train all weights."""
    model.requires_grad_(True)


@METHODS.register("head")
def head(model: Any) -> None:
    """Train the head alone: what stands after the encoder, its pooler included."""
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if is_head(model, name):
            parameter.requires_grad_(True)


@METHODS.register("freeze")
def freeze(model: Any, *, layers: int) -> None:
    """Keep the embeddings and the lowest ``layers`` layers of the encoder as they are."""
    stack = encoder_layers(model)
    if not 0 <= layers <= len(stack):
        raise InputError(f"found {layers}; this model has {len(stack)} layers", where="method.layers")
    model.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if "embeddings" in name and not is_head(model, name):
            parameter.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(False)
    for layer in stack[:layers]:
        layer.requires_grad_(False)


full.learning_rate = 5e-5
freeze.learning_rate = 5e-5
head.learning_rate = 1e-3


def is_head(model: Any, name: str) -> bool:
    """Whether a parameter stands after the encoder. A pooler does, also where the base model owns it."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name


def apply(model: Any, choice: Choice) -> None:
    """Choose what of ``model`` is trained.

    Raises:
        InputError: no such method or option, or nothing is left to train.
    """
    method = METHODS.get(choice.name)
    _check_options(choice.name, method, choice.options)
    method(model, **choice.options)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("every weight is frozen; there is nothing to train", where="method")


def _check_options(name: str, method: Any, options: Mapping[str, Any]) -> None:
    known = {
        key: parameter
        for key, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    listed = ", ".join(f"{key}: {parameter.annotation}" for key, parameter in known.items()) or "none"
    for key in options:
        if key not in known:
            raise InputError(f'"{name}" has no option "{key}" (it has: {listed})', where="method")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise InputError(f'"{name}" needs its option "{key}" ({listed})', where="method")
