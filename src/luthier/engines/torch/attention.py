"""Attention inside each sequence of a packed row.

S sequences, T tokens of the row, n sequences of a group, L its longest, N heads, D width of a head.

Sequences that fill equally many blocks of 16 tokens are computed together as a group, padded to whole
blocks inside attention alone: vector instructions take 16 values, and what is left over is computed one by
one, ten times slower. A row is laid out in order of length, so that a group is one stretch of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

NAME = "luthier_packed"
_BLOCK = 16
_HARMLESS = frozenset({"segments", "position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states"})


@dataclass(frozen=True, slots=True)
class Group:
    """A stretch of the row that is computed at once.

    Attributes:
        start, stop: its tokens.
        rows, longest: n and L, the longest length in whole blocks.
        places: int64 [tokens], where each token stands in [n * L]; None without padding.
        mask: bool [n, 1, 1, L], True at tokens; None without padding.
    """

    start: int
    stop: int
    rows: int
    longest: int
    places: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the sequences of a row stand. It travels through the network as a keyword, so that it lives as
    long as backward needs it and nothing is global.

    Attributes:
        groups: cover the row in order.
        firsts: int64 [S], the first token of each sequence.
        bounds: int32 [S + 1], where each sequence begins, and the end of the last.
    """

    groups: tuple[Group, ...]
    firsts: Tensor
    bounds: Tensor

    def to(self, device: torch.device) -> Segments:
        """Return the segments on ``device``."""
        groups = tuple(
            replace(
                group,
                places=None if group.places is None else group.places.to(device, non_blocking=True),
                mask=None if group.mask is None else group.mask.to(device, non_blocking=True),
            )
            for group in self.groups
        )
        return Segments(groups, self.firsts.to(device, non_blocking=True), self.bounds.to(device, non_blocking=True))


def segments_of(lengths: Sequence[int]) -> Segments:
    """Return the segments of a row whose sequences stand in order of length."""
    bounds = torch.tensor([0, *np.cumsum(lengths, dtype=np.int32)], dtype=torch.int32)
    groups: list[Group] = []
    start = 0
    for blocks, members in groupby(lengths, key=lambda length: -(-length // _BLOCK)):
        groups.append(_group(start, list(members), longest=blocks * _BLOCK))
        start = groups[-1].stop
    return Segments(tuple(groups), bounds[:-1].long(), bounds)


def _group(start: int, lengths: Sequence[int], *, longest: int) -> Group:
    tokens = sum(lengths)
    if tokens == longest * len(lengths):
        return Group(start, start + tokens, len(lengths), longest, None, None)
    mask = np.arange(longest)[None, :] < np.asarray(lengths)[:, None]
    places = torch.tensor(np.flatnonzero(mask.ravel()))
    return Group(start, start + tokens, len(lengths), longest, places, torch.tensor(mask)[:, None, None, :])


def register() -> None:
    """Make transformers know this attention by its name. Models never save the name."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    # An unregistered mask name means "no mask" too, but only a registered one is a documented promise.
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    segments: Segments | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend inside each sequence: q [1, N, T, D] and k, v [1, N or fewer, T, D] to [1, T, N, D].

    Raises:
        NotImplementedError: the network asks for something else (a window, a bias, a mask of its own).
    """
    unknown = [name for name, other in others.items() if name not in _HARMLESS and other is not None and other is not False]
    if segments is None or attention_mask is not None or unknown:
        raise NotImplementedError(f"packed attention does not know {unknown or 'this call'}")
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # [1, N, T, D] is a view of [T, N * D] as the projections wrote it.
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    if query.device.type == "cpu":
        from luthier.engines.torch.attention_cpu import PackedProducts

        repeats = q.shape[1] // k.shape[1]
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        q, k = q.to(v.dtype), k.to(v.dtype)
        attended: Tensor = PackedProducts.apply(q, k, v, segments, dropout, scale, causal)  # type: ignore[no-untyped-call]
        return attended[None], None
    if q.is_cuda and not dropout and q.dtype == k.dtype == torch.bfloat16:
        return _variable_length(q, k, v, segments, scale, causal)[None], None
    parts = [
        _attend(
            group, q[group.start : group.stop], k[group.start : group.stop], v[group.start : group.stop], dropout, scale, causal
        )
        for group in segments.groups
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _variable_length(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float, causal: bool) -> Tensor:
    """The GPU's kernel for sequences of any length; it knows no dropout and takes 16-bit numbers alone."""
    from torch.nn.attention.varlen import varlen_attn

    longest = max(group.longest for group in segments.groups)
    window = (-1, 0) if causal else (-1, -1)
    attended = varlen_attn(
        q, k, v, segments.bounds, segments.bounds, longest, longest,
        scale=scale, window_size=window, enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    assert isinstance(attended, Tensor)
    return attended


def _attend(group: Group, q: Tensor, k: Tensor, v: Tensor, dropout: float, scale: float, causal: bool) -> Tensor:
    """Attend inside one group: [tokens, N, D] to [tokens, N, D]."""
    q, k, v = (_padded(states, group) for states in (q, k, v))
    mask = group.mask
    if causal and mask is not None:
        # Right padding lies in the future of every token, so the causal mask hides it.
        mask = None
    attended = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )
    flat = attended.transpose(1, 2).reshape(group.rows * group.longest, q.shape[1], -1)
    return flat if group.places is None else flat.index_select(0, group.places)


def _padded(states: Tensor, group: Group) -> Tensor:
    """[tokens, N, D] to [n, N, L, D]."""
    if group.places is not None:
        rows = states.new_zeros(group.rows * group.longest, *states.shape[1:])
        states = rows.index_copy(0, group.places, states)
    return states.reshape(group.rows, group.longest, *states.shape[1:]).transpose(1, 2)
