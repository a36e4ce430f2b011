"""The proof: the tuned model beside simple methods on the same rows, and one sentence about it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.preparation import Prepared
from luthier.engines.engine import Model
from luthier.evaluation import Evaluation, evaluate, evaluate_baselines, paired_differences
from luthier.metrics import Score
from luthier.report import Curve, Finding, Report, SplitSummary
from luthier.report.verdict import verdict
from luthier.tasks.task import Task

NO_VALIDATION = (
    "No validation split: nothing was held out, the last weights are kept, and thresholds stay at their defaults. "
    "data.validation=10% would hold out a tenth of the training rows."
)
NO_TEST = "No test split: the scores are those of the validation split, which chose the weights, so they flatter."
NOTHING_HELD_OUT = "Neither a validation nor a test split: there is no score, so nobody knows whether this helped."


@dataclass(frozen=True, slots=True)
class Proof:
    """The scores of all splits and of the baselines on the one that counts."""

    task: Task[Any]
    split: str | None
    evaluations: Mapping[str, Evaluation]
    baselines: Mapping[str, Evaluation]

    @property
    def signatures(self) -> dict[str, str]:
        """What the scores mean: the unit of resampling and the split that counts."""
        return {"split": self.split or "none"}

    @property
    def notes(self) -> list[str]:
        """Sentences about what this proof lacks."""
        if self.split is None:
            return [NOTHING_HELD_OUT]
        missing = [] if "validation" in self.evaluations else [NO_VALIDATION]
        return missing if self.split == "test" else [*missing, NO_TEST]

    def verdict(self, scores: Mapping[str, Mapping[str, Score]], baselines: Mapping[str, Mapping[str, Score]]) -> str:
        """Return one sentence that says whether fine-tuning was worth it."""
        if self.split is None:
            return NOTHING_HELD_OUT
        headline = self.task.headline
        paired = paired_differences(self.evaluations[self.split], self.baselines, headline)
        return verdict(headline, scores[self.split][headline], {who: s[headline] for who, s in baselines.items()}, paired)

    def report(
        self,
        *,
        name: str,
        model: str,
        settings: Mapping[str, str],
        facts: Mapping[str, str | int],
        splits: Sequence[SplitSummary],
        findings: Sequence[Finding],
        notes: Sequence[str],
        training: Mapping[str, Any],
        curves: Sequence[Curve],
    ) -> Report:
        """Return the report of the run that this proof belongs to."""
        scores = {split: evaluation.scores for split, evaluation in self.evaluations.items()}
        baselines = {who: evaluation.scores for who, evaluation in self.baselines.items()}
        return Report(
            name=name,
            task=self.task.name,
            model=model,
            headline=self.task.headline,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            verdict=self.verdict(scores, baselines),
            settings=settings,
            facts=facts,
            splits=splits,
            findings=findings,
            training=training,
            curves=curves,
            scores=scores,
            baselines=baselines,
            tables={split: evaluation.tables for split, evaluation in self.evaluations.items()},
            excerpts=self.evaluations[self.split].excerpts if self.split else (),
            samples=self.evaluations[self.split].samples if self.split else (),
            notes=[*notes, *self.notes],
        )


def prove(model: Model, prepared: Prepared, *, predictions: Path) -> Proof:
    """Score the model on the held-out splits, and the baselines on the one that counts: test, else validation."""
    held_out: list[str] = [name for name in ("validation", "test") if name in prepared.splits]
    evaluations = {name: evaluate(model, prepared.splits[name], predictions=predictions / f"{name}.jsonl") for name in held_out}
    split = held_out[-1] if held_out else None
    baselines = evaluate_baselines(prepared.splits["train"], prepared.splits[split]) if split else {}
    return Proof(prepared.task, split, evaluations, baselines)
