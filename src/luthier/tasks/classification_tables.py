"""The report's tables of classification."""

from __future__ import annotations

import json
from collections.abc import Sequence

from luthier.metrics.classification import by_label, f1, ratio
from luthier.tasks.task import Counts, Table

_MAX_LABELS = 20


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
