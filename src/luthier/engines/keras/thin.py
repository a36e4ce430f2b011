"""Thin products beside frozen matrices: Hu et al., LoRA (2021).

A layer computes with its matrix plus the product, which is the same as adding the product's own result to its result;
so no layer changes, and what is saved is the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from luthier.engines.keras.methods import Tuning

if TYPE_CHECKING:
    from luthier.engines.keras.network import Network


class Thin:
    """The products that a method puts beside matrices; none for most methods.

    Args:
        network: whose matrices they are.
        tuning: names them.
        values: of the matrices.
        seed: of the first factors, drawn as peft draws them. The second ones begin as zeros.

    Attributes:
        initial: the factors by name: ``lora_a:MATRIX`` [inputs, rank] and ``lora_b:MATRIX`` [rank, outputs].
    """

    def __init__(self, network: Network, tuning: Tuning, values: Mapping[str, np.ndarray], *, seed: int) -> None:
        self._adapted = tuning.adapted
        self._scale = tuning.scale
        self.initial: dict[str, np.ndarray] = {}
        rng = np.random.default_rng((seed, 2))
        for name in tuning.adapted:
            inputs = network.weights[name].inputs
            bound = 1 / np.sqrt(inputs)
            self.initial[f"lora_a:{name}"] = rng.uniform(-bound, bound, (inputs, tuning.rank)).astype(np.float32)
            self.initial[f"lora_b:{name}"] = np.zeros((tuning.rank, values[name].size // inputs), dtype=np.float32)

    def merged(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return tensors by name, the products added to their matrices."""
        merged = dict(values)
        for name in self._adapted:
            product = ops.matmul(merged.pop(f"lora_a:{name}"), merged.pop(f"lora_b:{name}"))
            merged[name] = merged[name] + self._scale * ops.reshape(product, tuple(merged[name].shape))
        return merged
