"""How far losses drift from those of the stock Trainer, on the very same batches in the same order: ``make curves``.

No dropout, the same first weights. The Trainer in float32 is what the others are held against: Luthier in float32, which
must follow it to rounding; Luthier as it comes; and the Trainer's own bfloat16. What is compared is the loss of every
update, before it. Question answering is left out: transformers' loss takes padding for tokens that might be the answer, so
it depends on what else is in the batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.results import table, write
from benchmarks.stock import Steps, planned, stock_model, trainer, uninterrupted
from benchmarks.workloads import Workload, prepared, workloads
from luthier.assembly import Assembly
from luthier.checkpoints import Checkpoints
from luthier.data.preparation import Prepared
from luthier.samples import fetch
from luthier.training import fit
from luthier.units import Duration

_BATCHES = {"ag-news": 8, "conll2003-4000": 32, "alpaca": 4, "smollm2": 2, "multi30k": 8}
"""Rows of an update: fewer than those whose speed is measured, so that sixty updates end in a few minutes."""
_EXACT, _DRIFT = 1e-5, 3.0
COLUMNS = (
    "work", "updates", "first and last loss", "Luthier float32: largest difference", "Luthier auto: mean difference",
    "the Trainer's bfloat16: mean difference", "ratio",
)  # fmt: skip


def without_dropout(folder: Path, copy: Path) -> str:
    """Copy a model folder to ``copy`` with every dropout of its config at 0."""
    shutil.copytree(folder, copy)
    values = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    rates = {key: 0.0 for key, value in values.items() if ("dropout" in key or key.endswith("_pdrop")) and value}
    (copy / "config.json").write_text(json.dumps({**values, **rates}), encoding="utf-8")
    return str(copy)


def ours(assembly: Assembly, data: Prepared, scratch: Path, steps: int) -> list[float]:
    """Train with Luthier; keep the first weights, head included, in ``scratch / "first"``."""
    store = data.splits["train"].features
    assert store is not None
    model: Any = assembly.load(data)
    model.save(scratch / "first")
    events = fit(
        model,
        store,
        uninterrupted(assembly.settings(), Duration(steps, "steps")),
        checkpoints=Checkpoints(scratch / "none", keep=1),
    )
    return [event.data["loss"] for event in events if event.kind == "progress"]


def theirs(assembly: Assembly, data: Prepared, scratch: Path, steps: int, *, bf16: bool) -> list[float]:
    """Train with the Trainer from the same first weights."""
    store, head, settings = (
        data.splits["train"].features,
        data.task.head,
        uninterrupted(assembly.settings(), Duration(steps, "steps")),
    )
    assert store is not None
    stock = trainer(
        stock_model(scratch / "first", head, seed=0), AutoTokenizer.from_pretrained(assembly.source.folder),
        Steps(store, head, planned(store, settings, steps)), out=scratch / "stock", rate=settings.learning_rate, seed=0,
        bf16=bf16, logging_strategy="steps", logging_steps=1,
    )  # fmt: skip
    stock.train()
    return [record["loss"] for record in stock.state.log_history if "loss" in record]


def compare(workload: Workload, scratch: Path, steps: int) -> list[str]:
    """Train all sides and return the row of the table."""
    scratch.mkdir()
    name = workload.values.get("model", "minilm")
    source = Path(name) if Path(name).is_dir() else fetch(name)
    values = {**workload.values, "model": without_dropout(source, scratch / "quiet")}
    values["train"] = {**values["train"], "batch": f"{_BATCHES[workload.name]} examples"}
    workload = dataclasses.replace(workload, values=values)
    curves = {}
    for precision in ("float32", "auto"):
        assembly, data = prepared(workload, scratch / precision, precision=precision)
        curves[precision] = ours(assembly, data, scratch / precision, steps)
        gc.collect()
    exact = theirs(assembly, data, scratch / "float32", steps, bf16=False)
    gc.collect()
    curves["bfloat16"] = theirs(assembly, data, scratch / "float32", steps, bf16=True)
    apart = {side: [abs(one - other) for one, other in zip(curve, exact, strict=True)] for side, curve in curves.items()}
    drift = {side: statistics.mean(apart[side]) for side in ("auto", "bfloat16")}
    row = [
        workload.name, str(len(exact)), f"{exact[0]:.4f}, {exact[-1]:.4f}", f"**{max(apart['float32']):.1e}**",
        f"{drift['auto']:.1e}", f"{drift['bfloat16']:.1e}", f"**{drift['auto'] / drift['bfloat16']:.2f}**",
    ]  # fmt: skip
    print(" | ".join(row), flush=True)
    return row


def main() -> None:
    """Compare the workloads that have a batch here, or those named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-curves-") as folder:
        chosen = [one for one in workloads(Path(folder)) if one.name in (options.names or _BATCHES)]
        rows: list[list[str]] = []
        for workload in chosen:
            rows.append(compare(workload, Path(folder) / f"curve-{workload.name}", options.steps))
            how = "No dropout, the same first weights. "
            how += f"Bars: {_EXACT:.0e} in float32, {_DRIFT:.0f} times the Trainer's own drift in bfloat16."
            write("Losses beside the stock Trainer's", "make curves", f"{how}\n\n{table(COLUMNS, rows)}")


if __name__ == "__main__":
    main()
