"""Packing: the sequences of a micro-batch in one row of tokens, without padding and with the same gradient.

Whether a network can be packed is found by trying it, not by a list of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.torch import attention
from luthier.engines.torch.attention import segments_of
from luthier.engines.torch.batch import Piece, feature_weights, gathered_labels, tensor
from luthier.engines.torch.buckets import Buckets, flat_results
from luthier.heads import CausalHead, Head, SequenceHead

_PROBE_LENGTHS = (7, 3, 9)
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

    def pieces(self, features: Sequence[Feature]) -> list[Piece]:
        """Return the one piece of a micro-batch; none for no features."""
        if not features:
            return []
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

    def forward(self, piece: Piece) -> Tensor:
        """Return the network's results, see Piece."""
        return flat_results(self._network, self._head, {**piece.inputs, "segments": piece.segments}, None)


def choose(network: Any, head: Head) -> Packed | Buckets:
    """Return packing when a probe of three short sequences shows that it changes nothing, else buckets.

    The network must be in float32. It is left in evaluation mode, with the attention that suits the choice.
    """
    own = network.config._attn_implementation
    network.eval()
    attention.register()
    with torch.no_grad():
        features = _probe_features(network)
        buckets = Buckets(network, head)
        alone = [_results(buckets, [feature]) for feature in features]
        pad_id = getattr(network.config, "pad_token_id", None)
        hook = _gather_firsts(network) if isinstance(head, SequenceHead) else None
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
    if hook is not None:
        hook.remove()
    network.set_attn_implementation(own)
    return buckets
