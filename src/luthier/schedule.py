"""Learning-rate schedules: a factor of the peak rate as a function of the step.

The formulas are those of transformers' ``get_linear_schedule_with_warmup`` and its siblings, so that a run
here and a run there make the same updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from luthier.registry import Registry

Decay = Callable[[int, int, int], float]
"""From the steps done since warm-up, all steps after warm-up and the steps of warm-up to a factor (1 at first)."""
_NO_WARMUP = 10_000
"""The time scale of the inverse square root where nothing warms up, as transformers has it."""


def linear(done: int, total: int, warmup: int) -> float:
    """Fall in a straight line to 0."""
    return 1.0 - done / total


def cosine(done: int, total: int, warmup: int) -> float:
    """Fall along half a cosine to 0 (Loshchilov and Hutter, 2017)."""
    return 0.5 * (1.0 + math.cos(math.pi * (done / total)))


def inverse_sqrt(done: int, total: int, warmup: int) -> float:
    """Fall with the root of the steps, never to 0: half the peak after 4 times the warm-up (Vaswani et al., 2017)."""
    scale = warmup or _NO_WARMUP
    return math.sqrt(scale / (scale + done))


def constant(done: int, total: int, warmup: int) -> float:
    """Stay at the peak."""
    return 1.0


SCHEDULES = Registry("schedule", {"linear": linear, "cosine": cosine, "inverse_sqrt": inverse_sqrt, "constant": constant})


def learning_rate(step: int, *, peak: float, total: int, warmup: int, decay: Decay) -> float:
    """Return the rate of optimizer step ``step`` (counted from 0) out of ``total``."""
    if step < warmup:
        return peak * step / max(1, warmup)
    return peak * max(0.0, decay(step - warmup, max(1, total - warmup), warmup))
