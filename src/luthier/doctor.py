"""What this machine has, what an engine lacks, and how to get it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

_BF16 = {"amx_bf16", "avx512_bf16", "bf16", "sve_bf16"}
"""What Linux calls bf16 matrix products in /proc/cpuinfo, on x86 and on ARM."""
_ROOM = 3_000_000_000
"""Bytes that all sample models take, converted and while they are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says how to get what is missing, or what follows."""

    name: str
    state: Literal["ok", "missing", "note"]
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at this machine. Only torch is imported, to ask for accelerators; no network is tried."""
    return [*_machine(), *_packages(), *_engines(), *_samples()]


def _machine() -> Iterator[Finding]:
    from luthier.samples import cache_folder

    old = sys.version_info < (3, 11)
    where = f"{platform.python_version()} on {platform.platform(terse=True)}"
    yield Finding("python", "missing" if old else "ok", where, "Luthier needs Python 3.11 or later." if old else "")
    yield Finding("processor", "ok", f"{_cores()} cores, {_instructions(Path('/proc/cpuinfo'))}")
    memory = _memory()
    if memory is not None:
        yield Finding("memory", "ok", f"{memory / 1e9:.0f} GB")
    cache = cache_folder()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(there).free
    detail = f"{cache}, {free / 1e9:.0f} GB free"
    if not os.access(there, os.W_OK):
        yield Finding("cache", "note", f"{cache}, not writable", "Set LUTHIER_CACHE to a folder of yours.")
    elif free < _ROOM:
        yield Finding("cache", "note", detail, f"All sample models take up to {_ROOM / 1e9:.0f} GB; LUTHIER_CACHE moves them.")
    else:
        yield Finding("cache", "ok", detail)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _instructions(cpuinfo: Path) -> str:
    """Return what the processor does in bf16, as the kernel lists it."""
    if not cpuinfo.exists():
        return "bf16 unknown"
    found = sorted(_BF16 & set(cpuinfo.read_text(encoding="utf-8", errors="replace").split()))
    return f"bf16 by {' and '.join(found)}" if found else "no bf16 products: training runs in float32"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _packages() -> Iterator[Finding]:
    """Compare what Luthier's own metadata asks for with what is installed; the developers' extra is left out."""
    for line in requires("luthier") or []:
        needed, _, marker = line.partition(";")
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", marker)
        name = re.split(r"[^\w.-]", needed.strip(), maxsplit=1)[0]
        if extra is None:
            yield _package(name, needed.strip(), "missing", f'pip install "{needed.strip()}"')
        elif extra[1] != "dev":
            yield _package(name, needed.strip(), "note", f'pip install "luthier[{extra[1]}]"')


def _package(name: str, needed: str, otherwise: Literal["missing", "note"], fix: str) -> Finding:
    optional = "" if otherwise == "missing" else ", optional"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding(name, otherwise, f"not installed{optional}", fix)
    if not _fits(installed, needed):
        return Finding(name, otherwise, f"{installed}; needed is {needed}{optional}", fix)
    return Finding(name, "ok", installed)


def _fits(installed: str, needed: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # a broken installation: what is there is listed all the same
        return True
    return Requirement(needed).specifier.contains(installed, prereleases=True)


def _engines() -> Iterator[Finding]:
    from luthier.engines import ENGINES

    for name in ENGINES:
        try:
            lacking = getattr(ENGINES.get(name), "missing", [])
            if lacking:
                detail = f"not installed: {', '.join(lacking)}, optional"
                yield Finding(f"engine {name}", "note", detail, f'pip install "luthier[{name}]"')
            else:
                yield Finding(f"engine {name}", "ok", _accelerator())
        except (ImportError, OSError) as error:
            yield Finding(f"engine {name}", "missing", f"it cannot be imported: {error}", f"pip install {name}")


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (CUDA {torch.version.cuda})"
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return "no GPU: it trains on the processor"


def _samples() -> Iterator[Finding]:
    from luthier.samples import list_samples

    here = [sample["name"] for sample in list_samples() if sample["fetched"]]
    away = [sample["name"] for sample in list_samples() if not sample["fetched"]]
    fix = f"To get one: luthier samples fetch NAME. Not here yet: {', '.join(away)}." if away else ""
    yield Finding("samples", "ok", ", ".join(here) or "none yet", fix)
