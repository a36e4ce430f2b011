"""Baselines of text classification: the most frequent answer, and TF-IDF with a linear model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from luthier.tasks.task import Baseline, Prediction


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


def _texts(examples: Iterable[Any]) -> Iterable[str]:
    return (_text(example) for example in examples)


def _text(example: Any) -> str:
    return example.text if example.pair is None else f"{example.text}\n{example.pair}"


def _vectorizer() -> Any:
    """Words and word pairs; Chinese and Japanese characters and their pairs count as words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    pattern = r"(?u)[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"
    return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1, max_features=200_000, token_pattern=pattern)


class TfidfLogisticRegression:
    """TF-IDF of words and word pairs, and logistic regression (scikit-learn)."""

    name = "tfidf_logistic_regression"

    def fit(self, examples: Iterable[Any]) -> None:
        from sklearn.linear_model import LogisticRegression

        self._words = _vectorizer()
        gold = [example.gold for example in examples]
        self._model = LogisticRegression(C=10.0, max_iter=300)
        self._model.fit(self._words.fit_transform(_texts(examples)), gold)

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
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.preprocessing import MultiLabelBinarizer

        self._words, self._labels = _vectorizer(), MultiLabelBinarizer()
        gold = self._labels.fit_transform([example.gold for example in examples])
        self._model = OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=200, class_weight="balanced", solver="liblinear"))
        self._model.fit(self._words.fit_transform(_texts(examples)), gold)

    def predict(self, example: Any) -> Prediction:
        probabilities = self._model.predict_proba(self._words.transform([_text(example)]))[0]
        scores = {str(label): float(p) for label, p in zip(self._labels.classes_, probabilities, strict=True)}
        return {"labels": [label for label, score in scores.items() if score >= 0.5], "scores": scores}


class TfidfRidge:
    """TF-IDF and ridge regression (scikit-learn)."""

    name = "tfidf_ridge"

    def fit(self, examples: Iterable[Any]) -> None:
        from sklearn.linear_model import Ridge

        self._words = _vectorizer()
        gold = [float(example.gold) for example in examples]
        self._model = Ridge(alpha=1.0).fit(self._words.fit_transform(_texts(examples)), gold)

    def predict(self, example: Any) -> Prediction:
        return {"value": float(self._model.predict(self._words.transform([_text(example)]))[0])}
