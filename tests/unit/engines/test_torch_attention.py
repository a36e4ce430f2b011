"""Packed attention and cheap dropout against plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from luthier.engines.torch import attention, attention_cpu
from luthier.engines.torch.attention import PairSegments, Pattern, packed_attention, pair_segments_of, segments_of
from luthier.engines.torch.dropout import FastDropout, MaskSource

LENGTHS = [40, 33, 32, 32, 16, 9, 5, 1]
SHAPE = (1, 4, sum(LENGTHS), 8)


def draws(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator, requires_grad=True) for _ in range(count)]


def attend(q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0, causal: bool = False, window: int | None = None) -> Tensor:
    module = SimpleNamespace(is_causal=causal)
    return packed_attention(module, q, k, v, None, dropout=dropout, segments=segments_of(LENGTHS), sliding_window=window)[0]


def alone(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window: int | None = None) -> Tensor:
    """Attend sequence by sequence, with everything that a token does not see written into a mask."""
    attended = []
    for part in zip(*(states.split(LENGTHS, dim=2) for states in (q, k, v)), strict=True):
        rows, columns = torch.meshgrid(*(torch.arange(part[0].shape[2]),) * 2, indexing="ij")
        seen = (columns <= rows) | torch.tensor(not causal)
        if window is not None:
            seen &= columns > rows - window
        attended.append(torch.nn.functional.scaled_dot_product_attention(*part, attn_mask=seen))
    return torch.cat(attended, dim=2).transpose(1, 2)


def assert_same(found: Tensor, expected: Tensor, inputs: tuple[Tensor, ...]) -> None:
    """Compare results and gradients."""
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    weights = torch.randn(found.shape)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


PIECES = pytest.mark.parametrize(
    ("cached", "rows", "kept"),
    [(1 << 18, 192, 512), (300, 192, 512), (1 << 18, 7, 512), (500, 16, 32)],
    ids=["at once", "in many pieces", "in blocks of rows", "computed again"],
)


@pytest.fixture
def pieces(cached: int, rows: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cpu, "_CACHED", cached)
    monkeypatch.setattr(attention_cpu, "_BLOCK_ROWS", rows)
    monkeypatch.setattr(attention_cpu, "_KEPT", kept)


@PIECES
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 1), (True, 5), (True, 16), (True, 39)])
def test_attention_stays_inside_each_sequence(causal: bool, window: int | None, pieces: None) -> None:
    q, k, v = draws(3)
    found, expected = attend(q, k, v, causal=causal, window=window), alone(q, k, v, causal=causal, window=window)
    assert_same(found, expected, (q, k, v))


SOURCES, TARGETS = [40, 33, 33, 20, 9, 5, 5, 1], [7, 40, 12, 33, 2, 20, 17, 30]


def pair_states(segments: PairSegments) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (len(segments.targets.positions), len(segments.sources.positions), len(segments.sources.positions))
    q, k, v = (torch.randn(1, 4, size, 8, generator=generator, requires_grad=True) for size in sizes)
    return q, k, v


def crossed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    parts = zip(q.split(TARGETS, dim=2), k.split(SOURCES, dim=2), v.split(SOURCES, dim=2), strict=True)
    attended = [torch.nn.functional.scaled_dot_product_attention(*part) for part in parts]
    return torch.cat(attended, dim=2).transpose(1, 2)


@PIECES
def test_each_target_sees_its_own_source_alone(pieces: None) -> None:
    segments = pair_segments_of(SOURCES, TARGETS)
    q, k, v = pair_states(segments)
    module = SimpleNamespace(is_causal=False, is_decoder=True)
    assert_same(packed_attention(module, q, k, v, None, segments=segments)[0], crossed(q, k, v), (q, k, v))


def test_both_sides_of_a_pair_see_themselves() -> None:
    segments = pair_segments_of(SOURCES, TARGETS)
    for module, side in (
        (SimpleNamespace(is_causal=False, is_decoder=False), segments.sources),
        (SimpleNamespace(is_causal=True, is_decoder=True), segments.targets),
    ):
        q = torch.randn(1, 4, len(side.positions), 8)
        found = packed_attention(module, q, q, q, None, segments=segments)[0]
        expected = packed_attention(module, q, q, q, None, segments=side)[0]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 5)])
def test_the_groups_of_other_devices_give_the_same(causal: bool, window: int | None) -> None:
    q, k, v = draws(3)
    segments = segments_of(LENGTHS)
    pattern = Pattern(segments, segments, 0.0, 8**-0.5, causal, window)
    expected = alone(q, k, v, causal=causal, window=window)
    torch.testing.assert_close(_by_groups(pattern, q, k, v), expected, atol=1e-6, rtol=1e-5)


def test_the_groups_of_other_devices_cross_pairs_too() -> None:
    segments = pair_segments_of(SOURCES, TARGETS)
    q, k, v = pair_states(segments)
    pattern = Pattern(segments.targets, segments.seen, 0.0, 8**-0.5, False, None)
    torch.testing.assert_close(_by_groups(pattern, q, k, v), crossed(q, k, v), atol=1e-6, rtol=1e-5)


def _by_groups(pattern: Pattern, *states: Tensor) -> Tensor:
    q, k, v = (state[0].transpose(0, 1) for state in states)
    parts = [
        attention._attend(pattern, group, seen, q[group.start : group.stop], *(x[seen.start : seen.stop] for x in (k, v)))
        for group, seen in pattern.groups()
    ]
    return torch.cat(parts)[None]


def test_shared_keys_are_repeated() -> None:
    q, k, v = draws(3)
    k, v = k[:, :2], v[:, :2]
    expected = alone(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), causal=True)
    torch.testing.assert_close(attend(q, k, v, causal=True), expected, atol=1e-6, rtol=1e-5)


def directional(function: Callable[..., Tensor], inputs: list[Tensor], along: list[Tensor], size: float = 1e-3) -> list[float]:
    slopes = []
    for place in range(len(inputs)):
        sides = []
        for sign in (1, -1):
            moved = [t.detach() + (sign * size * along[place] if i == place else 0) for i, t in enumerate(inputs)]
            sides.append(function(*moved).item())
        slopes.append((sides[0] - sides[1]) / (2 * size))
    return slopes


@pytest.mark.parametrize("kept", [512, 16], ids=["kept", "drawn again"])
def test_the_gradient_with_dropout_is_the_slope(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cpu, "_KEPT", kept)
    inputs, along = draws(3), draws(3, seed=1)
    weights = torch.randn(SHAPE).transpose(1, 2)

    def function(*states: Tensor) -> Tensor:
        torch.manual_seed(3)
        return (attend(*states, dropout=0.3) * weights).double().sum()

    found = torch.autograd.grad(function(*inputs), inputs)
    slopes = [(grad * direction).sum().item() for grad, direction in zip(found, along, strict=True)]
    assert slopes == pytest.approx(directional(function, inputs, along), rel=2e-3, abs=2e-2)


def test_dropout_in_attention_is_right_on_average() -> None:
    torch.manual_seed(0)
    q, k, v = (states.detach() for states in draws(3))
    mean = torch.stack([attend(q, k, v, dropout=0.25) for _ in range(600)]).mean(0)
    exact = attend(q, k, v)
    assert not torch.allclose(attend(q, k, v, dropout=0.25), exact, atol=0.1)
    assert (mean - exact).abs().mean() < 0.02


@pytest.mark.parametrize("unknown", [{"sliding_window": 4}, {"softcap": 30.0}, {"position_bias": torch.zeros(1)}])
def test_what_it_does_not_know_is_refused_so_that_the_probe_fails(unknown: dict[str, object]) -> None:
    q, k, v = draws(3)
    with pytest.raises(NotImplementedError, match=next(iter(unknown))):
        packed_attention(SimpleNamespace(), q, k, v, None, segments=segments_of(LENGTHS), **unknown)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        packed_attention(SimpleNamespace(), q, k, v, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.ones(300, 333, dtype=dtype, requires_grad=True)
    result = FastDropout(0.1)(values)
    dropped = (result == 0).float().mean().item()
    assert dropped == pytest.approx(0.1, abs=0.005)
    assert result[result != 0].unique().tolist() == pytest.approx([1 / 0.9], rel=5e-3)
    (gradient,) = torch.autograd.grad(result.sum(), values)
    assert torch.equal(gradient, result.detach())


def test_dropout_does_nothing_outside_training_and_repeats_with_the_seed() -> None:
    module, values = FastDropout(0.5), torch.randn(64, 7)
    torch.manual_seed(1)
    first = module(values)
    torch.manual_seed(1)
    assert torch.equal(module(values), first)
    assert not torch.equal(module(values), first)
    module.eval()
    assert torch.equal(module(values), values)


def test_masks_are_all_bits_or_none_and_independent_of_each_other() -> None:
    torch.manual_seed(0)
    source = MaskSource(0.5)
    first, second = source.draw(40001), source.draw(40001)
    assert first.unique().tolist() == [-1, 0]
    agreement = (first == second).float().mean().item()
    neighbours = (first[1:] == first[:-1]).float().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.01)
    assert neighbours == pytest.approx(0.5, abs=0.01)
