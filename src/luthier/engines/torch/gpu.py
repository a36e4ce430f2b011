"""What only a GPU has: fused layers where liger-kernel is installed, and batches that move while something runs.

Not measured: no machine with a GPU has run this yet.
"""

from __future__ import annotations

from typing import Any

import torch

from luthier.engines.torch.batch import Piece


def fuse_layers(network: Any) -> bool:
    """Let liger-kernel replace norms, rotary positions and gated products by fused ones; whether it did.

    Its losses are left out: logits are computed here for labelled tokens alone and in chunks. Hsu et al., Liger
    Kernel: Efficient Triton Kernels for LLM Training (2024).
    """
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    except ImportError:
        return False
    if network.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return False
    _apply_liger_kernel_to_instance(model=network, cross_entropy=False, fused_linear_cross_entropy=False)
    return True


def pinned(piece: Piece) -> Piece:
    """Return a piece in memory from which a GPU copies by itself."""
    return piece.each(torch.Tensor.pin_memory)
