"""The baseline of token classification: the tag that each word had most often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from luthier.metrics.spans import OUTSIDE
from luthier.tasks.tagged_text import TaggedText, entities_of, tags_of
from luthier.tasks.task import Prediction


class MostFrequentTag:
    """Each word gets the tag that it had most often in the training split, and O when it is new."""

    name = "most_frequent_tag"

    def fit(self, examples: Iterable[TaggedText]) -> None:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for example in examples:
            for (start, end), tag in zip(example.words, tags_of(example), strict=True):
                counts[example.text[start:end]][tag] += 1
        self._tags: dict[str, tuple[str, float]] = {}
        for word, tags in counts.items():
            best = max(tags, key=lambda tag: (tags[tag], tag))
            self._tags[word] = (best, tags[best] / tags.total())

    def predict(self, example: TaggedText) -> Prediction:
        found = [self._tags.get(example.text[start:end], (OUTSIDE, 1.0)) for start, end in example.words]
        return entities_of(example, [tag for tag, _ in found], [score for _, score in found])
