"""Packing: the sequences of a micro-batch in one row of tokens, without padding and with the same gradient.

Whether a network can be packed is found by trying it, not by a list of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.torch import attention
from luthier.engines.torch.attention import segments_of
from luthier.engines.torch.batch import Piece, feature_weights, gathered_labels, tensor
from luthier.engines.torch.buckets import Buckets, flat_results
from luthier.heads import Head, SequenceHead

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

    @property
    def device(self) -> torch.device:
        device: torch.device = self._network.device
        return device

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


def encoder_layers(network: Any) -> list[Any]:
    """Return the layers of the encoder, lowest first; empty when the network has no such list."""
    count = getattr(network.config, "num_hidden_layers", None)
    lists = [module for module in network.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    return list(lists[0]) if count and len(lists) == 1 else []


def _gather_firsts(network: Any) -> Any:
    """Let the last layer hand on each sequence's first token alone: [1, T, H] to [S, 1, H].

    So the checkpoint's own pooler and classifier, which take the first token of every row, run unchanged.
    """

    def gather(_: Any, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        segments = kwargs.get("segments")
        if segments is None:
            return output
        states = output[0] if isinstance(output, tuple) else output
        firsts = states[0].index_select(0, segments.firsts)[:, None, :]
        return (firsts, *output[1:]) if isinstance(output, tuple) else firsts

    layers = encoder_layers(network)
    return layers[-1].register_forward_hook(gather, with_kwargs=True) if layers else None


def _probe_features(network: Any) -> list[Feature]:
    config = network.config
    pad_id = getattr(config, "pad_token_id", None)
    ids = [number for number in range(min(config.vocab_size, 1000)) if number != pad_id]
    drawn = np.random.default_rng(0).choice(ids, sum(_PROBE_LENGTHS)).astype(np.int32)
    cuts = np.cumsum(_PROBE_LENGTHS)[:-1]
    return [Feature({"input_ids": part}) for part in np.split(drawn, cuts)]


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
