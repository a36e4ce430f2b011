"""How an export of another toolchain is held against its run; the toolchain is played by a copy of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luthier
from luthier.engines import ENGINES
from luthier.engines.keras import KerasEngine
from luthier.errors import InputError
from luthier.exporting import OPENED, export
from script_cases import tiny_models, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exporting")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    return tiny_models(folder)


@pytest.fixture(scope="module")
def run(folder: Path, models: dict[str, Path]) -> luthier.Run:
    return trained(folder, models, "single")


def copied(change: float = 0.0, *, of: str = "classifier.bias") -> Any:
    """Return a way to export that copies the model, one weight of it changed."""

    @contextmanager
    def opened(hub: Path, made: Path) -> Iterator[Any]:
        from safetensors.numpy import load_file, save_file

        weights = load_file(hub / "model.safetensors")
        weights[of] = (weights[of] + np.float32(change) * np.arange(weights[of].size).reshape(weights[of].shape)).astype("f4")
        save_file(weights, hub / "model.safetensors", {"format": "pt"})
        (made / "copy").write_text("written")
        yield ENGINES.get("torch").load(hub, luthier.load(hub).task.head, device="cpu", precision="float32")

    return opened


def test_what_is_the_same_is_reported_with_the_metrics_of_both(run: luthier.Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(OPENED._entries, "keras", copied())
    made = export(run.folder, to="keras", output=folder / "same")
    assert (made.rows, made.difference, made.logits, made.note) == (24, 0.0, 0.0, "")
    assert made.metrics["accuracy"] == (pytest.approx(run.metrics["test"]["accuracy"].value),) * 2
    assert {"copy", "tokenizer.json", "luthier.json"} <= {path.name for path in (folder / "same").iterdir()}
    described = made.to_json()
    assert described["logits"] == 0.0
    assert described["metrics"]["accuracy"]["run"] == described["metrics"]["accuracy"]["export"]


def test_what_differs_is_refused_and_leaves_nothing(run: luthier.Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(OPENED._entries, "keras", copied(0.05))
    with pytest.raises(InputError, match="of 24 losses differ beyond rounding"):
        export(run.folder, to="keras", output=folder / "other")
    assert not (folder / "other").exists()


def test_logits_are_compared_where_the_losses_say_nothing(run: luthier.Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    @contextmanager
    def opened(hub: Path, made: Path) -> Iterator[Any]:
        model: Any = ENGINES.get("torch").load(hub, luthier.load(hub).task.head, device="cpu", precision="float32")
        given = model.outputs
        # The same number added to all classes: a softmax does not see it.
        monkeypatch.setattr(model, "outputs", lambda batch: [_moved(output) for output in given(batch)])
        yield model

    def _moved(output: Any) -> Any:
        from dataclasses import replace

        return replace(output, logits=output.logits + 0.5)

    monkeypatch.setitem(OPENED._entries, "keras", opened)
    with pytest.raises(InputError, match="of 72 logits differ beyond rounding"):
        export(run.folder, to="keras", output=folder / "moved")


def test_without_a_held_out_file_rows_of_training_are_compared_and_named(
    folder: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    alone = trained(folder, models, "single", without=("validation", "test"))
    monkeypatch.setitem(OPENED._entries, "keras", copied())
    made = export(alone.folder, to="keras", output=folder / "alone")
    assert made.rows == 48
    assert "trained on" in made.note


def test_only_so_many_rows_are_compared(run: luthier.Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("luthier.exporting._MAX_ROWS", 10)
    monkeypatch.setitem(OPENED._entries, "keras", copied())
    assert export(run.folder, to="keras", output=folder / "few").rows == 10


@pytest.mark.parametrize("to", ["keras", "saved-model"])
def test_without_the_packages_one_line_says_what_to_install(
    run: luthier.Run, folder: Path, monkeypatch: pytest.MonkeyPatch, to: str
):
    monkeypatch.setattr(KerasEngine, "missing", property(lambda engine: ["tensorflow", "keras-hub"]))
    with pytest.raises(InputError, match=r'not installed here\. pip install "luthier\[tensorflow\]"') as caught:
        export(run.folder, to=to, output=folder / f"missing {to}")
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder / f"missing {to}").exists()
