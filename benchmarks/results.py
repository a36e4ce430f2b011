"""RESULTS.md: each table in its own marked part, with hardware and versions."""

from __future__ import annotations

import datetime
import functools
import platform
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from luthier.assembly import versions

_FILE = Path(__file__).parent / "RESULTS.md"


def hardware() -> str:
    """Return the processor, its cores in use, and the bf16 instructions that it has."""
    name, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    cores = 0
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8")
        found = re.search(r"model name\s*:\s*(.+)", text)
        name = found.group(1).strip() if found else name
        cores = text.count("\nprocessor") + text.startswith("processor")
        flags = ", ".join(flag for flag in ("avx512_bf16", "amx_bf16") if flag in text)
    return f"{name}, {cores or 'some'} cores{', ' + flags if flags else ''}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(part: str, command: str, text: str) -> None:
    """Replace one part of RESULTS.md, keeping the others."""
    old = _FILE.read_text(encoding="utf-8") if _FILE.exists() else "# Measured results\n"
    stack = ", ".join(f"{name} {version}" for name, version in versions().items())
    heading = f"## {part}\n\n`{command}`, {datetime.date.today()}, {hardware()}; {stack}."
    body = f"<!-- begin {part} -->\n{heading}\n\n{text}\n<!-- end {part} -->"
    pattern = re.compile(rf"<!-- begin {re.escape(part)} -->.*?<!-- end {re.escape(part)} -->", re.DOTALL)
    new = pattern.sub(lambda _: body, old) if pattern.search(old) else old.rstrip("\n") + "\n\n" + body
    _FILE.write_text(new.rstrip("\n") + "\n", encoding="utf-8")


def quartiles(values: Sequence[float]) -> str:
    """Return ``low to high``: the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.2f} to {high:.2f}"


@functools.lru_cache
def flops_peak(precision: str) -> float:
    """Return the matrix-product peak in operations a processor second: the best of some products of 2048 x 2048."""
    import torch

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        began = time.process_time()
        one @ other
        best = max(best, 2 * 2048**3 / (time.process_time() - began))
    return best
