"""The report's tables of classification."""

from __future__ import annotations

import json
from collections.abc import Sequence

from luthier.metrics.classification import by_label, f1, ratio
from luthier.tasks.task import Counts, Table

_MAX_LABELS = 20
_BINS = 10


def label_table(total: Counts, labels: Sequence[str]) -> Table:
    """Return precision, recall, F1 and rows of each label; labels unknown to training stand last."""
    counts = by_label(total)
    names = [*labels, *sorted(label for label in counts if label not in labels)]
    rows = []
    for label in names:
        tp, fp, fn = counts.get(label, (0.0, 0.0, 0.0))
        rows.append((label, ratio(tp, tp + fp), ratio(tp, tp + fn), f1(tp, fp, fn), int(tp + fn)))
    return Table("By label", ("label", "precision", "recall", "F1", "rows"), tuple(rows))


def confusion_table(total: Counts, labels: Sequence[str]) -> Table:
    """Return the confusion matrix; with many labels, of those that are confused most."""
    cells = {tuple(json.loads(key.removeprefix("~cell/"))): int(n) for key, n in total.items() if key.startswith("~cell/")}
    names = [*labels, *sorted({gold for gold, _ in cells if gold not in labels})]
    note = ""
    if len(names) > _MAX_LABELS:
        errors = {name: sum(n for pair, n in cells.items() if name in pair and pair[0] != pair[1]) for name in names}
        kept = set(sorted(names, key=lambda name: -errors[name])[:_MAX_LABELS])
        names = [name for name in names if name in kept]
        note = f"The {_MAX_LABELS} labels with the most confusions, of {len(errors)}."
    rows = tuple((gold, *(cells.get((gold, predicted), 0) for predicted in names)) for gold in names)
    return Table("Confusion", ("gold", *names), rows, kind="confusion", note=note)


def confidence_counts(right: bool, score: float) -> dict[str, float]:
    """Return one row's sums for :func:`confidence_table`; ``score`` is the probability of the predicted label."""
    place = f"~sure/{min(_BINS - 1, int(score * _BINS))}"
    return {f"{place}/rows": 1.0, f"{place}/right": float(right), f"{place}/score": score}


def confidence_table(total: Counts) -> Table:
    """Return how often the model is right where it says that it is this sure, by tenths of the score."""
    rows = []
    for place in range(_BINS):
        count, right, score = (total.get(f"~sure/{place}/{what}", 0.0) for what in ("rows", "right", "score"))
        if count:
            rows.append(
                (f"{place / _BINS:.1f} to {(place + 1) / _BINS:.1f}", ratio(score, count), ratio(right, count), int(count))
            )
    note = "Where the scores can be taken as probabilities, their mean is near the share that is right."
    return Table("Confidence", ("score", "mean score", "right", "rows"), tuple(rows), note=note)
