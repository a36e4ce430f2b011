"""Attention inside each sequence of a packed row.

S sequences, T tokens of the row, n sequences of a group, L its longest, N heads, D width of a head.

Sequences that fill equally many blocks of 16 tokens are computed together as a group, padded to whole
blocks inside attention alone: vector instructions take 16 values, and what is left over is computed one by
one, ten times slower. A row is laid out in order of length, so that a group is one stretch of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

NAME = "luthier_packed"
BLOCK = 16
_HARMLESS = frozenset({"segments", "position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states"})


@dataclass(frozen=True, slots=True)
class Group:
    """A stretch of the row that is computed at once.

    Attributes:
        start, stop: its tokens.
        rows, longest: n and L, the longest length in whole blocks.
        places: int64 [tokens], where each token stands in [n * L]; None without padding.
        tokens: int64 [n * L], which token stands where; the first one at padding, too. None without padding.
        mask: bool [n, 1, 1, L], True at tokens; None without padding.
    """

    start: int
    stop: int
    rows: int
    longest: int
    places: Tensor | None
    tokens: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the sequences of a row stand. It travels through the network as a keyword, so that it lives as
    long as backward needs it and nothing is global.

    Attributes:
        groups: cover the row in order.
        firsts: int64 [S], the first token of each sequence.
        bounds: int32 [S + 1], where each sequence begins, and the end of the last.
        positions: int64 [T], of each token in its sequence, from 0.
        longest: the tokens of the longest sequence.
    """

    groups: tuple[Group, ...]
    firsts: Tensor
    bounds: Tensor
    positions: Tensor
    longest: int

    def each(self, change: Callable[[Tensor], Tensor]) -> Segments:
        """Return the segments with every tensor changed."""

        def changed(value: Tensor | None) -> Tensor | None:
            return None if value is None else change(value)

        groups = tuple(
            replace(group, places=changed(group.places), tokens=changed(group.tokens), mask=changed(group.mask))
            for group in self.groups
        )
        return Segments(groups, change(self.firsts), change(self.bounds), change(self.positions), self.longest)


@dataclass(frozen=True, slots=True)
class PairSegments:
    """Where the sequences of two rows stand: sources for the encoder, targets for the decoder.

    Attributes:
        sources: cut for the encoder.
        targets: of as many sequences, in the same order.
        seen: the sources again, cut into groups as the targets are.
    """

    sources: Segments
    targets: Segments
    seen: Segments

    def each(self, change: Callable[[Tensor], Tensor]) -> PairSegments:
        """Return the segments with every tensor changed."""
        return PairSegments(self.sources.each(change), self.targets.each(change), self.seen.each(change))


@dataclass(frozen=True, slots=True)
class Pattern:
    """What sees what.

    Attributes:
        queries: whose sequences see those of ``keys``, one by one.
        scale: of the products of queries and keys.
        causal: a token sees nothing after itself.
        window: how many tokens one sees, itself included; None without end. Only where causal.
    """

    queries: Segments
    keys: Segments
    dropout: float
    scale: float
    causal: bool
    window: int | None

    def groups(self) -> Iterator[tuple[Group, Group]]:
        """Yield what is computed together: a group of queries and the group of keys that it sees."""
        yield from zip(self.queries.groups, self.keys.groups, strict=True)


