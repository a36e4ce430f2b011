"""The objectives against torch's own losses, one sequence at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engines.tiny_networks import save_tiny, tiny_features
from luthier.data.features import Feature
from luthier.engines.torch import ENGINE
from luthier.heads import BinaryCrossEntropy, CrossEntropy, Head, SequenceHead, SpanHead, SquaredError, TokenHead

LENGTHS = [5, 12, 5, 21]
WEIGHTS = (0.5, 2.0, 1.25)


def losses_and_logits(folder: Path, head: Head, features: list[Feature]) -> tuple[np.ndarray, np.ndarray, list[torch.Tensor]]:
    model: Any = ENGINE.load(save_tiny(folder, "bert", head), head, device="cpu", precision="float32")
    batch = model.collate(features)
    logits = [torch.tensor(output.logits) for output in model.outputs(batch)]
    return *model.losses(batch), logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_of_tokens(weights: tuple[float, ...] | None, smoothing: float, tmp_path: Path) -> None:
    head = TokenHead(3, CrossEntropy(weights, smoothing))
    features = tiny_features(head, LENGTHS)
    sums, counts, logits = losses_and_logits(tmp_path, head, features)
    weight = None if weights is None else torch.tensor(weights)
    for place, feature in enumerate(features):
        labels = torch.tensor(feature.arrays["labels"]).long()
        mean = functional.cross_entropy(logits[place], labels, weight=weight, label_smoothing=smoothing)
        total = functional.cross_entropy(logits[place], labels, weight=weight, label_smoothing=smoothing, reduction="sum")
        assert sums[place] == pytest.approx(total.item(), rel=1e-5)
        assert sums[place] / counts[place] == pytest.approx(mean.item(), rel=1e-5)


def test_binary_cross_entropy_weighs_the_positives(tmp_path: Path) -> None:
    head = SequenceHead(3, BinaryCrossEntropy(WEIGHTS))
    gold = np.asarray([[0, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]], dtype=np.float32)
    features = [Feature({**f.arrays, "labels": row}) for f, row in zip(tiny_features(head, LENGTHS), gold, strict=True)]
    sums, counts, logits = losses_and_logits(tmp_path, head, features)
    expected = functional.binary_cross_entropy_with_logits(
        torch.stack(logits), torch.tensor(gold), pos_weight=torch.tensor(WEIGHTS), reduction="none"
    )
    np.testing.assert_allclose(sums, expected.sum(1), rtol=1e-5)
    assert counts.tolist() == [3, 3, 3, 3]


def test_squared_error(tmp_path: Path) -> None:
    head = SequenceHead(1, SquaredError())
    gold = np.asarray([[0.5], [-2.0], [3.25], [0.0]], dtype=np.float32)
    features = [Feature({**f.arrays, "labels": row}) for f, row in zip(tiny_features(head, LENGTHS), gold, strict=True)]
    sums, counts, logits = losses_and_logits(tmp_path, head, features)
    np.testing.assert_allclose(sums, [(float(x) - float(y[0])) ** 2 for x, y in zip(logits, gold, strict=True)], rtol=1e-5)
    assert counts.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_spans_are_found_among_the_tokens_of_their_own_sequence(smoothing: float, tmp_path: Path) -> None:
    head = SpanHead(CrossEntropy(label_smoothing=smoothing))
    features = tiny_features(head, LENGTHS)
    sums, counts, logits = losses_and_logits(tmp_path, head, features)
    for place, feature in enumerate(features):
        labels = torch.tensor(feature.arrays["labels"]).long()
        expected = functional.cross_entropy(logits[place], labels, label_smoothing=smoothing, reduction="sum")
        assert sums[place] == pytest.approx(expected.item(), rel=1e-5)
    assert counts.tolist() == [2, 2, 2, 2]


def test_a_feature_weight_multiplies_loss_and_count(tmp_path: Path) -> None:
    head = TokenHead(3)
    features = tiny_features(head, LENGTHS)
    heavy = [Feature(feature.arrays, weight=2.5) for feature in features]
    plain = losses_and_logits(tmp_path, head, features)
    weighted = losses_and_logits(tmp_path, head, heavy)
    np.testing.assert_allclose(weighted[0], 2.5 * plain[0], rtol=1e-6)
    np.testing.assert_allclose(weighted[1], 2.5 * plain[1], rtol=1e-6)


def test_a_loss_without_gold_is_a_defect_that_is_named(tmp_path: Path) -> None:
    head = SequenceHead(3)
    model: Any = ENGINE.load(save_tiny(tmp_path, "bert", head), head, device="cpu")
    batch = model.collate([Feature({"input_ids": np.arange(2, 7, dtype=np.int32)})])
    with pytest.raises(ValueError, match="encoded without gold"):
        model.losses(batch)
