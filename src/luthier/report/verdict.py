"""One honest sentence: was fine-tuning worth it?"""

from __future__ import annotations

from collections.abc import Mapping

from luthier.metrics import Score, gain
from luthier.report.formats import baseline_name, metric_name, metric_value, score_text


def verdict(
    headline: str, score: Score, baselines: Mapping[str, Score], paired: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """Compare the tuned model with the strongest simple method.

    Args:
        headline: the metric.
        score: the tuned model's.
        baselines: score by baseline, on the same rows.
        paired: by baseline, the 95% interval of (model - baseline) from the paired bootstrap.

    The sentence claims a difference only where its interval leaves out zero.
    """
    own = f"{metric_name(headline)} {score_text(headline, score)}"
    if not baselines:
        return (
            f"The model reaches {own}; no simpler method was tried on these rows, so whether fine-tuning was worth it is open."
        )
    name = max(baselines, key=lambda key: gain(headline, baselines[key].value))
    other = baselines[name]
    against = f"{own} against {metric_value(headline, other.value)} for {baseline_name(name)}"
    difference = score.value - other.value
    if paired is None or name not in paired:
        return f"The model reaches {against}; no interval of the difference was computed, so it may be chance."
    low, high = paired[name]
    said, least, most = (metric_value(headline, value) for value in (difference, low, high))
    text = f"the difference, {said} ({least} to {most})"
    worst, best = sorted((gain(headline, low), gain(headline, high)))
    if worst > 0:
        return f"Fine-tuning was worth it: {against}; {text}, is beyond chance."
    if best < 0:
        return f"Fine-tuning was not worth it, it did worse than the simpler method: {against}; {text}, is beyond chance."
    return (
        f"Fine-tuning is not shown to be worth it: {against}; {text}, is within chance: these rows do not tell the two apart."
    )
