"""Tuning methods: which weights of a loaded network are trained.

A method is a function of (network, head, seed) with keyword-only options; its signature is the schema of its
options. A method that puts an adapter on the network returns it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from luthier.engines.engine import Choice
from luthier.engines.torch import adapters, structure
from luthier.engines.torch.adapters import Adapter
from luthier.engines.torch.virtual import probe
from luthier.errors import InputError
from luthier.heads import Head, writes
from luthier.registry import Registry

METHODS = Registry("method")

Targets = Literal["auto"] | list[str]

_SCALED = (
    "k_proj",
    "v_proj",
    "key",
    "value",
    "k_lin",
    "v_lin",
    "key_proj",
    "value_proj",
    "k",
    "v",
    "c_attn",
    "query_key_value",
    "Wqkv",
)
"""Keys and values, which IA3 scales: as the families name these layers, some of them fused with the queries."""
_SCALED_INPUTS = ("down_proj", "fc2", "lin2", "wo", "c_proj", "dense_4h_to_h", "output.dense", "Wo")
"""The second product of the feed-forward part, whose inputs IA3 scales."""


@METHODS.register("full")
def full(network: Any, head: Head, seed: int) -> None:
    """Train all weights but those that the model's own code keeps fixed, such as Marian's positions, which are computed."""


@METHODS.register("head")
def head(network: Any, head: Head, seed: int) -> None:
    """Train the head alone: what stands after the encoder, its pooler included."""
    if writes(head):
        raise InputError(
            "a model that writes has no head of its own: its vocabulary layer is part of it",
            where="method",
            fix="Choose lora, or freeze with a number of layers.",
        )
    network.requires_grad_(False)
    for name, parameter in network.named_parameters():
        if structure.is_head(network, name):
            parameter.requires_grad_(True)


@METHODS.register("freeze")
def freeze(network: Any, head: Head, seed: int, *, layers: int) -> None:
    """Keep the embeddings and the lowest ``layers`` layers as they are.

    Layers of an encoder-decoder are counted through: the encoder's from the bottom up, then the decoder's. A
    vocabulary layer that is one with the embeddings is kept with them.
    """
    stack = structure.layers(network)
    if not 0 <= layers <= len(stack):
        raise InputError(f"found {layers}; this model has {len(stack)} layers", where="method.layers")
    for name, module in network.named_modules():
        # Norms beside the tables go by their names; GPT-2's tables are called wte and wpe.
        if isinstance(module, nn.Embedding) or ("embed" in name and not structure.is_head(network, name)):
            module.requires_grad_(False)
    network.get_input_embeddings().requires_grad_(False)
    for layer in stack[:layers]:
        layer.requires_grad_(False)


@METHODS.register("lora")
def lora(
    network: Any,
    head: Head,
    seed: int,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Targets = "auto",
    base_bits: Literal[4, 8] | None = None,
) -> Adapter:
    """Train the product of two thin matrices beside each linear layer: Hu et al., LoRA (2021).

    Args:
        rank: the inner width of the product.
        alpha: the product is multiplied by alpha / rank; by default twice the rank.
        dropout: of what goes into the product.
        targets: ends of the names of linear layers; ``auto`` is all of attention and feed-forward.
        base_bits: quantize the frozen weights: Dettmers et al., QLoRA (2023). The network is loaded so already.
    """
    return _low_rank(network, head, seed, "lora", rank, alpha, dropout, targets)


@METHODS.register("dora")
def dora(
    network: Any,
    head: Head,
    seed: int,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Targets = "auto",
    base_bits: Literal[4, 8] | None = None,
) -> Adapter:
    """As lora, with the length of each output's weights trained by itself: Liu et al., DoRA (2024)."""
    return _low_rank(network, head, seed, "dora", rank, alpha, dropout, targets, use_dora=True)


@METHODS.register("rslora")
def rslora(
    network: Any,
    head: Head,
    seed: int,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Targets = "auto",
    base_bits: Literal[4, 8] | None = None,
) -> Adapter:
    """As lora, with alpha divided by the root of the rank, for high ranks: Kalajdzievski, rsLoRA (2023)."""
    return _low_rank(network, head, seed, "rslora", rank, alpha, dropout, targets, use_rslora=True)


@METHODS.register("ia3")
def ia3(network: Any, head: Head, seed: int, *, targets: Targets = "auto") -> Adapter:
    """Train factors on keys, values and the inner activations of feed-forward: Liu et al., T-Few (2022).

    Args:
        targets: ends of the names of linear layers. Of second layers of feed-forward the inputs are scaled, of
            others the outputs.
    """
    if targets == "auto":
        known = structure.products(network)
        names = [name for name in known if any(structure.fits(name, end) for end in _SCALED)]
        second = [name for name in known if any(structure.fits(name, end) for end in _SCALED_INPUTS)]
        inputs = [name for name in second if "attention" not in name and "attn" not in name]
        if not names or not inputs:
            raise InputError(
                f'the keys, values and feed-forward layers of models of the kind "{network.config.model_type}" are not known',
                where="method",
                fix="Name them: method.targets.",
            )
        chosen, feed_forward = structure.suffixes(network, [*names, *inputs]), structure.suffixes(network, inputs)
    else:
        chosen = _targets(network, targets)
        feed_forward = [end for end in chosen if any(structure.fits(end, known) for known in _SCALED_INPUTS)]
    return adapters.attach(
        network, "IA3Config", head, name="ia3", seed=seed,
        target_modules=chosen, feedforward_modules=feed_forward, fan_in_fan_out=structure.transposed(network, chosen),
    )  # fmt: skip


