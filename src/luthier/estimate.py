"""What a run would cost, from a few measured probe steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.batching import Plan, Step
from luthier.data.features import FeatureStore
from luthier.data.preparation import Prepared, Split
from luthier.engines.engine import Model
from luthier.generation import Writer
from luthier.inference import outputs_of, prompt_of
from luthier.proof import split_that_counts
from luthier.runs import peak_memory_bytes
from luthier.training import Settings

_PROBES = 3
_SPREAD = 1.4
"""The range of seconds is the estimate divided and multiplied by this: machines are shared, steps differ."""


@dataclass(frozen=True, slots=True)
class _Probed:
    """Tokens a second of training and of evaluation, seconds a token before the first step, and the loss now."""

    training: float
    beginning: float
    evaluation: float
    loss: float


def estimate(
    model: Model, prepared: Prepared, settings: Settings, *, writer: Writer | None = None, scored_before: bool = False
) -> dict[str, Any]:
    """Run a few steps at a learning rate of 0, score a few rows, and extrapolate.

    Args:
        model: loaded to train.
        prepared: encoded.
        settings: the resolved ``train`` section.
        writer: of a model that writes.
        scored_before: whether the run scores the model before it is tuned, too.

    Returns:
        ``steps``; ``seconds`` [low, high] of the whole run without start-up; ``memory_bytes``, the peak so far,
        with the heaviest steps of training and of evaluation; ``tokens_per_second``; ``loss``, a target, before any
        training: about the logarithm of the number of classes, or else look at the labels.
    """
    features = prepared.splits["train"].features
    if features is None:
        raise ValueError("the training split is not encoded")
    plan = Plan(features.groups, features.lengths, batch=settings.batch, seed=settings.seed)
    epoch = plan.epoch(0)
    total = settings.duration.steps(len(epoch))
    epochs = total / len(epoch)
    probed = _probe(model, prepared, settings, plan, epoch, passes=epochs)
    seconds = float(features.lengths.sum()) * (epochs / probed.training + probed.beginning)
    counts = split_that_counts(prepared)
    for name, split in prepared.splits.items():
        if name == "train" or split.features is None:
            continue
        times = (
            1
            + (scored_before and name in (counts, "general"))
            + (_evaluations(settings, epochs) if name == "validation" else 0)
        )
        seconds += times * float(split.features.lengths.sum()) / probed.evaluation
        if writer is not None and name == counts:
            seconds += (1 + scored_before) * _writing_seconds(writer, split)
    return {
        "steps": total,
        "seconds": [seconds / _SPREAD, seconds * _SPREAD],
        "memory_bytes": peak_memory_bytes(),
        "tokens_per_second": probed.training,
        "loss": probed.loss,
    }


def _evaluations(settings: Settings, epochs: float) -> float:
    every = settings.evaluate_every
    return epochs / every.value if every.unit == "epochs" else 1.0


def _probe(model: Model, prepared: Prepared, settings: Settings, plan: Plan, epoch: list[Step], *, passes: float) -> _Probed:
    features = prepared.splits["train"].features
    assert features is not None
    steps = _heaviest_first(epoch, plan, features.lengths)[:_PROBES]
    cuts = [plan.micro_batches(step, settings.micro_tokens or model.micro_tokens)[0] for step in steps]
    rates, losses = [], []
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        # A store of the probed features alone: what a model does before the first step, it does to all of a store.
        indices = [index for members in cuts for indices in members for index in indices]
        few = FeatureStore.write(Path(folder) / "probe.arrow", [[features[index]] for index in indices], prepared.task.head)
        began = time.perf_counter()
        facts = model.begin(few, passes=passes, folder=Path(folder))
        beginning = (time.perf_counter() - began) / float(few.lengths.sum()) if facts else 0.0
        places = iter(range(len(few)))
        for members in cuts:
            chosen = [[few[next(places)] for _ in indices] for indices in members]
            batches = [model.collate(micro_batch) for micro_batch in chosen]
            denominator = float(sum(features.weights[index] for indices in members for index in indices)) or 1.0
            began = time.perf_counter()
            losses.append(model.accumulate(batches, denominator).item())
            model.update(0.0, None).item()
            rates.append(
                sum(features.lengths[index] for indices in members for index in indices) / (time.perf_counter() - began)
            )
    # The first step also warms up; of three the median is another one.
    return _Probed(float(np.median(rates)), beginning, _evaluation_rate(model, prepared), float(np.mean(losses)))


def _evaluation_rate(model: Model, prepared: Prepared) -> float:
    """Return tokens a second of scoring the longest rows, without writing."""
    name = split_that_counts(prepared) or "train"
    split = prepared.splits[name]
    store = split.features
    assert store is not None
    chosen = np.argsort(-store.lengths, kind="stable")[: max(1, 2 * model.micro_tokens // max(1, int(store.lengths.max())))]
    began = time.perf_counter()
    outputs_of(model, split.task, [[store[int(index)]] for index in chosen])
    return float(store.lengths[chosen].sum()) / (time.perf_counter() - began)


def _writing_seconds(writer: Writer, split: Split) -> float:
    """Return how long writing for a split takes, from its heaviest batch: the one that decides the memory, too."""
    store = split.features
    assert store is not None
    firsts = _first_features(store, sorted(writer.options.positions(len(split))))
    prompts = [prompt_of(store[index]) for index in firsts]
    batches = writer.batches(prompts)
    if not batches:
        return 0.0
    heaviest = [prompts[place] for place in batches[0]]
    began = time.perf_counter()
    writer.write(heaviest)
    # A batch of shorter prompts takes less; about as much, where each token's step costs the same.
    return (time.perf_counter() - began) * len(firsts) / len(heaviest)


def _first_features(store: FeatureStore, positions: list[int]) -> list[int]:
    """Return the index of the first feature of each row."""
    starts = np.searchsorted(store.groups, positions)
    return [
        int(start)
        for start, position in zip(starts, positions, strict=True)
        if start < len(store) and store.groups[start] == position
    ]


def _heaviest_first(epoch: list[Step], plan: Plan, lengths: np.ndarray) -> list[Step]:
    """Return the step of the most tokens, then steps as they come."""

    def tokens(step: Step) -> int:
        return sum(int(lengths[index]) for row in step.rows for index in plan.features(int(row)))

    heaviest = max(epoch, key=tokens)
    return [heaviest, *(step for step in epoch if step is not heaviest)]
