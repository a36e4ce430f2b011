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
from luthier.generation import Writer
from luthier.metrics import Score
from luthier.metrics.bootstrap import paired_interval
from luthier.report import Curve, Finding, Report, SplitSummary
from luthier.report.verdict import verdict
from luthier.runs import peak_memory_bytes
from luthier.tasks.task import Task

NO_VALIDATION = (
    "No validation split: nothing was held out, the last weights are kept, and thresholds stay at their defaults. "
    "data.validation=10% would hold out a tenth of the training rows."
)
NO_TEST = "No test split: the scores are those of the validation split, which chose the weights, so they flatter."
NOTHING_HELD_OUT = "Neither a validation nor a test split: there is no score, so nobody knows whether this helped."


@dataclass(frozen=True, slots=True)
class Proof:
    """The scores of all splits and of the baselines on the one that counts.

    ``peak_memory_bytes`` is this process's peak so far when the model was scored, before the baselines were fitted.
    """

    task: Task[Any]
    split: str | None
    evaluations: Mapping[str, Evaluation]
    baselines: Mapping[str, Evaluation]
    peak_memory_bytes: int

    @property
    def signatures(self) -> dict[str, str]:
        """What the scores mean: the unit of resampling and the split that counts."""
        return {"split": self.split or "none", **self.task.signatures()}

    @property
    def notes(self) -> list[str]:
        """Sentences about what this proof lacks."""
        if self.split is None:
            return [NOTHING_HELD_OUT]
        missing = [] if "validation" in self.evaluations else [NO_VALIDATION]
        if "base_model_general" in self.baselines:
            missing.append(_forgetting(self.baselines["base_model_general"], self.evaluations["general"]))
        return missing if self.split == "test" else [*missing, NO_TEST]

    def verdict(self, scores: Mapping[str, Mapping[str, Score]], baselines: Mapping[str, Mapping[str, Score]]) -> str:
        """Return one sentence that says whether fine-tuning was worth it."""
        if self.split is None:
            return NOTHING_HELD_OUT
        headline = self.task.headline
        # What was scored on other text, or cannot be scored by this metric, is no rival here.
        rivals = {who: s for who, s in self.baselines.items() if headline in baselines[who] and who != "base_model_general"}
        paired = paired_differences(self.evaluations[self.split], rivals, headline)
        return verdict(headline, scores[self.split][headline], {who: baselines[who][headline] for who in rivals}, paired)

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


def _forgetting(before: Evaluation, after: Evaluation) -> str:
    """Say what tuning did to the loss on general text."""
    low, high = paired_interval(after.bootstrap, before.bootstrap, after.task.summarize, "loss")
    old, new = before.scores["loss"].value, after.scores["loss"].value
    change = f"the loss on general text went from {old:.4f} to {new:.4f} ({100 * (new / old - 1):+.1f}%"
    change += f"; difference {low:+.4f} to {high:+.4f})"
    return f"Forgetting: {change}." if low > 0 else f"No forgetting is shown: {change}."


def split_that_counts(prepared: Prepared) -> str | None:
    """Return the split that the result is read from: test, else validation."""
    return next((name for name in ("test", "validation") if name in prepared.splits), None)


def score_before(model: Model, prepared: Prepared, writer: Writer | None) -> dict[str, Evaluation]:
    """Score a model that has not been tuned yet, as a baseline of the same name in metrics.json."""
    split = split_that_counts(prepared)
    before = {} if split is None else {"base_model": evaluate(model, prepared.splits[split], writer=writer)}
    if "general" in prepared.splits:
        before["base_model_general"] = evaluate(model, prepared.splits["general"])
    return before


def prove(
    model: Model,
    prepared: Prepared,
    *,
    predictions: Path,
    writer: Writer | None = None,
    before: Mapping[str, Evaluation] | None = None,
) -> Proof:
    """Score the model on the held-out splits, and the baselines on the one that counts.

    Texts are written for that one alone; elsewhere only the loss is taken.
    """
    split = split_that_counts(prepared)
    evaluations: dict[str, Evaluation] = {
        name: evaluate(
            model,
            prepared.splits[name],
            writer=writer if name == split else None,
            predictions=predictions / f"{name}.jsonl",
        )
        for name in ("validation", "test", "general")
        if name in prepared.splits
    }
    peak = peak_memory_bytes()  # of training and scoring, which is what the model needs
    baselines = evaluate_baselines(prepared.splits["train"], prepared.splits[split]) if split else {}
    return Proof(prepared.task, split, evaluations, {**baselines, **(before or {})}, peak)
