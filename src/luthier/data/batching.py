"""The plan of training: which source rows go into which optimizer step, and how a step is cut.

Everything here is a pure function of (seed, epoch, lengths): every rank computes the same plan, and a
resumed run finds its place by counting rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.units import BatchSize


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step.

    Attributes:
        epoch: from 0.
        rows: int [R], the source rows in it, numbered among those that have features.
        before: how many rows of this epoch came in earlier steps; with ``after`` it measures progress.
    """

    epoch: int
    rows: np.ndarray
    before: int

    @property
    def after(self) -> int:
        return self.before + len(self.rows)


class Plan:
    """All steps of a training split.

    Args:
        groups: int [N], the source row of each feature, ascending.
        lengths: int [N], the tokens of each feature.
        batch: how much goes into a step: source rows, or tokens at most.
        seed: of the order.
    """

    def __init__(self, groups: np.ndarray, lengths: np.ndarray, *, batch: BatchSize, seed: int) -> None:
        self._rows, self._first = np.unique(groups, return_index=True)
        self._ends = np.append(self._first[1:], len(groups))
        self._row_tokens = np.add.reduceat(lengths, self._first) if len(groups) else np.zeros(0, dtype=np.int64)
        self._batch, self._seed = batch, seed

    @property
    def num_rows(self) -> int:
        """Rows of an epoch (those that have features)."""
        return len(self._rows)

    def epoch(self, epoch: int) -> list[Step]:
        """Return the steps of one epoch; each row stands in exactly one."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._rows))
        if self._batch.unit == "examples":
            size = int(self._batch.value)
            cuts = list(range(0, len(order), size))
        else:
            cuts = _cuts_by_tokens(self._row_tokens[order], int(self._batch.value))
        ends = [*cuts[1:], len(order)]
        return [Step(epoch, order[start:end], start) for start, end in zip(cuts, ends, strict=True)]

    def features(self, row: int) -> range:
        """Return the indices of the features of one row of a step."""
        return range(int(self._first[row]), int(self._ends[row]))

    def micro_batches(self, step: Step, max_tokens: int, *, ranks: int = 1) -> list[list[list[int]]]:
        """Cut a step into micro-batches: ``[rank][micro-batch][feature index]``.

        Every rank gets equally many (some may be empty). A row's features stay together; a row longer than
        ``max_tokens`` gets a micro-batch of its own.
        """
        tokens = self._row_tokens[step.rows]
        bins = max(1, int(np.ceil(tokens.sum() / max_tokens)))
        bins = -(-bins // ranks) * ranks
        while True:
            filled = _pack(tokens, bins)
            worst = max((int(tokens[members].sum()) for members in filled if len(members) > 1), default=0)
            if worst <= max_tokens or bins >= len(step.rows):
                break
            bins += ranks
        cut = [[index for row in members for index in self.features(int(step.rows[row]))] for members in filled]
        return [cut[rank::ranks] for rank in range(ranks)]


def _cuts_by_tokens(tokens: np.ndarray, limit: int) -> list[int]:
    cuts, total = [0], 0
    for index, count in enumerate(tokens.tolist()):
        if total and total + count > limit:
            cuts.append(index)
            total = 0
        total += count
    return cuts if len(tokens) else []


def _pack(tokens: np.ndarray, bins: int) -> list[list[int]]:
    """Give each row, longest first, to the bin that is emptiest (longest-processing-time rule)."""
    filled: list[list[int]] = [[] for _ in range(bins)]
    if bins == 1:
        filled[0] = list(range(len(tokens)))
        return filled
    load = np.zeros(bins)
    for row in np.argsort(-tokens, kind="stable").tolist():
        emptiest = int(load.argmin())
        filled[emptiest].append(row)
        load[emptiest] += tokens[row]
    return [sorted(members) for members in filled]


def by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Yield index lists for inference: neighbours in length together, ``max_tokens`` tokens at most each."""
    members: list[int] = []
    total = 0
    for index in np.argsort(np.asarray(lengths), kind="stable")[::-1].tolist():
        if members and total + lengths[index] > max_tokens:
            yield members
            members, total = [], 0
        members.append(index)
        total += int(lengths[index])
    if members:
        yield members
