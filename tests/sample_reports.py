"""Reports with plausible values for three tasks, for the tests of the page, the card and the terminal."""

from __future__ import annotations

import math
import random
from typing import Literal

from luthier.metrics import Score
from luthier.report import Curve, Finding, Report, SplitSummary
from luthier.tasks.task import Excerpt, Mark, Table

LABELS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")


def curves(steps: int, every: int, headline: str, values: tuple[float, ...]) -> list[Curve]:
    noise = random.Random(0)
    logged = range(every, steps + 1, every)
    loss = tuple((step, 2.0 * math.exp(-step / steps * 5) + 0.09 + noise.uniform(-0.05, 0.05)) for step in logged)
    rate = tuple((step, 3e-4 * min(step / (steps * 0.1), (steps - step) / (steps * 0.9))) for step in logged)
    epoch = steps // len(values)
    validation = tuple((epoch * (index + 1), value) for index, value in enumerate(values))
    other = tuple((step, value - 0.03) for step, value in validation)
    return [
        Curve("loss", loss),
        Curve("learning_rate", rate),
        Curve(f"validation {headline}", validation),
        Curve("validation loss", other),
    ]


def confusion() -> Table:
    totals = (696, 121, 1083, 10, 81, 87, 36, 75)
    rows = []
    for index, (label, total) in enumerate(zip(LABELS, totals, strict=True)):
        wrong = [0] * len(LABELS)
        wrong[(index + 1) % 8] = total // 40 + 1
        wrong[(index + 2) % 8] = total // 90
        wrong[index] = total - sum(wrong)
        rows.append((label, *wrong))
    return Table("confusion matrix", ("gold", *LABELS), tuple(rows), kind="confusion")


