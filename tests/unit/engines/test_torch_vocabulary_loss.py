"""The loss over a vocabulary, chunk by chunk and with its gradient at once, against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from luthier.engines.torch import loss
from luthier.engines.torch.batch import Piece
from luthier.engines.torch.loss import sequence_losses
from luthier.heads import IGNORED, CausalHead, CrossEntropy, Seq2SeqHead

LENGTHS = (5, 9, 3)
HIDDEN, VOCABULARY = 8, 50
WEIGHTS = (1.0, 0.5, 0.0)


def piece() -> Piece:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, VOCABULARY, (sum(LENGTHS),), generator=generator)
    labels[[0, 7, 8, 14]] = IGNORED
    owners = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    return Piece((0, 1, 2), LENGTHS, {}, None, None, owners, labels, torch.tensor(WEIGHTS))


def plain(states: Tensor, layer: nn.Module, *, shift: int, smoothing: float) -> list[Tensor]:
    """Return the summed loss of each sequence, from all its logits."""
    given = piece()
    assert given.labels is not None
    sums = []
    for part, labels, weight in zip(states.split(LENGTHS), given.labels.split(LENGTHS), WEIGHTS, strict=True):
        logits = layer(part)[: len(part) - shift]
        total = functional.cross_entropy(
            logits, labels[shift:], ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
        )
        sums.append(total * weight)
    return sums


def drawn(*, trained: bool) -> tuple[Tensor, nn.Linear]:
    torch.manual_seed(0)
    states, layer = torch.randn(sum(LENGTHS), HIDDEN, requires_grad=True), nn.Linear(HIDDEN, VOCABULARY)
    layer.requires_grad_(trained)
    return states, layer


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("kind", [CausalHead, Seq2SeqHead])
def test_losses_and_gradients_in_chunks_are_those_of_all_logits(
    kind: type[CausalHead | Seq2SeqHead], trained: bool, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_CHUNK_BYTES", 4 * VOCABULARY * 3)
    states, layer = drawn(trained=trained)
    head = kind(CrossEntropy(label_smoothing=smoothing))
    inputs = [states, *(parameter for parameter in layer.parameters() if trained)]

    sums, weights = sequence_losses(head, states, piece(), layer)
    found = torch.autograd.grad(sums.sum() / 7, inputs)

    expected = plain(states, layer, shift=1 if kind is CausalHead else 0, smoothing=smoothing)
    torch.testing.assert_close(sums, torch.stack(expected))
    counts = [4.0, 3.0, 0.0] if kind is CausalHead else [4.0, 3.5, 0.0]
    assert weights.tolist() == counts
    torch.testing.assert_close(found, torch.autograd.grad(sum(expected) / 7, inputs))  # type: ignore[call-overload]


def test_without_gradients_the_losses_are_the_same() -> None:
    states, layer = drawn(trained=True)
    with torch.inference_mode():
        sums, _ = sequence_losses(CausalHead(), states, piece(), layer)
    torch.testing.assert_close(sums, torch.stack(plain(states, layer, shift=1, smoothing=0.0)).detach())


def test_sequences_without_targets_have_no_loss_and_no_gradient() -> None:
    states, layer = drawn(trained=True)
    given = piece()
    assert given.labels is not None
    given.labels.fill_(IGNORED)
    sums, weights = sequence_losses(CausalHead(), states, given, layer)
    assert sums.tolist() == weights.tolist() == [0, 0, 0]
    (gradient,) = torch.autograd.grad(sums.sum(), states)
    assert not gradient.any()


def test_a_loss_that_weighs_sequences_otherwise_is_refused_rather_than_wrong() -> None:
    states, layer = drawn(trained=True)
    sums, _ = sequence_losses(CausalHead(), states, piece(), layer)
    with pytest.raises(ValueError, match="weighted sum"):
        (sums**2).sum().backward()
