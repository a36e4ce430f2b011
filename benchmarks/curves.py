"""The loss curve of Luthier beside that of the stock Trainer, on the very same batches in the same order.

``make curves``. Float32, no dropout; what is compared is the loss of every update, before it.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.results import table, write
from benchmarks.stock import Rows, StepClock, stock_model, trainer
from benchmarks.workloads import Workload, prepared, workloads
from luthier.checkpoints import Checkpoints
from luthier.data.batching import Plan
from luthier.training import fit
from luthier.units import Duration


class Ordered:
    """Rows in the order of Luthier's plan."""

    def __init__(self, rows: Rows, order: list[int]) -> None:
        self.rows, self.order = rows, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[self.order[index]]


def compare(workload: Workload, scratch: Path, steps: int) -> list[str]:
    """Train both sides and return the row of the table."""
    assembly, data = prepared(workload, scratch, precision="float32")
    store = data.splits["train"].features
    assert store is not None
    settings = dataclasses.replace(assembly.settings(), duration=Duration(steps, "steps"), save_every=Duration(10**6, "steps"))
    model = assembly.load(data)
    events = fit(model, store, settings, checkpoints=Checkpoints(scratch / "none", keep=1))
    ours = [event.data["loss"] for event in events if event.kind == "progress"]
    del model

    plan = Plan(store.groups, store.lengths, batch=settings.batch, seed=settings.seed)
    order = [index for step in plan.epoch(0)[:steps] for row in step.rows for index in plan.features(int(row))]
    head, folder = data.task.head, assembly.source.folder
    stock = trainer(
        stock_model(folder, head, seed=0), AutoTokenizer.from_pretrained(folder), Ordered(Rows(store, head), order), head,
        out=scratch / "stock", batch=int(settings.batch.value), rate=settings.learning_rate, steps=steps, seed=0,
        clock=StepClock(),
    )  # fmt: skip
    stock.args.logging_strategy, stock.args.logging_steps = "steps", 1
    stock._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(stock.train_dataset)
    stock.train()
    theirs = [record["loss"] for record in stock.state.log_history if "loss" in record]
    differences = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
    row = [workload.name, str(steps), f"{ours[0]:.4f}", f"{theirs[0]:.4f}", f"{ours[-1]:.4f}", f"{theirs[-1]:.4f}",
           f"{max(differences):.1e}"]  # fmt: skip
    print(" | ".join(row), flush=True)
    return row


def main() -> None:
    """Compare all workloads of text that is written, or those named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-curves-") as folder:
        chosen = [
            one for one in workloads(Path(folder)) if one.name in options.names or (not options.names and not one.updates)
        ]
        rows = [compare(workload, Path(folder), options.steps) for workload in chosen]
    columns = ["work", "updates", "first loss", "stock's", "last loss", "stock's", "largest difference"]
    write("Loss curves against the stock Trainer (float32, the same batches)", "make curves", table(columns, rows))


if __name__ == "__main__":
    main()
