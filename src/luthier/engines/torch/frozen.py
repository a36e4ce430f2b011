"""The lowest layers of a network where nothing in or under them is trained: what they compute is computed once.

Such layers run without dropout, so they give the same states in every epoch. These are kept in a temporary file
that has no name: it is gone with the process, however that ends.

T tokens of a row, S sequences, H the hidden width.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.batching import by_length
from luthier.data.features import Feature, FeatureStore
from luthier.engines.torch import structure
from luthier.engines.torch.attention import PairSegments
from luthier.engines.torch.batch import Piece
from luthier.engines.torch.packing import Packed
from luthier.heads import Head, Seq2SeqHead, SequenceHead

_BUDGET = 8 << 30
"""Bytes of the file at most, and never more than half of what is free on the disk."""
_FORMATS = {"bfloat16": (torch.bfloat16, np.int16), "float32": (torch.float32, np.float32)}


class _Enough(Exception):
    """The layers above are not needed."""


@dataclass(frozen=True, slots=True)
class FrozenStates:
    """What the frozen layers gave for every feature of a store.

    Attributes:
        layers: the frozen ones, from the bottom up.
        key: of the store.
        pooled: of each feature only the first token is kept: nothing above needs the others.
        offsets: int64 [N + 1], where each feature's states begin; of an encoder-decoder with room for its target.
        file: [offsets[N], H] in the file's number format.
        tuples: whether a layer returns a tuple.
    """

    layers: Sequence[Any]
    key: object
    pooled: bool
    offsets: np.ndarray
    file: np.ndarray
    tuples: bool

    def knows(self, features: Sequence[Feature]) -> bool:
        """Whether all these features are of the store."""
        return bool(features) and all(feature.place is not None and feature.place[0] is self.key for feature in features)

    def shortened(self, features: Sequence[Feature]) -> Sequence[Feature]:
        """Return the features as the layers above need them: where states are pooled, the first token alone."""
        if not self.pooled:
            return features
        return [
            Feature(
                {name: array if name == "labels" else array[:1] for name, array in feature.arrays.items()},
                feature.facts, feature.cut, feature.weight, feature.group, feature.place,
            )
            for feature in features
        ]  # fmt: skip

    def of(self, features: Sequence[Feature]) -> Tensor:
        """Return the states of features, one after another: [T, H], where pooled [S, H]."""
        starts = [int(self.offsets[feature.place[1]]) for feature in features if feature.place is not None]
        sizes = [1 if self.pooled else feature.length for feature in features]
        rows = np.concatenate([self.file[start : start + size] for start, size in zip(starts, sizes, strict=True)])
        states = torch.from_numpy(rows)
        return states.view(torch.bfloat16) if states.dtype == torch.int16 else states

    @contextmanager
    def given(self, states: Tensor | None) -> Iterator[None]:
        """Let the layers hand on states instead of computing; None lets them compute."""
        if states is None:
            yield
            return

        def result(value: Tensor) -> Any:
            return (value,) if self.tuples else value

        row = states[None].float()
        try:
            for layer in self.layers[:-1]:
                layer.forward = lambda hidden_states, *_, **__: result(hidden_states)
            self.layers[-1].forward = lambda *_, **__: result(row)
            yield
        finally:
            for layer in self.layers:
                del layer.forward


def frozen_layers(network: Any, batching: Packed, head: Head) -> list[Any]:
    """Return the lowest layers (of an encoder-decoder: of its encoder) whose results need no gradient."""
    stack = network.get_encoder() if isinstance(head, Seq2SeqHead) else network.base_model
    layers = structure.layers_of(stack, network.config)
    needs: dict[int, bool] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, output, place=place: needs.update({place: _states(output).requires_grad}))
        for place, layer in enumerate(layers)
    ]
    arrays = {"input_ids": np.array([1, 2, 3], dtype=np.int32)}
    if isinstance(head, Seq2SeqHead):
        arrays["labels"] = np.array([1, 2], dtype=np.int32)
    (piece,) = batching.pieces([Feature(arrays)])
    was = network.training
    network.eval()
    try:
        with torch.enable_grad():
            batching.forward(piece.to(batching.device))
    finally:
        network.train(was)
        for hook in hooks:
            hook.remove()
    count = next((place for place in range(len(layers)) if needs.get(place, True)), len(layers))
    return layers[:count]


def remember(
    network: Any,
    batching: Packed,
    head: Head,
    store: FeatureStore,
    *,
    layers: Sequence[Any],
    precision: str,
    folder: Path,
    micro_tokens: int,
    run: Any,
) -> FrozenStates | str:
    """Compute what the frozen layers give for a store, or say why not.

    Args:
        network: in evaluation mode.
        layers: not empty.
        precision: float32 keeps the states as they are, bfloat16 rounds them.
        folder: takes the file.
        micro_tokens: how many tokens go through at once.
        run: called with a piece, runs the network on it in its precision.
    """
    whole = structure.layers_of(network.base_model, network.config)
    pooled = isinstance(head, SequenceHead) and len(layers) == len(whole)
    dtype, stored = _FORMATS[precision]
    sizes = np.ones(len(store), dtype=np.int64) if pooled else store.lengths.astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    hidden = int(network.config.get_text_config().hidden_size)
    needed = int(offsets[-1]) * hidden * dtype.itemsize
    folder.mkdir(parents=True, exist_ok=True)
    allowed = min(_BUDGET, shutil.disk_usage(folder).free // 2)
    if needed > allowed:
        return f"computed at every step: their states need {needed / 2**30:.1f} GiB, the budget is {allowed / 2**30:.1f}"
    with tempfile.TemporaryFile(dir=folder) as file:
        states = np.memmap(file, dtype=stored, mode="w+", shape=(max(1, int(offsets[-1])), hidden))
    found: list[Any] = []

    def stop(_: Any, __: Any, output: Any) -> None:
        found.append(output)
        raise _Enough

    hook = layers[-1].register_forward_hook(stop)
    tuples = False
    try:
        for members in by_length(store.lengths.tolist(), micro_tokens):
            (piece,) = batching.pieces([store[index] for index in members])
            try:
                run(piece)
            except _Enough:
                output = found.pop()
            tuples = isinstance(output, tuple)
            # What packing hooks into the last layer has made [S, 1, H] of its [1, T, H].
            row = _states(output)[:, 0] if pooled else _states(output)[0]
            _keep(row.to(dtype).cpu(), piece, members, states, offsets, pooled=pooled)
    finally:
        hook.remove()
    return FrozenStates(layers, store.key, pooled, offsets, states, tuples)


def _keep(row: Tensor, piece: Piece, members: Sequence[int], states: np.ndarray, offsets: np.ndarray, *, pooled: bool) -> None:
    """Write the states of one row, [T, H] or pooled [S, H], to their places in the file."""
    values = (row.view(torch.int16) if row.dtype == torch.bfloat16 else row).numpy()
    segments = piece.segments.sources if isinstance(piece.segments, PairSegments) else piece.segments
    assert segments is not None
    bounds = list(range(len(piece.order) + 1)) if pooled else segments.bounds.tolist()
    for rank, place in enumerate(piece.order):
        start = int(offsets[members[place]])
        states[start : start + bounds[rank + 1] - bounds[rank]] = values[bounds[rank] : bounds[rank + 1]]


def _states(output: Any) -> Tensor:
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
