"""The objectives: (sum, weight of the targets) of each sequence, in float32.

S sequences with T tokens in all, C classes, V vocabulary. Logits come without padding, see Piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from luthier.engines.torch.batch import Piece
from luthier.heads import (
    IGNORED,
    BinaryCrossEntropy,
    CausalHead,
    CrossEntropy,
    Head,
    SequenceHead,
    SpanHead,
    SquaredError,
    TokenHead,
)

_CHUNK_BYTES = 1 << 26
"""Of vocabulary logits that exist at once: more does not make the products faster."""

Vocabulary = Callable[[Tensor], Tensor]


def sequence_losses(head: Head, results: Tensor, piece: Piece, vocabulary: Vocabulary | None = None) -> tuple[Tensor, Tensor]:
    """Return (sum of the loss [S], weight of the targets [S]), both times the features' weights.

    Args:
        head: says which objective.
        results: [S, C] of a sequence head, [T, C] of a token head, [T, 2] of a span head, or the states
            [T, H] of a causal head.
        piece: holds the labels.
        vocabulary: of a causal head, from states to logits.
    """
    if piece.labels is None:
        raise ValueError("the features have no labels: they were encoded without gold")
    if isinstance(head, SequenceHead):
        sums, weights = _of_sequences(head.objective, results.float(), piece.labels)
    elif isinstance(head, TokenHead):
        tokens = _cross_entropy(head.objective, results.float(), piece.labels)
        sums, weights = (_by_sequence(values, piece.sequences, len(piece.order)) for values in tokens)
    elif isinstance(head, SpanHead):
        sums, weights = _of_spans(head.objective, results.float(), piece.labels, piece)
    elif isinstance(head, CausalHead) and vocabulary is not None:
        sums, weights = _of_next_tokens(head.objective, results, piece, vocabulary)
    else:
        raise TypeError(f"no loss for {type(head).__name__}")
    return sums * piece.weights, weights * piece.weights


def _cross_entropy(objective: CrossEntropy, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return loss and weight of each row: 0 and 0 where the label is IGNORED."""
    weight = None if objective.weights is None else torch.tensor(objective.weights, device=logits.device)
    losses = functional.cross_entropy(
        logits, labels, weight=weight, ignore_index=IGNORED, reduction="none", label_smoothing=objective.label_smoothing
    )
    used = labels != IGNORED
    weights = used.float() if weight is None else weight[labels.clamp(min=0)] * used
    return losses, weights


def _by_sequence(values: Tensor, sequences: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add(0, sequences, values)


def _of_sequences(
    objective: CrossEntropy | BinaryCrossEntropy | SquaredError, logits: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    if isinstance(objective, CrossEntropy):
        return _cross_entropy(objective, logits, labels)
    if isinstance(objective, BinaryCrossEntropy):
        positive = None if objective.weights is None else torch.tensor(objective.weights, device=logits.device)
        losses = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=positive, reduction="none")
    else:
        losses = (logits - labels) ** 2
    return losses.sum(1), torch.full_like(losses[:, 0], losses.shape[1]).detach()


def _of_spans(objective: CrossEntropy, logits: Tensor, labels: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
    """Softmax over the tokens of each sequence, once for the first token of the answer and once for the last."""
    count, longest = len(piece.lengths), max(piece.lengths)
    lengths = torch.tensor(piece.lengths, device=logits.device)
    starts = lengths.cumsum(0) - lengths
    places = piece.sequences * longest + torch.arange(len(logits), device=logits.device) - starts[piece.sequences]
    padded = logits.new_full((count * longest, 2), -torch.inf).index_copy(0, places, logits)
    scores = padded.view(count, longest, 2).log_softmax(1)
    used = labels != IGNORED
    losses = -scores.gather(1, labels.clamp(min=0)[:, None, :])[:, 0, :]
    if objective.label_smoothing:
        even = -scores.masked_fill(scores.isinf(), 0.0).sum(1) / lengths[:, None]
        losses = (1 - objective.label_smoothing) * losses + objective.label_smoothing * even
    return torch.where(used, losses, 0.0).sum(1), used.float().sum(1)


def _of_next_tokens(objective: CrossEntropy, states: Tensor, piece: Piece, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Logits only where there is a next token to predict, and never all of them at once."""
    labels, sequences = piece.labels, piece.sequences
    assert labels is not None
    places = ((labels[1:] != IGNORED) & (sequences[1:] == sequences[:-1])).nonzero()[:, 0]
    targets, owners = labels[places + 1], sequences[places]

    def losses_of(chunk: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return _cross_entropy(objective, vocabulary(chunk).float(), labels)

    sums, weights = (
        states.new_zeros(len(piece.order), dtype=torch.float32),
        states.new_zeros(len(piece.order), dtype=torch.float32),
    )
    for chunk, label, owner in _chunks(places, targets, owners, width=_width(vocabulary)):
        selected = states.index_select(0, chunk)
        if torch.is_grad_enabled():
            losses, weight = checkpoint(losses_of, selected, label, use_reentrant=False)
        else:
            losses, weight = losses_of(selected, label)
        sums, weights = sums.index_add(0, owner, losses), weights.index_add(0, owner, weight)
    return sums, weights


def _width(vocabulary: Vocabulary) -> int:
    return int(getattr(vocabulary, "out_features", 0) or 1 << 17)


def _chunks(*tensors: Tensor, width: int) -> Sequence[tuple[Tensor, ...]]:
    rows = max(1, _CHUNK_BYTES // (4 * width))
    return [tuple(tensor[start : start + rows] for tensor in tensors) for start in range(0, len(tensors[0]), rows)]
