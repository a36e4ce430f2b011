"""Packing: the sequences of a micro-batch in one row of tokens, without padding and with the same gradient.

Whether a network can be packed is found by trying it, not by a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.torch import attention
from luthier.engines.torch.attention import num_blocks, pair_segments_of, segments_of
from luthier.engines.torch.batch import Piece, decoder_inputs, feature_weights, gathered_labels, tensor
from luthier.engines.torch.buckets import Buckets, flat_results
from luthier.engines.torch.pooling import Removable, gather_firsts
from luthier.engines.torch.positions import restart_positions
from luthier.heads import Head, Seq2SeqHead, SequenceHead

_PROBE_LENGTHS = (7, 3, 9)
_PROBE_TARGETS = (5, 10, 4)
_LONGEST_PROBE = 96
"""Longer ones would make loading slow."""
_TOLERANCE = 1e-4
"""Of the probe, relative to the largest result. Float32 noise is 100 times less, a leak 10 times more."""


class Packed:
    """Lays a micro-batch out as one row.

    Args:
        first_position: the position id of a sequence's first token.
    """

    name = "packed"

    def __init__(self, network: Any, head: Head, *, first_position: int) -> None:
        self._network, self._head, self._first_position = network, head, first_position

    @property
    def device(self) -> torch.device:
        device: torch.device = self._network.device
        return device

    def pieces(self, features: Sequence[Feature]) -> list[Piece]:
        """Return the one piece of a micro-batch; none for no features."""
        if not features:
            return []
        if isinstance(self._head, Seq2SeqHead):
            return [self._pair_piece(features)]
        order = sorted(range(len(features)), key=lambda place: -features[place].length)
        chosen = [features[place] for place in order]
        lengths = [feature.length for feature in chosen]
        positions = np.concatenate([np.arange(length) for length in lengths]) + self._first_position
        inputs = {"position_ids": tensor(positions)[None]}
        for name in ("input_ids", "token_type_ids"):
            if name in chosen[0].arrays:
                inputs[name] = tensor(np.concatenate([feature.arrays[name] for feature in chosen]))[None]
        piece = Piece(
            order=tuple(order),
            lengths=tuple(lengths),
            inputs=inputs,
            segments=segments_of(lengths),
            valid=None,
            sequences=tensor(np.repeat(np.arange(len(lengths)), lengths)),
            labels=gathered_labels(chosen, self._head),
            weights=feature_weights(chosen),
        )
        return [piece]

    def _pair_piece(self, features: Sequence[Feature]) -> Piece:
        """Lay out a row of sources and a row of targets, both in the same order, so that like pairs are neighbours."""

        def size(place: int) -> tuple[int, int]:
            return -num_blocks(features[place].length), -num_blocks(len(features[place].arrays["labels"]))

        order = sorted(range(len(features)), key=size)
        chosen = [features[place] for place in order]
        targets = [decoder_inputs(self._network, feature.arrays["labels"]) for feature in chosen]
        lengths = [len(target) for target in targets]
        sources = np.concatenate([feature.arrays["input_ids"] for feature in chosen])
        return Piece(
            order=tuple(order),
            lengths=tuple(lengths),
            inputs={"input_ids": tensor(sources)[None], "decoder_input_ids": tensor(np.concatenate(targets))[None]},
            segments=pair_segments_of([feature.length for feature in chosen], lengths),
            valid=None,
            sequences=tensor(np.repeat(np.arange(len(lengths)), lengths)),
            labels=gathered_labels(chosen, self._head),
            weights=feature_weights(chosen),
        )

    def forward(self, piece: Piece) -> Tensor:
        """Return the network's results, see Piece."""
        return flat_results(self._network, self._head, {**piece.inputs, "segments": piece.segments}, None)


def choose(network: Any, head: Head) -> Packed | Buckets:
    """Return packing when a probe of a few short sequences shows that it changes nothing, else buckets.

    The network must be in float32. It is left in evaluation mode, with the attention that suits the choice.
    """
    own = network.config._attn_implementation
    network.eval()
    attention.register()
    buckets = Buckets(network, head)
    with torch.no_grad():
        features = probe_features(network, head)
        alone = [_results(buckets, [feature]) for feature in features]
        pad_id = getattr(network.config, "pad_token_id", None)
        for adapt in _adaptations(head):
            hooks = adapt(network)
            for first_position in dict.fromkeys((0, 0 if pad_id is None else pad_id + 1)):
                packed = Packed(network, head, first_position=first_position)
                try:
                    network.set_attn_implementation(attention.NAME)
                    together = _results(packed, features)
                except Exception:
                    # Whatever the network's code raises when it is called like this, it cannot be packed.
                    continue
                if _equal(torch.cat(alone), together):
                    return packed
            for hook in hooks:
                hook.remove()
    network.set_attn_implementation(own)
    return buckets


def _adaptations(head: Head) -> Sequence[Callable[[Any], list[Removable]]]:
    """Return what packing hooks into a network beside the attention, what saves most first."""
    if isinstance(head, Seq2SeqHead):
        return [lambda network: list(restart_positions(network))]
    if isinstance(head, SequenceHead):
        return [partial(gather_firsts, queries=queries) for queries in (True, False)]
    return [lambda _: []]


def probe_features(network: Any, head: Head) -> list[Feature]:
    """Return features whose lengths differ; one is longer than the network's window where that is short."""
    config = network.config.get_text_config()
    lengths, targets = list(_PROBE_LENGTHS), list(_PROBE_TARGETS)
    window = getattr(config, "sliding_window", None) or 0
    if 0 < window <= _LONGEST_PROBE - 9:
        lengths[-1] += window
    pad_id = getattr(config, "pad_token_id", None)
    vocabulary = min(config.vocab_size, getattr(config, "src_vocab_size", config.vocab_size))  # sources may have their own
    ids = [number for number in range(min(vocabulary, 1000)) if number != pad_id]
    rng = np.random.default_rng(0)
    features = []
    for length, target in zip(lengths, targets, strict=True):
        arrays = {"input_ids": rng.choice(ids, length).astype(np.int32)}
        if isinstance(head, Seq2SeqHead):
            arrays["labels"] = rng.choice(ids, target).astype(np.int32)
        features.append(Feature(arrays))
    return features


def _results(batching: Packed | Buckets, features: Sequence[Feature]) -> Tensor:
    """Return what the network gives for features, in their order."""
    (piece,) = batching.pieces(features)
    flat = batching.forward(piece.to(batching.device))
    sizes = piece.lengths if len(flat) != len(features) else (1,) * len(features)
    parts = dict(zip(piece.order, torch.split_with_sizes(flat, sizes), strict=True))
    return torch.cat([parts[place] for place in range(len(features))])


def _equal(alone: Tensor, together: Tensor) -> bool:
    if alone.shape != together.shape or not bool(torch.isfinite(together).all()):
        return False
    return float((alone - together).abs().max()) <= _TOLERANCE * float(alone.abs().max())
