"""The loop: one for all tasks and engines. It moves features to a model and says what happens.

``fit`` is a generator of events. Whoever reads them prints, logs or stops it; nobody reaches in.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from luthier.checkpoints import Checkpoint, Checkpoints
from luthier.data.batching import Plan, Step
from luthier.data.features import FeatureStore
from luthier.engines.engine import Batch, LazyScalar, Model
from luthier.errors import InputError
from luthier.events import Event
from luthier.metrics import gain
from luthier.schedule import SCHEDULES, Decay, learning_rate
from luthier.units import BatchSize, Duration, Warmup

_MAX_SKIPPED = 3
"""Updates in a row with a non-finite gradient after which a run counts as diverged."""
_EXPLODED = 20.0
"""A mean loss this many times that of the first logged steps counts as diverged too."""
_AHEAD = 2
"""Steps that are collated ahead of the one that runs."""

Evaluate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Settings:
    """The ``train`` section, resolved. ``learning_rate`` is the peak."""

    learning_rate: float
    duration: Duration = Duration(3, "epochs")
    batch: BatchSize = BatchSize(32, "examples")
    micro_tokens: int | None = None
    schedule: str = "linear"
    warmup: Warmup = Warmup(10, "%")
    max_grad_norm: float | None = 1.0
    seed: int = 0
    evaluate_every: Duration = Duration(1, "epochs")
    save_every: Duration = Duration(1, "epochs")
    patience: int | None = None


@dataclass(slots=True)
class State:
    """Where the loop stands: all that a resume needs beside the model's own state. Plain JSON."""

    step: int = 0
    epoch: int = 0
    rows: int = 0
    """Source rows of the current epoch that are done: the cursor."""
    examples: int = 0
    tokens: int = 0
    targets: int = 0
    seconds: float = 0.0
    losses: list[list[float]] = field(default_factory=list)
    """Per epoch: sum of the losses, weight of the targets."""
    last_loss: float | None = None
    first_loss: float | None = None
    best_step: int | None = None
    best_value: float | None = None
    stale: int = 0
    """Evaluations since the best one."""
    skipped: int = 0
    """Updates in a row that were not applied."""
    finished: str = ""

    def summary(self) -> dict[str, Any]:
        """Return the ``train`` part of metrics.json, without the peak of memory."""
        return {
            "examples": self.examples,
            "tokens": self.tokens,
            "targets": self.targets,
            "steps": self.step,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else 0.0,
            "loss": {"last": self.last_loss, "per_epoch": [total / weight for total, weight in self.losses if weight]},
        }


@dataclass(frozen=True, slots=True)
class _Ready:
    """A step whose micro-batches are collated."""

    step: Step
    batches: list[Batch]
    denominator: float


def fit(
    model: Model,
    store: FeatureStore,
    settings: Settings,
    *,
    checkpoints: Checkpoints,
    evaluate: Evaluate | None = None,
    headline: str = "",
    resume: Checkpoint | None = None,
    stop: Callable[[], int | None] = lambda: None,
) -> Iterator[Event]:
    """Train ``model`` on ``store`` and yield events; the model ends with its best weights.

    Args:
        model: loaded with a training setup.
        store: the features of the training split, encoded with gold.
        settings: the resolved ``train`` section.
        checkpoints: where states are written.
        evaluate: returns the validation metrics; without it the last weights are kept.
        headline: the metric of ``evaluate`` that selects the best weights.
        resume: the checkpoint to go on from.
        stop: asked after every step; a signal's number ends the run with its state saved.

    Raises:
        InputError: nothing to train on.
    """
    return _Loop(model, store, settings, checkpoints, evaluate, headline, stop).run(resume)