def classification() -> Report:
    settings = {
        "task": "text-classification",
        "model": "minilm",
        "data.train": "reuters-r8/train.csv",
        "data.validation": "10%",
        "data.test": "reuters-r8/test.csv",
        "method": "full",
        "train.duration": "3 epochs",
        "train.batch": "32 examples",
        "train.learning_rate": "3e-4",
        "train.warmup": "10%",
        "train.precision": "bfloat16",
        "train.seed": "0",
        "output": "runs/news-topics",
    }
    per_class = tuple(
        (label, 0.97 - 0.02 * at, 0.96 - 0.015 * at, 0.965 - 0.018 * at, 700 // (at + 1)) for at, label in enumerate(LABELS)
    )
    text = (
        "Champion Products Inc said its board approved a two-for-one stock split of its common shares "
        "for shareholders of record as of April 1, 1987. "
    )
    return Report(
        name="news-topics",
        task="text-classification",
        model="minilm",
        headline="accuracy",
        created="2026-11-03T14:05:00+00:00",
        verdict="Fine-tuning was worth it: accuracy 0.962 (0.954 to 0.970) against 0.941 for TF-IDF with logistic regression; "
        "the difference, 0.021 (0.012 to 0.030), is beyond chance.",
        settings=settings,
        facts={
            "device": "cpu",
            "precision": "bfloat16 (avx512_bf16)",
            "batching": "packed",
            "attention": "grouped",
            "parameters": 22713728,
            "trainable_parameters": 22716808,
        },
        splits=[
            SplitSummary(
                "train",
                4937,
                4820,
                112,
                2,
                3,
                712_345,
                4932,
                18_422,
                {"longer than 256 tokens": 112, 'column "label" is empty': 3, "nothing to learn from": 2},
            ),
            SplitSummary("validation", 548, 540, 8, 0, 0, 79_012, 548, 1_204, {"longer than 256 tokens": 8}),
            SplitSummary("test", 2189, 2150, 39, 0, 0, 301_877, 2189, 6_310, {"longer than 256 tokens": 39}),
        ],
        findings=[
            Finding("rows that stand more than once", 41, ("train.csv:17", "train.csv:2203", "train.csv:4417")),
            Finding("the same text with different labels", 2, ("train.csv:88 and train.csv:90",)),
            Finding("texts that stand in train and in test", 5, ("train.csv:301 and test.csv:12",)),
        ],
        training={
            "examples": 14796,
            "tokens": 2_137_035,
            "targets": 14796,
            "steps": 465,
            "seconds": 131.4,
            "tokens_per_second": 16263.0,
            "peak_memory_bytes": 1_912_000_000,
            "loss": {"last": 0.061, "per_epoch": [0.512, 0.118, 0.064]},
        },
        curves=curves(465, 5, "accuracy", (0.941, 0.953, 0.960)),
        scores={
            "validation": {"accuracy": Score(0.9598, 0.942, 0.974, 548), "macro_f1": Score(0.921, 0.88, 0.95, 548)},
            "test": {
                "accuracy": Score(0.9621, 0.9543, 0.9698, 2189),
                "macro_f1": Score(0.9214, 0.9011, 0.9402, 2189),
                "loss": Score(0.1523, 0.13, 0.171, 2189),
            },
        },
        baselines={
            "majority": {"accuracy": Score(0.4947, 0.474, 0.5155, 2189), "macro_f1": Score(0.0827, 0.08, 0.085, 2189)},
            "tfidf_logistic_regression": {
                "accuracy": Score(0.9411, 0.931, 0.9505, 2189),
                "macro_f1": Score(0.861, 0.83, 0.89, 2189),
            },
        },
        tables={
            "test": [Table("by class", ("class", "precision", "recall", "F1", "rows"), per_class), confusion()],
            "validation": [Table("by class", ("class", "precision", "recall", "F1", "rows"), per_class)],
        },
        excerpts=[
            Excerpt(
                text * (1 + at % 4),
                LABELS[at % 8],
                LABELS[(at + 1) % 8],
                5.0 - at * 0.2,
                note=f"probability {0.99 - at * 0.02:.2f}",
            )
            for at in range(14)
        ],
        notes=["The test split has 1 label that training never saw: coffee. Those rows count as wrong."],
    )


def mark(text: str, words: str, label: str, kind: Literal["gold", "predicted", "both"]) -> Mark:
    start = text.index(words)
    return Mark(start, start + len(words), label, kind)


def tagging() -> Report:
    base = classification()
    text = (
        "德国 Bundesbank president Karl Otto Poehl told the Frankfurter Allgemeine Zeitung "
        "in Bonn on Tuesday that rates would hold."
    )
    marks = (
        mark(text, "Bundesbank", "ORG", "both"),
        mark(text, "Karl Otto Poehl", "PER", "gold"),
        mark(text, "Otto Poehl", "PER", "predicted"),
        mark(text, "Frankfurter Allgemeine Zeitung", "ORG", "gold"),
        mark(text, "Frankfurter", "LOC", "predicted"),
        mark(text, "Bonn", "LOC", "both"),
        mark(text, "Tuesday", "MISC", "predicted"),
    )
    kinds = Table(
        "errors by kind", ("kind", "entities"), (("boundary", 61), ("type", 48), ("missed", 97), ("spurious", 72)), kind="bars"
    )
    per_type = Table(
        "by type",
        ("type", "precision", "recall", "F1", "gold", "predicted"),
        (
            ("PER", 0.95, 0.94, 0.945, 1617, 1600),
            ("ORG", 0.86, 0.88, 0.87, 1661, 1699),
            ("LOC", 0.92, 0.9, 0.91, 1668, 1632),
            ("MISC", 0.75, 0.76, 0.755, 702, 711),
        ),
    )
    return Report(
        name="people",
        task="token-classification",
        model="sentence-transformers/all-MiniLM-L6-v2",
        headline="f1",
        created=base.created,
        verdict="Fine-tuning was worth it: F1 0.893 (0.884 to 0.902) against 0.612 for most frequent tag of each word; "
        "the difference, 0.281 (0.268 to 0.295), is beyond chance.",
        settings={**base.settings, "task": "token-classification", "output": "runs/people"},
        facts=base.facts,
        splits=base.splits,
        findings=[],
        training=base.training,
        curves=curves(1200, 10, "f1", (0.861, 0.884, 0.889)),
        scores={
            "test": {
                "f1": Score(0.8931, 0.884, 0.902, 231),
                "precision": Score(0.889, 0.88, 0.9, 231),
                "recall": Score(0.897, 0.887, 0.907, 231),
            }
        },
        baselines={"most_frequent_tag": {"f1": Score(0.6123, 0.594, 0.63, 231), "precision": Score(0.7, 0.68, 0.72, 231)}},
        tables={"test": [per_type, kinds]},
        excerpts=[
            Excerpt(text, "Karl Otto Poehl (PER)", "Otto Poehl (PER)", 4.0, marks),
            Excerpt(
                "我在北京的清华大学读书", "清华大学 (ORG)", "", 1.0, (Mark(5, 9, "ORG", "gold"), Mark(2, 4, "LOC", "both"))
            ),
        ],
    )


def answering() -> Report:
    base = classification()
    words = Table(
        "by question word",
        ("question word", "questions", "exact match", "F1"),
        (
            ("what", 61, 0.62, 0.74),
            ("how", 22, 0.5, 0.66),
            ("when", 14, 0.78, 0.83),
            ("who", 9, 0.66, 0.7),
            ("none", 2, 0.0, 0.4),
        ),
    )
    answerable = Table("by answerability", ("kind", "F1"), (("with an answer", 0.71), ("without an answer", 0.62)), kind="bars")
    context = (
        "Measles spreads through the air. " * 90
        + "A person is contagious from four days before the rash until four days after it. "
        + "Vaccination prevents it. " * 60
    )
    start = context.index("four days before")
    marks = (Mark(start, start + 50, "", "gold"), Mark(start, start + 25, "", "predicted"))
    return Report(
        name="medical-answers",
        task="question-answering",
        model="minilm",
        headline="f1",
        created=base.created,
        verdict="Fine-tuning is not shown to be worth it: F1 0.688 (0.611 to 0.760) against 0.640 for sentence overlap; "
        "the difference, 0.048 (-0.031 to 0.127), is within chance: these rows do not tell the two apart.",
        settings={**base.settings, "task": "question-answering", "output": "runs/medical answers"},
        facts=base.facts,
        splits=base.splits[:1],
        findings=base.findings,
        training=base.training,
        curves=curves(60, 1, "f1", (0.41, 0.66)),
        scores={"test": {"f1": Score(0.688, 0.611, 0.76, 108), "exact_match": Score(0.6, 0.51, 0.69, 108)}},
        baselines={"sentence_overlap": {"f1": Score(0.64, 0.56, 0.71, 108)}},
        tables={"test": [words, answerable]},
        excerpts=[
            Excerpt(
                context,
                "four days before the rash until four days after it",
                "four days before the rash",
                1.0,
                marks,
                note="When is a person with measles contagious?",
            )
        ],
        notes=["No validation split: nothing was held out, and the last weights are kept."],
    )


def bare() -> Report:
    """A run of which almost nothing is known: no split was scored, nothing was logged."""
    return Report(
        name="bare",
        task="text-classification",
        model="tiny",
        headline="accuracy",
        created="2026-11-03T14:05:00+00:00",
        verdict="There is no score.",
        settings={},
        facts={},
        splits=[],
        findings=[],
        training={},
        curves=[],
        scores={},
        baselines={},
        tables={},
        excerpts=[],
    )
