"""Baselines of translation and summarization: the source as it is; its first sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from luthier.metrics.words import words
from luthier.tasks.task import Prediction

_SENTENCE = re.compile(r"\S.*?(?:[.!?]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[”’」』）]*|$)", re.MULTILINE)


class Copy:
    """The source as it is."""

    name = "copy"

    def fit(self, examples: Iterable[Any]) -> None:
        """Nothing to learn."""

    def predict(self, example: Any) -> Prediction:
        return {"text": example.source, "finish_reason": "stop"}


class Lead:
    """The first sentences: as many as come closest to the mean number of words of a training target, at least one."""

    name = "lead"

    def fit(self, examples: Iterable[Any]) -> None:
        lengths = [len(words(example.target)) for example in examples if example.target is not None]
        self._length = sum(lengths) / len(lengths) if lengths else 0.0

    def predict(self, example: Any) -> Prediction:
        return {"text": self._lead(example.source), "finish_reason": "stop"}

    def _lead(self, source: str) -> str:
        start = end = length = 0
        for sentence in _SENTENCE.finditer(source):
            longer = length + len(words(sentence.group()))
            if end and abs(longer - self._length) >= abs(length - self._length):
                break
            start = start if end else sentence.start()
            end, length = sentence.end(), longer
        return source[start:end]
