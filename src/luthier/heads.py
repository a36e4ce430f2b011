"""Heads and objectives: what a task asks of an engine, as plain values.

A head says what shape of logits the model gives; its objective says how they are compared with the
labels. Shapes: B sequences, T tokens of one sequence, C classes, V vocabulary.

| head | logits | labels |
| --- | --- | --- |
| SequenceHead(C) | [B, C] | [B] int, or [B, C] float for binary_cross_entropy, [B] float for squared_error |
| TokenHead(C) | [B, T, C] | [B, T] int, -100 where there is none |
| SpanHead | [B, 2, T] | [B, 2] int: first and last token |
| CausalHead | [B, T, V] | [B, T] int, -100 where there is none; position t predicts t + 1 |
| Seq2SeqHead | [B, T, V] | [B, T] int, -100 where there is none |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

IGNORED = -100
"""The label of a position that has no part in the loss."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Softmax cross entropy.

    Attributes:
        weights: one weight a class, or None for 1 each. The mean is weighted as in ``torch.nn.CrossEntropyLoss``.
        label_smoothing: from 0 to 1; this share is spread over all C classes, the right one among them, as in torch
            and transformers. fairseq spreads it over the others: its 0.1 is 0.1 * C / (C - 1) here.
    """

    weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    name: ClassVar[str] = "cross_entropy"

    def targets(self, labels: np.ndarray) -> tuple[int, float]:
        """Return (number of targets, their weight) of one feature's labels."""
        used = labels[labels != IGNORED]
        weight = float(len(used)) if self.weights is None else float(np.asarray(self.weights)[used].sum())
        return len(used), weight


@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy:
    """One sigmoid a class; ``weights`` multiply the loss of each class's positives."""

    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "binary_cross_entropy"

    def targets(self, labels: np.ndarray) -> tuple[int, float]:
        return int(labels.size), float(labels.size)


@dataclass(frozen=True, slots=True)
class SquaredError:
    """(logit - label) squared, one value a sequence."""

    name: ClassVar[str] = "squared_error"

    def targets(self, labels: np.ndarray) -> tuple[int, float]:
        return int(np.size(labels)), float(np.size(labels))


Objective = CrossEntropy | BinaryCrossEntropy | SquaredError


@dataclass(frozen=True, slots=True)
class SequenceHead:
    """One vector of C logits a sequence."""

    num_labels: int
    objective: Objective = CrossEntropy()
    labels: tuple[str, ...] | None = None
    """The names of the classes, for the saved model's config."""


@dataclass(frozen=True, slots=True)
class TokenHead:
    """One vector of C logits a token."""

    num_labels: int
    objective: CrossEntropy = CrossEntropy()
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SpanHead:
    """Two logits a token: that the answer starts here, that it ends here (inclusive)."""

    objective: CrossEntropy = CrossEntropy()


@dataclass(frozen=True, slots=True)
class CausalHead:
    """Next-token logits of a decoder: a head that writes."""

    objective: CrossEntropy = CrossEntropy()


@dataclass(frozen=True, slots=True)
class Seq2SeqHead:
    """Next-token logits of an encoder-decoder: a head that writes. Its features hold the source as ``input_ids``
    and the target as ``labels``; the engine makes the decoder's inputs by shifting the labels right.
    """

    objective: CrossEntropy = CrossEntropy()


Head = SequenceHead | TokenHead | SpanHead | CausalHead | Seq2SeqHead


def writes(head: Head) -> bool:
    """Whether a model under this head writes text, so that its engine's model is a Generator too."""
    return isinstance(head, CausalHead | Seq2SeqHead)


def num_tokens(head: Head, arrays: Mapping[str, np.ndarray]) -> int:
    """Return how many tokens a feature puts through the network: for an encoder-decoder those of both sides."""
    count = len(arrays["input_ids"])
    return count + len(arrays["labels"]) if isinstance(head, Seq2SeqHead) and "labels" in arrays else count
