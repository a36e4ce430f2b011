"""How many tokens of one micro-batch fit: an estimate from the network's sizes and the free memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_SHARE = 0.4
"""Of the free memory: the rest is for the optimizer, the collated batches and whatever else runs."""
_MOST = 16384
_MOST_CPU = 4096
"""On a CPU larger micro-batches are no faster (measured from 1024 to 16384) and take more memory."""
_LEAST = 512
_UNKNOWN = 4 << 30
"""Bytes taken to be free where the system does not say."""


def micro_tokens(config: Any, device: torch.device, *, longest: int = 512, training: bool) -> int:
    """Return a number of tokens, at least 512; at most 4096 on a CPU and 16384 elsewhere.

    A layer keeps for backward, per token and in float32, about 20 values of the hidden width, 4 of the
    intermediate one, and the attention's products and probabilities.
    """
    hidden = int(getattr(config, "hidden_size", 768))
    intermediate = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    heads = int(getattr(config, "num_attention_heads", 12))
    layers = int(getattr(config, "num_hidden_layers", 12)) if training else 1
    values = layers * (20 * hidden + 4 * intermediate + 3 * heads * longest)
    fitting = int(free_bytes(device) * _SHARE / (4 * values))
    return max(_LEAST, min(_MOST_CPU if device.type == "cpu" else _MOST, fitting))


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free for new tensors."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _UNKNOWN
