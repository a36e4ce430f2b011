"""Baselines of text classification: the most frequent answer, and TF-IDF with a linear model."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from luthier.tasks.task import Baseline, Prediction

_MAX_WORDS = 200_000
_MAX_WEIGHTS = 4_000_000


def baselines_for(objective: str) -> Sequence[Baseline]:
    """Return the unfitted methods for an objective."""
    if objective == "squared_error":
        return (MeanValue(), TfidfRidge())
    if objective == "binary_cross_entropy":
        return (MajorityLabels(), TfidfOneVsRest())
    return (MajorityClass(), TfidfLogisticRegression())


class MajorityClass:
    """Always the most frequent label of the training split."""

    name = "majority"

    def fit(self, examples: Iterable[Any]) -> None:
        counts = Counter(example.gold for example in examples)
        total = counts.total()
        self._label = max(counts, key=lambda label: (counts[label], label))
        self._scores = {label: count / total for label, count in counts.items()}

    def predict(self, example: Any) -> Prediction:
        return {"label": self._label, "score": self._scores[self._label], "scores": self._scores}


class MajorityLabels:
    """Each label that more than half of the training rows have; the most frequent one if there is none."""

    name = "majority"

    def fit(self, examples: Iterable[Any]) -> None:
        counts: Counter[str] = Counter()
        rows = 0
        for example in examples:
            counts.update(example.gold)
            rows += 1
        self._scores = {label: count / rows for label, count in counts.items()}
        often = [label for label, score in self._scores.items() if score > 0.5]
        self._labels = often or [max(self._scores, key=lambda label: (self._scores[label], label))]

    def predict(self, example: Any) -> Prediction:
        return {"labels": self._labels, "scores": self._scores}


class MeanValue:
    """Always the mean of the training split."""

    name = "mean"

    def fit(self, examples: Iterable[Any]) -> None:
        values = [float(example.gold) for example in examples]
        self._mean = sum(values) / len(values)

    def predict(self, example: Any) -> Prediction:
        return {"value": self._mean}


def _text(example: Any) -> str:
    return example.text if example.pair is None else f"{example.text}\n{example.pair}"


def _weighed_words(examples: Iterable[Any], *, classes: int = 1) -> tuple[Any, Any]:
    """Return the fitted TF-IDF of words and word pairs, and its matrix [rows, words].

    Chinese and Japanese characters and their pairs count as words. The most frequent 200,000 words are kept,
    fewer with many classes: the optimizer of logistic regression holds some twenty matrices of words by classes.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    kept = min(_MAX_WORDS, _MAX_WEIGHTS // classes)
    pattern = r"(?u)[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=kept, token_pattern=pattern)
    try:
        return words, words.fit_transform(_text(example) for example in examples)
    except ValueError:  # there is no word, only signs such as emoji
        signs = TfidfVectorizer(sublinear_tf=True, analyzer="char", max_features=kept)
        return signs, signs.fit_transform(_text(example) for example in examples)


class TfidfLogisticRegression:
    """TF-IDF of words and word pairs, and logistic regression (scikit-learn)."""

    name = "tfidf_logistic_regression"

    def fit(self, examples: Iterable[Any]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        gold = [example.gold for example in examples]
        self._words, matrix = _weighed_words(examples, classes=len(set(gold)))
        self._model = LogisticRegression(C=10.0, max_iter=300)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 300 steps come close enough for a baseline
            self._model.fit(matrix, gold)

    def predict(self, example: Any) -> Prediction:
        probabilities = self._model.predict_proba(self._words.transform([_text(example)]))[0]
        scores = {str(label): float(p) for label, p in zip(self._model.classes_, probabilities, strict=True)}
        best = max(scores, key=lambda label: scores[label])
        return {"label": best, "score": scores[best], "scores": scores}


class TfidfOneVsRest:
    """TF-IDF, and a logistic regression for each label (scikit-learn), balanced; a label from 0.5 on."""

    name = "tfidf_logistic_regression"

    def fit(self, examples: Iterable[Any]) -> None:
        from sklearn.linear_model import LogisticRegression

        gold = [set(example.gold) for example in examples]
        self._labels = sorted(set().union(*gold))
        self._words, matrix = _weighed_words(examples)
        self._weights = np.zeros((matrix.shape[1], len(self._labels)))
        self._bias = np.full(len(self._labels), np.inf)  # of a label that every row has
        for place, label in enumerate(self._labels):
            wanted = [label in labels for labels in gold]
            if not all(wanted):
                model = LogisticRegression(max_iter=200, class_weight="balanced", solver="liblinear").fit(matrix, wanted)
                self._weights[:, place], self._bias[place] = model.coef_[0], model.intercept_[0]

    def predict(self, example: Any) -> Prediction:
        logits = self._words.transform([_text(example)]) @ self._weights + self._bias
        probabilities = np.exp(-np.logaddexp(0.0, -logits[0]))
        scores = dict(zip(self._labels, probabilities.tolist(), strict=True))
        return {"labels": [label for label, score in scores.items() if score >= 0.5], "scores": scores}


class TfidfRidge:
    """TF-IDF and ridge regression (scikit-learn)."""

    name = "tfidf_ridge"

    def fit(self, examples: Iterable[Any]) -> None:
        from sklearn.linear_model import Ridge

        gold = [float(example.gold) for example in examples]
        self._words, matrix = _weighed_words(examples)
        self._model = Ridge(alpha=1.0).fit(matrix, gold)

    def predict(self, example: Any) -> Prediction:
        return {"value": float(self._model.predict(self._words.transform([_text(example)]))[0])}