@METHODS.register("prompt")
def prompt(network: Any, head: Head, seed: int, *, num_tokens: int = 20) -> Adapter:
    """Train the vectors of virtual tokens before the text: Lester et al., Prompt Tuning (2021).

    They begin as the vectors of tokens drawn from the vocabulary, and take positions from the text.
    """
    return _virtual(
        network, head, seed, "prompt", num_tokens, "PromptTuningConfig",
        prompt_tuning_init="SAMPLE_VOCAB", num_transformer_submodules=1,
    )  # fmt: skip


@METHODS.register("prefix")
def prefix(network: Any, head: Head, seed: int, *, num_tokens: int = 20) -> Adapter:
    """Train keys and values that stand before the text in every layer: Li and Liang, Prefix-Tuning (2021).

    Without the reparametrization of the paper, as in Liu et al., P-Tuning v2 (2022).
    """
    return _virtual(network, head, seed, "prefix", num_tokens, "PrefixTuningConfig")


# From the papers, where they train with Adam; prompt's 0.3 is for Adafactor.
full.learning_rate = 5e-5
freeze.learning_rate = 5e-5
head.learning_rate = 1e-3
lora.learning_rate = dora.learning_rate = rslora.learning_rate = 3e-4
ia3.learning_rate = 3e-3
prompt.learning_rate = 3e-2
prompt.starts_changed = True
prefix.learning_rate = 1e-2
prefix.starts_changed = True
prompt.packs = prefix.packs = False
prompt.added_tokens = prefix.added_tokens = lambda num_tokens=20: num_tokens


def _low_rank(
    network: Any,
    head: Head,
    seed: int,
    name: str,
    rank: int,
    alpha: float | None,
    dropout: float,
    targets: Targets,
    **flags: bool,
) -> Adapter:
    if rank < 1:
        raise InputError(f"found {rank}; it is at least 1", where="method.rank")
    if not 0 <= dropout < 1:
        raise InputError(f"found {dropout}; it is at least 0 and below 1", where="method.dropout")
    chosen = _targets(network, targets)
    return adapters.attach(
        network, "LoraConfig", head, name=name, seed=seed,
        r=rank, lora_alpha=2 * rank if alpha is None else alpha, lora_dropout=dropout, target_modules=chosen,
        fan_in_fan_out=structure.transposed(network, chosen), **flags,
    )  # fmt: skip


def _targets(network: Any, targets: Targets) -> list[str]:
    """Return the ends of the names of the linear layers to adapt."""
    known = structure.products(network)
    if targets == "auto":
        if not known:
            kind = network.config.model_type
            raise InputError(f'no linear layers were found in a model of the kind "{kind}"', where="method.targets")
        return structure.suffixes(network, known)
    for end in targets:
        if not any(structure.fits(name, end) for name in known):
            there = ", ".join(structure.suffixes(network, known))
            raise InputError(f'no linear layer of a block is called "{end}"', where="method.targets", fix=f"Here: {there}.")
    if not targets:
        raise InputError("it names no layer", where="method.targets", fix="Leave it out for all of them.")
    return list(targets)


def _virtual(network: Any, head: Head, seed: int, name: str, num_tokens: int, kind: str, **options: Any) -> Adapter:
    if num_tokens < 1:
        raise InputError(f"found {num_tokens}; it is at least 1", where="method.num_tokens")
    sizes = structure.attention_sizes(network.config, keys=name == "prefix")
    adapter = adapters.attach(network, kind, head, name=name, seed=seed, num_virtual_tokens=num_tokens, **sizes, **options)
    assert adapter.virtual is not None
    adapter.virtual.check_length(1)
    if not probe(network, head):
        raise adapters.unfit(network, name)
    return adapter


def packs(choice: Choice) -> bool:
    """Whether a network tuned by this method may be packed: not with virtual tokens."""
    return bool(getattr(METHODS.get(choice.name), "packs", True))


def apply(network: Any, choice: Choice, *, head: Head, seed: int) -> Adapter | None:
    """Choose what of ``network`` is trained; return the adapter where the method puts one on it.

    Raises:
        InputError: no such method or option, this family cannot have it, or nothing is left to train.
    """
    method = METHODS.get(choice.name)
    _check_options(choice.name, method, choice.options)
    adapter: Adapter | None = method(network, head, seed, **choice.options)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError("every weight is frozen; there is nothing to train", where="method")
    return adapter


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
