"""Exact match and F1 as in the official SQuAD scripts, v1.1 and v2.0 (Rajpurkar et al., 2016 and 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = set(string.punctuation)


def normalize(text: str) -> str:
    """Lower the case, drop punctuation and articles, and fold white space."""
    text = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(predicted: str, references: Sequence[str]) -> float:
    """Return 1.0 when the prediction equals a reference after normalising. No reference means no answer."""
    return max(float(normalize(predicted) == normalize(reference)) for reference in _scored(references))


def f1(predicted: str, references: Sequence[str]) -> float:
    """Return the best F1 of the bags of words over the references."""
    return max(_f1(predicted, reference) for reference in _scored(references))


def _scored(references: Sequence[str]) -> Sequence[str]:
    """As the v2.0 script: references that normalise to nothing do not count; none left means no answer."""
    return [reference for reference in references if normalize(reference)] or [""]


def _f1(predicted: str, reference: str) -> float:
    found, wanted = normalize(predicted).split(), normalize(reference).split()
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def best_threshold(scored: Iterable[tuple[float, float, bool]]) -> tuple[float, float]:
    """Return (threshold, sum of scores) that maximise the total score when above it nothing is answered.

    The rule of the v2.0 script's ``find_best_thresh``.

    Args:
        scored: of each question, null score minus the best answer's score; the score of that answer; whether
            the question has an answer.
    """
    rows = sorted(scored, key=lambda row: row[0])
    current = best = float(sum(not answerable for _, _, answerable in rows))
    threshold = 0.0
    for index, (difference, score, answerable) in enumerate(rows):
        current += score if answerable else -1.0
        last_of_ties = index + 1 == len(rows) or rows[index + 1][0] > difference
        if last_of_ties and current > best:
            best, threshold = current, difference
    return threshold, best
