"""From rows to predictions, a window at a time, so that memory does not grow with the input."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from luthier.data.batching import by_length
from luthier.data.features import Feature
from luthier.engines.engine import Model
from luthier.generation import Writer
from luthier.heads import IGNORED, Seq2SeqHead, num_tokens, writes
from luthier.tasks.task import Output, Prediction, Task
from luthier.tokenizer import Tokenizer

WINDOW = 512
"""Examples whose features are sorted by length together."""
_MAX_TOKENS = 4096
"""Tokens of a batch at most: more gains nothing on a CPU and little on a GPU."""

if TYPE_CHECKING:
    from luthier.data.preparation import Prepared

T = TypeVar("T")


def windows(items: Iterable[T], size: int = WINDOW) -> Iterator[list[T]]:
    """Yield lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def outputs_of(
    model: Model,
    task: Task[Any],
    grouped: Sequence[Sequence[Feature]],
    writer: Writer | None = None,
    *,
    write: Collection[int] | None = None,
) -> list[list[Output]]:
    """Return the outputs of each group's features, in the order given.

    Args:
        model: under the task's head.
        task: says by its head what an output is.
        grouped: the features of each row.
        writer: for a head that writes: without it nothing is written, and only losses are computed.
        write: the groups to write for; None is all.
    """
    if not writes(task.head):
        return _logits_of(model, grouped)
    losses = _losses_of(model, task, grouped)
    results = [
        [Output(feature, np.zeros(0, dtype=np.float32), loss) for feature, loss in zip(features, found, strict=True)]
        for features, found in zip(grouped, losses, strict=True)
    ]
    chosen = [group for group, features in enumerate(grouped) if features and (write is None or group in write)]
    if writer is not None and chosen:
        texts = writer.write([prompt_of(grouped[group][0]) for group in chosen])
        for group, written in zip(chosen, texts, strict=True):
            results[group][0] = replace(results[group][0], written=written)
    return results


def _logits_of(model: Model, grouped: Sequence[Sequence[Feature]]) -> list[list[Output]]:
    flat = [(group, place) for group, features in enumerate(grouped) for place in range(len(features))]
    lengths = [grouped[group][place].length for group, place in flat]
    results: list[list[Any]] = [[None] * len(features) for features in grouped]
    for members in by_length(lengths, min(_MAX_TOKENS, model.micro_tokens)):
        features = [prompt_of(grouped[flat[i][0]][flat[i][1]]) for i in members]
        for i, output in zip(members, model.outputs(model.collate(features)), strict=True):
            results[flat[i][0]][flat[i][1]] = output
    return results


def _losses_of(model: Model, task: Task[Any], grouped: Sequence[Sequence[Feature]]) -> list[list[tuple[float, float] | None]]:
    """Return the loss of each feature that has labels."""
    results: list[list[tuple[float, float] | None]] = [[None] * len(features) for features in grouped]
    flat = [
        (group, place)
        for group, features in enumerate(grouped)
        for place, feature in enumerate(features)
        if "labels" in feature.arrays
    ]
    lengths = [num_tokens(task.head, grouped[group][place].arrays) for group, place in flat]
    for members in by_length(lengths, min(_MAX_TOKENS, model.micro_tokens)):
        features = [grouped[flat[i][0]][flat[i][1]] for i in members]
        sums, weights = model.losses(model.collate(features))
        for i, total, weight in zip(members, sums.tolist(), weights.tolist(), strict=True):
            results[flat[i][0]][flat[i][1]] = (total, weight)
    return results


def prompt_of(feature: Feature) -> Feature:
    """Return what prediction sees, from a feature that was encoded with gold.

    ``facts["prompt_ids"]`` are the tokens that are given, where ``input_ids`` hold the answer too.
    """
    if "labels" not in feature.arrays:
        return feature
    arrays = {name: array for name, array in feature.arrays.items() if name != "labels"}
    if "prompt_ids" in feature.facts:
        arrays["input_ids"] = feature.facts["prompt_ids"]
    return Feature(arrays, feature.facts, feature.cut, feature.weight, feature.group)


def trained_pieces(prepared: Prepared, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """Return how the first training row reads under a head that writes, as (text, whether it is learned).

    Tokens stand as the model gets them, special ones too. Empty under other heads.
    """
    head, features = prepared.task.head, prepared.splits["train"].features
    if not writes(head) or features is None:
        return []
    feature = features[0]
    labels = feature.arrays["labels"]
    if isinstance(head, Seq2SeqHead):
        source = tokenizer.decode(feature.arrays["input_ids"], special=True, source=True)
        target = tokenizer.decode(labels, special=True)
        return [(source, False), (target, True)]
    learned = labels != IGNORED
    cuts = np.flatnonzero(np.diff(learned)) + 1
    parts = zip(np.split(feature.arrays["input_ids"], cuts), np.split(learned, cuts), strict=True)
    return [(tokenizer.decode(ids, special=True), bool(trained[0])) for ids, trained in parts]


def predict(
    model: Model, task: Task[Any], tokenizer: Tokenizer, examples: Iterable[Any], *, writer: Writer | None = None
) -> Iterator[Prediction]:
    """Yield one prediction an example, in order."""
    for window in windows(examples):
        grouped = task.encode(window, tokenizer, gold=False)
        for example, outputs in zip(window, outputs_of(model, task, grouped, writer), strict=True):
            yield task.decode(example, outputs)
