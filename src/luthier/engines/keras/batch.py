"""A micro-batch as pieces of a few fixed shapes: lengths and numbers of rows come from short lists.

What is compiled for one shape serves all pieces of it. Rows that only fill a piece up weigh nothing, and the loss is a
sum, so the cut changes no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.data.features import Feature
from luthier.errors import InputError
from luthier.heads import (
    IGNORED,
    BinaryCrossEntropy,
    CausalHead,
    Head,
    Seq2SeqHead,
    SequenceHead,
    SpanHead,
    SquaredError,
    num_tokens,
    writes,
)

_PIECE = 1024
"""Tokens of a piece, about: larger products gain little on a CPU, and pieces of less padding gain more."""
_START = 96
"""What a piece costs beside its tokens, in tokens."""
_STEP = 8
"""Chosen lengths are multiples of this."""
_MOST_LENGTHS = 5
_USUAL = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
_LEAST_PLACES = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """Sequences that go through the network together, padded to R rows of L tokens.

    Attributes:
        order: the place in the batch of each sequence; there may be more rows.
        lengths: tokens of each (of an encoder-decoder those of its target).
        inputs: ``token_ids``, ``padding_mask``, ``segment_ids`` int32 [R, L] and ``last`` [R]; of an encoder-decoder
            ``encoder_`` and ``decoder_`` before the first two.
        gold: ``weights`` float32 [R] and ``labels`` as luthier.heads, padded; of a head that writes ``places``,
            ``targets`` and ``owners`` int32 [P] instead: which state predicts which token of which row. None without labels.
    """

    order: tuple[int, ...]
    lengths: tuple[int, ...]
    inputs: dict[str, np.ndarray]
    gold: dict[str, np.ndarray] | None


@dataclass(frozen=True, slots=True)
class KerasBatch:
    """See luthier.engines.engine.Batch."""

    features: tuple[Feature, ...]
    pieces: tuple[Piece, ...]
    num_targets: int
    num_tokens: int

    @property
    def num_sequences(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The lengths that sequences are padded to, ascending.

    Args:
        longest: the most positions that the model has; None is no limit.
    """

    lengths: tuple[int, ...]
    longest: int | None = None

    @classmethod
    def usual(cls, longest: int | None) -> Shapes:
        """Return lengths that suit any data."""
        most = longest or _USUAL[-1]
        return cls((*(length for length in _USUAL if length < most), most), longest)

    @classmethod
    def fitting(cls, lengths: np.ndarray, longest: int | None, *, passes: float = 1.0, cost: int = 0) -> Shapes:
        """Return the few lengths under which data of these lengths is padded least.

        Args:
            lengths: of the sequences.
            longest: as above.
            passes: over the data.
            cost: of one more length to compile for, in tokens: a short run takes fewer of them.
        """
        rounded = -(-np.asarray(lengths) // _STEP) * _STEP
        values, counts = np.unique(rounded if longest is None else np.minimum(rounded, longest), return_counts=True)
        options = _least_padding(values.tolist(), (counts * passes).tolist())
        _, chosen = min((tokens + cost * len(found), found) for tokens, found in options)
        return cls(tuple(chosen), longest)

    def length(self, tokens: int) -> int:
        """Return what so many tokens are padded to.

        Raises:
            InputError: the model has fewer positions.
        """
        if self.longest is not None and tokens > self.longest:
            raise InputError(f"a sequence has {tokens} tokens, and the model takes {self.longest}", where="task.max_tokens")
        for length in self.lengths:
            if length >= tokens:
                return length
        beyond = next((length for length in _USUAL if length >= tokens), -(-tokens // 1024) * 1024)
        return beyond if self.longest is None else min(beyond, self.longest)

    def cuts(self, lengths: Sequence[int]) -> list[tuple[list[int], int, int]]:
        """Cut sequences into pieces: (their places, rows, length) of each, so that the pieces hold few tokens in all."""
        order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
        best: list[tuple[int, int]] = [(0, 0)] * (len(order) + 1)  # cost from here to the end, rows of the first piece
        for start in range(len(order) - 1, -1, -1):
            length = self.length(lengths[order[start]])
            options = ((rows * length + _START + best[min(len(order), start + rows)][0], -rows) for rows in _rows(length))
            cost, rows = min(options)
            best[start] = (cost, -rows)
        found: list[tuple[list[int], int, int]] = []
        start = 0
        while start < len(order):
            rows = best[start][1]
            found.append((order[start : start + rows], rows, self.length(lengths[order[start]])))
            start += rows
        return found


def _rows(length: int) -> tuple[int, ...]:
    """Return the numbers of rows that pieces of this length may have."""
    most = 1 << max(0, int(np.log2(max(1, _PIECE // length))))
    return tuple(dict.fromkeys((most, max(1, most // 4))))


def _least_padding(lengths: list[int], counts: list[float]) -> list[tuple[float, list[int]]]:
    """Choose 1, 2, ... of ascending lengths, the last among them, so that padding up to them is least.

    Returns (tokens with padding, the lengths) for each number of them.
    """
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    best = [[(length * sums[place + 1], [length]) for place, length in enumerate(lengths)]]
    for _ in range(min(_MOST_LENGTHS, len(lengths)) - 1):
        before, now = best[-1], []
        for place, length in enumerate(lengths):
            options = [
                (before[lower][0] + length * (sums[place + 1] - sums[lower + 1]), [*before[lower][1], length])
                for lower in range(place)
            ]
            now.append(min([before[place], *options]))
        best.append(now)
    return [found[-1] for found in best]


class Pieces:
    """Cuts micro-batches under one head.

    Args:
        head: says what labels look like.
        config: transformers' object, for the padding and what a decoder starts with.
        shapes: the lengths; may be replaced between steps.
    """

    def __init__(self, head: Head, config: Any, shapes: Shapes) -> None:
        self._head, self._config, self.shapes = head, config, shapes
        self._pad = int(getattr(config, "pad_token_id", None) or 0)

    def batch(self, features: Sequence[Feature]) -> KerasBatch:
        """Return a micro-batch; each feature stands in exactly one piece."""
        pair = isinstance(self._head, Seq2SeqHead)
        pieces = self._pair_pieces(features) if pair else self._single_pieces(features)
        objective = self._head.objective
        return KerasBatch(
            features=tuple(features),
            pieces=tuple(pieces),
            num_targets=sum(objective.targets(f.arrays["labels"])[0] for f in features if "labels" in f.arrays),
            num_tokens=sum(num_tokens(self._head, feature.arrays) for feature in features),
        )

    def _single_pieces(self, features: Sequence[Feature]) -> list[Piece]:
        return [
            self._single(features, places, rows, length)
            for places, rows, length in self.shapes.cuts([feature.length for feature in features])
        ]

    def _single(self, features: Sequence[Feature], places: list[int], rows: int, length: int) -> Piece:
        chosen = [features[place] for place in places]
        ids, mask = self._padded([feature.arrays["input_ids"] for feature in chosen], rows, length)
        types = np.zeros_like(ids)
        for row, feature in enumerate(chosen):
            if "token_type_ids" in feature.arrays:
                types[row, : feature.length] = feature.arrays["token_type_ids"]
        lengths = tuple(feature.length for feature in chosen)
        last = np.asarray([*(count - 1 for count in lengths), *([0] * (rows - len(lengths)))], dtype=np.int32)
        inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": types, "last": last}
        return Piece(tuple(places), lengths, inputs, self._gold(chosen, rows, length))

    def _pair_pieces(self, features: Sequence[Feature]) -> list[Piece]:
        """Cut by the lengths of the sources, then each part by those of the targets."""
        targets = [self._decoder_ids(feature.arrays["labels"]) for feature in features]
        pieces: list[Piece] = []
        for places, rows, length in self.shapes.cuts([feature.length for feature in features]):
            chosen, shifted = [features[place] for place in places], [targets[place] for place in places]
            other = self.shapes.length(max(len(ids) for ids in shifted))
            encoder = self._padded([feature.arrays["input_ids"] for feature in chosen], rows, length)
            decoder = self._padded(shifted, rows, other)
            inputs = dict(zip(("encoder_token_ids", "encoder_padding_mask"), encoder, strict=True))
            inputs |= dict(zip(("decoder_token_ids", "decoder_padding_mask"), decoder, strict=True))
            lengths = tuple(len(ids) for ids in shifted)
            pieces.append(Piece(tuple(places), lengths, inputs, self._gold(chosen, rows, other)))
        return pieces

    def _decoder_ids(self, labels: np.ndarray) -> np.ndarray:
        """Return what the decoder reads while it predicts ``labels``: the same shifted right."""
        start = self._config.decoder_start_token_id
        if start is None:
            fix = "Set it in the model's config.json."
            raise InputError("config.json names no decoder_start_token_id", where="model", fix=fix)
        return np.concatenate([[start], np.where(labels == IGNORED, self._pad, labels)[:-1]])

    def _padded(self, arrays: Sequence[np.ndarray], rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and mask, int32 [rows, length]; rows without a sequence attend to one token."""
        ids = np.full((rows, length), self._pad, dtype=np.int32)
        mask = np.zeros((rows, length), dtype=np.int32)
        mask[:, 0] = 1
        for row, array in enumerate(arrays):
            ids[row, : len(array)] = array
            mask[row, : len(array)] = 1
        return ids, mask

    def _gold(self, features: Sequence[Feature], rows: int, length: int) -> dict[str, np.ndarray] | None:
        if any("labels" not in feature.arrays for feature in features):
            return None
        weights = np.zeros(rows, dtype=np.float32)
        weights[: len(features)] = [feature.weight for feature in features]
        labels = [np.asarray(feature.arrays["labels"]) for feature in features]
        if writes(self._head):
            return {"weights": weights, **_tokens(labels, rows, length, shift=isinstance(self._head, CausalHead))}
        return {"weights": weights, "labels": self._labels(labels, rows, length)}

    def _labels(self, labels: Sequence[np.ndarray], rows: int, length: int) -> np.ndarray:
        if isinstance(self._head, SequenceHead):
            real = isinstance(self._head.objective, BinaryCrossEntropy | SquaredError)
            shape, dtype = ((rows, self._head.num_labels), np.float32) if real else ((rows,), np.int32)
            filled = np.zeros(shape, dtype=dtype) if real else np.full(shape, IGNORED, dtype=dtype)
            filled[: len(labels)] = [array.reshape(-1) if real else array.reshape(-1)[0] for array in labels]
            return filled
        filled = np.full((rows, 2 if isinstance(self._head, SpanHead) else length), IGNORED, dtype=np.int32)
        for row, array in enumerate(labels):
            filled[row, : len(array)] = array
        return filled


def _tokens(labels: Sequence[np.ndarray], rows: int, length: int, *, shift: bool) -> dict[str, np.ndarray]:
    """Return which state predicts which token of which row; the number of them comes from a short list too."""
    places, targets, owners = [], [], []
    for row, array in enumerate(labels):
        used = np.flatnonzero(array[shift:] != IGNORED)
        places.append(row * length + used)
        targets.append(array[used + shift])
        owners.append(np.full(len(used), row))
    count = sum(map(len, places))
    size = next(size for size in (rows * length // 4, rows * length // 2, rows * length) if size >= max(count, _LEAST_PLACES))
    filled = np.zeros((3, size), dtype=np.int32)
    filled[1] = IGNORED
    filled[:, :count] = [np.concatenate(part) for part in (places, targets, owners)]
    return dict(zip(("places", "targets", "owners"), filled, strict=True))
