"""What this machine has, what an engine lacks, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

_REQUIRED = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "pydantic", "scikit-learn", "seqeval")
_EXTRAS = {"tensorboard": "tensorboard", "datasets": "hub"}
"""Package -> the extra that brings it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says how to get what is missing."""

    name: str
    state: Literal["ok", "missing", "note"]
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at this machine; only torch is imported, to ask for accelerators."""
    return [*_machine(), *_packages(), *_accelerators(), *_samples()]


def _machine() -> list[Finding]:
    from luthier.samples import cache_folder

    python = platform.python_version()
    found = [
        Finding("python", "ok" if sys.version_info >= (3, 11) else "missing", f"{python} on {platform.platform(terse=True)}"),
        Finding("processor", "ok", f"{_cores()} cores{_instructions()}"),
    ]
    memory = _memory()
    if memory is not None:
        found.append(Finding("memory", "ok", f"{memory / 1e9:.0f} GB"))
    cache = cache_folder()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(there).free
    low = "the sample models need about 1 GB" if free < 2e9 else ""
    found.append(Finding("cache", "note" if low else "ok", f"{cache}, {free / 1e9:.0f} GB free", low))
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _instructions() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = [name for name in ("amx_bf16", "avx512_bf16") if name in text]
    return f", bf16 by {' and '.join(found)}" if found else ", no bf16 products: training runs in float32"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _packages() -> list[Finding]:
    found = []
    for name in _REQUIRED:
        installed = _version(name)
        state: Literal["ok", "missing"] = "ok" if installed else "missing"
        found.append(Finding(name, state, installed or "not installed", "" if installed else f"pip install {name}"))
    for name, extra in _EXTRAS.items():
        installed = _version(name)
        fix = "" if installed else f'pip install "luthier[{extra}]"'
        found.append(Finding(name, "ok" if installed else "note", installed or "not installed, optional", fix))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _accelerators() -> list[Finding]:
    try:
        import torch
    except ImportError:
        return [Finding("engine torch", "missing", "torch cannot be imported", "pip install torch")]
    if torch.cuda.is_available():
        return [Finding("engine torch", "ok", f"CUDA: {torch.cuda.get_device_name()}")]
    if torch.backends.mps.is_available():
        return [Finding("engine torch", "ok", "Apple GPU (mps)")]
    return [Finding("engine torch", "ok", "no GPU: it trains on the processor")]


def _samples() -> list[Finding]:
    from luthier.samples import list_samples

    fetched = [sample["name"] for sample in list_samples() if sample["fetched"]]
    return [Finding("samples", "ok", ", ".join(fetched) or "none yet", "" if fetched else "luthier samples fetch minilm")]
