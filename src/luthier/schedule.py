"""Learning-rate schedules: a factor of the peak rate as a function of the step.

The formulas are those of transformers' ``get_linear_schedule_with_warmup`` and its siblings, so that a run
here and a run there make the same updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from luthier.registry import Registry

Decay = Callable[[float], float]
"""From the share of the steps after warm-up that are done (0 to 1) to a factor (1 to 0)."""


def linear(done: float) -> float:
    """Fall in a straight line to 0."""
    return 1.0 - done


def cosine(done: float) -> float:
    """Fall along half a cosine to 0 (Loshchilov and Hutter, 2017)."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def constant(done: float) -> float:
    """Stay at the peak."""
    return 1.0


SCHEDULES = Registry("schedule", {"linear": linear, "cosine": cosine, "constant": constant})


def learning_rate(step: int, *, peak: float, total: int, warmup: int, decay: Decay) -> float:
    """Return the rate of optimizer step ``step`` (counted from 0) out of ``total``."""
    if step < warmup:
        return peak * step / max(1, warmup)
    return peak * max(0.0, decay((step - warmup) / max(1, total - warmup)))
