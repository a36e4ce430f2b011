"""A model of embeddings and a linear head, in NumPy: it speaks the engine protocols without any framework.

Token states are embeddings; a sequence's state is their mean. Gradients are written out by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.features import Feature, FeatureStore
from luthier.engines.engine import TrainingSetup
from luthier.heads import (
    IGNORED,
    BinaryCrossEntropy,
    CausalHead,
    CrossEntropy,
    Head,
    Seq2SeqHead,
    SequenceHead,
    SpanHead,
    SquaredError,
)
from luthier.tasks.task import Output


@dataclass(frozen=True)
class NumpyBatch:
    features: tuple[Feature, ...]

    @property
    def num_targets(self) -> int:
        return sum(int(np.sum(f.arrays["labels"] != IGNORED)) for f in self.features if "labels" in f.arrays)

    @property
    def num_tokens(self) -> int:
        return sum(f.length for f in self.features)

    @property
    def num_sequences(self) -> int:
        return len(self.features)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


class NumpyModel:
    """See luthier.engines.engine.Model."""

    def __init__(self, head: Head, *, vocabulary: int = 512, width: int = 8, setup: TrainingSetup | None = None) -> None:
        setup = setup or TrainingSetup()
        rng = np.random.default_rng(setup.seed)
        self.head = head
        outputs = (
            2 if isinstance(head, SpanHead) else vocabulary if isinstance(head, CausalHead | Seq2SeqHead) else head.num_labels
        )
        self.weights = {"embedding": rng.normal(size=(vocabulary, width)), "linear": rng.normal(size=(width, outputs)) * 0.1}
        self.first = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.gradients = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.steps = 0
        self.decay = setup.weight_decay

    @property
    def facts(self) -> Mapping[str, str | int]:
        size = sum(value.size for value in self.weights.values())
        return {"device": "cpu", "precision": "float64", "batching": "one by one", "attention": "none",
                "parameters": size, "trainable_parameters": size}  # fmt: skip

    @property
    def micro_tokens(self) -> int:
        return 256

    def begin(self, features: FeatureStore, *, passes: float, folder: Path) -> Mapping[str, str | int]:
        return {}

    def collate(self, features: Sequence[Feature]) -> NumpyBatch:
        return NumpyBatch(tuple(features))

    def _logits(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return states [N, W] and logits: one row for a sequence head, one a token for the others."""
        states = self.weights["embedding"][ids]
        if isinstance(self.head, SequenceHead):
            states = states.mean(axis=0, keepdims=True)
        return states, states @ self.weights["linear"]

    def _loss(self, feature: Feature) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray]:
        """Return sum, weight, states, and the gradient of the sum by the logits."""
        ids, labels = feature.arrays["input_ids"], feature.arrays["labels"]
        states, logits = self._logits(ids)
        objective = self.head.objective
        if isinstance(objective, SquaredError):
            error = logits[0] - labels
            return float((error**2).sum()), float(error.size), states, (2 * error)[None], ids
        if isinstance(objective, BinaryCrossEntropy):
            probability = 1 / (1 + np.exp(-logits[0]))
            loss = -(labels * np.log(probability) + (1 - labels) * np.log(1 - probability))
            return float(loss.sum()), float(labels.size), states, (probability - labels)[None], ids
        assert isinstance(objective, CrossEntropy)
        if isinstance(self.head, SpanHead):
            logits, gold = logits.T, labels  # [2, T]
        elif isinstance(self.head, CausalHead):
            gold = np.append(labels[1:], IGNORED)
        else:
            gold = labels
        gradient, total, weight = np.zeros_like(logits), 0.0, 0.0
        for row in np.flatnonzero(gold != IGNORED):
            w = 1.0 if objective.weights is None else objective.weights[gold[row]]
            probability = _softmax(logits[row])
            log_probability = logits[row, gold[row]] - logits[row].max() - np.log(np.exp(logits[row] - logits[row].max()).sum())
            total, weight = total - w * float(log_probability), weight + w
            probability[gold[row]] -= 1
            gradient[row] = w * probability
        return total, weight, states, gradient.T if isinstance(self.head, SpanHead) else gradient, ids

    def accumulate(self, batches: Sequence[NumpyBatch], denominator: float) -> np.float64:
        total = 0.0
        for feature in (feature for batch in batches for feature in batch.features):
            loss, _, states, gradient, ids = self._loss(feature)
            scale = feature.weight / denominator
            total += loss * scale
            self.gradients["linear"] += scale * states.T @ gradient
            by_state = scale * gradient @ self.weights["linear"].T
            if isinstance(self.head, SequenceHead):
                by_state = np.repeat(by_state / len(ids), len(ids), axis=0)
            np.add.at(self.gradients["embedding"], ids, by_state)
        return np.float64(total)

    def update(self, learning_rate: float, max_grad_norm: float | None) -> np.float64:
        norm = np.sqrt(sum(float((gradient**2).sum()) for gradient in self.gradients.values()))
        if np.isfinite(norm):
            scale = min(1.0, max_grad_norm / (norm + 1e-6)) if max_grad_norm else 1.0
            self.steps += 1
            for name, value in self.weights.items():
                gradient = self.gradients[name] * scale
                self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
                self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
                first = self.first[name] / (1 - 0.9**self.steps)
                second = self.second[name] / (1 - 0.999**self.steps)
                value -= learning_rate * first / (np.sqrt(second) + 1e-8)
        for gradient in self.gradients.values():
            gradient[:] = 0
        return np.float64(norm)

    def losses(self, batch: NumpyBatch) -> tuple[np.ndarray, np.ndarray]:
        pairs = [self._loss(feature)[:2] for feature in batch.features]
        weights = np.asarray([feature.weight for feature in batch.features])
        return weights * np.asarray([p[0] for p in pairs]), weights * np.asarray([p[1] for p in pairs])

    def outputs(self, batch: NumpyBatch) -> list[Output]:
        results = []
        for feature in batch.features:
            logits = self._logits(feature.arrays["input_ids"])[1].astype(np.float32)
            if isinstance(self.head, SequenceHead):
                logits = logits[0]
            results.append(Output(feature, logits.T if isinstance(self.head, SpanHead) else logits))
        return results

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "model.npz", **self.weights)
        (folder / "config.json").write_text("{}\n", encoding="utf-8")

    def save_state(self, folder: Path) -> None:
        np.savez(folder / "state.npz", **self._named())
        (folder / "state.json").write_text(json.dumps({"steps": self.steps}), encoding="utf-8")

    def load_state(self, folder: Path) -> None:
        with np.load(folder / "state.npz") as saved:
            for name, value in self._named().items():
                value[...] = saved[name]
        self.steps = json.loads((folder / "state.json").read_text(encoding="utf-8"))["steps"]

    def _named(self) -> dict[str, Any]:
        parts = {"weight": self.weights, "first": self.first, "second": self.second}
        return {f"{kind}.{name}": value for kind, values in parts.items() for name, value in values.items()}
