"""What a head over whole sequences needs of the last layer of a packed encoder: each sequence's first token.

S sequences, T tokens of the row, N heads, D width of a head, H the hidden width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from luthier.engines.torch.attention import Group, Pattern, Segments, attend

_SELF_ATTENTION = ["hidden_states", "attention_mask", "cache", "kwargs"]
_AFTER_ATTENTION = ["hidden_states", "input_tensor"]
"""What BERT's attention takes, and the module after it: the attended states and those that went in."""


class Removable(Protocol):
    """Something that was put into a network."""

    def remove(self) -> None:
        """Leave the network as it was."""


class _Replaced:
    """A module whose forward is another function for a while."""

    def __init__(self, module: Any, forward: Callable[..., Any]) -> None:
        self._module = module
        module.forward = forward

    def remove(self) -> None:
        del self._module.forward


def encoder_layers(network: Any) -> list[Any]:
    """Return the layers of the encoder, lowest first; empty when the network has no such list."""
    count = getattr(network.config, "num_hidden_layers", None)
    lists = [module for module in network.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    return list(lists[0]) if count and len(lists) == 1 else []


def gather_firsts(network: Any, *, queries: bool) -> list[Removable]:
    """Let the last layer hand on each sequence's first token alone: [1, T, H] to [S, 1, H].

    So the checkpoint's own pooler and classifier, which take the first token of every row, run unchanged. Where the
    layer is built as BERT's, what stands after its attention computes those tokens alone, too.

    Args:
        queries: where the attention is built as BERT's, it asks for those tokens alone, too.
    """
    layers = encoder_layers(network)
    if not layers:
        return []
    last = layers[-1]
    inside: list[Any] = []  # the segments of the layer's last run, which gradient checkpointing may repeat without its hooks

    def enter(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        inside[:] = [kwargs.get("segments")]

    def narrow(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        segments = inside[0] if inside else None
        return None if segments is None else tuple(_firsts(states, segments) for states in args)

    def leave(_: Any, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        segments = kwargs.get("segments")
        if segments is None:
            return output
        states = output[0] if isinstance(output, tuple) else output
        firsts = _firsts(states, segments)[0][:, None, :]
        return (firsts, *output[1:]) if isinstance(output, tuple) else firsts

    hooks: list[Removable] = [last.register_forward_hook(leave, with_kwargs=True)]
    after_attention = getattr(getattr(last, "attention", None), "output", None)
    if after_attention is not None and list(inspect.signature(after_attention.forward).parameters) == _AFTER_ATTENTION:
        hooks += [
            last.register_forward_pre_hook(enter, with_kwargs=True),
            after_attention.register_forward_pre_hook(narrow),
        ]
        attention: Any = getattr(last.attention, "self", None)
        if queries and attention is not None and list(inspect.signature(attention.forward).parameters) == _SELF_ATTENTION:
            hooks.append(_Replaced(attention, _first_queries(attention)))
    return hooks


def _firsts(states: Tensor, segments: Segments) -> Tensor:
    """[1, T, H] to [1, S, H]; what is narrow already stays."""
    return states if states.shape[1] == len(segments.firsts) else states.index_select(1, segments.firsts)


def _first_queries(attention: Any) -> Callable[..., Any]:
    """Return a forward for BERT's self-attention in which the first tokens alone look at their sequences."""
    own = attention.forward

    def forward(hidden_states: Tensor, *args: Any, segments: Segments | None = None, **others: Any) -> tuple[Tensor, None]:
        if segments is None:
            attended: tuple[Tensor, None] = own(hidden_states, *args, **others)
            return attended
        width = attention.attention_head_size
        q = attention.query(hidden_states.index_select(1, segments.firsts))
        q, k, v = (
            states[0].unflatten(-1, (-1, width)) for states in (q, attention.key(hidden_states), attention.value(hidden_states))
        )
        dropout = attention.dropout.p if attention.training else 0.0
        pattern = Pattern(_first_tokens(segments), segments, dropout, attention.scaling, causal=False, window=None)
        return attend(q, k, v, pattern).flatten(1)[None], None

    return forward


def _first_tokens(segments: Segments) -> Segments:
    """Return a row of the first tokens, in the groups of their sequences."""
    groups: list[Group] = []
    for group in segments.groups:
        start = groups[-1].stop if groups else 0
        groups.append(Group(start, start + group.rows, group.rows, 1, None, None, None))
    count, device = len(segments.firsts), segments.firsts.device
    bounds = torch.arange(count + 1, dtype=torch.int32, device=device)
    return Segments(tuple(groups), bounds[:-1].long(), bounds, torch.zeros(count, dtype=torch.long, device=device), 1)
