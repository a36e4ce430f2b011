"""Packed attention on the CPU: explicit matrix products in pieces that stay in the cache.

T tokens of the row, n sequences of a group, L its padded length, N heads, D width of a head; B is n * N.

Forward and backward are written out by hand, because what autograd would keep and pass over is several
times what is needed: fused attention falls back to such a chain as soon as there is dropout, and it is the
slower one in bfloat16 in any case. Causal attention goes by blocks of rows, each of which computes only the
keys that it can see. The probabilities of long sequences are computed again for the backward, not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luthier.engines.torch.attention import BLOCK, Group, Pattern
from luthier.engines.torch.dropout import MaskSource, masked

_CACHED = 1 << 18
"""Scores that are computed at once: in float32 they fill the second-level cache of one core."""
_BLOCK_ROWS = 192
"""Of causal attention: fewer make small products, more compute more of what is masked."""
_KEPT = 512
"""The longest sequences whose probabilities are kept."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What is computed at once: some of the B, some rows and those columns that they can see."""

    part: slice
    rows: slice
    columns: slice
    bias: Tensor | None
    """[1 or part, 1 or rows, at most columns], added to the last columns: minus infinity at what must not be seen."""


class PackedProducts(torch.autograd.Function):
    """Attention inside each sequence: q [T, N, D], k and v [T', N, D] to [T, N, D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
        keep = any(ctx.needs_input_grad)
        kept: list[Tensor] = []
        seeds: list[int] = []
        attended = torch.empty(q.shape, dtype=v.dtype)
        for group, seen in pattern.groups():
            source = MaskSource(pattern.dropout) if pattern.dropout else None
            seeds += [source.seed] if source else []
            queries, keys, values = _heads(q, group) * pattern.scale, _heads(k, seen), _heads(v, seen)
            result = torch.empty_like(queries)
            for tile in _tiles(pattern, group, seen, len(queries)):
                probabilities = _probabilities(queries, keys, tile)
                mask = source.draw(probabilities.numel()) if source else None
                dropped = probabilities if mask is None else masked(probabilities, mask)
                result[tile.part, tile.rows] = torch.bmm(dropped, values[tile.part, tile.columns])
                if keep and _keeps(group, seen):
                    kept += [probabilities] if mask is None else [probabilities, mask]
            _rows(result.mul_(source.scale) if source else result, group, attended)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.pattern, ctx.seeds = pattern, seeds
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        kept, seeds = iter(saved), iter(ctx.seeds)
        by_q, by_k, by_v = (torch.empty(states.shape, dtype=states.dtype) for states in (q, k, v))
        gradient = gradients[0].to(v.dtype).contiguous()
        for group, seen in pattern.groups():
            source = MaskSource(pattern.dropout, next(seeds)) if pattern.dropout else None
            queries, keys, values = _heads(q, group) * pattern.scale, _heads(k, seen), _heads(v, seen)
            given = _heads(gradient, group, clear=True)
            given = given * source.scale if source else given
            several = group.longest > _step(pattern, group, seen)
            by_keys, by_values = (
                torch.zeros(states.shape) if several else torch.empty_like(states) for states in (keys, values)
            )
            by_queries = torch.empty_like(queries)
            for tile in _tiles(pattern, group, seen, len(queries)):
                part, rows, columns = tile.part, tile.rows, tile.columns
                if _keeps(group, seen):
                    probabilities = next(kept)
                    mask = next(kept) if source else None
                else:
                    probabilities = _probabilities(queries, keys, tile)
                    mask = source.draw(probabilities.numel()) if source else None
                dropped = probabilities if mask is None else masked(probabilities, mask)
                _add(by_values[part, columns], dropped.transpose(1, 2), given[part, rows], several=several)
                by_scores = torch.bmm(given[part, rows], values[part, columns].transpose(1, 2))
                if mask is not None:
                    by_scores = masked(by_scores, mask)
                by_scores = torch._softmax_backward_data(by_scores, probabilities, -1, probabilities.dtype)
                by_queries[part, rows] = torch.bmm(by_scores, keys[part, columns])
                _add(by_keys[part, columns], by_scores.transpose(1, 2), queries[part, rows], several=several)
            _rows(by_queries.mul_(pattern.scale), group, by_q)
            _rows(by_keys, seen, by_k)
            _rows(by_values, seen, by_v)
        return by_q, by_k, by_v, None


def _add(total: Tensor, one: Tensor, other: Tensor, *, several: bool) -> None:
    """Put a product into a total: the only one that there is, or one of several, added up in float32."""
    if several:
        total += torch.bmm(one, other)
    else:
        torch.bmm(one, other, out=total)


def _keeps(group: Group, seen: Group) -> bool:
    return max(group.longest, seen.longest) <= _KEPT


def _probabilities(queries: Tensor, keys: Tensor, tile: Tile) -> Tensor:
    # Softmax computes in float32 whatever it is given.
    scores = torch.bmm(queries[tile.part, tile.rows], keys[tile.part, tile.columns].transpose(1, 2))
    if tile.bias is not None:
        scores[..., scores.shape[-1] - tile.bias.shape[-1] :].add_(tile.bias)
    # Under autocast the product of float32 queries is bfloat16.
    return torch.softmax(scores, -1).to(queries.dtype)


def _step(pattern: Pattern, group: Group, seen: Group) -> int:
    """Return how many rows a block has."""
    if not pattern.causal and group.longest * seen.longest <= _CACHED:
        return group.longest
    return _BLOCK_ROWS


def _tiles(pattern: Pattern, group: Group, seen: Group, batch: int) -> Iterator[Tile]:
    """Cover the scores [B, L, L'] of a group but for what no row of a block sees."""
    height, width = group.longest, seen.longest
    step = _step(pattern, group, seen)
    padding = None if pattern.causal else _padding_bias(seen, batch)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        columns = slice(0, width)
        bias = None
        if pattern.causal:
            # Padding lies in the future of every token.
            left = 0 if pattern.window is None else max(0, top + 1 - pattern.window)
            columns = slice(left, rows.stop)
            bias = _causal_bias(rows, left if left or _cuts(pattern, rows) else top, pattern.window)
        size = max(1, _CACHED // ((rows.stop - top) * (columns.stop - columns.start)))
        for start in range(0, batch, size):
            part = slice(start, start + size)
            yield Tile(part, rows, columns, bias if padding is None else padding[part])


def _cuts(pattern: Pattern, rows: slice) -> bool:
    """Whether the window hides something from these rows."""
    return pattern.window is not None and rows.stop > pattern.window


def _causal_bias(rows: slice, left: int, window: int | None) -> Tensor:
    """Return [1, rows, columns from left]: a token sees itself and, of those before it, the last window - 1."""
    height, width = rows.stop - rows.start, rows.stop - left
    ahead = 1 + rows.start - left
    bias = torch.full((1, height, width), -torch.inf).triu_(ahead)
    if window is not None and ahead - window > 1 - height:
        hidden = torch.ones(height, width, dtype=torch.bool).tril_(ahead - 1 - window)
        bias.masked_fill_(hidden, -torch.inf)
    return bias


def _padding_bias(seen: Group, batch: int) -> Tensor | None:
    """Return [B, 1, 16]: sequences of a group fill equally many blocks, so that padding stands in the last one alone."""
    if seen.mask is None:
        return None
    last = seen.mask[..., -BLOCK:]
    bias = torch.zeros(last.shape).masked_fill_(~last, -torch.inf)
    return bias.expand(-1, batch // seen.rows, -1, -1).reshape(batch, 1, BLOCK)


def _heads(states: Tensor, group: Group, *, clear: bool = False) -> Tensor:
    """[T, N, D] to [B, L, D]; at padding zero if ``clear``, else some token's."""
    rows = states[group.start : group.stop]
    if group.tokens is not None:
        rows = rows.index_select(0, group.tokens)
        if clear and group.mask is not None:
            rows[~group.mask.view(-1)] = 0
    return rows.reshape(group.rows, group.longest, *rows.shape[1:]).transpose(1, 2).flatten(0, 1)


def _rows(heads: Tensor, group: Group, out: Tensor) -> None:
    """Write [B, L, D] without its padding to the group's stretch of [T, N, D]."""
    rows = heads.view(group.rows, -1, *heads.shape[1:]).transpose(1, 2)
    stretch = out[group.start : group.stop]
    if group.places is None:
        stretch.view(rows.shape).copy_(rows)
    else:
        torch.index_select(rows.to(out.dtype).reshape(-1, *out.shape[1:]), 0, group.places, out=stretch)
