"""The batch of this engine: pieces, each of which is one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.torch.attention import PairSegments, Segments
from luthier.errors import InputError
from luthier.heads import IGNORED, BinaryCrossEntropy, Head, SequenceHead, SpanHead, SquaredError


@dataclass(frozen=True, slots=True)
class Piece:
    """Sequences that go through the network together.

    A network's results are brought to one form whatever the layout of the tokens: S rows for a sequence
    head, else T rows, the tokens of the S sequences one after another without padding. Of an encoder-decoder
    these are the tokens of the targets.

    Attributes:
        order: the place in the batch of each of the S sequences.
        lengths: int64 [S], tokens of each; on the host.
        inputs: what the network's ``forward`` takes.
        segments: where the sequences stand in the row, or those of both sides in two rows; None in padded pieces.
        valid: int64 [T], the place of each token in the flattened padded piece; None in packed ones.
        sequences: int64 [T], the sequence that each token belongs to.
        labels: as luthier.heads, one after another; None without gold.
        weights: float32 [S], the weights of the features.
        states: what frozen layers gave for the row [T, H] where it is known, see luthier.engines.torch.frozen.
    """

    order: tuple[int, ...]
    lengths: tuple[int, ...]
    inputs: dict[str, Tensor]
    segments: Segments | PairSegments | None
    valid: Tensor | None
    sequences: Tensor
    labels: Tensor | None
    weights: Tensor
    states: Tensor | None = None

    def to(self, device: torch.device) -> Piece:
        """Return the piece on ``device``."""
        return self if device.type == "cpu" else self.each(lambda value: value.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Piece:
        """Return the piece with every tensor changed: moved, or pinned so that it can move while something runs."""

        def changed(value: Tensor | None) -> Any:
            return None if value is None else change(value)

        return replace(
            self,
            inputs={name: change(value) for name, value in self.inputs.items()},
            segments=self.segments.each(change) if self.segments else None,
            valid=changed(self.valid),
            sequences=change(self.sequences),
            labels=changed(self.labels),
            weights=change(self.weights),
            states=changed(self.states),
        )


@dataclass(frozen=True, slots=True)
class TorchBatch:
    """See luthier.engines.engine.Batch."""

    features: tuple[Feature, ...]
    pieces: tuple[Piece, ...]
    num_targets: int
    num_tokens: int

    @property
    def num_sequences(self) -> int:
        return len(self.features)


def count_targets(features: Sequence[Feature], head: Head) -> int:
    """Return the number of targets; 0 for features without gold."""
    return sum(head.objective.targets(f.arrays["labels"])[0] for f in features if "labels" in f.arrays)


def tensor(values: np.ndarray, dtype: torch.dtype = torch.long) -> Tensor:
    """Return a tensor with its own memory."""
    return torch.tensor(values, dtype=dtype)


def gathered_labels(features: Sequence[Feature], head: Head) -> Tensor | None:
    """Return the labels of features one after another in the form that the losses take; None without gold."""
    if not features or any("labels" not in feature.arrays for feature in features):
        return None
    arrays = [np.asarray(feature.arrays["labels"]) for feature in features]
    if isinstance(head, SequenceHead):
        if isinstance(head.objective, BinaryCrossEntropy | SquaredError):
            return tensor(np.stack([array.reshape(-1) for array in arrays]), torch.float32)
        return tensor(np.concatenate([array.reshape(-1) for array in arrays]))
    if isinstance(head, SpanHead):
        return tensor(np.stack(arrays))
    return tensor(np.concatenate(arrays))


def feature_weights(features: Sequence[Feature]) -> Tensor:
    """Return float32 [S]."""
    return torch.tensor([feature.weight for feature in features], dtype=torch.float32)


def decoder_inputs(network: Any, labels: np.ndarray) -> np.ndarray:
    """Return what the decoder reads while it predicts ``labels`` [T]: the same shifted right, as the family does it.

    Raises:
        InputError: the config does not say what a target begins with.
    """
    own = getattr(network, "prepare_decoder_input_ids_from_labels", None)
    start, pad = network.config.decoder_start_token_id, network.config.pad_token_id
    if own is not None and pad is not None:
        shifted: np.ndarray = own(labels=torch.tensor(labels, dtype=torch.long)[None])[0].numpy()
        return shifted
    if start is None:
        raise InputError("config.json names no decoder_start_token_id", where="model", fix="Set it in the model's config.json.")
    ids = np.where(labels == IGNORED, pad or 0, labels)
    return np.concatenate([[start], ids[:-1]])
