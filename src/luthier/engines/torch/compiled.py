"""Compiled layers, where a run is long enough to pay for the compiling.

Each layer is compiled by itself and for rows of any size, so that a step of other lengths compiles nothing anew; what
attention does inside a packed row stays outside. On a CPU this brings nothing and is not done. On a GPU it has not been
measured: no machine with one has run this yet. CUDA graphs are not used, since packed rows hardly ever have one size twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from luthier.engines.torch import attention

_BACKEND = "inductor"
_OPERATIONS = 1e17
"""Of a run: about ten minutes of a fast GPU, of which compiling takes one at most."""
_TOLERANCES = {"float32": 1e-3, "bfloat16": 3e-2}
"""Of each result and gradient of the trial, relative to its length. A fused kernel rounds otherwise."""


def pays(device: torch.device, operations: float) -> bool:
    """Whether compiling is worth its time for a run of so many operations."""
    return device.type == "cuda" and operations >= _OPERATIONS


def compile_layers(layers: Sequence[nn.Module], trial: Callable[[], Sequence[Tensor]], *, precision: str) -> str:
    """Compile layers, unless a trial fails or gives something else than before; return what came of it, for the log.

    Args:
        layers: of the network.
        trial: runs the network forward and backward on a little data and returns results and gradients.
        precision: of its products.
    """
    expected = trial()
    _attend_outside()
    for layer in layers:
        layer.compile(dynamic=True, backend=_BACKEND)
    why = ""
    try:
        found = trial()
    except Exception as error:  # whatever a compiler raises on this machine, training goes on without it
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:120]
    else:
        if not _equal(expected, found, _TOLERANCES[precision]):
            why = "a trial gave other results"
    if not why:
        return f"{len(layers)}"
    for layer in layers:
        layer._compiled_call_impl = None
    return f"none ({why})"


def _attend_outside() -> None:
    """Keep the compiler out of packed attention, whose groups differ with every row."""
    from transformers import AttentionInterface

    outside = torch.compiler.disable(attention.packed_attention)  # type: ignore[no-untyped-call]
    AttentionInterface.register(attention.NAME, outside)


def _equal(ones: Sequence[Tensor], others: Sequence[Tensor], tolerance: float) -> bool:
    # Gradients that are zero in exact arithmetic, such as those of key biases, are noise of the size of all others.
    noise = 1e-2 * tolerance * torch.stack([one.norm() for one in ones]).norm()
    return all(bool((one - other).norm() <= tolerance * one.norm() + noise) for one, other in zip(ones, others, strict=True))
