"""Metrics of classification and regression as functions of sums.

The keys of the counts: ``n``, ``hits`` (rows whose labels are all right); per label ``tp/LABEL``,
``fp/LABEL``, ``fn/LABEL``; ``loss`` and ``loss_n``. Every figure equals scikit-learn's on the same rows (``zero_division=0``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Sums = Mapping[str, float]


def ratio(numerator: float, denominator: float) -> float:
    """Return the quotient, and 0 where there is nothing to divide by."""
    return numerator / denominator if denominator else 0.0


def label_counts(gold: Iterable[str], predicted: Iterable[str]) -> dict[str, float]:
    """Return one row's ``n``, ``hits``, and true positives, false positives and false negatives by label."""
    wanted, found = set(gold), set(predicted)
    counts = {"n": 1.0, "hits": float(wanted == found)}
    counts |= {f"tp/{label}": 1.0 for label in wanted & found}
    counts |= {f"fp/{label}": 1.0 for label in found - wanted}
    counts |= {f"fn/{label}": 1.0 for label in wanted - found}
    return counts


def surprise(probability: float, *, least: float = 1e-16) -> float:
    """Return the negative logarithm of what a model gave the truth, of ``least`` where it gave less."""
    return -math.log(max(least, probability))


def by_label(total: Sums) -> dict[str, tuple[float, float, float]]:
    """Return label -> (true positives, false positives, false negatives), for labels with any."""
    result: dict[str, list[float]] = {}
    for key, value in total.items():
        kind, slash, label = key.partition("/")
        if slash and value and kind in _PLACES:
            result.setdefault(label, [0.0, 0.0, 0.0])[_PLACES[kind]] += value
    return {label: (tp, fp, fn) for label, (tp, fp, fn) in result.items()}


_PLACES = {"tp": 0, "fp": 1, "fn": 2}


def f1(tp: float, fp: float, fn: float) -> float:
    """Return the harmonic mean of precision and recall."""
    return ratio(2 * tp, 2 * tp + fp + fn)


def macro_f1(total: Sums) -> float:
    """Return the mean F1 over the labels that stand in gold or prediction."""
    values = [f1(*counts) for counts in by_label(total).values()]
    return ratio(sum(values), len(values))


def micro(total: Sums) -> tuple[float, float, float]:
    """Return precision, recall and F1 over all labels together."""
    tp = fp = fn = 0.0
    for key, value in total.items():
        kind = key[:3]
        if kind == "tp/":
            tp += value
        elif kind == "fp/":
            fp += value
        elif kind == "fn/":
            fn += value
    return ratio(tp, tp + fp), ratio(tp, tp + fn), f1(tp, fp, fn)


def single_label(total: Sums) -> dict[str, float]:
    """Return accuracy, macro F1 and loss of one label a row."""
    return {
        "accuracy": ratio(total.get("hits", 0.0), total.get("n", 0.0)),
        "macro_f1": macro_f1(total),
        "loss": ratio(total.get("loss", 0.0), total.get("loss_n", 0.0)),
    }


def multi_label(total: Sums) -> dict[str, float]:
    """Return macro and micro F1, precision, recall, exact-match accuracy and loss of several labels a row."""
    precision, recall, micro_f1 = micro(total)
    return {
        "macro_f1": macro_f1(total),
        "f1": micro_f1,
        "precision": precision,
        "recall": recall,
        "accuracy": ratio(total.get("hits", 0.0), total.get("n", 0.0)),
        "loss": ratio(total.get("loss", 0.0), total.get("loss_n", 0.0)),
    }


def regression_counts(gold: float, predicted: float, *, offset: float = 0.0, scale: float = 1.0) -> dict[str, float]:
    """Return one row's sums for :func:`regression`.

    ``offset`` and ``scale``, about the mean and spread of the numbers, keep the sums of squares exact.
    """
    x, y = (predicted - offset) / scale, (gold - offset) / scale
    return {
        "n": 1.0,
        "absolute": abs(gold - predicted),
        "squared": (gold - predicted) ** 2,
        "x": x,
        "y": y,
        "xx": x * x,
        "yy": y * y,
        "xy": x * y,
    }


def regression(total: Sums) -> dict[str, float]:
    """Return Pearson's correlation, R squared, mean absolute error, root mean squared error and loss (its square).

    Correlation and R squared of numbers that do not vary are 0.
    """
    n = total.get("n", 0.0)
    if not n:
        return {"pearson": 0.0, "r2": 0.0, "mean_absolute_error": 0.0, "rmse": 0.0, "loss": 0.0}
    x, y, xx, yy, xy = (total[key] / n for key in ("x", "y", "xx", "yy", "xy"))
    spread_x, spread_y = _spread(x, xx), _spread(y, yy)
    loss = total["squared"] / n
    pearson = (xy - x * y) / math.sqrt(spread_x * spread_y) if spread_x and spread_y else 0.0
    return {
        "pearson": max(-1.0, min(1.0, pearson)),
        "r2": 1 - (xx - 2 * xy + yy) / spread_y if spread_y else 0.0,
        "mean_absolute_error": total["absolute"] / n,
        "rmse": math.sqrt(loss),
        "loss": loss,
    }


def _spread(mean: float, square: float) -> float:
    """Return the variance; 0 where only rounding is left of it."""
    variance = square - mean * mean
    return variance if variance > 1e-12 * square else 0.0
