"""Dropout on the CPU with cheap random bits.

torch draws one double a value, which costs more than the attention that it is applied to. Here 16 bits a
value come from NumPy's SFC64, seeded by torch's generator, so that a recomputed forward draws the same.
The probability is a multiple of 1/32768, and results are scaled by what is kept in fact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 1 << 15


class MaskSource:
    """Draws masks.

    Args:
        seed: draws the same again; None takes one from torch's generator.

    Attributes:
        scale: by which kept values are multiplied.
    """

    def __init__(self, probability: float, seed: int | None = None) -> None:
        self._kept = max(1, round((1 - probability) * _STEPS))
        self.scale = _STEPS / self._kept
        self.seed = int(torch.randint(1 << 62, ()).item()) if seed is None else seed
        self._bits = np.random.SFC64(self.seed)

    def draw(self, count: int) -> Tensor:
        """Return int16 [count]: all bits set where a value is kept, none where it is dropped."""
        words = self._bits.random_raw(-(-count // 4))
        mask = torch.from_numpy(words.view(np.int16))[:count]
        return mask.bitwise_and_(_STEPS - 1).sub_(self._kept).bitwise_right_shift_(15)


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Return contiguous float32 or bfloat16 values with those of mask 0 set to 0; the mask is of the same size."""
    kind = torch.int16 if values.dtype == torch.bfloat16 else torch.int32
    return values.view(kind).bitwise_and(mask.to(kind).view(values.shape)).view(values.dtype)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, probability: float) -> Tensor:
        source = MaskSource(probability)
        mask = source.draw(values.numel())
        ctx.save_for_backward(mask)
        ctx.scale = source.scale
        return masked(values.contiguous(), mask).mul_(source.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return masked(gradients[0].contiguous(), mask).mul_(ctx.scale), None


class FastDropout(nn.Dropout):
    """nn.Dropout with cheap bits, for float32 and bfloat16 on the CPU; elsewhere nn.Dropout itself."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p or input.device.type != "cpu" or input.dtype not in (torch.float32, torch.bfloat16):
            return super().forward(input)
        result: Tensor = _Dropout.apply(input, self.p)  # type: ignore[no-untyped-call]
        return result


def use_fast_dropout(network: nn.Module) -> None:
    """Replace every nn.Dropout of a network in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout and 0 < child.p < 1:
                setattr(module, name, FastDropout(child.p))
