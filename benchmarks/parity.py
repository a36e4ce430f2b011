"""Test scores of Luthier and of the stock Trainer at the same settings, pooled over seeds.

``make parity``. Luthier trains as it comes (``precision: auto``), the Trainer in float32; both on the same features with
the same number of updates, batch, peak rate and schedule, on the same rows in the same order. Scores are means over the
seeds. The interval of their difference comes from drawing test rows and seeds anew, both for both sides: with dropout and a
new head, seeds differ by more than test rows do.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from benchmarks.results import table, write
from benchmarks.stock import Steps, as_model, planned, stock_model, trainer
from benchmarks.workloads import Workload, prepared, workloads
from luthier.checkpoints import Checkpoints
from luthier.data.preparation import Split
from luthier.evaluation import evaluate
from luthier.metrics.bootstrap import Bootstrap, Summarize
from luthier.training import fit
from luthier.units import Duration


def difference(ours: Sequence[Bootstrap], stock: Sequence[Bootstrap], summarize: Summarize, metric: str) -> tuple[float, float]:
    """Return the 95% interval of the difference of the mean scores, over test rows and seeds."""
    # [seeds, replicates]; a replicate draws the same test rows for every seed and side.
    drawn = [np.stack([one.replicates(summarize)[metric] for one in side]) for side in (ours, stock)]
    rng = np.random.default_rng(0)
    count, replicates = drawn[0].shape
    means = [np.take_along_axis(side, rng.integers(count, size=(count, replicates)), axis=0).mean(0) for side in drawn]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(low), float(high)


def compare(workload: Workload, scratch: Path, *, seeds: int, rows: int, precision: str) -> list[str]:
    """Train both sides with each seed and return one row of the table."""
    ours: list[Bootstrap] = []
    stock: list[Bootstrap] = []
    steps = 0
    for seed in range(seeds):
        assembly, data = prepared(workload, scratch / str(seed), precision=precision, seed=seed)
        features, test = data.splits["train"].features, data.splits["test"]
        assert features is not None
        test = Split("test", test.task, test.store, test.index[:rows], test.features)
        head, folder = data.task.head, assembly.source.folder
        steps = workload.updates
        settings = dataclasses.replace(assembly.settings(), duration=Duration(steps, "steps"), seed=seed)
        model = assembly.load(data)
        for _ in fit(model, features, settings, checkpoints=Checkpoints(scratch / f"{workload.name}-{seed}", keep=1)):
            pass
        ours.append(evaluate(model, test).bootstrap)
        plain = stock_model(folder, head, seed=seed)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows_of = Steps(features, head, planned(features, settings, steps))
        trainer(plain, tokenizer, rows_of, out=scratch / "stock", rate=settings.learning_rate, seed=seed).train()
        stock.append(evaluate(as_model(plain, head), test).bootstrap)
        values = [data.task.summarize(side[-1].totals)[data.task.headline] for side in (ours, stock)]
        print(workload.name, "seed", seed, *(f"{value:.4f}" for value in values), flush=True)
    task = data.task
    scores = [[task.summarize(one.totals)[task.headline] for one in side] for side in (ours, stock)]
    low, high = difference(ours, stock, task.summarize, task.headline)
    means = [statistics.mean(side) for side in scores]
    verdict = "equal within the interval" if low <= 0 <= high else "better" if low > 0 else "WORSE"
    return [
        workload.name, task.headline, str(steps),
        *(f"{mean:.4f} ({min(side):.3f} to {max(side):.3f})" for mean, side in zip(means, scores, strict=True)),
        f"{means[0] - means[1]:+.4f} ({low:+.4f} to {high:+.4f})", verdict,
    ]  # fmt: skip


def main() -> None:
    """Compare all workloads, or those named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=600, help="test rows at most")
    parser.add_argument("--precision", default="auto", help="of Luthier's side")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = []
    with tempfile.TemporaryDirectory(prefix="luthier-parity-") as folder:
        for workload in workloads(Path(folder)):
            if workload.name in options.names or (not options.names and workload.updates):
                rows.append(
                    compare(workload, Path(folder), seeds=options.seeds, rows=options.rows, precision=options.precision)
                )
                print(" | ".join(rows[-1]), flush=True)
                report(rows, options, minutes=(time.perf_counter() - began) / 60)
    if any(row[-1] == "WORSE" for row in rows):
        sys.exit(1)


def report(rows: list[list[str]], options: argparse.Namespace, *, minutes: float) -> None:
    """Write the table of the workloads that are done."""
    columns = [
        "work",
        "metric",
        "updates",
        "Luthier (of a seed)",
        "stock Trainer (of a seed)",
        "difference (95%, rows and seeds)",
        "verdict",
    ]
    how = f"MiniLM, Luthier in {options.precision}, the Trainer in float32; {options.seeds} seeds, "
    how += f"{options.rows} test rows at most; {minutes:.0f} minutes."
    text = f"{how}\n\n{table(columns, rows)}"
    write("Scores against the stock Trainer", "make parity", text)


if __name__ == "__main__":
    main()
