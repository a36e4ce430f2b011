"""What the loop relies on, for every Model of every engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.numpy_model import NumpyModel
from engines.tiny_networks import denominator_of, save_tiny, tiny_features
from luthier.data.features import Feature
from luthier.engines import ENGINES
from luthier.engines.engine import TrainingSetup
from luthier.heads import BinaryCrossEntropy, CrossEntropy, Head, SequenceHead, SpanHead, SquaredError, TokenHead

HEADS: dict[str, Head] = {
    "classes": SequenceHead(3),
    "weighted": SequenceHead(3, CrossEntropy(weights=(1.0, 2.5, 0.25))),
    "several labels": SequenceHead(3, BinaryCrossEntropy()),
    "a value": SequenceHead(1, SquaredError()),
    "tokens": TokenHead(3),
    "spans": SpanHead(),
}
LENGTHS = [9, 3, 14, 9, 22, 5, 17]
Make = Callable[[Head], Any]


KERAS = [name for name in [os.environ.get("LUTHIER_KERAS_ENGINE")] if name]
"""One engine of Keras a process: tests/parity/test_keras.py runs this file again for each of them."""


@pytest.fixture(params=["numpy", "torch", "torch in buckets", "torch in bfloat16", *KERAS])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that loads a fresh model, always with the same weights."""

    def build(head: Head) -> Any:
        if request.param == "numpy":
            return NumpyModel(head, setup=TrainingSetup(seed=3))
        family = "deberta-v2" if "buckets" in request.param else "bert"
        folder = tmp_path / "model"
        if not folder.exists():
            save_tiny(folder, family, head, dropout=0.1)
        precision = "bfloat16" if "bfloat16" in request.param else "float32"
        engine = ENGINES.get(request.param.split()[0])
        return engine.load(folder, head, device="cpu", precision=precision, setup=TrainingSetup(seed=3))

    return build


def features_for(head: Head, *, seed: int = 0, lengths: list[int] = LENGTHS) -> list[Feature]:
    features = tiny_features(head, lengths, seed=seed)
    rng = np.random.default_rng(seed)
    if isinstance(head, SequenceHead) and isinstance(head.objective, BinaryCrossEntropy | SquaredError):
        labels = [rng.integers(2, size=head.num_labels).astype(np.float32) for _ in features]
        return [Feature({**f.arrays, "labels": gold}) for f, gold in zip(features, labels, strict=True)]
    return features


def train(model: Any, head: Head, steps: range) -> None:
    for step in steps:
        features = features_for(head, seed=step)
        model.accumulate([model.collate(features[:4]), model.collate(features[4:])], denominator_of(head, features))
        model.update(1e-2, 1.0)


def logits_of(model: Any, features: list[Feature]) -> list[np.ndarray]:
    return [output.logits for output in model.outputs(model.collate(features))]


@pytest.mark.parametrize("kind", HEADS)
def test_the_losses_without_dropout_sum_to_what_every_target_weighs(make: Make, kind: str) -> None:
    head = HEADS[kind]
    features = features_for(head)
    sums, weights = make(head).losses(make(head).collate(features))
    assert sums.shape == weights.shape == (len(features),)
    assert weights.sum() == pytest.approx(denominator_of(head, features), rel=1e-6)
    assert (sums > 0).all()


@pytest.mark.parametrize("kind", HEADS)
def test_losses_do_not_depend_on_what_shares_the_batch(make: Make, kind: str) -> None:
    model, features = make(HEADS[kind]), features_for(HEADS[kind])
    together = model.losses(model.collate(features))[0]
    alone = np.concatenate([model.losses(model.collate([feature]))[0] for feature in features])
    np.testing.assert_allclose(together, alone, rtol=tolerance(model))


def tolerance(model: Any) -> float:
    return 3e-2 if model.facts["precision"] == "bfloat16" else 1e-5


@pytest.mark.parametrize("kind", ["classes", "tokens", "spans"])
def test_outputs_come_in_the_order_of_the_features_unpadded_and_in_float32(make: Make, kind: str) -> None:
    head, features = HEADS[kind], features_for(HEADS[kind])
    model = make(head)
    outputs = model.outputs(model.collate(features))
    assert [output.feature for output in outputs] == features
    for output in outputs:
        length = output.feature.length
        assert output.logits.shape == {"classes": (3,), "tokens": (length, 3), "spans": (2, length)}[kind]
        assert output.logits.dtype == np.float32
        np.testing.assert_allclose(
            output.logits, logits_of(model, [output.feature])[0], rtol=tolerance(model), atol=tolerance(model)
        )


def test_outputs_need_no_gold(make: Make) -> None:
    model, features = make(HEADS["tokens"]), features_for(HEADS["tokens"])
    blind = [Feature({name: array for name, array in f.arrays.items() if name != "labels"}) for f in features]
    for with_gold, without in zip(logits_of(model, features), logits_of(model, blind), strict=True):
        np.testing.assert_array_equal(with_gold, without)


