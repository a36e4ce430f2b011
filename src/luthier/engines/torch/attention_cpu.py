"""Packed attention on the CPU: explicit matrix products in pieces that stay in the cache.

T tokens of the row, n sequences of a group, L its padded length, N heads, D width of a head; B is n * N.

Forward and backward are written out by hand, because what autograd would keep and pass over is several
times what is needed: fused attention falls back to such a chain as soon as there is dropout, and it is the
slower one in bfloat16 in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from luthier.engines.torch.attention import Group, Segments
from luthier.engines.torch.dropout import MaskSource, masked

_CACHED = 1 << 18
"""Scores that are computed at once: in float32 they fill the second-level cache of one core."""


class PackedProducts(torch.autograd.Function):
    """Attention inside each sequence: q, k, v [T, N, D] to [T, N, D]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, segments: Segments, dropout: float, scale: float, causal: bool
    ) -> Tensor:
        source = MaskSource(dropout) if dropout else None
        gained = source.scale if source else 1.0
        keep = any(ctx.needs_input_grad)
        kept: list[Tensor] = []
        attended = torch.empty_like(v, memory_format=torch.contiguous_format)
        for group in segments.groups:
            queries, keys, values = (_heads(states, group) for states in (q * scale, k, v * gained))
            result = torch.empty_like(values)
            bias = _bias(group, causal, len(queries), q.device)
            for part in _chunks(group, len(queries)):
                scores = torch.bmm(queries[part], keys[part].transpose(1, 2)).float()
                if bias is not None:
                    scores.add_(bias if bias.shape[0] == 1 else bias[part])
                probabilities = torch.softmax(scores, -1).to(q.dtype)
                mask = source.draw(probabilities.numel()) if source else None
                dropped = probabilities if mask is None else masked(probabilities, mask)
                torch.bmm(dropped, values[part], out=result[part])
                if keep:
                    kept += [probabilities] if mask is None else [probabilities, mask]
            _rows(result, group, attended)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.segments, ctx.scale, ctx.gained, ctx.has_mask = segments, scale, gained, source is not None
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        kept = iter(saved)
        by_q, by_k, by_v = (torch.empty(states.shape, dtype=states.dtype) for states in (q, k, v))
        gradient = gradients[0].contiguous()
        for group in ctx.segments.groups:
            queries, keys, values, given = (_heads(states, group) for states in (q * ctx.scale, k, v, gradient * ctx.gained))
            parts = [torch.empty_like(queries) for _ in range(3)]
            for part in _chunks(group, len(queries)):
                probabilities = next(kept)
                mask = next(kept) if ctx.has_mask else None
                dropped = probabilities if mask is None else masked(probabilities, mask)
                torch.bmm(dropped.transpose(1, 2), given[part], out=parts[2][part])
                by_scores = torch.bmm(given[part], values[part].transpose(1, 2))
                if mask is not None:
                    by_scores = masked(by_scores, mask)
                by_scores = torch._softmax_backward_data(by_scores, probabilities, -1, probabilities.dtype)
                torch.bmm(by_scores, keys[part], out=parts[0][part])
                torch.bmm(by_scores.transpose(1, 2), queries[part], out=parts[1][part])
            for result, row in zip(parts, (by_q, by_k, by_v), strict=True):
                _rows(result, group, row)
        return by_q.mul_(ctx.scale), by_k, by_v, None, None, None, None


def _chunks(group: Group, batch: int) -> Iterator[slice]:
    size = max(1, _CACHED // group.longest**2)
    for start in range(0, batch, size):
        yield slice(start, start + size)


def _heads(states: Tensor, group: Group) -> Tensor:
    """[T, N, D] to [B, L, D], zero at padding."""
    rows = states[group.start : group.stop]
    if group.places is not None:
        padded = rows.new_zeros(group.rows * group.longest, *rows.shape[1:])
        rows = padded.index_copy_(0, group.places, rows)
    return rows.reshape(group.rows, group.longest, *rows.shape[1:]).transpose(1, 2).flatten(0, 1)


def _rows(heads: Tensor, group: Group, out: Tensor) -> None:
    """Write [B, L, D] without its padding to the group's stretch of [T, N, D]."""
    rows = heads.view(group.rows, -1, *heads.shape[1:]).transpose(1, 2)
    stretch = out[group.start : group.stop]
    if group.places is None:
        stretch.view(rows.shape).copy_(rows)
    else:
        torch.index_select(rows.reshape(-1, *out.shape[1:]), 0, group.places, out=stretch)


def _bias(group: Group, causal: bool, batch: int, device: torch.device) -> Tensor | None:
    """Return what is added to scores [B, L, L]: minus infinity at what a token must not see."""
    if causal:
        # Padding lies in the future of every token.
        return torch.full((1, group.longest, group.longest), -torch.inf, device=device).triu_(1)
    if group.mask is None:
        return None
    bias = torch.zeros(group.mask.shape, device=device).masked_fill_(~group.mask, -torch.inf)
    return bias.expand(-1, batch // group.rows, -1, -1).reshape(batch, 1, group.longest)
