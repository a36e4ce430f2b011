"""From rows to predictions, a window at a time, so that memory does not grow with the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from luthier.data.batching import by_length
from luthier.data.features import Feature
from luthier.engines.engine import Model
from luthier.tasks.task import Output, Prediction, Task
from luthier.tokenizer import Tokenizer

WINDOW = 512
"""Examples whose features are sorted by length together."""
_MAX_TOKENS = 4096
"""Tokens of a batch at most: more gains nothing on a CPU and little on a GPU."""

T = TypeVar("T")


def windows(items: Iterable[T], size: int = WINDOW) -> Iterator[list[T]]:
    """Yield lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def outputs_of(model: Model, grouped: Sequence[Sequence[Feature]]) -> list[list[Output]]:
    """Return the outputs of each group's features, in the order given."""
    flat = [(group, place) for group, features in enumerate(grouped) for place in range(len(features))]
    lengths = [grouped[group][place].length for group, place in flat]
    results: list[list[Any]] = [[None] * len(features) for features in grouped]
    for members in by_length(lengths, min(_MAX_TOKENS, model.micro_tokens)):
        features = [_without_labels(grouped[flat[i][0]][flat[i][1]]) for i in members]
        for i, output in zip(members, model.outputs(model.collate(features)), strict=True):
            results[flat[i][0]][flat[i][1]] = output
    return results


def _without_labels(feature: Feature) -> Feature:
    """Return what prediction sees, from a feature that was encoded with gold."""
    if "labels" not in feature.arrays:
        return feature
    arrays = {name: array for name, array in feature.arrays.items() if name != "labels"}
    return Feature(arrays, feature.facts, feature.cut, feature.weight, feature.group)


def predict(model: Model, task: Task[Any], tokenizer: Tokenizer, examples: Iterable[Any]) -> Iterator[Prediction]:
    """Yield one prediction an example, in order."""
    for window in windows(examples):
        grouped = task.encode(window, tokenizer, gold=False)
        for example, outputs in zip(window, outputs_of(model, grouped), strict=True):
            yield task.decode(example, outputs)