def test_a_batch_knows_its_numbers(make: Make) -> None:
    model, features = make(HEADS["tokens"]), features_for(HEADS["tokens"])
    batch = model.collate(features)
    assert batch.num_tokens == sum(LENGTHS)
    assert batch.num_sequences == len(LENGTHS)
    assert batch.num_targets == sum(int((f.arrays["labels"] != -100).sum()) for f in features)


def test_an_empty_batch_weighs_nothing(make: Make) -> None:
    head, model = HEADS["classes"], make(HEADS["classes"])
    empty = model.collate([])
    assert (empty.num_targets, empty.num_tokens, empty.num_sequences) == (0, 0, 0)
    assert model.accumulate([empty], 4.0).item() == 0.0
    assert model.outputs(empty) == []
    features = features_for(head)
    with_empty = make(head)
    loss = with_empty.accumulate([with_empty.collate(features), empty], len(features)).item()
    assert loss == model.accumulate([model.collate(features)], len(features)).item()


def test_a_gradient_that_is_not_finite_is_never_applied(make: Make) -> None:
    head = HEADS["a value"]
    model, features = make(head), features_for(head)
    before = logits_of(model, features)
    broken = [Feature({**features[0].arrays, "labels": np.asarray([np.inf], dtype=np.float32)})]
    model.accumulate([model.collate(broken)], 1.0)
    assert not np.isfinite(model.update(1e-2, 1.0).item())
    np.testing.assert_array_equal(before, logits_of(model, features))
    train(model, head, range(1))
    assert not np.array_equal(before, logits_of(model, features)), "the gradients were not cleared"
    assert all(np.isfinite(logits).all() for logits in logits_of(model, features))


@pytest.mark.parametrize("stop", [1, 3])
def test_a_saved_state_goes_on_to_the_same_bits(make: Make, stop: int, tmp_path: Path) -> None:
    head = HEADS["tokens"]
    whole, first, second = make(head), make(head), make(head)
    train(whole, head, range(5))
    train(first, head, range(stop))
    (tmp_path / "state").mkdir()
    first.save_state(tmp_path / "state")
    train(second, head, range(2))  # whatever it did before must not matter
    second.load_state(tmp_path / "state")
    train(second, head, range(stop, 5))
    for one, other in zip(logits_of(whole, features_for(head)), logits_of(second, features_for(head)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_lowers_the_loss(make: Make) -> None:
    head = HEADS["classes"]
    model, features = make(head), features_for(head)
    before = model.losses(model.collate(features))[0].sum()
    for _ in range(30):
        model.accumulate([model.collate(features)], len(features))
        model.update(1e-2, 1.0)
    assert model.losses(model.collate(features))[0].sum() < 0.7 * before


# Dropout is a function of the micro-batch's number, so equality under another cut is asked of networks without it.


@pytest.fixture(params=["numpy", "torch", "torch in buckets", *KERAS])
def make_exact(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def build(head: Head) -> Any:
        if request.param == "numpy":
            return NumpyModel(head)
        family = "deberta-v2" if "buckets" in request.param else "roberta"
        folder = tmp_path / "model"
        if not folder.exists():
            save_tiny(folder, family, head)
        engine = ENGINES.get(request.param.split()[0])
        return engine.load(folder, head, device="cpu", precision="float32", setup=TrainingSetup())

    return build


@pytest.mark.parametrize("kind", HEADS)
def test_the_gradient_does_not_depend_on_the_cut_or_the_order(make_exact: Make, kind: str) -> None:
    head = HEADS[kind]
    features = [replace(f, weight=1.0 + place % 3) for place, f in enumerate(features_for(head))]
    denominator = denominator_of(head, features)
    losses, norms, results = [], [], []
    cuts = ([features], [features[::-1]], [features[:1], features[1:5], features[5:]], [[f] for f in features])
    for cut in cuts:
        model = make_exact(head)
        losses.append(model.accumulate([model.collate(part) for part in cut], denominator).item())
        norms.append(model.update(1e-3, None).item())
        results.append(model.losses(model.collate(features))[0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)
    for other in results[1:]:
        # Losses, not logits: Adam moves a weight whose gradient is zero but for rounding, and no loss sees it.
        np.testing.assert_allclose(other, results[0], rtol=1e-3)


@pytest.mark.parametrize("kind", HEADS)
def test_losses_and_accumulate_agree(make_exact: Make, kind: str) -> None:
    head = HEADS[kind]
    model, features = make_exact(head), features_for(head)
    denominator = denominator_of(head, features)
    sums, weights = model.losses(model.collate(features))
    assert weights.sum() == pytest.approx(denominator, rel=1e-6)
    assert model.accumulate([model.collate(features)], denominator).item() == pytest.approx(sums.sum() / denominator, rel=1e-5)
