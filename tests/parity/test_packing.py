"""Packed training is training one sequence at a time: the same loss and the same gradient of every weight.

The oracle is transformers' own class and loss, fed one unpadded sequence after another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.tiny_networks import denominator_of, save_tiny, tiny_features
from luthier.engines.engine import TrainingSetup
from luthier.engines.torch import ENGINE
from luthier.engines.torch.pooling import encoder_layers
from luthier.heads import Head, SequenceHead, SpanHead, TokenHead
from parity.one_at_a_time import assert_same_gradients, one_at_a_time

HEADS: dict[str, Head] = {"sequence": SequenceHead(3), "token": TokenHead(3), "span": SpanHead()}
PACKED = ("bert", "roberta", "distilbert", "electra", "xlm-roberta")
BUCKETED = ("deberta-v2", "modernbert")
LENGTHS = [5, 12, 5, 40, 11, 6, 38, 17, 5, 39, 3]
TYPED = ("bert", "electra", "deberta-v2")


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

    expected, gradients = one_at_a_time(folder, head, features)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same_gradients({name: p.grad for name, p in model.network.named_parameters()}, gradients)


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("kind", HEADS)
def test_these_families_are_packed(family: str, kind: str, tmp_path: Path) -> None:
    model = ENGINE.load(save_tiny(tmp_path, family, HEADS[kind]), HEADS[kind], device="cpu")
    assert model.facts["batching"] == "packed"


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "xlm-roberta"])
def test_the_last_layer_of_a_sequence_head_computes_the_first_tokens_alone(family: str, tmp_path: Path) -> None:
    head = HEADS["sequence"]
    model: Any = ENGINE.load(save_tiny(tmp_path, family, head), head, device="cpu")
    seen: dict[str, int] = {}
    last = encoder_layers(model.network)[-1]
    for name, module in last.named_modules():
        if type(module).__name__ == "Linear":
            module.register_forward_hook(lambda _, given, __, name=name: seen.update({name: given[0].shape[1]}))
    model.losses(model.collate(tiny_features(head, LENGTHS)))
    whole = {"attention.self.key", "attention.self.value"}
    assert len(seen) == 6
    assert {name for name, tokens in seen.items() if tokens == sum(LENGTHS)} == whole
    assert {tokens for name, tokens in seen.items() if name not in whole} == {len(LENGTHS)}


def test_an_attention_that_only_looks_like_berts_is_packed_without_narrowing_its_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It adds to its results what the narrowed form would not know of."""
    from transformers.models.bert.modeling_bert import BertSelfAttention

    own = BertSelfAttention.forward

    def forward(self: Any, hidden_states: Any, attention_mask: Any = None, cache: Any = None, **kwargs: Any) -> Any:
        attended, weights = own(self, hidden_states, attention_mask, cache, **kwargs)
        return attended + hidden_states, weights

    monkeypatch.setattr(BertSelfAttention, "forward", forward)
    head = HEADS["sequence"]
    folder, features = save_tiny(tmp_path, "bert", head), tiny_features(head, LENGTHS)
    model: Any = ENGINE.load(folder, head, device="cpu", precision="float32")
    assert model.facts["batching"] == "packed"
    sums, _ = model.losses(model.collate(features))
    expected, _ = one_at_a_time(folder, head, features)
    assert sums.sum() / denominator_of(head, features) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", BUCKETED)
@pytest.mark.parametrize("kind", HEADS)
def test_these_families_fall_back_to_buckets_and_say_so(family: str, kind: str, tmp_path: Path) -> None:
    model = ENGINE.load(save_tiny(tmp_path, family, HEADS[kind]), HEADS[kind], device="cpu")
    assert model.facts["batching"] == f"length buckets ({family} does not pass the packing probe)"
