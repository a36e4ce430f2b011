"""Baselines of question answering: the sentence that shares most words with the question; no answer at all."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from luthier.tasks.task import Prediction

_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]?")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class BestSentence:
    """The sentence of the context with the largest inverse-document-frequency overlap with the question."""

    name = "best_sentence"

    def fit(self, examples: Iterable[Any]) -> None:
        contexts = {example.context for example in examples}
        self._documents = Counter(word for context in contexts for word in set(_words(context)))
        self._count = len(contexts)

    def predict(self, example: Any) -> Prediction:
        asked = set(_words(example.question))
        spans = [match.span() for match in _SENTENCE.finditer(example.context) if match.group().strip()]
        start, end = max(spans, key=lambda span: (self._overlap(asked, example.context[slice(*span)]), -span[0]))
        text = example.context[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        return _prediction(text, start, start + len(text))

    def _overlap(self, asked: set[str], sentence: str) -> float:
        shared = asked & set(_words(sentence))
        return sum(math.log(1 + self._count / (1 + self._documents[word])) for word in shared)


class NoAnswer:
    """Never an answer."""

    name = "no_answer"

    def fit(self, examples: Iterable[Any]) -> None:
        """Nothing to learn."""

    def predict(self, example: Any) -> Prediction:
        return _prediction("", None, None)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _prediction(answer: str, start: int | None, end: int | None) -> Prediction:
    return {"answer": answer, "start": start, "end": end, "score": 1.0, "null_score": 0.0, "n_best": []}
