"""Exact match and F1 as in the official SQuAD scripts, v1.1 and v2.0 (Rajpurkar et al., 2016 and 2018).

Words are what stands between blanks, as in the scripts, in every language: a Chinese answer is one word, so its F1
equals its exact match. Figures are then the same as everybody's.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


def normalize(text: str) -> str:
    """Lower the case, drop ASCII punctuation and English articles, and fold white space."""
    text = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def score(predicted: str, references: Sequence[str], *, no_answer: bool) -> tuple[float, float]:
    """Return (exact match, F1), each the best over the references.

    Args:
        references: the right answers; none means that no answer is right.
        no_answer: whether the data knows questions without an answer: the rules of v2.0 instead of v1.1. They differ
            only where a text normalises to nothing: v2.0 leaves out such references.
    """
    second = no_answer or not references
    wanted = [normalize(reference) for reference in references]
    if second:
        wanted = [reference for reference in wanted if reference] or [""]
    found = normalize(predicted)
    exact = max(float(found == reference) for reference in wanted)
    return exact, max(_f1(found.split(), reference.split(), empty_equals=second) for reference in wanted)


def _f1(found: Sequence[str], wanted: Sequence[str], *, empty_equals: bool) -> float:
    if empty_equals and not (found and wanted):
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def best_threshold(scored: Iterable[tuple[float, float, bool]]) -> float:
    """Return the threshold with the largest total score when above it nothing is answered.

    The rule of the v2.0 script's ``find_best_thresh``, but for two things that it gets wrong: of equal differences
    all are answered or none; and where answering nothing is best, the threshold that is returned answers nothing.

    Args:
        scored: of each question, null score minus the best answer's score; the score that this answer would get;
            whether the question has an answer.
    """
    rows = sorted(scored, key=lambda row: row[0])
    if not rows:
        return 0.0
    current = best = float(sum(not answerable for _, _, answerable in rows))
    threshold = min(0.0, math.nextafter(rows[0][0], -math.inf))
    for index, (difference, gain, answerable) in enumerate(rows):
        current += gain if answerable else -1.0
        last_of_equals = index + 1 == len(rows) or rows[index + 1][0] > difference
        if last_of_equals and current > best:
            best, threshold = current, difference
    return threshold
