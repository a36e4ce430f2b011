"""Tuning methods: which weights of a network are trained.

A method is a function of (network, head) with keyword-only options; its signature is the schema of its options. The
network is luthier.engines.keras.network.Network. What is returned says what is trained; the names and defaults are those
of the torch engine.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from luthier.engines.engine import Choice
from luthier.errors import InputError, did_you_mean
from luthier.heads import Head, writes
from luthier.registry import Registry

METHODS = Registry("method")

Targets = Literal["auto"] | list[str]

_LAYER = re.compile(r"\b(encoder|decoder)?\.?(?:layers?|h)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is trained.

    Attributes:
        trained: names of weights.
        adapted: names of matrices with a thin product beside them; they are frozen themselves.
        rank: the inner width of these products.
        scale: multiplies them.
    """

    trained: frozenset[str]
    adapted: tuple[str, ...] = ()
    rank: int = 0
    scale: float = 1.0


@METHODS.register("full")
def full(network: Any, head: Head) -> Tuning:
    """Train all weights."""
    return Tuning(_trainable(network))


@METHODS.register("head")
def head(network: Any, head: Head) -> Tuning:
    """Train the head alone: what stands after the encoder, its pooler included."""
    if writes(head):
        raise InputError(
            "a model that writes has no head of its own: its vocabulary layer is part of it",
            where="method",
            fix="Choose lora, or freeze with a number of layers.",
        )
    return Tuning(frozenset(name for name in _trainable(network) if network.is_head(name)))


@METHODS.register("freeze")
def freeze(network: Any, head: Head, *, layers: int) -> Tuning:
    """Keep the embeddings and the lowest ``layers`` layers as they are.

    Layers of an encoder-decoder are counted through: the encoder's from the bottom up, then the decoder's. A
    vocabulary layer that is one with the embeddings is kept with them.
    """
    numbers = layer_numbers(network)
    count = max(numbers.values(), default=-1) + 1
    if not 0 <= layers <= count:
        raise InputError(f"found {layers}; this model has {count} layers", where="method.layers")
    return Tuning(
        frozenset(
            name
            for name in _trainable(network)
            if network.is_head(name) or not (_embeds(network.weights[name].hub) or (name in numbers and numbers[name] < layers))
        )
    )


@METHODS.register("lora")
def lora(network: Any, head: Head, *, rank: int = 8, alpha: float | None = None, targets: Targets = "auto") -> Tuning:
    """Train the product of two thin matrices beside each linear layer: Hu et al., LoRA (2021).

    It is saved merged into the layers. GPT-2's queries, keys and values are three layers here, each with its own.

    Args:
        rank: the inner width of the product.
        alpha: the product is multiplied by alpha / rank; by default twice the rank.
        targets: ends of the names of linear layers; ``auto`` is all of attention and feed-forward.
    """
    if rank < 1:
        raise InputError(f"found {rank}; it is at least 1", where="method.rank")
    known = {
        name: network.weights[name].hub.removesuffix(".weight")
        for name in layer_numbers(network)
        if network.weights[name].inputs
    }
    adapted = known if targets == "auto" else _chosen(known, targets)
    heads = () if writes(head) else (name for name in _trainable(network) if network.is_head(name))
    return Tuning(frozenset(heads), tuple(adapted), rank, (2 * rank if alpha is None else alpha) / rank)


# From the papers, where they train with Adam.
full.learning_rate = 5e-5
freeze.learning_rate = 5e-5
head.learning_rate = 1e-3
lora.learning_rate = 3e-4


def apply(network: Any, choice: Choice, *, head: Head) -> Tuning:
    """Choose what of ``network`` is trained.

    Raises:
        InputError: no such method or option, or nothing is left to train.
    """
    method = METHODS.get(choice.name)
    _check_options(choice.name, method, choice.options)
    tuning: Tuning = method(network, head, **choice.options)
    if not tuning.trained and not tuning.adapted:
        raise InputError("every weight is frozen; there is nothing to train", where="method")
    return tuning


def layer_numbers(network: Any) -> dict[str, int]:
    """Return the layer that each weight inside one belongs to, from the bottom up; a decoder's follow its encoder's."""
    found: dict[str, tuple[bool, int]] = {}
    for name, weight in network.weights.items():
        match = _LAYER.search(weight.hub)
        if match and not network.is_head(name):
            found[name] = (match[1] == "decoder", int(match[2]))
    lower = max((number for later, number in found.values() if not later), default=-1) + 1
    return {name: number + lower * later for name, (later, number) in found.items()}


def _trainable(network: Any) -> frozenset[str]:
    return frozenset(name for name, weight in network.weights.items() if not weight.constant)


def _embeds(hub: str) -> bool:
    return "embed" in hub or hub.endswith(("wte.weight", "shared.weight"))


def _chosen(known: Mapping[str, str], targets: list[str]) -> list[str]:
    def fits(layer: str, end: str) -> bool:
        return layer == end or layer.endswith(f".{end}")

    ends = sorted({layer.rsplit(".", 1)[-1] for layer in known.values()})
    for end in targets:
        if not any(fits(layer, end) for layer in known.values()):
            fix = f"Here: {', '.join(ends)}."
            raise InputError(f'no linear layer of a block is called "{end}"', where="method.targets", fix=fix)
    if not targets:
        raise InputError("it names no layer", where="method.targets", fix="Leave it out for all of them.")
    return [name for name, layer in known.items() if any(fits(layer, end) for end in targets)]


def _check_options(name: str, method: Any, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(method).parameters.values()
    known = {parameter.name: parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    for key in options:
        if key not in known:
            raise InputError(f'"{name}" has no option "{key}"', where="method", fix=did_you_mean(key, known))
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise InputError(f'"{name}" needs its option "{key}"', where="method")
