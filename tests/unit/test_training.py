import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.numpy_model import NumpyModel
from luthier.checkpoints import Checkpoints
from luthier.data.features import Feature, FeatureStore
from luthier.errors import InputError
from luthier.events import Event
from luthier.heads import IGNORED, SequenceHead
from luthier.training import Settings, fit
from luthier.units import BatchSize, Duration, Warmup

HEAD = SequenceHead(3)


def store(folder: Path, *, rows: int = 41, labels: Callable[[int], int] = lambda row: row % 3) -> FeatureStore:
    """Each class has its own words, so a linear model learns it."""
    rng = np.random.default_rng(7)

    def feature(row: int) -> Feature:
        words = rng.integers(10, 500, size=int(rng.integers(2, 9)))
        ids = np.append(words, labels(row) if labels(row) >= 0 else 0).astype(np.int32)
        return Feature({"input_ids": ids, "labels": np.asarray([labels(row)], dtype=np.int32)})

    return FeatureStore.write(folder / "train.arrow", ([feature(row)] for row in range(rows)), HEAD)


def settings(**changes) -> Settings:
    values = {"learning_rate": 0.05, "duration": Duration.parse("3 epochs"), "batch": BatchSize.parse("8 examples")}
    return Settings(**{**values, **changes})


def run(model: NumpyModel, features: FeatureStore, folder: Path, **options) -> list[Event]:
    chosen = options.pop("settings", settings())
    checkpoints = options.pop("checkpoints", None) or Checkpoints(folder / "checkpoints", keep=2)
    return list(fit(model, features, chosen, checkpoints=checkpoints, **options))


def same_bits(first: NumpyModel, second: NumpyModel) -> bool:
    return all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_the_loss_falls_and_the_events_tell_it(tmp_path: Path):
    events = run(NumpyModel(HEAD), store(tmp_path), tmp_path, settings=settings(duration=Duration.parse("8 epochs")))
    losses = [event.data["loss"] for event in events if event.kind == "progress"]
    assert losses[-1] < 0.5 * losses[0]
    assert [event.kind for event in events][:1] == ["started"]
    assert events[-1].kind == "finished"
    summary = events[-1].data
    assert summary["examples"] == 8 * 41
    assert summary["steps"] == 8 * 6
    assert len(summary["loss"]["per_epoch"]) == 8


def test_tokens_and_targets_are_counted_over_all_epochs(tmp_path: Path):
    features = store(tmp_path)
    summary = run(NumpyModel(HEAD), features, tmp_path)[-1].data
    assert summary["tokens"] == 3 * int(features.lengths.sum())
    assert summary["targets"] == 3 * 41


