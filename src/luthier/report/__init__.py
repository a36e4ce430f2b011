"""The report: everything that a run has to say, as one value; and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.metrics import Score
from luthier.tasks.task import Excerpt, Table


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What became of one split's input rows. ``rows`` = used + truncated + skipped + rejected."""

    name: str
    rows: int
    used: int
    truncated: int
    skipped: int
    rejected: int
    tokens: int
    targets: int
    cut_tokens: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many rows for each reason of the ledger."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the data that a person should know, with a few places to look."""

    title: str
    count: int
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A line over optimizer steps."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that report.html, the model card and the closing lines of the terminal are made of.

    Attributes:
        verdict: one sentence that says whether fine-tuning was worth it.
        settings: the resolved config, flattened: ``train.learning_rate`` -> ``3e-4``.
        facts: what the engine resolved (device, precision, batching, parameters).
        training: the ``train`` part of metrics.json.
        scores: by split, then metric. baselines: by baseline, then metric (of the test split).
        tables: by split. excerpts: the worst errors of the test split, worst first.
        notes: sentences that must not be missed (no validation split, labels unknown to training ...).
        samples: a few predictions of the same split, right or wrong, to end the terminal's output with.
    """

    name: str
    task: str
    model: str
    headline: str
    created: str
    verdict: str
    settings: Mapping[str, str]
    facts: Mapping[str, str | int]
    splits: Sequence[SplitSummary]
    findings: Sequence[Finding]
    training: Mapping[str, Any]
    curves: Sequence[Curve]
    scores: Mapping[str, Mapping[str, Score]]
    baselines: Mapping[str, Mapping[str, Score]]
    tables: Mapping[str, Sequence[Table]]
    excerpts: Sequence[Excerpt]
    notes: Sequence[str] = ()
    samples: Sequence[Excerpt] = ()
