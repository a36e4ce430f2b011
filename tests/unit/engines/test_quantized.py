"""A base in 4 or 8 bits, and moments in 8 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.tiny_networks import denominator_of, save_tiny, tiny_features, tiny_pairs
from luthier.data.features import Feature
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch import ENGINE
from luthier.engines.torch.optim import OPTIMIZERS
from luthier.errors import InputError
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead

HEAD = SequenceHead(3)
CAUSAL = CausalHead()
CASES = [("llama", CAUSAL), ("gpt2", CAUSAL), ("bert", HEAD), ("t5", Seq2SeqHead())]

installed = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not installed, reason="bitsandbytes is not installed")


def load(folder: Path, head: Head, *, bits: int | None, name: str = "lora", precision: str = "float32") -> Any:
    setup = TrainingSetup(method=Choice(name, {} if bits is None else {"base_bits": bits}))
    return ENGINE.load(folder, head, device="cpu", precision=precision, setup=setup)


def features_for(head: Head) -> list[Feature]:
    if isinstance(head, Seq2SeqHead):
        return tiny_pairs([(9, 4), (3, 7), (14, 5)])
    return tiny_features(head, [9, 3, 14, 5])


def train(model: Any, head: Head, *, steps: int = 4) -> None:
    features = features_for(head)
    for _ in range(steps):
        model.accumulate([model.collate(features)], denominator_of(head, features))
        model.update(1e-2, 1.0)


def logits_of(model: Any, features: list[Feature]) -> list[np.ndarray]:
    return [output.logits for output in model.outputs(model.collate(features))]


def furthest(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@needs_bitsandbytes
@pytest.mark.parametrize(("family", "head"), CASES)
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_base_trains_saves_reloads_and_merges(family: str, head: Head, bits: int, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", family, head)
    model, features = load(folder, head, bits=bits), features_for(head)
    whole = load(folder, head, bits=None)
    assert model.facts["base_bits"] == bits
    assert model.facts["parameters"] == whole.facts["parameters"]
    assert furthest(logits_of(model, features), logits_of(whole, features)) > 0, "nothing was quantized"
    before = model.losses(model.collate(features))[0].sum()
    train(model, head)
    assert model.losses(model.collate(features))[0].sum() < 0.95 * before

    model.save(tmp_path / "out")
    again = ENGINE.load(tmp_path / "out", head, device="cpu", precision="float32")
    assert again.facts["base_bits"] == bits
    assert furthest(logits_of(model, features), logits_of(again, features)) == 0.0
    model.save_whole(tmp_path / "whole")
    merged = ENGINE.load(tmp_path / "whole", head, device="cpu", precision="float32")
    assert furthest(logits_of(model, features), logits_of(merged, features)) < 2e-4


@needs_bitsandbytes
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_do_not_depend_on_the_cut_nor_on_an_evaluation_before(bits: int, precision: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    features = features_for(CAUSAL)
    norms, losses = [], []
    for cut in ([features], [[feature] for feature in features]):
        model = load(folder, CAUSAL, bits=bits, precision=precision)
        if len(cut) > 1:
            model.losses(model.collate(features))
        losses.append(model.accumulate([model.collate(part) for part in cut], 10.0).item())
        norms.append(model.update(1e-2, None).item())
    tolerance = 1e-5 if precision == "float32" else 2e-2
    assert losses[0] == pytest.approx(losses[1], rel=tolerance)
    assert norms[0] == pytest.approx(norms[1], rel=tolerance)


@needs_bitsandbytes
def test_products_with_rows_in_8_bits_have_the_gradient_of_the_dequantized_ones(tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path, "llama", CAUSAL), CAUSAL, bits=8)
    layer = model.network.model.layers[0].self_attn.q_proj.base_layer
    whole = layer.weight.data.float() * (layer.weight.SCB / 127)[:, None]
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (layer(inputs) ** 2).sum().backward()
    ours, inputs.grad = inputs.grad, None
    ((inputs @ whole.T) ** 2).sum().backward()
    torch.testing.assert_close(ours, inputs.grad)
    assert layer.weight.dtype == torch.int8


@needs_bitsandbytes
def test_heads_embeddings_and_norms_stay_whole(tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path, "bert", HEAD), HEAD, bits=4)
    small = {name for name, p in model.network.named_parameters() if p.dtype == torch.uint8}
    assert len(small) == 12
    assert all(".layer." in name and name.endswith("base_layer.weight") for name in small)


@needs_bitsandbytes
def test_quantized_training_writes_nothing_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for bits in (4, 8):
        model = load(save_tiny(tmp_path / str(bits), "gpt2", CAUSAL), CAUSAL, bits=bits, precision="bfloat16")
        train(model, CAUSAL, steps=1)
        model.save(tmp_path / f"{bits}-out")
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest))
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    with pytest.raises(InputError, match=r'bitsandbytes.*pip install "luthier\[quantized\]"'):
        load(folder, CAUSAL, bits=4)
    with pytest.raises(InputError, match="bitsandbytes"):
        ENGINE.load(folder, CAUSAL, device="cpu", setup=TrainingSetup(optimizer=Choice("adamw8bit")))


# The optimizer.


def wide(folder: Path, name: str) -> Any:
    """Load a network with matrices of 4096 weights and more: smaller ones keep their moments in 32 bits."""
    if not folder.exists():
        save_tiny(folder, "bert", HEAD, hidden_size=64, intermediate_size=96, num_attention_heads=4)
    return ENGINE.load(folder, HEAD, device="cpu", precision="float32", setup=TrainingSetup(optimizer=Choice(name)))


@needs_bitsandbytes
def test_moments_in_8_bits_follow_adamw_and_go_on_to_the_same_bits(tmp_path: Path) -> None:
    plain, whole, first, second = (wide(tmp_path / "base", name) for name in ("adamw", "adamw8bit", "adamw8bit", "adamw8bit"))
    train(plain, HEAD)
    train(whole, HEAD)
    features = features_for(HEAD)
    moved = furthest(logits_of(plain, features), logits_of(wide(tmp_path / "base", "adamw"), features))
    assert 0 < furthest(logits_of(plain, features), logits_of(whole, features)) < 0.3 * moved

    train(first, HEAD, steps=2)
    first.save_state(tmp_path / "state")
    train(second, HEAD, steps=1)  # whatever it did before must not matter
    second.load_state(tmp_path / "state")
    train(second, HEAD, steps=2)
    assert furthest(logits_of(whole, features), logits_of(second, features)) == 0.0


@needs_bitsandbytes
def test_moments_take_less_room_and_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    sizes = {}
    for name in OPTIMIZERS:
        model = wide(tmp_path / "base", name)
        train(model, HEAD, steps=1)
        model.save_state(tmp_path / name)
        sizes[name] = (tmp_path / name / "state.safetensors").stat().st_size
    assert sizes["adamw8bit"] < 0.75 * sizes["adamw"]

    features = features_for(HEAD)
    before = logits_of(model, features)
    model.accumulate([model.collate(features)], 1e-45)
    assert not np.isfinite(model.update(1e-2, 1.0).item())
    assert furthest(before, logits_of(model, features)) == 0.0


@pytest.mark.parametrize("choice", [Choice("adam8bit"), Choice("adamw8bit", {"block": 64})])
def test_unknown_optimizers_and_options_are_refused(choice: Choice, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    with pytest.raises(InputError, match=r"no optimizer.*adamw8bit|has no option"):
        ENGINE.load(folder, HEAD, device="cpu", setup=TrainingSetup(optimizer=choice))
