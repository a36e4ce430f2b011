"""The objectives: (sum, weight of the targets) of each sequence, in float32.

S sequences with T tokens in all, C classes, V vocabulary. Logits come without padding, see Piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luthier.engines.torch.batch import Piece
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
            [T, H] of a head that writes (of an encoder-decoder: its decoder's).
        piece: holds the labels.
        vocabulary: of a head that writes, from states to logits; see luthier.engines.torch.vocabulary.
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
    elif isinstance(head, CausalHead | Seq2SeqHead) and vocabulary is not None:
        shift = 1 if isinstance(head, CausalHead) else 0
        sums, weights = _of_tokens(head.objective, results, piece, vocabulary, shift=shift)
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


def _of_tokens(
    objective: CrossEntropy, states: Tensor, piece: Piece, vocabulary: Vocabulary, *, shift: int
) -> tuple[Tensor, Tensor]:
    """Logits only where there is a token to predict, and never all of them at once.

    With ``shift`` 1 a state predicts the label after its own (a decoder), with 0 its own (an encoder-decoder).
    """
    labels, sequences = piece.labels, piece.sequences
    assert labels is not None
    inside = sequences[shift:] == sequences[: len(sequences) - shift]
    places = ((labels[shift:] != IGNORED) & inside).nonzero()[:, 0]
    targets, owners = labels[places + shift], sequences[places]

    if objective.weights is not None:
        raise TypeError("the tokens of a vocabulary have no class weights")
    selected, rows = states.index_select(0, places), max(1, _CHUNK_BYTES // (4 * _width(vocabulary)))
    if torch.is_grad_enabled():
        losses = _LossesWithGradient.apply(  # type: ignore[no-untyped-call]
            vocabulary, objective.label_smoothing, rows, targets, piece.weights[owners], selected, *_trained(vocabulary)
        )
    else:
        chunks = zip(torch.split(selected, rows), torch.split(targets, rows), strict=True)
        losses = torch.cat([_cross_entropy(objective, vocabulary(chunk).float(), labels)[0] for chunk, labels in chunks])
    count = len(piece.order)
    return _by_sequence(losses, owners, count), _by_sequence(torch.ones_like(losses), owners, count)


class _LossesWithGradient(torch.autograd.Function):
    """Losses [n] of states [n, H], with the gradients computed at once, chunk by chunk.

    So the logits are neither kept nor computed again. What comes back later can only scale these gradients: it
    must be the same multiple of ``shares`` [n] everywhere, as that of a weighted sum of the losses is.
    """

    @staticmethod
    def forward(
        ctx: Any, vocabulary: Vocabulary, smoothing: float, rows: int, targets: Tensor, shares: Tensor, selected: Tensor,
        *trained: Tensor,
    ) -> Tensor:  # fmt: skip
        # Results have their places beforehand: small tensors that stay would tear holes into freed memory.
        by_selected = torch.empty_like(selected)
        by_trained: list[Tensor] = []
        all_losses = torch.empty(len(targets), device=targets.device)
        for start in range(0, len(targets), rows):
            chunk = slice(start, start + rows)
            with torch.enable_grad():
                states = selected[chunk].detach().requires_grad_()
                logits = vocabulary(states)
            all_losses[chunk], by_logits = _smoothed_losses(logits.detach().float(), targets[chunk], shares[chunk], smoothing)
            by_selected[chunk], *others = torch.autograd.grad(logits, (states, *trained), by_logits.to(logits.dtype))
            if not start:
                by_trained = others
                continue
            for total, other in zip(by_trained, others, strict=True):
                total += other
        by_trained = by_trained or [torch.zeros_like(parameter) for parameter in trained]
        ctx.save_for_backward(shares, by_selected, *by_trained)
        return all_losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        shares, *computed = ctx.saved_tensors
        used = shares != 0
        factors = gradients[0][used] / shares[used]
        factor = factors.mean() if len(factors) else shares.sum()
        if not torch.allclose(factors, factor, rtol=1e-4):
            raise ValueError("a loss that is no weighted sum of the tokens' losses has no gradient here")
        return None, None, None, None, None, *(gradient.mul_(factor) for gradient in computed)


def _smoothed_losses(logits: Tensor, targets: Tensor, shares: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy [n] of float32 logits [n, V], and the gradient [n, V] of its sum weighted by ``shares``.

    Written out, because every pass over the logits counts: autograd takes three times as many.
    """
    highest, places = logits.max(1)
    expected = logits.gather(1, targets[:, None])[:, 0]
    mean = logits.mean(1) if smoothing else expected
    gradient = torch.softmax(logits, 1)
    # The logarithm of the sum, from the largest probability, which is never 0.
    total = highest - gradient.gather(1, places[:, None])[:, 0].log()
    losses = total - (1 - smoothing) * expected - smoothing * mean
    if smoothing:
        gradient -= smoothing / logits.shape[1]
    gradient.scatter_add_(1, targets[:, None], torch.full_like(expected, smoothing - 1)[:, None])
    return losses, gradient if bool((shares == 1).all()) else gradient.mul_(shares[:, None])


def _trained(vocabulary: Vocabulary) -> list[Tensor]:
    """Return the weights of a vocabulary layer that are trained."""
    parameters = getattr(vocabulary, "parameters", list)
    return [parameter for parameter in parameters() if parameter.requires_grad]


def _width(vocabulary: Vocabulary) -> int:
    return int(getattr(vocabulary, "out_features", 0) or 1 << 17)
