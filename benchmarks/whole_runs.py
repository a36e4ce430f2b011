"""What steady steps do not show: training the head alone over several epochs, and evaluation.

``make bench`` runs it too. MiniLM on AG News. Processor time of the whole work: for the head, Luthier's includes
computing the frozen layers once; the stock Trainer's is the mean of its steps times their number. Both sides
alternate.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from benchmarks.bench import Interleaved
from benchmarks.results import table, write
from benchmarks.stock import Steps, planned, stock_model, trainer, uninterrupted, useful_tokens
from benchmarks.workloads import Workload, prepared, workloads
from luthier.assembly import Assembly
from luthier.checkpoints import Checkpoints
from luthier.data.preparation import Prepared
from luthier.inference import outputs_of, windows
from luthier.training import fit
from luthier.units import Duration

_BARS = {"auto": {3: 12.0, 10: 35.0}, "float32": {3: 6.0, 10: 18.0}}
_EVALUATION_BARS = {"auto": 3.0, "float32": 1.6}


def first_rows(path: Path, count: int, aside: Path) -> str:
    """Copy the head line and the first rows of a file of one row a line to ``aside``."""
    lines = path.read_text(encoding="utf-8").split("\n")[: count + 1]
    aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(aside)


def ready(workload: Workload, scratch: Path, precision: str, rows: int, *, method: str) -> tuple[Assembly, Prepared]:
    """Resolve and encode the workload's first rows."""
    scratch.mkdir(parents=True, exist_ok=True)
    train = first_rows(Path(workload.values["data"]["train"]), rows, scratch / "train.csv")
    values = {**workload.values, "data": {"train": train}, "method": method}
    return prepared(dataclasses.replace(workload, values=values), scratch, precision=precision)


def head_seconds(assembly: Assembly, data: Prepared, epochs: int, scratch: Path) -> float:
    """Return the processor seconds of a Luthier run of the head."""
    features = data.splits["train"].features
    assert features is not None
    settings = uninterrupted(assembly.settings(), Duration(epochs, "epochs"))
    model = assembly.load(data)
    began = time.process_time()
    for _ in fit(model, features, settings, checkpoints=Checkpoints(scratch / "none", keep=1)):
        pass
    return time.process_time() - began


def stock_head_seconds(assembly: Assembly, data: Prepared, scratch: Path) -> float:
    """Return the stock Trainer's mean processor seconds a step with all but pooler and classifier frozen."""
    features = data.splits["train"].features
    assert features is not None
    head, folder, settings = data.task.head, assembly.source.folder, assembly.settings()
    model = stock_model(folder, head, seed=0)
    for part in (model.base_model.embeddings, model.base_model.encoder):
        part.requires_grad_(False)
    clock = Interleaved([])
    rows = Steps(features, head, planned(features, settings, 12))
    trainer(
        model, AutoTokenizer.from_pretrained(folder), rows, out=scratch / "stock", rate=settings.learning_rate, seed=0,
        callbacks=[clock],
    ).train()  # fmt: skip
    # By tokens, because twelve steps are not the whole epoch.
    chosen = planned(features, settings, 12)[2:]
    tokens = useful_tokens(features, chosen)
    return sum(clock.seconds[2:]) / tokens * float(features.lengths.sum())


def head_table(workload: Workload, scratch: Path, rows: int, turns: int) -> list[list[str]]:
    """Return the rows of the table of training the head."""
    ready_sides = {
        precision: ready(workload, scratch / f"head-{precision}", precision, rows, method="head") for precision in _BARS
    }
    ratios: dict[tuple[str, int], list[float]] = {(side, epochs): [] for side, bars in _BARS.items() for epochs in bars}
    for _ in range(turns):
        epoch = stock_head_seconds(*ready_sides["float32"], scratch)
        for side, epochs in ratios:
            ratios[side, epochs].append(epoch * epochs / head_seconds(*ready_sides[side], epochs, scratch))
    return [
        [f"{epochs} epochs of {rows} rows", side, f"**{statistics.median(found):.1f}** ({min(found):.1f} to {max(found):.1f})",
         f"{_BARS[side][epochs]:.0f}"]
        for (side, epochs), found in ratios.items()
    ]  # fmt: skip


def evaluation_table(workload: Workload, scratch: Path, rows: int) -> list[list[str]]:
    """Return the rows of the table of evaluation: the logits of all rows."""
    found: list[list[str]] = []
    stock_seconds = 0.0
    for precision, bar in _EVALUATION_BARS.items():
        assembly, data = ready(workload, scratch / f"evaluation-{precision}", precision, rows, method="full")
        features = data.splits["train"].features
        assert features is not None
        model = assembly.load(data)
        if not stock_seconds:
            stock_seconds = stock_evaluation_seconds(assembly, data, scratch)
        began = time.process_time()
        for window in windows(range(len(features))):
            outputs_of(model, data.task, [[features[index]] for index in window])
        ratio = stock_seconds / (time.process_time() - began)
        found.append([f"evaluation of {len(features)} rows", precision, f"**{ratio:.2f}**", f"{bar}"])
        print(" | ".join(found[-1]), flush=True)
    return found


def stock_evaluation_seconds(assembly: Assembly, data: Prepared, scratch: Path) -> float:
    """Return the processor seconds of ``Trainer.predict`` in batches of 32 rows."""
    features = data.splits["train"].features
    assert features is not None
    head, folder = data.task.head, assembly.source.folder
    order = [list(range(start, min(start + 32, len(features)))) for start in range(0, len(features), 32)]
    made: Any = trainer(
        stock_model(folder, head, seed=0), AutoTokenizer.from_pretrained(folder), Steps(features, head, order),
        out=scratch / "stock", rate=1e-4, seed=0, per_device_eval_batch_size=1,
    )  # fmt: skip
    began = time.process_time()
    made.predict(made.train_dataset)
    return time.process_time() - began


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1600, help="of the training of the head")
    parser.add_argument("--evaluated", type=int, default=10000, help="rows")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        workload = next(one for one in workloads(Path(folder)) if one.name == "ag-news")
        rows = head_table(workload, Path(folder), options.rows, options.turns)
        for row in rows:
            print(" | ".join(row), flush=True)
        rows += evaluation_table(workload, Path(folder), options.evaluated)
    text = f"{torch.get_num_threads()} threads; processor time against the stock Trainer in float32.\n\n"
    text += table(["work", "Luthier", "ratio (lowest to highest)", "bar"], rows)
    write("Whole runs against the stock Trainer: the head alone, and evaluation", "python -m benchmarks.whole_runs", text)


if __name__ == "__main__":
    main()