def num_blocks(length: int) -> int:
    """Return how many blocks of 16 tokens a sequence fills."""
    return -(-length // BLOCK)


def segments_of(lengths: Sequence[int], keys: Sequence[Hashable] | None = None) -> Segments:
    """Return the segments of a row.

    Args:
        lengths: of its sequences, in order.
        keys: neighbours with the same key make a group. By default those of as many blocks.
    """
    bounds = torch.tensor([0, *np.cumsum(lengths, dtype=np.int32)], dtype=torch.int32)
    chosen = [num_blocks(length) for length in lengths] if keys is None else keys
    groups: list[Group] = []
    start = 0
    for _, members in groupby(zip(chosen, lengths, strict=True), key=lambda pair: pair[0]):
        grouped = [length for _, length in members]
        groups.append(_group(start, grouped, longest=num_blocks(max(grouped)) * BLOCK))
        start = groups[-1].stop
    positions = torch.tensor(np.concatenate([np.arange(length) for length in lengths]))
    return Segments(tuple(groups), bounds[:-1].long(), bounds, positions, max(lengths))


def pair_segments_of(sources: Sequence[int], targets: Sequence[int]) -> PairSegments:
    """Return the segments of a row of sources and a row of targets, given the lengths of each."""
    keys = [(num_blocks(source), num_blocks(target)) for source, target in zip(sources, targets, strict=True)]
    return PairSegments(segments_of(sources), segments_of(targets, keys), segments_of(sources, keys))


def _group(start: int, lengths: Sequence[int], *, longest: int) -> Group:
    tokens = sum(lengths)
    if tokens == longest * len(lengths):
        return Group(start, start + tokens, len(lengths), longest, None, None, None)
    mask = np.arange(longest)[None, :] < np.asarray(lengths)[:, None]
    places = np.flatnonzero(mask.ravel())
    standing = np.zeros(mask.size, dtype=np.int64)
    standing[places] = np.arange(tokens)
    return Group(
        start, start + tokens, len(lengths), longest, torch.tensor(places), torch.tensor(standing),
        torch.tensor(mask)[:, None, None, :],
    )  # fmt: skip


def register() -> None:
    """Make transformers know this attention by its name. Models never save the name."""
    from transformers import AttentionInterface, AttentionMaskInterface

    if NAME in AttentionInterface().valid_keys():  # perhaps in the form that compiled layers need
        return
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
    segments: Segments | PairSegments | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend inside each sequence: q [1, N, T, D] and k, v [1, N or fewer, T', D] to [1, T, N, D].

    Raises:
        NotImplementedError: the network asks for something else (a bias, a cap, a mask of its own).
    """
    unknown = [name for name, other in others.items() if name not in _HARMLESS and other is not None and other is not False]
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    if sliding_window is not None and not causal:
        unknown.append("sliding_window without causality")
    if segments is None or attention_mask is not None or unknown:
        raise NotImplementedError(f"packed attention does not know {unknown or 'this call'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries, keys = _sides(module, segments, causal=causal)
    pattern = Pattern(queries, keys, dropout, scale, causal, sliding_window)
    # [1, N, T, D] is a view of [T, N * D] as the projections wrote it.
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    return attend(q, k, v, pattern)[None], None


def attend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    """Attend as the pattern says: q [T, N, D] and k, v [T', N or fewer, D] to [T, N, D]."""
    if q.device.type == "cpu":
        from luthier.engines.torch.attention_cpu import PackedProducts

        repeats = q.shape[1] // k.shape[1]
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        q, k = q.to(v.dtype), k.to(v.dtype)
        attended: Tensor = PackedProducts.apply(q, k, v, pattern)  # type: ignore[no-untyped-call]
        return attended
    if q.is_cuda and not pattern.dropout and q.dtype == k.dtype == torch.bfloat16:
        return _variable_length(q, k, v, pattern)
    parts = [
        _attend(pattern, group, seen, q[group.start : group.stop], k[seen.start : seen.stop], v[seen.start : seen.stop])
        for group, seen in pattern.groups()
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sides(module: Any, segments: Segments | PairSegments, *, causal: bool) -> tuple[Segments, Segments]:
    """Return the segments of queries and keys; of an encoder-decoder by which of its attentions this is."""
    if isinstance(segments, Segments):
        return segments, segments
    if causal:
        return segments.targets, segments.targets
    if getattr(module, "is_decoder", False):
        return segments.targets, segments.seen
    return segments.sources, segments.sources


def _variable_length(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    """The GPU's kernel for sequences of any length; it knows no dropout and takes 16-bit numbers alone."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys = pattern.queries, pattern.keys
    longest, most = (max(group.longest for group in side.groups) for side in (queries, keys))
    before = -1 if pattern.window is None else pattern.window - 1
    attended = varlen_attn(
        q, k, v, queries.bounds, keys.bounds, longest, most,
        scale=pattern.scale, window_size=(before, 0 if pattern.causal else -1), enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    assert isinstance(attended, Tensor)
    return attended


def _attend(pattern: Pattern, group: Group, seen: Group, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend inside one group: [tokens, N, D] to [tokens, N, D]."""
    q, k, v = _padded(q, group), _padded(k, seen), _padded(v, seen)
    # Right padding lies in the future of every token, so the causal mask hides it.
    mask = None if pattern.causal else seen.mask
    window = pattern.window
    if window is not None and window < group.longest:
        band = torch.ones(group.longest, group.longest, dtype=torch.bool, device=q.device)
        mask = band.tril_().triu_(1 - window)
    attended = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=pattern.dropout, scale=pattern.scale,
        is_causal=pattern.causal and mask is None, enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    flat = attended.transpose(1, 2).reshape(group.rows * group.longest, q.shape[1], -1)
    return flat if group.places is None else flat.index_select(0, group.places)


def _padded(states: Tensor, group: Group) -> Tensor:
    """[tokens, N, D] to [n, N, L, D]."""
    if group.places is not None:
        rows = states.new_zeros(group.rows * group.longest, *states.shape[1:])
        states = rows.index_copy(0, group.places, states)
    return states.reshape(group.rows, group.longest, *states.shape[1:]).transpose(1, 2)
