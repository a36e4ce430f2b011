"""Scores with their intervals, and the metrics of each kind of task as functions of sums."""

from __future__ import annotations

from dataclasses import dataclass

LOWER_IS_BETTER = frozenset({"loss", "bits_per_byte", "perplexity", "copy_rate", "repetition"})


def gain(metric: str, value: float) -> float:
    """Return a value of a metric so that more is better."""
    return -value if metric in LOWER_IS_BETTER else value


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one split.

    Attributes:
        value: the metric itself.
        low, high: the 95% bootstrap interval; None where none was computed.
        n: the number of units that were resampled (rows, or documents where rows share one).
    """

    value: float
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
