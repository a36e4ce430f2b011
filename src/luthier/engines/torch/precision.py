"""Device and number format.

bfloat16 here means matrix products in bfloat16; weights, optimizer, residual stream, norms and losses stay float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from luthier.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_device(name: str) -> torch.device:
    """Return the device; ``auto`` is the first of cuda, mps and cpu that is there.

    Raises:
        InputError: no such device here.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if name not in present:
        raise InputError(f'no device "{name}"', where="device", fix=f"Available: {', '.join(DEVICES)}.")
    if not present[name]:
        there = ", ".join(kind for kind, here in present.items() if here)
        raise InputError(
            f'"{name}" was asked for, but this machine has none that torch can use', where="device", fix=f"Here: {there}."
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` takes bfloat16 where the hardware multiplies in it.

    Raises:
        InputError: no such precision.
    """
    if name not in PRECISIONS:
        raise InputError(f'no precision "{name}"', where="train.precision", fix=f"Available: {', '.join(PRECISIONS)}.")
    if name != "auto":
        return name
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return any(bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)()) for feature in ("avx512_bf16", "amx_tile"))
    return False


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the network runs."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
