"""Labels as they stand in data: names, numbers, lists, and cells that hold several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from luthier.data.rows import Row

Gold = str | tuple[str, ...]


def read_gold(row: Row, *, objective: str, separator: str | None) -> Gold | None:
    """Return the label of a row, a tuple of labels, or None where it has none.

    Args:
        row: under the task's roles.
        objective: ``auto`` takes whatever stands there; another one takes only what it can learn.
        separator: splits a cell into several labels; an empty cell is then an empty list.

    Raises:
        RowError: what stands there is no label, or none for this objective.
    """
    value = row.get("label")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None if value is None or not separator else _fitting((), row, objective)
    if isinstance(value, list):
        return _fitting(_unique(read_label(item, row) for item in value), row, objective)
    label = read_label(value, row)
    if separator:
        return _fitting(_unique(part.strip() for part in label.split(separator) if part.strip()), row, objective)
    return _fitting(label, row, objective)


def read_label(value: Any, row: Row) -> str:
    """Return one label as text: 1, 1.0, "1" and " 1 " are one label.

    Raises:
        RowError: it is empty, not finite, or neither a name nor a number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise row.error(f"found {value}, expected a name or a number", column="label")
    if isinstance(value, float):
        return str(int(value)) if value == int(value) else repr(value)
    if not isinstance(value, (str, int)):
        raise row.error(f"found {type(value).__name__}, expected a name or a number", column="label")
    label = str(value).strip()
    if not label:
        raise row.error("a label is empty", column="label")
    return label


def _unique(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(labels))


def _fitting(gold: Gold, row: Row, objective: str) -> Gold:
    """Return gold in the form that the objective learns from."""
    if objective == "auto":
        return gold
    if objective == "binary_cross_entropy":
        return (gold,) if isinstance(gold, str) else gold
    if isinstance(gold, tuple):
        if len(gold) != 1:
            raise row.error(f"found {len(gold)} labels, expected one", column="label")
        gold = gold[0]
    if objective == "squared_error" and number(gold) is None:
        raise row.error(f'found "{gold}", expected a number', column="label")
    return gold


def number(label: object) -> float | None:
    """Return a label's value, None where it is no finite number."""
    try:
        value = float(str(label))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def label_order(labels: Iterable[str]) -> Callable[[str], Any]:
    """Return the key to sort labels by: their number when all are numbers, else their name."""
    numbers = {label: number(label) for label in labels}
    if all(value is not None for value in numbers.values()):
        return lambda label: (numbers[label], label)
    return lambda label: label
