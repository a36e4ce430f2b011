"""How names and numbers are written, in the report, the model card and the terminal alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from luthier.metrics import Score

if TYPE_CHECKING:
    from luthier.report import Report

_METRICS: Mapping[str, str] = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "f1": "F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "rmse": "root mean squared error",
    "r2": "R²",
    "auroc": "AUROC",
    "rouge_lsum": "ROUGE-Lsum",
    "exact_match": "exact match",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
}
_DIGITS: Mapping[str, int] = {"bleu": 1, "chrf": 1, "perplexity": 2}
_BASELINES: Mapping[str, str] = {
    "majority": "majority class",
    "tfidf_logistic_regression": "TF-IDF with logistic regression",
    "tfidf_ridge": "TF-IDF with ridge regression",
    "mean": "mean of the training values",
    "most_frequent_tag": "most frequent tag of each word",
    "base_model": "the model before fine-tuning",
    "base_model_general": "the model before fine-tuning, on general text",
    "n-gram": "n-gram model of the training text",
    "copy": "the source as it is",
    "lead": "the first sentences",
}

# Characters that change how other text looks or what a terminal does: controls but tab and newline,
# bidirectional overrides and isolates, and lone surrogates, which no file can hold.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Return the text with control characters, bidirectional ones too, written out: ``[U+202E]``."""
    return _UNSEEN.sub(lambda match: f"[U+{ord(match.group()):04X}]", text.replace("\r\n", "\n"))


def metric_name(metric: str) -> str:
    """Return a metric's name for people: ``macro_f1`` becomes ``macro F1``."""
    return _METRICS.get(metric, metric.replace("_", " "))


def baseline_name(baseline: str) -> str:
    """Return a baseline's name for people."""
    return _BASELINES.get(baseline, baseline.replace("_", " "))


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many decimals, thousands separated, and no minus before zero."""
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def metric_value(metric: str, value: float) -> str:
    """Return a metric's value: three decimals, BLEU and chrF one."""
    return number(value, _DIGITS.get(metric, 3))


def interval(metric: str, score: Score) -> str:
    """Return ``0.954 to 0.970``, or nothing where no interval was computed."""
    if score.low is None or score.high is None:
        return ""
    return f"{metric_value(metric, score.low)} to {metric_value(metric, score.high)}"


def score_text(metric: str, score: Score) -> str:
    """Return ``0.962 (0.954 to 0.970)``."""
    span = interval(metric, score)
    return metric_value(metric, score.value) + (f" ({span})" if span else "")


def count(value: float) -> str:
    """Return a whole number with thousands separated."""
    return f"{round(value):,}"


def plural(value: int, noun: str) -> str:
    """Return ``1 row`` or ``2,000 rows``."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def rate(value: float) -> str:
    """Return a learning rate with three significant digits: ``3e-4``, ``2.71e-5``."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    short = mantissa.rstrip("0").rstrip(".")
    return f"{short}e{int(exponent)}" if value else "0"


def seconds_text(seconds: float) -> str:
    """Return ``48 s``, ``2 min 14 s`` or ``1 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def bytes_text(size: float) -> str:
    """Return bytes as MB or GB (powers of ten)."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def main_split(report: Report) -> str | None:
    """Return the split that the result is read from: test where there is one, else the first that was scored."""
    return "test" if "test" in report.scores else next(iter(report.scores), None)


def headline_score(report: Report) -> Score | None:
    """Return the headline metric's score on the main split."""
    split = main_split(report)
    return None if split is None else report.scores[split].get(report.headline)


def run_path(report: Report) -> str:
    """Return the run's folder as a user would type it."""
    return report.settings.get("output") or f"runs/{report.name}"
