"""What a run would cost, from a few measured probe steps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from luthier.data.batching import Plan, Step
from luthier.data.preparation import Prepared
from luthier.engines.engine import Model
from luthier.runs import peak_memory_bytes
from luthier.training import Settings

_PROBES = 3
_EVALUATION_SHARE = 1 / 3
"""Forward alone, of forward and backward."""


def estimate(model: Model, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """Run a few steps at a learning rate of 0 and extrapolate.

    Returns:
        ``steps``; ``seconds`` [low, high] of the whole run without start-up; ``memory_bytes``, the peak so far
        with the step of the most tokens; ``tokens_per_second``; ``loss``, a target, before any training: about the
        logarithm of the number of classes, or else look at the labels.
    """
    features = prepared.splits["train"].features
    if features is None:
        raise ValueError("the training split is not encoded")
    plan = Plan(features.groups, features.lengths, batch=settings.batch, seed=settings.seed)
    epoch = plan.epoch(0)
    total = settings.duration.steps(len(epoch))
    probes = _heaviest_first(epoch, plan, features.lengths)[:_PROBES]
    rates, losses = [], []
    for step in probes:
        members = plan.micro_batches(step, settings.micro_tokens or model.micro_tokens)[0]
        batches = [model.collate([features[index] for index in indices]) for indices in members]
        denominator = float(sum(features.weights[index] for indices in members for index in indices)) or 1.0
        began = time.perf_counter()
        losses.append(model.accumulate(batches, denominator).item())
        model.update(0.0, None).item()
        rates.append(sum(batch.num_tokens for batch in batches) / (time.perf_counter() - began))
    rate = float(np.median(rates))
    trained = float(features.lengths.sum()) * total / len(epoch)
    epochs = total / len(epoch)
    held_out = {
        name: split.features for name, split in prepared.splits.items() if name != "train" and split.features is not None
    }
    scored = sum(float(store.lengths.sum()) * ((epochs + 2) if name == "validation" else 1) for name, store in held_out.items())
    seconds = (trained + scored * _EVALUATION_SHARE) / rate
    return {
        "steps": total,
        "seconds": [seconds / 1.3, seconds * 1.3],
        "memory_bytes": peak_memory_bytes(),
        "tokens_per_second": rate,
        "loss": float(np.mean(losses)),
    }


def _heaviest_first(epoch: list[Step], plan: Plan, lengths: np.ndarray) -> list[Step]:
    """Return the step of the most tokens, then steps as they come."""

    def tokens(step: Step) -> int:
        return sum(int(lengths[index]) for row in step.rows for index in plan.features(int(row)))

    heaviest = max(epoch, key=tokens)
    return [heaviest, *(step for step in epoch if step is not heaviest)]
