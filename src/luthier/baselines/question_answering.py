"""Baselines of question answering: the sentence that shares most words with the question; no answer at all."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from luthier.tasks.task import Prediction

_SENTENCE = re.compile(r".+?(?:[.!?]+(?=\s)|[。！？]+|\n|$)", re.DOTALL)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class BestSentence:
    """The sentence of the context that shares most with the question, by inverse document frequency."""

    name = "best_sentence"

    def fit(self, examples: Iterable[Any]) -> None:
        contexts = {example.context for example in examples}
        self._documents = Counter(word for context in contexts for word in _words(context))
        self._count = len(contexts)

    def predict(self, example: Any) -> Prediction:
        asked = _words(example.question)
        sentences = [match for match in _SENTENCE.finditer(example.context) if match.group().strip()]
        best = max(sentences, key=lambda sentence: self._weight(asked & _words(sentence.group())))
        start = best.end() - len(best.group().lstrip())
        return _prediction(example.context, start, start + len(best.group().strip()))

    def _weight(self, words: Iterable[str]) -> float:
        return sum(math.log(1 + self._count / (1 + self._documents[word])) for word in words)


class NoAnswer:
    """Never an answer."""

    name = "no_answer"

    def fit(self, examples: Iterable[Any]) -> None:
        """Nothing to learn."""

    def predict(self, example: Any) -> Prediction:
        return _prediction(example.context, None, None)


def _words(text: str) -> set[str]:
    """Return the words in lower case; Chinese and Japanese characters are words."""
    return {word.lower() for word in _WORD.findall(text)}


def _prediction(context: str, start: int | None, end: int | None) -> Prediction:
    answer = "" if start is None else context[start:end]
    return {"answer": answer, "start": start, "end": end, "score": 1.0, "null_score": 0.0, "n_best": []}
