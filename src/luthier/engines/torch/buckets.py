"""Length buckets inside the step: padded groups of like length, for networks that packing does not suit.

The loss of a step is a sum over its sequences, so cutting it into groups changes no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.torch.batch import Piece, decoder_inputs, feature_weights, gathered_labels, tensor
from luthier.engines.torch.vocabulary import last_states
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead

_MAX_PADDING = 0.12
_MIN_ROWS = 4
"""A group below this size is filled with longer padding: small products are slow."""


class Buckets:
    """Cuts a micro-batch into padded pieces.

    Args:
        network: takes ``input_ids`` and ``attention_mask``.
        head: says what the results look like.
    """

    name = "length buckets"

    def __init__(self, network: Any, head: Head) -> None:
        self._network, self._head = network, head
        self._pad_id = int(getattr(network.config, "pad_token_id", None) or 0)

    @property
    def device(self) -> torch.device:
        device: torch.device = self._network.device
        return device

    def pieces(self, features: Sequence[Feature]) -> list[Piece]:
        """Return the pieces of a micro-batch; each feature stands in exactly one."""
        if isinstance(self._head, Seq2SeqHead):
            return [self._pair_piece(features, members) for members in _pair_groups(features)]
        return [self._piece(features, members) for members in _groups([feature.length for feature in features])]

    def _pair_piece(self, features: Sequence[Feature], members: Sequence[int]) -> Piece:
        """Lay out sources and targets, each padded to its longest; tokens of the piece are those of the targets."""
        chosen = [features[member] for member in members]
        sources, source_mask = _padded([feature.arrays["input_ids"] for feature in chosen], self._pad_id)
        shifted = [decoder_inputs(self._network, feature.arrays["labels"]) for feature in chosen]
        targets, target_mask = _padded(shifted, self._pad_id)
        # Right padding lies in the future of every target token, so the causal mask hides it.
        inputs = {"input_ids": tensor(sources), "attention_mask": tensor(source_mask), "decoder_input_ids": tensor(targets)}
        lengths = [len(ids) for ids in shifted]
        return Piece(
            order=tuple(members),
            lengths=tuple(lengths),
            inputs=inputs,
            segments=None,
            valid=tensor(np.flatnonzero(target_mask.ravel())),
            sequences=tensor(np.repeat(np.arange(len(lengths)), lengths)),
            labels=gathered_labels(chosen, self._head),
            weights=feature_weights(chosen),
        )

    def _piece(self, features: Sequence[Feature], members: Sequence[int]) -> Piece:
        chosen = [features[member] for member in members]
        lengths = np.asarray([feature.length for feature in chosen])
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        inputs = {"attention_mask": tensor(mask)}
        for name in ("input_ids", "token_type_ids"):
            if name in chosen[0].arrays:
                padded = np.full(mask.shape, self._pad_id if name == "input_ids" else 0)
                padded[mask] = np.concatenate([feature.arrays[name] for feature in chosen])
                inputs[name] = tensor(padded)
        return Piece(
            order=tuple(members),
            lengths=tuple(lengths.tolist()),
            inputs=inputs,
            segments=None,
            valid=tensor(np.flatnonzero(mask.ravel())),
            sequences=tensor(np.repeat(np.arange(len(lengths)), lengths)),
            labels=gathered_labels(chosen, self._head),
            weights=feature_weights(chosen),
        )

    def forward(self, piece: Piece) -> Tensor:
        """Return the network's results, see Piece."""
        return flat_results(self._network, self._head, piece.inputs, piece.valid)


def flat_results(network: Any, head: Head, inputs: dict[str, Any], valid: Tensor | None) -> Tensor:
    """Run the network; return logits (causal heads: states) without padding and without the batch axis."""
    if isinstance(head, CausalHead | Seq2SeqHead):
        results = last_states(network, **inputs)
    else:
        output = network(**inputs)
        if isinstance(head, SequenceHead):
            logits: Tensor = output.logits
            return logits
        spans = isinstance(head, SpanHead)
        results = torch.stack([output.start_logits, output.end_logits], dim=-1) if spans else output.logits
    flat: Tensor = results.flatten(0, 1)
    return flat if valid is None else flat.index_select(0, valid)


def _padded(arrays: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask [n, longest], padded on the right."""
    lengths = np.asarray([len(array) for array in arrays])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, pad_id)
    ids[mask] = np.concatenate(arrays)
    return ids, mask


def _pair_groups(features: Sequence[Feature]) -> list[list[int]]:
    """Return groups of places with little padding on both sides: by source length, then each by target length."""
    groups: list[list[int]] = []
    for members in _groups([feature.length for feature in features]):
        targets = [len(features[member].arrays["labels"]) for member in members]
        groups += [[members[place] for place in part] for part in _groups(targets)]
    return groups


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Return groups of places, longest first, with little padding or few rows."""
    groups: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if groups:
            group = groups[-1]
            padded = lengths[group[0]] * (len(group) + 1)
            if len(group) < _MIN_ROWS or padded <= (1 + _MAX_PADDING) * (tokens + lengths[place]):
                group.append(place)
                tokens += lengths[place]
                continue
        groups.append([place])
        tokens = lengths[place]
    return groups
