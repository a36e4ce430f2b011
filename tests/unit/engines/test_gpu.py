"""What a GPU gets, as far as it can be tried without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from engines.tiny_networks import save_tiny, tiny_features
from luthier.engines.torch import ENGINE, gpu
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead


@pytest.mark.parametrize(("family", "head"), [("bert", SequenceHead(3)), ("llama", CausalHead()), ("marian", Seq2SeqHead())])
def test_every_tensor_of_a_packed_batch_is_reached(family: str, head: Head, tmp_path: Path) -> None:
    model: Any = ENGINE.load(save_tiny(tmp_path, family, head), head, device="cpu", precision="float32")
    (piece,) = model.collate(tiny_features(head, [5, 12, 21])).pieces
    moved = piece.each(lambda value: value.to("meta"))

    def devices(value: Any) -> set[str]:
        if isinstance(value, torch.Tensor):
            return {value.device.type}
        if isinstance(value, dict):
            value = tuple(value.values())
        if isinstance(value, tuple):
            return set().union(*map(devices, value))
        slots = getattr(value, "__slots__", ())
        return set().union(*(devices(getattr(value, name)) for name in slots))

    assert devices(piece) == {"cpu"}
    assert devices(moved) == {"meta"}


def test_fused_layers_are_asked_for_without_their_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    package, patches = ModuleType("liger_kernel.transformers"), ModuleType("liger_kernel.transformers.monkey_patch")
    package._apply_liger_kernel_to_instance = asked.update  # type: ignore[attr-defined]
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", patches)
    model: Any = ENGINE.load(save_tiny(tmp_path / "llama", "llama", CausalHead()), CausalHead(), device="cpu")
    assert gpu.fuse_layers(model.network)
    assert asked == {"model": model.network, "cross_entropy": False, "fused_linear_cross_entropy": False}
    other: Any = ENGINE.load(save_tiny(tmp_path / "gpt2", "gpt2", CausalHead()), CausalHead(), device="cpu")
    assert not gpu.fuse_layers(other.network)
