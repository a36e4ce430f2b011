"""Packed training is training one sequence at a time: the same loss and the same gradient of every weight.

The oracle is transformers' own class and loss, fed one unpadded sequence after another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from engines.tiny_networks import CLASSES, denominator_of, save_tiny, tiny_features
from luthier.data.features import Feature
from luthier.engines.engine import TrainingSetup
from luthier.engines.torch import ENGINE
from luthier.engines.torch.loading import quiet
from luthier.heads import IGNORED, CausalHead, Head, SequenceHead, SpanHead, TokenHead

HEADS: dict[str, Head] = {"sequence": SequenceHead(3), "token": TokenHead(3), "span": SpanHead()}
PACKED = ("bert", "roberta", "distilbert", "electra", "xlm-roberta")
BUCKETED = ("deberta-v2", "modernbert")
LENGTHS = [5, 12, 5, 40, 11, 6, 38, 17, 5, 39, 3]
TYPED = ("bert", "electra", "deberta-v2")


def _one_at_a_time(folder: Path, head: Head, features: list[Feature]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the mean loss over all targets and its gradients, by transformers alone."""
    with quiet():
        network: Any = getattr(transformers, CLASSES[type(head)]).from_pretrained(str(folder), attn_implementation="eager")
    network.eval()
    denominator = denominator_of(head, features)
    total = 0.0
    for feature in features:
        inputs = {name: torch.tensor(array)[None].long() for name, array in feature.arrays.items() if name != "labels"}
        labels = torch.tensor(feature.arrays["labels"]).long()
        if isinstance(head, SpanHead):
            # transformers halves the sum of the two losses.
            loss = network(**inputs, start_positions=labels[:1], end_positions=labels[1:]).loss * 2
        elif isinstance(head, SequenceHead):
            loss = network(**inputs, labels=labels).loss
        else:
            loss = network(**inputs, labels=labels[None]).loss * float((labels != IGNORED).sum())
        (loss / denominator).backward()
        total += loss.item() / denominator
    return total, {name: parameter.grad for name, parameter in network.named_parameters()}


def _assert_same_gradients(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    whole = torch.stack([grad.norm() for grad in expected.values() if grad is not None]).norm()
    for name, grad in expected.items():
        if grad is None:
            assert found[name] is None, name
            continue
        # The second term is for gradients that are zero in exact arithmetic, such as those of key biases.
        assert (found[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-7 * whole, name


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("family", PACKED + BUCKETED)
def test_loss_and_every_gradient_are_those_of_one_sequence_at_a_time(
    family: str, kind: str, checkpointing: bool, tmp_path: Path
) -> None:
    head = HEADS[kind]
    folder = save_tiny(tmp_path, family, head)
    features = tiny_features(head, LENGTHS, types=family in TYPED)
    setup = TrainingSetup(gradient_checkpointing=checkpointing)
    model: Any = ENGINE.load(folder, head, device="cpu", precision="float32", setup=setup)

    loss = model.accumulate([model.collate(features)], denominator_of(head, features)).item()

    expected, gradients = _one_at_a_time(folder, head, features)
    assert loss == pytest.approx(expected, rel=1e-5)
    _assert_same_gradients({name: p.grad for name, p in model.network.named_parameters()}, gradients)


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("kind", HEADS)
def test_these_families_are_packed(family: str, kind: str, tmp_path: Path) -> None:
    model = ENGINE.load(save_tiny(tmp_path, family, HEADS[kind]), HEADS[kind], device="cpu")
    assert model.facts["batching"] == "packed"


@pytest.mark.parametrize("family", BUCKETED)
@pytest.mark.parametrize("kind", HEADS)
def test_these_families_fall_back_to_buckets_and_say_so(family: str, kind: str, tmp_path: Path) -> None:
    model = ENGINE.load(save_tiny(tmp_path, family, HEADS[kind]), HEADS[kind], device="cpu")
    assert model.facts["batching"] == f"length buckets ({family} does not pass the packing probe)"


def test_a_decoder_learns_the_next_token_as_one_sequence_at_a_time(tmp_path: Path) -> None:
    head = CausalHead()
    folder = save_tiny(tmp_path, "gpt2", head)
    features = tiny_features(head, LENGTHS)
    model: Any = ENGINE.load(folder, head, device="cpu", precision="float32", setup=TrainingSetup())
    assert model.facts["batching"] == "packed"

    loss = model.accumulate([model.collate(features)], denominator_of(head, features)).item()

    expected, gradients = _one_at_a_time(folder, head, features)
    assert loss == pytest.approx(expected, rel=1e-5)
    _assert_same_gradients({name: p.grad for name, p in model.network.named_parameters()}, gradients)
