"""The torch engine: hub-format models through transformers, packed and in bf16 where that is exact and fast.

loading     a folder becomes a network under a head
packing     a micro-batch as one row of tokens, without padding; chosen by a probe
buckets     the same as padded groups of like length, for networks that packing does not suit
attention   what packed networks compute inside each sequence
model       the Model that the loop talks to
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.heads import Head

if TYPE_CHECKING:
    from luthier.engines.engine import Engine, Model, TrainingSetup

# No two steps have the same shapes, and the libraries under torch keep a thousand compiled bf16 products each, half a
# megabyte apiece: on a CPU a run grew by 15 MB a step. They read this when torch is first used.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "32")


class TorchEngine:
    """See luthier.engines.engine.Engine. Nothing heavy is imported before a model is loaded."""

    name = "torch"

    def methods(self) -> Mapping[str, Any]:
        from luthier.engines.torch.methods import METHODS

        return {name: METHODS.get(name) for name in METHODS}

    def load(
        self,
        folder: Path,
        head: Head,
        *,
        device: str = "auto",
        precision: str = "auto",
        setup: TrainingSetup | None = None,
    ) -> Model:
        from luthier.engines.torch.model import TorchModel

        return TorchModel.load(folder, head, device=device, precision=precision, setup=setup)


ENGINE: Engine = TorchEngine()
