"""Scores with intervals, of models and of baselines, over the same rows and by the same measure."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.data.preparation import Examples, Split
from luthier.data.rows import Row
from luthier.engines.engine import Model
from luthier.generation import Writer
from luthier.inference import outputs_of, windows
from luthier.metrics import Score
from luthier.metrics.bootstrap import Bootstrap, paired_interval
from luthier.tasks.task import Counts, Excerpt, Prediction, Table, Task

MAX_EXCERPTS = 50
NUM_SAMPLES = 3


@dataclass(slots=True)
class Evaluation:
    """What one system scored on one split."""

    task: Task[Any]
    bootstrap: Bootstrap
    excerpts: list[Excerpt] = field(default_factory=list)
    """The worst errors, worst first."""
    samples: list[Excerpt] = field(default_factory=list)
    """The first few examples, right or wrong."""

    @property
    def totals(self) -> Counts:
        return self.bootstrap.totals

    @property
    def scores(self) -> dict[str, Score]:
        """Every metric with its 95% interval."""
        return self.bootstrap.scores(self.task.summarize)

    @property
    def tables(self) -> Sequence[Table]:
        return self.task.tables(self.totals)


def predictions_of(model: Model, split: Split, writer: Writer | None = None) -> Iterator[tuple[int, Any, Prediction]]:
    """Yield (position, example, prediction) over a split whose features are encoded.

    Under a head that writes, texts come for the rows that the writer's options choose; without a writer for none.
    """
    features = split.features
    if features is None:
        raise ValueError("the split is not encoded")
    start = 0
    chosen = writer.options.positions(len(split)) if writer is not None else frozenset()
    for window in windows(range(len(split))):
        grouped: list[list[Any]] = [[] for _ in window]
        while start < len(features) and int(features.groups[start]) <= window[-1]:
            feature = features[start]
            grouped[feature.group - window[0]].append(feature)
            start += 1
        write = {position - window[0] for position in window if position in chosen}
        for position, outputs in zip(window, outputs_of(model, split.task, grouped, writer, write=write), strict=True):
            example = split.example(position)
            yield position, example, split.task.decode(example, outputs)


def validate(model: Model, split: Split) -> dict[str, float]:
    """Return the plain metrics of a split, without intervals and without writing: for choosing the best weights."""
    total: dict[str, float] = {}
    for _, example, prediction in predictions_of(model, split):
        for key, value in split.task.measure(example, prediction).items():
            total[key] = total.get(key, 0.0) + value
    return split.task.summarize(total)


def evaluate(model: Model, split: Split, *, writer: Writer | None = None, predictions: Path | None = None) -> Evaluation:
    """Score a model on a split; write one line an example to ``predictions`` (JSON lines)."""
    result = Evaluation(split.task, Bootstrap())
    worst = _Worst()
    if predictions is not None:
        predictions.parent.mkdir(parents=True, exist_ok=True)
    stream = predictions.open("w", encoding="utf-8") if predictions is not None else None
    try:
        for position, example, prediction in predictions_of(model, split, writer):
            row = split.row(position)
            counts = split.task.measure(example, prediction)
            result.bootstrap.add(_unit(row), counts)
            excerpt = split.task.excerpt(example, prediction)
            worst.add(excerpt)
            if len(result.samples) < NUM_SAMPLES:
                result.samples.append(excerpt)
            if stream is not None:
                stream.write(_line(row, split.task.gold(example), prediction, counts))
    finally:
        if stream is not None:
            stream.close()
    result.excerpts = worst.sorted()
    return result


def evaluate_baselines(train: Split, test: Split) -> dict[str, Evaluation]:
    """Fit each simple method on the training split and score it on the test split."""
    results: dict[str, Evaluation] = {}
    for baseline in train.task.baselines():
        baseline.fit(Examples(train))
        result = Evaluation(test.task, Bootstrap())
        for position in range(len(test)):
            row = test.row(position)
            example = test.task.parse(row)
            result.bootstrap.add(_unit(row), test.task.measure(example, baseline.predict(example)))
        results[baseline.name] = result
    return results


def paired_differences(model: Evaluation, baselines: Mapping[str, Evaluation], metric: str) -> dict[str, tuple[float, float]]:
    """Return for each baseline the 95% interval of (model - baseline)."""
    return {
        name: paired_interval(model.bootstrap, baseline.bootstrap, model.task.summarize, metric)
        for name, baseline in baselines.items()
    }


def calibrated(model: Model, split: Split) -> Task[Any]:
    """Return the task with thresholds set on a split."""
    scored = ((example, prediction) for _, example, prediction in predictions_of(model, split))
    return split.task.calibrate(scored)


def _unit(row: Row) -> str:
    return f"{row.file}\0{row.document}" if row.document is not None else f"{row.file}\0{row.line}\0{row.get('id', '')}"


def _line(row: Row, gold: Any, prediction: Prediction, counts: Counts) -> str:
    record = {
        "id": row.get("id", f"{row.file}:{row.line}"),
        "file": row.file,
        "line": row.line,
        "gold": gold,
        "predicted": prediction,
        "counts": {key: value for key, value in counts.items() if not key.startswith("~")},
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


class _Worst:
    """The worst errors seen so far, at most MAX_EXCERPTS."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Excerpt]] = []
        self._seen = 0

    def add(self, excerpt: Excerpt) -> None:
        self._seen += 1
        if excerpt.severity <= 0:
            return
        heapq.heappush(self._heap, (excerpt.severity, -self._seen, excerpt))
        if len(self._heap) > MAX_EXCERPTS:
            heapq.heappop(self._heap)

    def sorted(self) -> list[Excerpt]:
        return [excerpt for _, _, excerpt in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]
