"""AdamW with clipping, as a function of tensors.

Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019); betas, epsilon and clipping as in the torch engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from luthier.engines.engine import Choice
from luthier.errors import InputError, did_you_mean

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_OPTIMIZERS = ("adamw",)


def check(choice: Choice, *, engine: str) -> None:
    """Raises InputError for an optimizer or option that does not exist here."""
    if choice.name not in _OPTIMIZERS:
        what = f'the engine "{engine}" has no optimizer "{choice.name}"'
        raise InputError(what, where="train.optimizer", fix=did_you_mean(choice.name, _OPTIMIZERS))
    if choice.options:
        raise InputError(f'"{choice.name}" has no option "{next(iter(choice.options))}"', where="train.optimizer")


def adamw(decays: Sequence[float]) -> Callable[..., Any]:
    """Return the function of one step.

    It takes weights, first and second moments and gradients (lists of tensors), the number of steps before, the
    learning rate and the greatest norm; and returns the first three as they are after the step, the number of steps,
    and the norm of the gradient before clipping. A norm that is not finite changes nothing.

    Args:
        decays: the weight decay of each weight.
    """

    def step(
        weights: Sequence[Any],
        first: Sequence[Any],
        second: Sequence[Any],
        gradients: Sequence[Any],
        count: Any,
        rate: Any,
        most: Any,
    ) -> Any:
        norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
        finite = ops.isfinite(norm)
        scale = ops.maximum((norm + 1e-6) / most, 1.0)
        after = count + 1.0
        left, right = 1 - _BETAS[0] ** after, ops.sqrt(1 - _BETAS[1] ** after)
        results: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for weight, m, v, raw, decay in zip(weights, first, second, gradients, decays, strict=True):
            gradient = raw / scale
            m_new = m + (gradient - m) * (1 - _BETAS[0])
            v_new = v * _BETAS[1] + ops.square(gradient) * (1 - _BETAS[1])
            kept = weight * (1 - rate * decay) if decay else weight
            new = kept - rate / left * m_new / (ops.sqrt(v_new) / right + _EPSILON)
            for found, value, old in zip(results, (new, m_new, v_new), (weight, m, v), strict=True):
                found.append(ops.where(finite, value, old))
        return (*results, ops.where(finite, after, count), norm)

    return step
