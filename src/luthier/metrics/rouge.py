"""ROUGE-1, ROUGE-2 and ROUGE-L of a row (Lin, 2004), through rouge_score, without stemming.

rouge_score's own tokenizer drops every character that is not ASCII, so that a Chinese summary scores 0 against itself.
Ours takes words of any script; on ASCII text nothing changes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from luthier.metrics.words import words

_KINDS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


class _Tokenizer:
    """The tokenizer that rouge_score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_KINDS.values()), tokenizer=_Tokenizer())


def counts(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """Return ``rouge_1``, ``rouge_2`` and ``rouge_l``: F-measures in 0 to 1, each the best over one or more references.

    Their mean over rows is the usual figure.
    """
    scores = _scorer().score_multi(references, prediction)
    return {name: float(scores[kind].fmeasure) for name, kind in _KINDS.items()}
