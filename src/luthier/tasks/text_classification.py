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
from luthier.tasks.classification_tables import confusion_table, label_table
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Output, Prediction, Table, Task, learned
from luthier.tokenizer import Tokenizer

Gold = str | tuple[str, ...] | float


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text or a pair. ``gold``: a label, several, or a number as text until the objective is known; None without."""

    text: str
    pair: str | None = None
    gold: str | tuple[str, ...] | None = None


@dataclass(frozen=True)
class TextClassification(Task[TextExample]):
    """See the module.

    Attributes:
        class_weights: ``balanced``, or a weight for each label; default 1 each.
        objective: cross_entropy (one label), binary_cross_entropy (several), squared_error (a number); auto: by the labels.
        separator: splits a label cell into several labels, for binary_cross_entropy.
        labels: learned, by name or number. thresholds: learned, one a label. offset, scale: learned, of a number.
    """

    name: ClassVar[str] = "text-classification"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "text", True, "the text, or the first of a pair", ("sentence", "text1", "sentence1", "review", "content", "premise")
        ),
        Column("text_pair", False, "the second text of a pair", ("text2", "sentence2", "hypothesis")),
        Column("label", True, "the label, a list of labels, or a number", ("labels", "class", "category", "target"), gold=True),
    )

    class_weights: Literal["balanced"] | dict[str, float] | None = None
    objective: Literal["auto", "cross_entropy", "binary_cross_entropy", "squared_error"] = "auto"
    separator: str | None = None
    labels: tuple[str, ...] = learned(())
    weights: tuple[float, ...] | None = learned(None)
    thresholds: tuple[float, ...] | None = learned(None)
    offset: float = learned(0.0)
    scale: float = learned(1.0)

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
        value = row.get("label")
        if value is None or (value == "" and not self.separator):
            return TextExample(row.text("text"), pair)
        if isinstance(value, list):
            return TextExample(row.text("text"), pair, tuple(dict.fromkeys(self._label(item, row) for item in value)))
        label = self._label(value, row)
        if self.separator:
            parts = (part.strip() for part in label.split(self.separator))
            return TextExample(row.text("text"), pair, tuple(dict.fromkeys(part for part in parts if part)))
        if self.objective == "squared_error" and _number(label) is None:
            raise row.error(f'found "{label}", expected a number', column="label")
        return TextExample(row.text("text"), pair, (label,) if self._several else label)

    @staticmethod
    def _label(value: Any, row: Row) -> str:
        """Return a label as text: 1, 1.0, "1" and " 1 " are one label."""
        if isinstance(value, (bool, str)):
            text = str(value).strip()
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise row.error(f"found {value}", column="label")
            text = str(int(value)) if value == int(value) else repr(value)
        elif isinstance(value, int):
            text = str(value)
        else:
            raise row.error(f"found {type(value).__name__}, expected a name or a number", column="label")
        if not text and not isinstance(value, str):
            raise row.error("the label is empty", column="label")
        return text

    def fit(self, examples: Iterable[TextExample]) -> Self:
        counts: Counter[str] = Counter()
        lists = singles = 0
        for example in examples:
            if isinstance(example.gold, tuple):
                lists += 1
                counts.update(example.gold)
            elif example.gold is not None:
                singles += 1
                counts[example.gold] += 1
        objective = self._resolved(counts, lists, singles)
        if objective == "squared_error":
            return self._fit_numbers(counts, objective)
        if len(counts) < 2:
            only = f'every label is "{next(iter(counts))}"' if counts else "there is no label"
            raise InputError(
                f"{only}, so there is nothing to tell apart", where="data.train", fix="Give rows of at least two labels."
            )
        if len(counts) > 50 and len(counts) > 0.5 * (lists + singles):
            what = f"{len(counts)} different labels in {lists + singles} rows"
            fix = "Is this the right column? For numbers: task={name: text-classification, objective: squared_error}"
            raise InputError(what, where="data.columns.label", fix=fix)
        labels = tuple(sorted(counts, key=_label_order(counts)))
        weights = self._weights(labels, counts)
        thresholds = (0.5,) * len(labels) if objective == "binary_cross_entropy" else None
        return replace(self, objective=objective, labels=labels, weights=weights, thresholds=thresholds)

    def _resolved(self, counts: Mapping[str, int], lists: int, singles: int) -> Any:
        if self.objective != "auto":
            return self.objective
        if lists:
            return "binary_cross_entropy"
        numbers = [_number(label) for label in counts]
        if numbers and all(number is not None for number in numbers) and any(n != int(n) for n in numbers if n is not None):
            return "squared_error"
        return "cross_entropy"

    def _fit_numbers(self, counts: Mapping[str, int], objective: Any) -> Self:
        pairs = [(_number(label), count) for label, count in counts.items()]
        bad = [label for label in counts if _number(label) is None]
        if bad:
            raise InputError(
                f'the label "{bad[0]}" is no number', where="data.train", fix="Leave out task.objective, or map another column."
            )
        total = sum(count for _, count in pairs)
        mean = sum((value or 0.0) * count for value, count in pairs) / max(1, total)
        spread = math.sqrt(sum(((value or 0.0) - mean) ** 2 * count for value, count in pairs) / max(1, total))
        if not spread:
            raise InputError("every label is the same number, so there is nothing to learn", where="data.train")
        return replace(self, objective=objective, labels=(), offset=mean, scale=spread)

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
        firsts = tokenizer.tokenize([example.text for example in examples])
        paired = [index for index, example in enumerate(examples) if example.pair is not None]
        seconds = dict(zip(paired, tokenizer.tokenize([examples[i].pair or "" for i in paired]), strict=True))
        encoded = []
        for index, example in enumerate(examples):
            first, second = firsts[index].ids, seconds[index].ids if index in seconds else None
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
            value = _number(example.gold) if isinstance(example.gold, str) else None
            return np.asarray([((value or 0.0) - self.offset) / self.scale], dtype=np.float32)
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
            probabilities = 1 / (1 + np.exp(-logits))
            scores = {label: round(float(p), 6) for label, p in zip(self.labels, probabilities, strict=True)}
            return self._chosen(scores)
        shifted = np.exp(logits - logits.max())
        probabilities = shifted / shifted.sum()
        best = int(probabilities.argmax())
        scores = {label: round(float(p), 6) for label, p in zip(self.labels, probabilities, strict=True)}
        return {"label": self.labels[best], "score": scores[self.labels[best]], "scores": scores}

    def _chosen(self, scores: dict[str, float]) -> Prediction:
        thresholds = self.thresholds or (0.5,) * len(self.labels)
        above = [label for label, threshold in zip(self.labels, thresholds, strict=True) if scores[label] >= threshold]
        return {"labels": above, "scores": scores}

    def measure(self, example: TextExample, prediction: Prediction) -> Counts:
        if self.objective == "squared_error":
            value = _number(example.gold) if isinstance(example.gold, str) else None
            return metrics.regression_counts(value or 0.0, float(prediction["value"]))
        gold = _labels_of(example)
        found = prediction["labels"] if self._several else [prediction["label"]]
        counts = {"n": 1.0, "hits": float(set(gold) == set(found)), **metrics.label_counts(gold, found)}
        scores: Mapping[str, float] = prediction.get("scores", {})
        if self._several:
            if scores:
                terms = [-math.log(max(1e-7, p if label in gold else 1 - p)) for label, p in scores.items()]
                counts |= {"loss": sum(terms), "loss_n": float(len(terms))}
        else:
            counts[f"~cell/{json.dumps([gold[0], found[0]], ensure_ascii=False)}"] = 1.0
            if gold[0] in scores:
                counts |= {"loss": -math.log(max(1e-7, scores[gold[0]])), "loss_n": 1.0}
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
        columns = zip(np.asarray(scores).T, np.asarray(gold).T, strict=True)
        return replace(self, thresholds=tuple(_best_threshold(column, truth) for column, truth in columns))

    def gold(self, example: TextExample) -> Any:
        if example.gold is None:
            return None
        if self.objective == "squared_error" and isinstance(example.gold, str):
            return {"value": _number(example.gold)}
        return {"labels": list(example.gold)} if isinstance(example.gold, tuple) else {"label": example.gold}

    def identity(self, example: TextExample) -> tuple[str, str]:
        given = example.text if example.pair is None else f"{example.text}\0{example.pair}"
        return given, json.dumps(sorted(_labels_of(example)), ensure_ascii=False)

    def stratum(self, example: TextExample) -> str:
        label = example.gold
        return label if isinstance(label, str) and (_number(label) is None or self.objective != "squared_error") else ""

    def excerpt(self, example: TextExample, prediction: Prediction) -> Excerpt:
        text = example.text if example.pair is None else f"{example.text}\n\n{example.pair}"
        gold = ", ".join(_labels_of(example)) or "none"
        if self.objective == "squared_error":
            value = _number(str(example.gold)) or 0.0
            return Excerpt(text, f"{value:g}", f"{prediction['value']:.4g}", abs(value - prediction["value"]) / self.scale)
        if self._several:
            wrong = set(_labels_of(example)) ^ set(prediction["labels"])
            severity = sum(abs(prediction["scores"].get(label, 0.0) - float(label in _labels_of(example))) for label in wrong)
            return Excerpt(text, gold, ", ".join(prediction["labels"]) or "none", severity)
        wrong_score = 0.0 if prediction["label"] == gold else prediction["score"]
        return Excerpt(text, gold, prediction["label"], wrong_score, note=f"score {prediction['score']:.3f}")

    def question(self, text: str) -> Row:
        first, tab, second = text.partition("\t")
        return Row({"text": first, "text_pair": second} if tab else {"text": text}, file="<text>", line=1)

    def tables(self, total: Counts) -> Sequence[Table]:
        if self.objective == "squared_error":
            return ()
        tables = [label_table(total, self.labels)]
        return tables if self._several else [*tables, confusion_table(total, self.labels)]

    def notes(self, examples: Iterable[TextExample], split: str) -> Sequence[str]:
        if self.objective == "squared_error":
            return ()
        unknown = Counter(label for example in examples for label in _labels_of(example) if label not in self.labels)
        return [
            f'{split}: the label "{label}" of {count} rows is unknown to training; they count as wrong.'
            for label, count in unknown.most_common()
        ]

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.text_classification import baselines_for

        return baselines_for(self.objective)


def _number(label: object) -> float | None:
    try:
        value = float(str(label))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _labels_of(example: TextExample) -> tuple[str, ...]:
    if isinstance(example.gold, tuple):
        return example.gold
    return () if example.gold is None else (example.gold,)


def _label_order(labels: Iterable[str]) -> Any:
    """Sort by number when all labels are numbers, else by name."""
    numbers = {label: _number(label) for label in labels}
    return (
        (lambda label: (numbers[label], label))
        if all(value is not None for value in numbers.values())
        else (lambda label: label)
    )


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each to keep: the longer one gives way until both fit."""
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (room - shorter, shorter) if first >= second else (shorter, room - shorter)


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
    return round((float(ordered[best]) + below) / 2, 6) or 1e-6
