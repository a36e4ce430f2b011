"""Packed decoders train as one document at a time, also where documents are longer than the attention's window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.tiny_networks import VOCABULARY, WINDOW, denominator_of, save_tiny, tiny_features
from luthier.data.features import Feature
from luthier.engines.engine import TrainingSetup
from luthier.engines.torch import ENGINE, attention_cpu
from luthier.heads import CausalHead
from parity.one_at_a_time import assert_same_gradients, one_at_a_time

HEAD = CausalHead()
PACKED = ("llama", "gpt2", "qwen3", "gemma3_text", "mistral")
SCALED = ("granite", "cohere")
BUCKETED = ("gemma2",)
LENGTHS = [5, 12, 5, 70, 11, 6, 38, 17, 5, 39, 3]


def _assert_trains_as_one_at_a_time(folder: Path, features: list[Feature], *, checkpointing: bool, batching: str) -> None:
    setup = TrainingSetup(gradient_checkpointing=checkpointing)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32", setup=setup)
    assert str(model.facts["batching"]).startswith(batching)

    loss = model.accumulate([model.collate(features)], denominator_of(HEAD, features)).item()

    expected, gradients = one_at_a_time(folder, HEAD, features)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same_gradients({name: p.grad for name, p in model.network.named_parameters()}, gradients)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize("family", PACKED + SCALED + BUCKETED)
def test_loss_and_every_gradient_are_those_of_one_document_at_a_time(family: str, checkpointing: bool, tmp_path: Path) -> None:
    assert max(LENGTHS) > 8 * WINDOW
    _assert_trains_as_one_at_a_time(
        save_tiny(tmp_path, family, HEAD),
        tiny_features(HEAD, LENGTHS),
        checkpointing=checkpointing,
        batching="length buckets" if family in BUCKETED else "packed",
    )


@pytest.mark.parametrize("family", ["mistral", "gemma3_text"])
def test_a_window_too_wide_for_the_probe_is_kept_too(family: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, family, HEAD, sliding_window=100, max_position_embeddings=300)
    features = tiny_features(HEAD, [250, 40, 99, 101])
    _assert_trains_as_one_at_a_time(folder, features, checkpointing=False, batching="packed")


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_long_documents_in_blocks_of_rows_are_the_same(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cpu, "_BLOCK_ROWS", 20)
    monkeypatch.setattr(attention_cpu, "_KEPT", 32)
    features = tiny_features(HEAD, LENGTHS)
    _assert_trains_as_one_at_a_time(save_tiny(tmp_path, family, HEAD), features, checkpointing=False, batching="packed")


def test_no_document_is_seen_from_another(tmp_path: Path) -> None:
    model: Any = ENGINE.load(save_tiny(tmp_path, "llama", HEAD), HEAD, device="cpu", precision="float32")
    features = tiny_features(HEAD, [9, 12, 30])
    before, _ = model.losses(model.collate(features))
    others = {name: (array + 7) % VOCABULARY for name, array in features[1].arrays.items()}
    after, _ = model.losses(model.collate([features[0], Feature(others), features[2]]))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert after[1] != before[1]
