"""The loss curve of Luthier beside that of the stock Trainer, on the very same batches in the same order.

``make curves``. Float32, no dropout; what is compared is the loss of every update, before it.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.results import table, write
from benchmarks.stock import Steps, planned, stock_model, trainer
from benchmarks.workloads import Workload, prepared, workloads
from luthier.checkpoints import Checkpoints
from luthier.training import fit
from luthier.units import Duration


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

    head, folder = data.task.head, assembly.source.folder
    stock = trainer(
        stock_model(folder, head, seed=0), AutoTokenizer.from_pretrained(folder),
        Steps(store, head, planned(store, settings, steps)), out=scratch / "stock", rate=settings.learning_rate, seed=0,
        logging_strategy="steps", logging_steps=1,
    )  # fmt: skip
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
        chosen = [one for one in workloads(Path(folder)) if one.name in (options.names or ("bbc-news", "alpaca", "multi30k"))]
        rows = [compare(workload, Path(folder), options.steps) for workload in chosen]
    columns = ["work", "updates", "first loss", "stock's", "last loss", "stock's", "largest difference"]
    write("Loss curves against the stock Trainer (float32, the same batches)", "make curves", table(columns, rows))


if __name__ == "__main__":
    main()
