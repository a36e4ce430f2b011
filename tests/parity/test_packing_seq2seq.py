"""Encoder-decoders, packed or in buckets, train as one pair at a time, and write as they always did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from engines.tiny_networks import VOCABULARY, denominator_of, save_tiny, tiny_pairs
from luthier.engines.engine import TrainingSetup
from luthier.engines.torch import ENGINE, packing
from luthier.engines.torch.buckets import Buckets
from luthier.engines.torch.loading import quiet
from luthier.engines.torch.packing import Packed
from luthier.heads import CrossEntropy, Seq2SeqHead
from parity.one_at_a_time import assert_same_gradients, one_at_a_time

HEAD = Seq2SeqHead()
PACKED = ("marian", "bart", "mbart", "m2m_100", "pegasus")
BUCKETED = ("t5", "mt5", "umt5", "fsmt")
CASES = [(family, False) for family in PACKED + BUCKETED] + [(family, True) for family in PACKED + BUCKETED if family != "fsmt"]
"""transformers has no gradient checkpointing for FSMT."""
LENGTHS = [(5, 7), (12, 3), (40, 33), (7, 8), (33, 60), (6, 5), (17, 20), (80, 2), (2, 1)]


@pytest.mark.parametrize(("family", "checkpointing"), CASES)
def test_loss_and_every_gradient_are_those_of_one_pair_at_a_time(family: str, checkpointing: bool, tmp_path: Path) -> None:
    folder, features = save_tiny(tmp_path, family, HEAD), tiny_pairs(LENGTHS)
    setup = TrainingSetup(gradient_checkpointing=checkpointing)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32", setup=setup)
    assert str(model.facts["batching"]).startswith("packed" if family in PACKED else "length buckets")

    loss = model.accumulate([model.collate(features)], denominator_of(HEAD, features)).item()

    expected, gradients = one_at_a_time(folder, HEAD, features)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same_gradients({name: p.grad for name, p in model.network.named_parameters()}, gradients)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_scaled_and_unscaled_states_give_the_family_s_own_logits(family: str, tmp_path: Path) -> None:
    """An untied T5 does not scale them; a network whose logits came out otherwise would be refused at load."""
    folder, features = save_tiny(tmp_path, family, HEAD, tie_word_embeddings=False), tiny_pairs(LENGTHS)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32")
    sums, _ = model.losses(model.collate(features))
    expected, _ = one_at_a_time(folder, HEAD, features)
    assert sums.sum() / denominator_of(HEAD, features) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_is_that_of_the_trainer_and_close_to_that_of_fairseq(tmp_path: Path) -> None:
    folder, features = save_tiny(tmp_path, "marian", HEAD), tiny_pairs(LENGTHS)
    head = Seq2SeqHead(CrossEntropy(label_smoothing=0.1))
    model: Any = ENGINE.load(folder, head, device="cpu", precision="float32")
    sums, counts = model.losses(model.collate(features))
    with quiet():
        network: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(folder), attn_implementation="eager").eval()
    smoother = transformers.trainer_pt_utils.LabelSmoother(epsilon=0.1)
    # fairseq's label_smoothed_cross_entropy spreads its share over the other C - 1 classes.
    share = 0.1 * (VOCABULARY - 1) / VOCABULARY
    for place, feature in enumerate(features):
        ids, labels = (torch.tensor(feature.arrays[name]).long()[None] for name in ("input_ids", "labels"))
        with torch.no_grad():
            output = network(input_ids=ids, labels=labels)
        mean = sums[place] / counts[place]
        assert mean == pytest.approx(smoother(output, labels).item(), rel=1e-5)
        log = output.logits[0].log_softmax(-1)
        each = share / (VOCABULARY - 1)
        right = log.gather(1, labels[0][:, None])[:, 0]
        assert mean == pytest.approx((-(1 - share - each) * right - each * log.sum(1)).mean().item(), rel=1e-5)


@pytest.mark.parametrize("family", ["marian", "bart", "m2m_100"])
def test_a_packed_network_still_writes_and_saves_as_transformers_own(family: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "first", family, HEAD)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32", setup=TrainingSetup())
    model.losses(model.collate(tiny_pairs(LENGTHS)))
    model.save(tmp_path / "again")
    with quiet():
        kind = transformers.AutoModelForSeq2SeqLM
        own, again = (kind.from_pretrained(str(tmp_path / name)).eval() for name in ("first", "again"))
    assert {name: value.tolist() for name, value in own.state_dict().items()} == {
        name: value.tolist() for name, value in again.state_dict().items()
    }
    ids = torch.tensor([[7, 8, 9, 10, 2], [11, 12, 13, 2, 1]])
    given = {"input_ids": ids, "attention_mask": ids.ne(1).long()}
    decoder_ids = torch.tensor([[2, 5, 6], [2, 7, 8]])
    model.network.set_attn_implementation("eager")
    model.network.eval()
    with torch.no_grad():
        found, expected = (network(**given, decoder_input_ids=decoder_ids).logits for network in (model.network, own))
    torch.testing.assert_close(found, expected)


def _running_mean(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    """Stands for a recurrence in place of the decoder's self-attention: it knows nothing of segments."""
    counts = torch.arange(1, hidden_states.shape[1] + 1)[None, :, None]
    return hidden_states.cumsum(1) / counts, None


def test_a_recurrent_decoder_lands_in_buckets_and_is_left_as_it_was(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "marian", HEAD)
    with quiet():
        network: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(folder))
    assert isinstance(packing.choose(network, HEAD), Packed)
    with quiet():
        network = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(folder))
    for layer in network.get_decoder().layers:
        layer.self_attn.forward = _running_mean
    assert isinstance(packing.choose(network, HEAD), Buckets)
    assert network.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
