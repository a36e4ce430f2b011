"""How the engines of Keras cut micro-batches into few shapes, and move weights between two layouts: without Keras."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.tiny_networks import tiny_features, tiny_pairs
from luthier.engines.keras.batch import Pieces, Shapes
from luthier.engines.keras.hub_folder import Place
from luthier.errors import InputError
from luthier.heads import IGNORED, CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

CONFIG = SimpleNamespace(pad_token_id=1, decoder_start_token_id=2)
HEADS: list[Head] = [SequenceHead(3), TokenHead(3), SpanHead(), CausalHead()]


def pieces(head: Head, shapes: Shapes | None = None) -> Pieces:
    return Pieces(head, CONFIG, shapes or Shapes.usual(80))


@given(st.lists(st.integers(1, 80), max_size=60))
def test_every_sequence_stands_in_one_piece_that_it_fits_into(lengths: list[int]):
    shapes = Shapes.fitting(np.asarray(lengths or [1]), 80)
    cuts = shapes.cuts(lengths)
    assert sorted(place for places, _, _ in cuts for place in places) == list(range(len(lengths)))
    for places, rows, length in cuts:
        assert 0 < len(places) <= rows
        assert max(lengths[place] for place in places) <= length <= 80


def test_a_step_of_like_lengths_is_hardly_padded():
    lengths = np.random.default_rng(0).normal(50, 12, 640).clip(10, 80).astype(int)
    shapes = Shapes.fitting(lengths, 512)
    padded = sum(rows * length for start in range(0, 640, 32) for _, rows, length in shapes.cuts(lengths[start : start + 32]))
    assert padded < 1.35 * lengths.sum() < 640 * lengths.max()


def test_a_handful_of_shapes_serves_all_steps_and_a_short_run_takes_fewer():
    lengths = np.random.default_rng(0).integers(8, 300, 2000)
    shapes = Shapes.fitting(lengths, 512)
    used = {cut[1:] for start in range(0, 2000, 16) for cut in shapes.cuts(lengths[start : start + 16])}
    assert len(shapes.lengths) == 5
    assert len(used) <= 10
    assert len(Shapes.fitting(lengths, 512, cost=20000).lengths) < 5
    assert len(Shapes.fitting(lengths, 512, cost=20000, passes=50).lengths) == 5


def test_the_chosen_lengths_are_the_best_there_are():
    lengths = np.asarray([8] * 50 + [16] * 3 + [40] * 30 + [48] * 2 + [120])

    def cost(chosen: tuple[int, ...]) -> int:
        return sum(min(length for length in chosen if length >= tokens) for tokens in lengths.tolist()) + 200 * len(chosen)

    choices = [(*lower, 120) for count in range(5) for lower in combinations((8, 16, 40, 48), count)]
    assert cost(Shapes.fitting(lengths, None, cost=200).lengths) == min(map(cost, choices))


def test_a_sequence_longer_than_the_model_is_refused():
    with pytest.raises(InputError, match="81 tokens, and the model takes 80"):
        Shapes.usual(80).length(81)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_rows_that_fill_a_piece_up_weigh_nothing_and_have_no_labels(head: Head):
    batch = pieces(head).batch(tiny_features(head, [9, 3, 14, 40]))
    for piece in batch.pieces:
        count = len(piece.order)
        assert piece.gold is not None
        assert (piece.gold["weights"][:count] == 1).all()
        assert not piece.gold["weights"][count:].any()
        if "labels" in piece.gold:
            assert (piece.gold["labels"][count:] == IGNORED).all()
        for row, place in enumerate(piece.order):
            feature = batch.features[place]
            np.testing.assert_array_equal(piece.inputs["token_ids"][row, : feature.length], feature.arrays["input_ids"])
            assert piece.inputs["padding_mask"][row].sum() == feature.length
            assert piece.inputs["last"][row] == feature.length - 1


def test_each_predicted_token_is_named_once_with_its_state_and_row():
    head = CausalHead()
    batch = pieces(head).batch(tiny_features(head, [9, 14]))
    (piece,) = batch.pieces
    assert piece.gold is not None
    length = piece.inputs["token_ids"].shape[1]
    used = piece.gold["targets"] != IGNORED
    found = {
        (int(owner), int(place) - int(owner) * length): int(target)
        for place, target, owner in zip(*(piece.gold[name][used] for name in ("places", "targets", "owners")), strict=True)
    }
    expected = {
        (row, position - 1): int(label)
        for row, place in enumerate(piece.order)
        for position, label in enumerate(batch.features[place].arrays["labels"])
        if position and label != IGNORED
    }
    assert found == expected
    assert batch.num_targets == len(expected)


def test_a_decoder_reads_the_target_shifted_right():
    batch = pieces(Seq2SeqHead()).batch(tiny_pairs([(9, 4)]))
    (piece,) = batch.pieces
    labels = batch.features[0].arrays["labels"]
    np.testing.assert_array_equal(piece.inputs["decoder_token_ids"][0, :4], [2, *labels[:3]])
    assert batch.num_tokens == 13


def fused(part: int) -> Any:
    return lambda tensor, shape: np.reshape(tensor[:, 4 * part : 4 * part + 4], shape)


HOOKS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]] = {
    "as it is": ((5, 4), (5, 4), None),
    "transposed": ((6, 4), (4, 6), lambda tensor, _: np.transpose(tensor)),
    "by attention heads": ((6, 4), (4, 3, 2), lambda tensor, shape: np.reshape(np.transpose(tensor), shape)),
    "without its first rows": ((5, 4), (3, 4), lambda tensor, _: tensor[2:]),
    "one of three": ((4, 12), (4, 2, 2), fused(1)),
    "rounded on the way": ((6, 4), (4, 6), lambda tensor, _: np.transpose(tensor.astype(np.float16))),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_a_converter_is_its_own_inverse(kind: str):
    shape, own, hook = HOOKS[kind]
    rng = np.random.default_rng(0)
    tensor = rng.normal(size=shape).astype(np.float32)
    place = Place("weight", shape, hook)
    values = place.read(tensor, own)
    assert set(values.reshape(-1)) <= set(tensor.reshape(-1))
    written = tensor.copy()
    place.write(written, values)
    np.testing.assert_array_equal(written, tensor)
    other = rng.normal(size=own).astype(np.float32)
    place.write(written, other)
    np.testing.assert_array_equal(place.read(written, own), other)
    assert (written != tensor).sum() == other.size
