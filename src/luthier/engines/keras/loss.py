"""The objectives: (sum, weight of the targets) of each row of a piece, in float32.

R rows of L tokens, C classes, V vocabulary, P predicted tokens; see luthier.engines.keras.batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from luthier.heads import IGNORED, BinaryCrossEntropy, CrossEntropy, Head, SequenceHead, SpanHead, SquaredError, TokenHead


def row_losses(
    head: Head, results: Any, inputs: Mapping[str, Any], gold: Mapping[str, Any], vocabulary: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """Return (sum of the loss [R], weight of the targets [R]), both times the rows' weights.

    Args:
        head: says which objective.
        results: [R, C], [R, L, C] or [R, L, 2]; of a head that writes the states [R, L, H].
        inputs: the piece's.
        gold: the piece's.
        vocabulary: of a head that writes, from states [P, H] to logits [P, V].
    """
    objective = head.objective
    if isinstance(head, SequenceHead):
        if isinstance(objective, CrossEntropy):
            sums, weights = _cross_entropy(objective, results, gold["labels"])
        else:
            sums, weights = _of_values(objective, results, gold["labels"])
    elif isinstance(head, TokenHead):
        sums, weights = (ops.sum(values, axis=1) for values in _cross_entropy(head.objective, results, gold["labels"]))
    elif isinstance(head, SpanHead):
        sums, weights = _of_spans(head.objective, results, inputs["padding_mask"], gold["labels"])
    else:
        states = ops.take(ops.reshape(results, (-1, results.shape[-1])), gold["places"], axis=0)
        tokens = _cross_entropy(head.objective, vocabulary(states), gold["targets"])
        rows = results.shape[0]
        sums, weights = (ops.segment_sum(values, gold["owners"], num_segments=rows) for values in tokens)
    return sums * gold["weights"], weights * gold["weights"]


def _cross_entropy(objective: CrossEntropy, logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return loss and weight of each label: 0 and 0 where it is IGNORED. As torch.nn.functional.cross_entropy."""
    used = ops.cast(ops.not_equal(labels, IGNORED), "float32")
    safe = ops.maximum(labels, 0)
    scores = ops.log_softmax(logits, axis=-1)
    losses = -ops.squeeze(ops.take_along_axis(scores, safe[..., None], axis=-1), -1)
    weights = used
    if objective.weights is not None:
        table = ops.convert_to_tensor(np.asarray(objective.weights, dtype=np.float32))
        weights = ops.take(table, safe) * used
        scores = scores * table
    if objective.label_smoothing:
        even = -ops.mean(scores, axis=-1)
        share = objective.label_smoothing
        return (1 - share) * losses * weights + share * even * used, weights
    return losses * weights, weights


def _of_values(objective: BinaryCrossEntropy | SquaredError, logits: Any, labels: Any) -> tuple[Any, Any]:
    if isinstance(objective, SquaredError):
        losses = ops.square(logits - labels)
    else:
        positive = 1.0 if objective.weights is None else np.asarray(objective.weights, dtype=np.float32)
        losses = (1 - labels) * logits + (1 + (positive - 1) * labels) * ops.softplus(-logits)
    return ops.sum(losses, axis=1), ops.full((losses.shape[0],), float(losses.shape[1]))


def _of_spans(objective: CrossEntropy, logits: Any, mask: Any, labels: Any) -> tuple[Any, Any]:
    """Softmax over the tokens of each row, once for the first token of the answer and once for the last."""
    inside = ops.cast(mask, "float32")[:, :, None]
    scores = ops.log_softmax(logits - (1 - inside) * 1e9, axis=1)
    used = ops.cast(ops.not_equal(labels, IGNORED), "float32")
    losses = -ops.squeeze(ops.take_along_axis(scores, ops.maximum(labels, 0)[:, None, :], axis=1), 1)
    if objective.label_smoothing:
        even = -ops.sum(scores * inside, axis=1) / ops.sum(inside, axis=1)
        losses = (1 - objective.label_smoothing) * losses + objective.label_smoothing * even
    return ops.sum(losses * used, axis=1), ops.sum(used, axis=1)
