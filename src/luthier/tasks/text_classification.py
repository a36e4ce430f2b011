"""Text classification: one label, several, or a number; for a text or a pair of texts.

A raw record, and the feature that it becomes for a BERT with labels (acq, earn):

    {"text": "Shares fell.", "label": "earn"}
    Feature(arrays={"input_ids": [101, 6661, 3062, 1012, 102], "token_type_ids": [0, 0, 0, 0, 0], "labels": [1]})
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.errors import InputError, did_you_mean
from luthier.heads import IGNORED, BinaryCrossEntropy, CrossEntropy, SequenceHead, SquaredError
from luthier.metrics import classification as metrics
from luthier.tasks.classification_tables import confidence_counts, confidence_table, confusion_table, label_table
from luthier.tasks.labels import Gold, label_order, number, read_gold
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Output, Prediction, Table, Task, learned
from luthier.tokenizer import Tokenizer

_MAX_NAMED = 10
"""Unknown labels that are named one by one."""


_LABEL_NAMES = ("labels", "class", "category", "target", "intent", "topic", "sentiment")


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text or a pair. ``gold``: a label, several, or a number as text until the objective is known; None without."""

    text: str
    pair: str | None = None
    gold: Gold | None = None


@dataclass(frozen=True)
class TextClassification(Task[TextExample]):
    """See the module.

    Attributes:
        class_weights: ``balanced``, or a weight for each label; default 1 each. With several labels they weigh positives.
        objective: cross_entropy (one label), binary_cross_entropy (several), squared_error (a number); auto: by the labels.
        separator: splits a label cell into several labels, for binary_cross_entropy.
        labels: learned, by name or number. thresholds: learned, one a label.
        offset, scale: learned, mean and standard deviation of a number. The model learns (number - offset) / scale and
            that is what the saved folder gives in plain transformers; predictions here are in the data's own unit.
        pairs: learned, whether second texts occur; a tab in a text of the command line then parts the two.
    """

    name: ClassVar[str] = "text-classification"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "text", True, "the text, or the first of a pair", ("sentence", "text1", "sentence1", "review", "content", "premise")
        ),
        Column("text_pair", False, "the second text of a pair", ("text2", "sentence2", "hypothesis")),
        Column("label", True, "the label, a list of labels, or a number", _LABEL_NAMES, gold=True),
    )

    class_weights: Literal["balanced"] | dict[str, float] | None = None
    objective: Literal["auto", "cross_entropy", "binary_cross_entropy", "squared_error"] = "auto"
    separator: str | None = None
    labels: tuple[str, ...] = learned(())
    weights: tuple[float, ...] | None = learned(None)
    thresholds: tuple[float, ...] | None = learned(None)
    offset: float = learned(0.0)
    scale: float = learned(1.0)
    pairs: bool = learned(True)

    @property
    def headline(self) -> str:  # type: ignore[override]
        """The metric that selects checkpoints."""
        return {"binary_cross_entropy": "macro_f1", "squared_error": "pearson"}.get(self.objective, "accuracy")

    @property
    def head(self) -> SequenceHead:
        if self.objective == "squared_error":
            return SequenceHead(1, SquaredError(), ("value",))
        objective = BinaryCrossEntropy(self.weights) if self._several else CrossEntropy(self.weights)
        return SequenceHead(len(self.labels), objective, self.labels)

    @property
    def _several(self) -> bool:
        return self.objective == "binary_cross_entropy"

    def parse(self, row: Row) -> TextExample:
        pair = row.text("text_pair") if row.get("text_pair") is not None else None
        return TextExample(row.text("text"), pair, read_gold(row, objective=self.objective, separator=self.separator))

    def fit(self, examples: Iterable[TextExample]) -> Self:
        counts: Counter[str] = Counter()
        rows = lists = paired = 0
        for example in examples:
            rows += example.gold is not None
            lists += isinstance(example.gold, tuple)
            paired += example.pair is not None
            counts.update(_labels_of(example))
        task = replace(self, objective=self._resolved(counts, lists), pairs=paired > 0)
        if task.objective == "squared_error":
            return task._fit_numbers(counts)
        if len(counts) < 2:
            only = f'every label is "{next(iter(counts))}"' if counts else "there is no label"
            raise InputError(
                f"{only}, so there is nothing to tell apart", where="data.train", fix="Give rows of at least two labels."
            )
        if self.objective == "auto" and len(counts) > max(50, rows / 2):
            what = f"{len(counts)} different labels in {rows} rows: is this the right column?"
            fix = f"If it is, say so: task.objective={task.objective}, or squared_error for numbers."
            raise InputError(what, where="data.columns.label", fix=fix)
        labels = tuple(sorted(counts, key=label_order(counts)))
        thresholds = (0.5,) * len(labels) if task._several else None
        return replace(task, labels=labels, weights=self._weights(labels, counts), thresholds=thresholds)

    def _resolved(self, counts: Mapping[str, int], lists: int) -> Any:
        if self.objective != "auto":
            return self.objective
        if lists:
            return "binary_cross_entropy"
        numbers = [number(label) for label in counts]
        fractions = [value is not None and value != int(value) for value in numbers]
        return "squared_error" if None not in numbers and any(fractions) else "cross_entropy"

    def _fit_numbers(self, counts: Mapping[str, int]) -> Self:
        if self.class_weights is not None:
            raise InputError("numbers have no classes to weigh", where="task.class_weights", fix="Leave it out.")
        values = np.asarray([number(label) for label in counts], dtype=np.float64)
        rows = np.asarray(list(counts.values()), dtype=np.float64)
        if len(values) < 2 or float(values.min()) == float(values.max()):
            what = "every label is the same number" if len(values) else "there is no label"
            raise InputError(f"{what}, so there is nothing to learn", where="data.train", fix="Give rows of different values.")
        mean = float(np.average(values, weights=rows))
        spread = math.sqrt(float(np.average((values - mean) ** 2, weights=rows)))
        return replace(self, labels=(), offset=mean, scale=spread)

    def _weights(self, labels: Sequence[str], counts: Mapping[str, int]) -> tuple[float, ...] | None:
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            total = sum(counts.values())
            return tuple(total / (len(labels) * counts[label]) for label in labels)
        unknown = [label for label in self.class_weights if label not in labels]
        if unknown:
            raise InputError(
                f'no row has the label "{unknown[0]}"', where="task.class_weights", fix=did_you_mean(unknown[0], labels)
            )
        wrong = [label for label, weight in self.class_weights.items() if not 0 < weight < math.inf]
        if wrong:
            what = f'found {self.class_weights[wrong[0]]} for "{wrong[0]}"; a weight is more than 0'
            raise InputError(what, where="task.class_weights")
        return tuple(float(self.class_weights.get(label, 1.0)) for label in labels)

    def adopt(self, config: Mapping[str, Any]) -> Self:
        names = config.get("id2label") or {}
        labels = tuple(str(names[key]) for key in sorted(names, key=int))
        kinds = {"multi_label_classification": "binary_cross_entropy", "regression": "squared_error"}
        kind: Any = kinds.get(str(config.get("problem_type")), "cross_entropy")
        if kind == "squared_error" or len(labels) < 2:
            return replace(self, objective="squared_error")
        thresholds = (0.5,) * len(labels) if kind == "binary_cross_entropy" else None
        return replace(self, objective=kind, labels=labels, thresholds=thresholds)

    def encode(self, examples: Sequence[TextExample], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        limit = self.limit(tokenizer)
        firsts = tokenizer.ids_of([example.text for example in examples])
        paired = [index for index, example in enumerate(examples) if example.pair is not None]
        seconds = dict(zip(paired, tokenizer.ids_of([examples[i].pair or "" for i in paired]), strict=True))
        encoded = []
        for index, example in enumerate(examples):
            first, second = firsts[index], seconds.get(index)
            room = limit - tokenizer.num_special(pair=second is not None)
            keep_first, keep_second = _longest_first(len(first), 0 if second is None else len(second), room)
            cut = len(first) - keep_first + (0 if second is None else len(second) - keep_second)
            arrays = tokenizer.join(first[:keep_first], None if second is None else second[:keep_second]).arrays
            if gold:
                arrays = {**arrays, "labels": self._targets(example)}
            encoded.append([Feature(arrays, cut=cut)])
        return encoded

    def _targets(self, example: TextExample) -> np.ndarray:
        if self.objective == "squared_error":
            return np.asarray([(_value_of(example) - self.offset) / self.scale], dtype=np.float32)
        if self._several:
            gold = set(_labels_of(example))
            return np.asarray([float(label in gold) for label in self.labels], dtype=np.float32)
        known = example.gold in self.labels
        return np.asarray([self.labels.index(str(example.gold)) if known else IGNORED], dtype=np.int32)

    def decode(self, example: TextExample, outputs: list[Output]) -> Prediction:
        logits = outputs[0].logits.astype(np.float64)
        if self.objective == "squared_error":
            return {"value": float(logits[0]) * self.scale + self.offset}
        if self._several:
            return self._chosen(self._named(np.exp(-np.logaddexp(0.0, -logits))))
        shifted = np.exp(logits - logits.max())
        best = self.labels[int(logits.argmax())]
        scores = self._named(shifted / shifted.sum())
        return {"label": best, "score": scores[best], "scores": scores}

    def _named(self, probabilities: np.ndarray) -> dict[str, float]:
        """Return label -> probability with six significant digits: small ones count in the loss."""
        return {label: float(f"{p:.6g}") for label, p in zip(self.labels, probabilities.tolist(), strict=True)}

    def _chosen(self, scores: dict[str, float]) -> Prediction:
        thresholds = self.thresholds or (0.5,) * len(self.labels)
        above = [label for label, threshold in zip(self.labels, thresholds, strict=True) if scores[label] >= threshold]
        return {"labels": above, "scores": scores}

    def measure(self, example: TextExample, prediction: Prediction) -> Counts:
        if self.objective == "squared_error":
            value, found = _value_of(example), float(prediction["value"])
            return metrics.regression_counts(value, found, offset=self.offset, scale=self.scale)
        gold = _labels_of(example)
        scores: Mapping[str, float] = prediction["scores"]
        if self._several:
            chosen = prediction["labels"]
            terms = [metrics.surprise(p if label in gold else 1 - p, least=1e-7) for label, p in scores.items()]
            return {**metrics.label_counts(gold, chosen), "loss": sum(terms), "loss_n": float(len(terms))}
        label = prediction["label"]
        counts = {**metrics.label_counts(gold, [label]), **confidence_counts(gold[0] == label, prediction["score"])}
        counts[f"~cell/{json.dumps([gold[0], label], ensure_ascii=False)}"] = 1.0
        if gold[0] in scores:
            counts |= {"loss": metrics.surprise(scores[gold[0]]), "loss_n": 1.0}
        return counts

    def summarize(self, total: Counts) -> dict[str, float]:
        if self.objective == "squared_error":
            return metrics.regression(total)
        return metrics.multi_label(total) if self._several else metrics.single_label(total)

    def calibrate(self, scored: Iterable[tuple[TextExample, Prediction]]) -> Self:
        if not self._several:
            return self
        scores: list[list[float]] = []
        gold: list[list[bool]] = []
        for example, prediction in scored:
            wanted = set(_labels_of(example))
            scores.append([prediction["scores"][label] for label in self.labels])
            gold.append([label in wanted for label in self.labels])
        if not scores:
            return self
        columns = zip(np.asarray(scores).T, np.asarray(gold).T, strict=True)
        return replace(self, thresholds=tuple(_best_threshold(column, truth) for column, truth in columns))

    def gold(self, example: TextExample) -> Any:
        if example.gold is None:
            return None
        if self.objective == "squared_error":
            return {"value": _value_of(example)}
        return {"labels": list(example.gold)} if isinstance(example.gold, tuple) else {"label": example.gold}

    def identity(self, example: TextExample) -> tuple[str, str]:
        given = example.text if example.pair is None else f"{example.text}\0{example.pair}"
        return given, json.dumps(sorted(_labels_of(example)), ensure_ascii=False)

    def stratum(self, example: TextExample) -> str:
        if not isinstance(example.gold, str) or self.objective == "squared_error":
            return ""
        value = number(example.gold)  # a split comes before fit: a fraction is no class, it tells of regression
        return example.gold if value is None or value == int(value) else ""

    def excerpt(self, example: TextExample, prediction: Prediction) -> Excerpt:
        text = example.text if example.pair is None else f"{example.text}\n\n{example.pair}"
        gold = ", ".join(_labels_of(example)) or "none"
        if self.objective == "squared_error":
            value = _value_of(example)
            return Excerpt(text, f"{value:g}", f"{prediction['value']:.4g}", abs(value - prediction["value"]) / self.scale)
        if self._several:
            wrong = set(_labels_of(example)) ^ set(prediction["labels"])
            severity = sum(abs(prediction["scores"].get(label, 0.0) - float(label in _labels_of(example))) for label in wrong)
            return Excerpt(text, gold, ", ".join(prediction["labels"]) or "none", severity)
        wrong_score = 0.0 if prediction["label"] == gold else prediction["score"]
        return Excerpt(text, gold, prediction["label"], wrong_score, note=f"score {prediction['score']:.3f}")

    def question(self, text: str) -> Row:
        first, tab, second = text.partition("\t")
        both = self.pairs and tab
        return Row({"text": first, "text_pair": second} if both else {"text": text}, file="<text>", line=1)

    def tables(self, total: Counts) -> Sequence[Table]:
        if self.objective == "squared_error":
            return ()
        tables = [label_table(total, self.labels)]
        return tables if self._several else [*tables, confusion_table(total, self.labels), confidence_table(total)]

    def notes(self, examples: Iterable[TextExample], split: str) -> Sequence[str]:
        if self.objective == "squared_error":
            return ()
        unknown = Counter(label for example in examples for label in _labels_of(example) if label not in self.labels)
        notes = [
            f'{split}: the label "{label}" is unknown to training; rows that have it, here {count}, count as wrong.'
            for label, count in unknown.most_common(_MAX_NAMED)
        ]
        more = len(unknown) - len(notes)
        return [*notes, f"{split}: so are {more} more labels."] if more else notes

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.text_classification import baselines_for

        return baselines_for(self.objective)


def _value_of(example: TextExample) -> float:
    value = number(example.gold)
    if value is None:
        raise ValueError(f"no number: {example.gold!r}")
    return value


def _labels_of(example: TextExample) -> tuple[str, ...]:
    if isinstance(example.gold, tuple):
        return example.gold
    return () if example.gold is None else (example.gold,)


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each to keep: the longer one gives way until both fit, as in transformers."""
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (room - shorter, shorter) if first > second else (shorter, room - shorter)


def _best_threshold(scores: np.ndarray, gold: np.ndarray) -> float:
    """Return the threshold with the best F1; 0.5 where the label never occurs."""
    if not gold.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(gold[order])
    values = 2 * hits / (np.arange(1, len(hits) + 1) + gold.sum())
    values[:-1][ordered[:-1] == ordered[1:]] = -1.0
    best = int(values.argmax())
    below = float(ordered[best + 1]) if best + 1 < len(ordered) else 0.0
    return (float(ordered[best]) + below) / 2
