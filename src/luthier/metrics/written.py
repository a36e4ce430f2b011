"""Measures of written text as such: whether it repeats itself, how varied it is, whether it is the gold text.

All are functions of sums over texts. That a text repeats itself shows in its sequences of four words (Welleck et al.,
2020), variety in distinct words and pairs of words (Li et al., 2016). Words are what stands between blanks, or
characters in scripts without blanks.
"""

from __future__ import annotations

from collections.abc import Mapping

from luthier.metrics.classification import ratio
from luthier.metrics.words import folded, pieces

_SIZES = (1, 2, 4)


def counts(text: str) -> dict[str, float]:
    """Return ``ngrams_n`` and ``distinct_ngrams_n`` of one text, for sequences of n = 1, 2 and 4 words."""
    found = pieces(text)
    sums: dict[str, float] = {}
    for size in _SIZES:
        ngrams = list(zip(*(found[start:] for start in range(size)), strict=False))
        sums[f"ngrams_{size}"] = float(len(ngrams))
        sums[f"distinct_ngrams_{size}"] = float(len(set(ngrams)))
    return sums


def summarize(total: Mapping[str, float]) -> dict[str, float]:
    """Return from summed :func:`counts`, each in 0 to 1 and 0 of nothing:

    - ``repetition``: the share of four-word sequences that stand earlier in the same text already;
    - ``distinct_1``, ``distinct_2``: the different words, or pairs of them, within each text, over all of them. Both
      are summed over texts. Distinct-n is often taken over a whole corpus instead, where it falls as the corpus grows
      and is no function of sums: figures of that kind do not compare with these.
    """
    repeated = total.get("ngrams_4", 0.0) - total.get("distinct_ngrams_4", 0.0)
    metrics = {"repetition": ratio(repeated, total.get("ngrams_4", 0.0))}
    for size in (1, 2):
        metrics[f"distinct_{size}"] = ratio(total.get(f"distinct_ngrams_{size}", 0.0), total.get(f"ngrams_{size}", 0.0))
    return metrics


def exact_match(prediction: str, reference: str) -> bool:
    """Return whether two texts are equal but for case and white space."""
    return folded(prediction) == folded(reference)
