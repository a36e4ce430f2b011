"""Luthier: fine-tune a pretrained language model for one text task, and know whether it helped.

>>> import luthier
>>> run = luthier.train("news.yaml")  # doctest: +SKIP
>>> luthier.load("runs/news").predict(["Shares fell."])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Run", "TrainedModel", "__version__", "check", "load", "resume", "train"]

if TYPE_CHECKING:
    from luthier.api import check, resume, train
    from luthier.runs import Run
    from luthier.trained import TrainedModel, load

_LAZY = {
    "train": "luthier.api",
    "resume": "luthier.api",
    "check": "luthier.api",
    "load": "luthier.trained",
    "TrainedModel": "luthier.trained",
    "Run": "luthier.runs",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import luthier`` is instant."""
    if name not in _LAZY:
        raise AttributeError(f"module 'luthier' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
