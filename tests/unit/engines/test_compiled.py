"""Layers that a GPU would compile, as far as that can be tried without one: all but the last step of the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engines.tiny_networks import denominator_of, save_tiny, tiny_features, tiny_pairs
from luthier.data.features import Feature, FeatureStore
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch import ENGINE, compiled
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, TokenHead

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
"""The tracer looks at every tensor's gradient."""

BATCHES = ([5, 12, 21], [7, 3], [30, 2, 2, 9], [40, 41, 42, 5])
CASES: list[tuple[str, Head, int]] = [
    ("bert", SequenceHead(3), 1),  # the last of two layers has been narrowed
    ("bert", TokenHead(3), 2),
    ("llama", CausalHead(), 2),
    ("marian", Seq2SeqHead(), 4),
]


@pytest.fixture(autouse=True)
def trace_only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trace forward and backward, and run what was traced as it is; forget it afterwards."""
    monkeypatch.setattr(compiled, "_BACKEND", "aot_eager")
    yield
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def batch_of(head: Head, lengths: list[int]) -> list[Feature]:
    if isinstance(head, Seq2SeqHead):
        return tiny_pairs([(length, length + 1) for length in lengths])
    return tiny_features(head, lengths)


def loaded(folder: Path, head: Head, setup: TrainingSetup | None = None) -> Any:
    return ENGINE.load(folder, head, device="cpu", precision="float32", setup=setup or TrainingSetup())


def begun(model: Any, head: Head, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Begin a run that is long enough for a GPU."""
    monkeypatch.setattr(compiled, "pays", lambda *_: True)
    store = FeatureStore.write(folder / "features", [[feature] for feature in batch_of(head, [5, 7])], head)
    return dict(model.begin(store, passes=2.0, folder=folder))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "head", "layers"), CASES)
def test_compiled_layers_give_the_same_losses_and_gradients_and_are_compiled_once(
    family: str, head: Head, layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "model", family, head)
    plain, model = loaded(folder, head), loaded(folder, head)
    facts = begun(model, head, tmp_path, monkeypatch)
    assert facts["compiled_layers"] == str(layers)
    graphs = []
    for lengths in BATCHES:
        features = batch_of(head, lengths)
        found, expected = (
            one.accumulate([one.collate(features)], denominator_of(head, features)).item() for one in (model, plain)
        )
        assert found == pytest.approx(expected, rel=1e-5)
        for (name, mine), theirs in zip(model.network.named_parameters(), plain.network.parameters(), strict=True):
            if theirs.grad is not None:
                torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-6, rtol=1e-4, msg=name)
        for one in (model, plain):
            one.network.zero_grad()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[-1] == graphs[1], "rows of other lengths were compiled anew"


@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_where_compiling_fails_training_goes_on_without_it(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: Any, _: Any) -> Any:
        if fault == "raises":
            raise RuntimeError("there is no compiler\nat all")
        wrong = 1.5
        return lambda *given: tuple(
            value * wrong if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for value in graph.forward(*given)
        )

    monkeypatch.setattr(compiled, "_BACKEND", backend)
    head = CausalHead()
    folder = save_tiny(tmp_path / "model", "llama", head)
    plain, model = loaded(folder, head), loaded(folder, head)
    said = begun(model, head, tmp_path, monkeypatch)["compiled_layers"]
    assert said.startswith("none (")
    assert "there is no compiler" in said or "a trial gave other results" in said
    features = batch_of(head, [5, 12])
    found, expected = (one.accumulate([one.collate(features)], denominator_of(head, features)).item() for one in (model, plain))
    assert found == expected


def test_frozen_layers_that_are_computed_once_and_recomputed_ones_are_not_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = SequenceHead(3)
    folder = save_tiny(tmp_path / "model", "bert", head)
    for setup in (TrainingSetup(method=Choice("head")), TrainingSetup(gradient_checkpointing=True)):
        model = loaded(folder, head, setup)
        assert "compiled_layers" not in begun(model, head, tmp_path / setup.method.name, monkeypatch)


def test_compiling_is_for_long_runs_on_a_gpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert compiled.pays(gpu, 6 * 135e6 * 1e9)
    assert not compiled.pays(gpu, 6 * 22e6 * 1e6)
    assert not compiled.pays(cpu, 1e30)