@pytest.mark.parametrize("micro_tokens", [8, 30, 10_000])
def test_the_update_does_not_depend_on_how_a_step_is_cut(tmp_path: Path, micro_tokens: int):
    features = store(tmp_path)
    whole, cut = NumpyModel(HEAD), NumpyModel(HEAD)
    run(whole, features, tmp_path / "a")
    run(cut, features, tmp_path / "b", settings=settings(micro_tokens=micro_tokens))
    for name in whole.weights:
        np.testing.assert_allclose(whole.weights[name], cut.weights[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("killed_after", [1, 2, 5, 6, 7, 11, 12, 17])
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, killed_after: int):
    features = store(tmp_path)
    every = settings(save_every=Duration.parse("2 steps"))
    straight = NumpyModel(HEAD)
    run(straight, features, tmp_path / "straight", settings=every)
    checkpoints = Checkpoints(tmp_path / "killed", keep=2)
    progress = 0
    for event in fit(NumpyModel(HEAD), features, every, checkpoints=checkpoints):
        progress += event.kind == "progress"
        if progress == killed_after:
            break
    resumed = NumpyModel(HEAD)
    events = run(resumed, features, tmp_path, settings=every, checkpoints=checkpoints, resume=checkpoints.newest())
    assert same_bits(straight, resumed)
    assert (events[0].kind == "resumed") == (killed_after > 2), "a step's checkpoint comes after its progress event"
    assert events[-1].data["examples"] == 3 * 41


def test_a_run_that_is_asked_to_stop_saves_and_resumes_to_the_same_bits(tmp_path: Path):
    features = store(tmp_path)
    straight = NumpyModel(HEAD)
    run(straight, features, tmp_path / "straight")
    checkpoints = Checkpoints(tmp_path / "stopped", keep=2)
    signals = iter([None, None, None, 15])
    events = run(NumpyModel(HEAD), features, tmp_path, checkpoints=checkpoints, stop=lambda: next(signals))
    assert [event.kind for event in events[-2:]] == ["saved", "stopped"]
    assert events[-1].step == 4
    assert events[-1].data["signal"] == 15
    resumed = NumpyModel(HEAD)
    run(resumed, features, tmp_path, checkpoints=checkpoints, resume=checkpoints.newest())
    assert same_bits(straight, resumed)


def test_resume_of_validation_keeps_the_best_weights(tmp_path: Path):
    features = store(tmp_path)
    scores = [0.2, 0.9, 0.3]
    straight, resumed = NumpyModel(HEAD), NumpyModel(HEAD)
    first = iter(scores)
    events = run(straight, features, tmp_path / "a", evaluate=lambda: {"accuracy": next(first)}, headline="accuracy")
    assert events[-1].data["best_step"] == 12

    checkpoints = Checkpoints(tmp_path / "b", keep=1)
    second = iter(scores)
    going = fit(NumpyModel(HEAD), features, settings(), checkpoints=checkpoints,
                evaluate=lambda: {"accuracy": next(second)}, headline="accuracy")  # fmt: skip
    for event in going:
        if event.kind == "saved" and event.step == 12:
            break
    third = iter(scores[2:])
    run(resumed, features, tmp_path, checkpoints=checkpoints, resume=checkpoints.newest(),
        evaluate=lambda: {"accuracy": next(third)}, headline="accuracy")  # fmt: skip
    assert same_bits(straight, resumed)


def test_the_best_weights_are_those_of_the_best_evaluation(tmp_path: Path):
    features = store(tmp_path)
    model = NumpyModel(HEAD)
    seen: list[np.ndarray] = []
    scores = iter([0.5, 0.8, 0.7])

    def evaluate() -> dict[str, float]:
        seen.append(model.weights["linear"].copy())
        return {"accuracy": next(scores)}

    run(model, features, tmp_path, evaluate=evaluate, headline="accuracy")
    assert np.array_equal(model.weights["linear"], seen[1])


def test_patience_stops_after_that_many_evaluations_without_a_better_one(tmp_path: Path):
    scores = iter([0.5, 0.6, 0.6, 0.4, 0.9])
    events = run(
        NumpyModel(HEAD), store(tmp_path), tmp_path,
        settings=settings(patience=2, duration=Duration.parse("5 epochs")),
        evaluate=lambda: {"accuracy": next(scores)}, headline="accuracy",
    )  # fmt: skip
    assert events[-1].data["reason"] == "patience"
    assert sum(event.kind == "evaluated" for event in events) == 4


@pytest.mark.parametrize(
    ("every", "count"), [("1 epochs", 3), ("0.5 epochs", 6), ("5 steps", 4), ("2 epochs", 2), ("100 steps", 1)]
)
def test_evaluation_comes_when_it_is_due_and_at_the_end(tmp_path: Path, every: str, count: int):
    events = run(
        NumpyModel(HEAD), store(tmp_path), tmp_path, settings=settings(evaluate_every=Duration.parse(every)),
        evaluate=lambda: {"accuracy": 0.5}, headline="accuracy",
    )  # fmt: skip
    assert sum(event.kind == "evaluated" for event in events) == count


class Spoiled(NumpyModel):
    """Its gradient is not finite at the given steps."""

    def __init__(self, *steps: int) -> None:
        super().__init__(HEAD)
        self.spoiled, self.calls = set(steps), 0

    def accumulate(self, batches, denominator):
        loss = super().accumulate(batches, denominator)
        self.calls += 1
        if self.calls in self.spoiled:
            self.gradients["linear"][0, 0] = np.inf
        return loss


class Late:
    """A number that takes a while, as on a device that works while nobody looks."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        time.sleep(0.01)
        return self.value


class Asynchronous(NumpyModel):
    def accumulate(self, batches, denominator):
        return Late(float(super().accumulate(batches, denominator)))


def test_waiting_for_a_device_is_training_time(tmp_path: Path):
    summary = run(Asynchronous(HEAD), store(tmp_path), tmp_path)[-1].data
    assert summary["seconds"] >= 0.01 * summary["steps"]


def test_a_gradient_that_is_not_finite_is_never_applied(tmp_path: Path):
    model = Spoiled(2)
    before: list[np.ndarray] = []
    for event in fit(model, store(tmp_path), settings(), checkpoints=Checkpoints(tmp_path / "c", keep=1)):
        if event.step == 1 and event.kind == "progress":
            before.append(model.weights["linear"].copy())
        if event.kind == "skipped_step":
            assert np.array_equal(model.weights["linear"], before[0])
    assert event.kind == "finished"
    assert np.isfinite(model.weights["linear"]).all()


def test_a_run_that_diverges_ends_with_its_last_good_state(tmp_path: Path):
    model = Spoiled(*range(9, 30))
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    events = run(model, store(tmp_path), tmp_path, checkpoints=checkpoints)
    assert events[-1].kind == "diverged"
    assert events[-1].data["kept"] == str(checkpoints.newest().folder)
    good = NumpyModel(HEAD)
    good.load_state(checkpoints.newest().folder)
    assert same_bits(model, good)


def test_a_loss_that_explodes_is_divergence(tmp_path: Path):
    wild = settings(learning_rate=1e4, max_grad_norm=None, warmup=Warmup.parse("0%"))
    assert run(NumpyModel(HEAD), store(tmp_path), tmp_path, settings=wild)[-1].kind == "diverged"


def test_a_split_whose_labels_are_all_masked_is_refused(tmp_path: Path):
    features = store(tmp_path, labels=lambda row: IGNORED)
    with pytest.raises(InputError, match="no target to learn from"):
        run(NumpyModel(HEAD), features, tmp_path)


def test_closing_the_iterator_ends_the_run_and_its_thread(tmp_path: Path):
    import threading

    going = fit(NumpyModel(HEAD), store(tmp_path), settings(), checkpoints=Checkpoints(tmp_path / "c", keep=1))
    next(going), next(going)
    going.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("collate")]
