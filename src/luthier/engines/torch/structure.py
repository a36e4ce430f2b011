"""Where things stand in a network: its head, its layers from the bottom up, and the products inside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def is_head(network: Any, name: str) -> bool:
    """Whether a parameter stands after the body. A pooler does, also where the body owns it."""
    if ".pooler." in name:
        return True
    prefix = network.base_model_prefix
    if prefix and hasattr(network, prefix):
        return not name.startswith(f"{prefix}.")
    # T5 and its kin keep the two stacks and their embeddings side by side with the head.
    return not name.startswith(("encoder.", "decoder.", "shared."))


def head_modules(network: Any) -> list[str]:
    """Return the names of the outermost modules that are head alone."""
    found: list[str] = []
    for name, module in network.named_modules():
        own = [key for key, _ in module.named_parameters()]
        inside = any(name.startswith(f"{other}.") for other in found)
        if name and own and not inside and all(is_head(network, f"{name}.{key}") for key in own):
            found.append(name)
    return found


def layers(network: Any) -> list[nn.Module]:
    """Return the layers from the bottom up: of an encoder-decoder the encoder's and then the decoder's.

    Empty when the network has no such lists.
    """
    if network.config.is_encoder_decoder:
        return [layer for stack in (network.get_encoder(), network.get_decoder()) for layer in layers_of(stack, network.config)]
    return layers_of(network.base_model, network.config)


def layers_of(stack: Any, config: Any) -> list[nn.Module]:
    """Return the layers of one stack from the bottom up; empty when it has no such list."""
    counts = {
        getattr(config, name, None) for name in ("num_hidden_layers", "num_layers", "decoder_layers", "num_decoder_layers")
    }
    lists = [module for module in stack.modules() if isinstance(module, nn.ModuleList)]
    chosen = next((module for module in lists if len(module) in counts), None)
    return list(chosen) if chosen is not None else []


def products(network: Any) -> dict[str, nn.Module]:
    """Return the linear layers inside the network's layers by name: attention and feed-forward.

    The head, the vocabulary layer and the embeddings are not among them.
    """
    from transformers.pytorch_utils import Conv1D

    lists = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList))
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.startswith(lists) and not is_head(network, f"{name}.")
    }


def suffixes(network: Any, names: Iterable[str]) -> list[str]:
    """Return the shortest ends of module names that together fit ``names`` and no other module."""
    wanted = list(names)
    others = [name for name, _ in network.named_modules() if name not in set(wanted)]
    found: dict[str, None] = {}
    for name in wanted:
        parts = name.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        fitting = (end for end in ends if not any(fits(other, end) for other in others))
        found[next(fitting, name)] = None
    return list(found)


def fits(name: str, suffix: str) -> bool:
    """Whether a module's name is a suffix or ends with it after a dot."""
    return name == suffix or name.endswith(f".{suffix}")


def transposed(network: Any, ends: Iterable[str]) -> bool:
    """Whether the linear layers that have these ends keep their weights as GPT-2 does: inputs first."""
    chosen = tuple(ends)
    kinds = {type(module).__name__ for name, module in products(network).items() if any(fits(name, end) for end in chosen)}
    return kinds == {"Conv1D"}


def attention_sizes(config: Any, *, keys: bool) -> dict[str, int]:
    """Return what peft's prompt configs want to know: layers, heads and their width together.

    Args:
        config: of the network; of an encoder-decoder its decoder counts.
        keys: the sizes of keys and values, else of the embeddings.
    """
    config = config.get_text_config()
    names = (
        ("decoder_layers", "num_decoder_layers", "num_hidden_layers") if config.is_encoder_decoder else ("num_hidden_layers",)
    )
    count = next(int(getattr(config, name)) for name in names if getattr(config, name, None))
    own = "decoder_attention_heads" if config.is_encoder_decoder else "num_attention_heads"
    heads = int(getattr(config, own, None) or config.num_attention_heads)
    width = int(config.hidden_size)
    if keys:
        size = int(getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or width // heads)
        heads = int(getattr(config, "num_key_value_heads", None) or heads)
        width = heads * size
    else:
        width = int(getattr(config, "embedding_size", None) or width)
    return {"num_layers": count, "num_attention_heads": heads, "token_dim": width}