class _Loop:
    def __init__(
        self,
        model: Model,
        store: FeatureStore,
        settings: Settings,
        checkpoints: Checkpoints,
        evaluate: Evaluate | None,
        headline: str,
        stop: Callable[[], int | None],
    ) -> None:
        self.model, self.store, self.settings = model, store, settings
        self.checkpoints, self.evaluate, self.headline, self.stop = checkpoints, evaluate, headline, stop
        if not len(store) or not float(store.weights.sum()):
            raise InputError(
                "there is no target to learn from: every label is masked or the split is empty", where="data.train"
            )
        self.plan = Plan(store.groups, store.lengths, batch=settings.batch, seed=settings.seed)
        self.steps_per_epoch = len(self.plan.epoch(0))
        self.total = settings.duration.steps(self.steps_per_epoch)
        self.warmup = settings.warmup.steps(self.total, self.steps_per_epoch)
        self.decay: Decay = SCHEDULES.get(settings.schedule)
        self.log_every = 1 if self.total <= 100 else 10
        self.state = State()
        self.pending: list[tuple[int, LazyScalar, LazyScalar, float]] = []

    def run(self, resume: Checkpoint | None) -> Iterator[Event]:
        if resume is not None:
            self.state = State(**resume.state)
            self.model.load_state(resume.folder)
            yield Event("resumed", self.state.step, {"folder": str(resume.folder)})
        began = time.perf_counter()
        left = self.total - self.state.step
        facts = self.model.begin(self.store, passes=left / self.steps_per_epoch, folder=self.checkpoints.folder) if left else {}
        self.state.seconds += time.perf_counter() - began
        yield Event("started", self.state.step, {**self._start_facts(), **facts})
        if not self.state.finished:
            yield from self._train()
        if self.state.finished in ("done", "patience"):
            best = self.state.best_step
            if best is not None and best != self.state.step:
                self._load(best)
            yield Event("finished", self.state.step, {"reason": self.state.finished, "best_step": best, **self.state.summary()})

    def _train(self) -> Iterator[Event]:
        state = self.state
        for ready in self._collated():
            began = time.perf_counter()
            self._update(ready)
            state.seconds += time.perf_counter() - began
            last = state.step == self.total
            signal = self.stop()
            if last or signal or state.step % self.log_every == 0 or self._due(self.settings.evaluate_every, ready.step):
                yield from self._log(ready)
                if state.finished == "diverged":
                    return
            improved = False
            if self.evaluate is not None and (last or self._due(self.settings.evaluate_every, ready.step)):
                event = self._evaluated(self.evaluate)
                improved = bool(event.data["best"])
                yield event
            patience = self.settings.patience
            if last or (patience is not None and state.stale >= patience):
                state.finished = "done" if last else "patience"
            if state.finished or improved or signal or self._due(self.settings.save_every, ready.step):
                yield self._save()
            if signal and not state.finished:
                yield Event("stopped", state.step, {"signal": signal})
                return
            if state.finished:
                return

    def _update(self, ready: _Ready) -> None:
        """Run one optimizer step; the loss and the norm are read later, when they are logged."""
        state = self.state
        rate = learning_rate(
            state.step, peak=self.settings.learning_rate, total=self.total, warmup=self.warmup, decay=self.decay
        )
        loss = self.model.accumulate(ready.batches, ready.denominator)
        norm = self.model.update(rate, self.settings.max_grad_norm)
        self.pending.append((ready.step.epoch, loss, norm, ready.denominator))
        state.step += 1
        state.examples += len(ready.step.rows)
        state.tokens += sum(batch.num_tokens for batch in ready.batches)
        state.targets += sum(batch.num_targets for batch in ready.batches)
        ended = ready.step.after == self.plan.num_rows
        state.epoch, state.rows = (ready.step.epoch + 1, 0) if ended else (ready.step.epoch, ready.step.after)

    def _log(self, ready: _Ready) -> Iterator[Event]:
        """Read what is pending, look for divergence, and say where the run stands."""
        state = self.state
        total, weight, norm = 0.0, 0.0, math.nan
        for epoch, loss, norm, denominator in self._read_pending():
            if not math.isfinite(norm) or not math.isfinite(loss):
                state.skipped += 1
                yield Event("skipped_step", state.step, {"grad_norm": str(norm), "consecutive": state.skipped})
                if state.skipped >= _MAX_SKIPPED:
                    yield self._diverged(f"the gradient was not finite {state.skipped} times in a row")
                    return
                continue
            state.skipped = 0
            total, weight = total + loss * denominator, weight + denominator
            while len(state.losses) <= epoch:
                state.losses.append([0.0, 0.0])
            state.losses[epoch][0] += loss * denominator
            state.losses[epoch][1] += denominator
        if not weight:
            return
        state.last_loss = total / weight
        state.first_loss = state.last_loss if state.first_loss is None else state.first_loss
        if state.last_loss > _EXPLODED * max(state.first_loss, 0.5):
            yield self._diverged(f"the loss rose from {state.first_loss:.3g} to {state.last_loss:.3g}")
            return
        yield Event("progress", state.step, self._progress(ready, norm))

    def _read_pending(self) -> list[tuple[int, float, float, float]]:
        """Wait for the steps that are on their way. That is training time: a device works while nobody looks."""
        began = time.perf_counter()
        read = [(epoch, loss.item(), norm.item(), denominator) for epoch, loss, norm, denominator in self.pending]
        self.state.seconds += time.perf_counter() - began
        self.pending.clear()
        return read

    def _progress(self, ready: _Ready, norm: float) -> dict[str, Any]:
        state = self.state
        rate = learning_rate(
            state.step - 1, peak=self.settings.learning_rate, total=self.total, warmup=self.warmup, decay=self.decay
        )
        return {
            "epoch": round(ready.step.epoch + ready.step.after / self.plan.num_rows, 4),
            "rows": state.examples,
            "tokens": state.tokens,
            "targets": state.targets,
            "loss": state.last_loss,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": state.tokens / state.seconds if state.seconds else 0.0,
            "seconds_left": state.seconds / state.step * (self.total - state.step),
        }

    def _diverged(self, reason: str) -> Event:
        """End the run; the weights go back to the newest good checkpoint where there is one."""
        self.state.finished = "diverged"
        good = self.checkpoints.newest()
        if good is not None:
            self.model.load_state(good.folder)
        return Event("diverged", self.state.step, {"reason": reason, "kept": str(good.folder) if good else ""})

    def _evaluated(self, evaluate: Evaluate) -> Event:
        state = self.state
        metrics = dict(evaluate())
        value = metrics[self.headline]
        best = state.best_value is None or gain(self.headline, value) > gain(self.headline, state.best_value)
        if best:
            state.best_value, state.best_step, state.stale = value, state.step, 0
        else:
            state.stale += 1
        return Event("evaluated", state.step, {"metrics": metrics, "headline": self.headline, "best": best})

    def _save(self) -> Event:
        folder = self.checkpoints.save(self.state.step, asdict(self.state), self.model.save_state, best=self.state.best_step)
        return Event("saved", self.state.step, {"folder": str(folder)})

    def _load(self, step: int) -> None:
        checkpoint = self.checkpoints.at(step)
        if checkpoint is None:
            raise InputError(
                f"the best checkpoint, of step {step}, is missing or damaged",
                where=str(self.checkpoints.folder),
                fix="Train again, or resume from an older copy of the run.",
            )
        self.model.load_state(checkpoint.folder)

    def _due(self, every: Duration, step: Step) -> bool:
        """Whether a multiple of ``every`` was reached by this step."""
        if every.unit == "steps":
            return self.state.step % int(every.value) == 0
        before = step.epoch + step.before / self.plan.num_rows
        after = step.epoch + step.after / self.plan.num_rows
        return math.floor(after / every.value + 1e-9) > math.floor(before / every.value + 1e-9)

    def _start_facts(self) -> dict[str, Any]:
        return {
            "total_steps": self.total,
            "steps_per_epoch": self.steps_per_epoch,
            "epochs": round(self.total / self.steps_per_epoch, 4),
            "rows": self.plan.num_rows,
            "warmup_steps": self.warmup,
        }

    def _remaining(self) -> Iterator[Step]:
        """Yield the steps from the cursor on."""
        left, epoch, cursor = self.total - self.state.step, self.state.epoch, self.state.rows
        while left > 0:
            for step in self.plan.epoch(epoch):
                if step.before >= cursor and left > 0:
                    left -= 1
                    yield step
            epoch, cursor = epoch + 1, 0

    def _collated(self) -> Iterator[_Ready]:
        """Yield the remaining steps, collated ahead in a thread."""
        waiting: deque[Future[_Ready]] = deque()
        steps = self._remaining()
        with ThreadPoolExecutor(1, thread_name_prefix="collate") as pool:
            try:
                for step in steps:
                    waiting.append(pool.submit(self._collate, step))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _collate(self, step: Step) -> _Ready:
        limit = self.settings.micro_tokens or self.model.micro_tokens
        cuts: Sequence[Sequence[int]] = self.plan.micro_batches(step, limit)[0]
        batches = [self.model.collate([self.store[index] for index in members]) for members in cuts]
        denominator = float(sum(self.store.weights[index] for members in cuts for index in members))
        return _Ready(step, batches, denominator or 1.0)
