"""Intervals by resampling sums: a Poisson bootstrap in one pass and constant memory.

Each unit (a row, or a document) is drawn a Poisson(1) number of times in each replicate (Hanley and
MacGibbon, 2006). The draws are a function of the unit's name alone, so two systems measured on the same
rows are resampled together: the interval of their difference is a paired one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from luthier.metrics import Score

_REPLICATES = 1000
_CHUNK = 256

Summarize = Callable[[Mapping[str, float]], Mapping[str, float]]


class Bootstrap:
    """Sums of counts, and the same sums under resampling."""

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._keys: dict[str, int] = {}
        self._totals: dict[str, float] = {}
        self._replicates = np.zeros((0, _REPLICATES))
        self._units: set[bytes] = set()
        self._waiting: list[tuple[bytes, dict[int, float]]] = []
        self.rows = 0

    def add(self, unit: str, counts: Mapping[str, float]) -> None:
        """Add one row's counts under the name of its unit."""
        name = hashlib.blake2b(unit.encode(), digest_size=8).digest()
        self._units.add(name)
        self.rows += 1
        resampled: dict[int, float] = {}
        for key, value in counts.items():
            self._totals[key] = self._totals.get(key, 0.0) + value
            if not key.startswith("~"):
                resampled[self._keys.setdefault(key, len(self._keys))] = value
        self._waiting.append((name, resampled))
        if len(self._waiting) == _CHUNK:
            self._flush()

    def _grow(self) -> None:
        """Make room for keys that are new."""
        more = np.zeros((len(self._keys) - len(self._replicates), _REPLICATES))
        self._replicates = np.concatenate([self._replicates, more])

    def _flush(self) -> None:
        self._grow()
        counts = np.zeros((len(self._waiting), len(self._keys)))
        weights = np.empty((len(self._waiting), _REPLICATES))
        for row, (name, values) in enumerate(self._waiting):
            generator = np.random.Generator(np.random.PCG64((self._seed, int.from_bytes(name))))
            weights[row] = generator.poisson(1.0, _REPLICATES)
            for column, value in values.items():
                counts[row, column] = value
        self._replicates += counts.T @ weights
        self._waiting.clear()

    def merge(self, others: Iterable[Bootstrap]) -> None:
        """Add the sums of other bootstraps with the same seed: systems measured on the same rows, pooled."""
        self._flush()
        for other in others:
            other._flush()
            for key, value in other._totals.items():
                self._totals[key] = self._totals.get(key, 0.0) + value
            places = [self._keys.setdefault(key, len(self._keys)) for key in other._keys]
            self._grow()
            self._replicates[places] += other._replicates[: len(places)]
            self._units |= other._units
            self.rows += other.rows

    @property
    def totals(self) -> Mapping[str, float]:
        """The plain sums, totals-only keys included."""
        return self._totals

    @property
    def num_units(self) -> int:
        """How many different units were added."""
        return len(self._units)

    def replicates(self, summarize: Summarize) -> dict[str, np.ndarray]:
        """Return each metric under every replicate, [1000]."""
        self._flush()
        keys = list(self._keys)
        columns = self._replicates.T.tolist()
        metrics = [summarize(dict(zip(keys, sums, strict=True))) for sums in columns]
        return {name: np.asarray([metric[name] for metric in metrics]) for name in summarize(self._totals)}

    def scores(self, summarize: Summarize) -> dict[str, Score]:
        """Return each metric with its 95% percentile interval."""
        values = summarize(self._totals)
        if not self.rows:
            return {name: Score(value, None, None, 0) for name, value in values.items()}
        drawn = self.replicates(summarize)
        return {name: _score(value, drawn[name], self.num_units) for name, value in values.items()}


def _score(value: float, drawn: np.ndarray, units: int) -> Score:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(value, float(low), float(high), units)


def paired_interval(first: Bootstrap, second: Bootstrap, summarize: Summarize, metric: str) -> tuple[float, float]:
    """Return the 95% interval of ``first - second`` in one metric; both saw the same rows."""
    difference = first.replicates(summarize)[metric] - second.replicates(summarize)[metric]
    low, high = np.percentile(difference, [2.5, 97.5])
    return float(low), float(high)
