"""What frozen layers compute is computed once, and training on it is training as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.tiny_networks import save_tiny, tiny_features
from luthier.checkpoints import Checkpoints
from luthier.data.features import FeatureStore
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch import ENGINE, frozen, structure
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead
from luthier.training import Settings, fit
from luthier.units import BatchSize, Duration

LENGTHS = [5, 12, 5, 21, 11, 3, 17]
HEADS: dict[str, Head] = {
    "bert": SequenceHead(3),
    "roberta": TokenHead(3),
    "distilbert": SpanHead(),
    "llama": CausalHead(),
    "gpt2": CausalHead(),
    "marian": Seq2SeqHead(),
}


def stored(head: Head, folder: Path) -> FeatureStore:
    return FeatureStore.write(folder / "train.arrow", [[feature] for feature in tiny_features(head, LENGTHS)], head)


def trained(
    model_folder: Path, head: Head, store: FeatureStore, method: Choice, scratch: Path, *, precision: str = "float32"
) -> tuple[Any, list[float], dict[str, Any]]:
    setup = TrainingSetup(method=method, used_ids=store.used_ids)
    model: Any = ENGINE.load(model_folder, head, device="cpu", precision=precision, setup=setup)
    settings = Settings(1e-3, duration=Duration(3, "epochs"), batch=BatchSize(2, "examples"))
    losses, facts = [], {}
    for event in fit(model, store, settings, checkpoints=Checkpoints(scratch, keep=1)):
        if event.kind == "progress":
            losses.append(event.data["loss"])
        if event.kind == "started":
            facts = dict(event.data)
    return model, losses, facts


def counting(model: Any, calls: list[int]) -> Callable[..., Any]:
    inside = next(module for module in structure.layers(model.network)[0].modules() if isinstance(module, torch.nn.Linear))
    return inside.register_forward_hook(lambda *_: calls.append(1))


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("bert", Choice("head")),
        ("roberta", Choice("head")),
        ("distilbert", Choice("head")),
        ("bert", Choice("freeze", {"layers": 1})),
        ("llama", Choice("freeze", {"layers": 1})),
        ("gpt2", Choice("freeze", {"layers": 1})),
        ("marian", Choice("freeze", {"layers": 1})),
        ("bert", Choice("lora", {"rank": 2, "targets": ["layer.1.attention.self.query"]})),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_losses_are_those_without_a_cache(
    family: str, method: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = HEADS[family]
    folder = save_tiny(tmp_path / "base", family, head, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    store = stored(head, tmp_path)
    _, kept, facts = trained(folder, head, store, method, tmp_path / "one")
    assert "computed once" in facts["frozen_layers"]
    monkeypatch.setattr(frozen, "_BUDGET", 0)
    _, computed, facts = trained(folder, head, store, method, tmp_path / "other")
    assert "computed at every step" in facts["frozen_layers"]
    assert len(kept) == 3 * -(-len(store) // 2)
    np.testing.assert_allclose(kept, computed, rtol=1e-5)


def test_frozen_layers_run_for_other_features_and_not_for_those_of_the_store(tmp_path: Path) -> None:
    head = HEADS["bert"]
    store = stored(head, tmp_path)
    model, _, _ = trained(save_tiny(tmp_path / "base", "bert", head), head, store, Choice("head"), tmp_path / "run")
    calls: list[int] = []
    counting(model, calls)
    known = model.outputs(model.collate([store[index] for index in range(len(store))]))
    assert not calls
    anew = model.outputs(model.collate(tiny_features(head, LENGTHS)))
    assert calls == [1]
    for one, other in zip(known, anew, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)


def test_in_bfloat16_the_states_are_kept_in_half_the_space_and_the_losses_stay_close(tmp_path: Path) -> None:
    head = HEADS["roberta"]
    folder = save_tiny(tmp_path / "base", "roberta", head, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    store = stored(head, tmp_path)
    model, halves, _ = trained(folder, head, store, Choice("head"), tmp_path / "one", precision="bfloat16")
    assert model._frozen.file.nbytes == 2 * sum(LENGTHS) * model.network.config.hidden_size
    _, whole, _ = trained(folder, head, store, Choice("head"), tmp_path / "other")
    np.testing.assert_allclose(halves, whole, rtol=0.02)


@pytest.mark.parametrize("method", [Choice("full"), Choice("lora", {"rank": 2})], ids=lambda choice: choice.name)
def test_nothing_is_kept_where_the_lowest_layer_is_trained(method: Choice, tmp_path: Path) -> None:
    head = HEADS["bert"]
    _, _, facts = trained(save_tiny(tmp_path / "base", "bert", head), head, stored(head, tmp_path), method, tmp_path / "run")
    assert "frozen_layers" not in facts


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    head = HEADS["bert"]
    trained(save_tiny(tmp_path / "base", "bert", head), head, stored(head, tmp_path), Choice("head"), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("step-")} <= {"manifest.json"}
