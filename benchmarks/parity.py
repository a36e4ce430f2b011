"""Test scores of Luthier and of the stock Trainer at the same settings, pooled over seeds.

``make parity``. Luthier trains as it comes (``precision: auto``), the Trainer in float32; both on the same features with
the same number of updates, batch, peak rate and schedule, on the same rows in the same order. The interval is the paired
bootstrap over test rows, seeds pooled; it does not hold the variance of the seeds, whose scores are shown beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.results import table, write
from benchmarks.stock import Steps, as_model, planned, stock_model, trainer
from benchmarks.workloads import Workload, prepared, workloads
from luthier.checkpoints import Checkpoints
from luthier.data.preparation import Split
from luthier.evaluation import evaluate
from luthier.metrics.bootstrap import Bootstrap, paired_interval
from luthier.training import fit
from luthier.units import Duration


def pooled(bootstraps: list[Bootstrap]) -> Bootstrap:
    """Return the sum of several systems' counts, resampled together."""
    total = Bootstrap()
    total.merge(bootstraps)
    return total


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
        print(workload.name, "seed", seed, "done", flush=True)
    task = data.task
    first, second = pooled(ours), pooled(stock)
    low, high = paired_interval(first, second, task.summarize, task.headline)
    values = [task.summarize(side.totals)[task.headline] for side in (first, second)]
    spreads = [[task.summarize(one.totals)[task.headline] for one in side] for side in (ours, stock)]
    verdict = "equal within the interval" if low <= 0 <= high else "better" if low > 0 else "WORSE"
    return [
        workload.name, task.headline, str(steps),
        *(f"{value:.4f} ({min(spread):.3f} to {max(spread):.3f})" for value, spread in zip(values, spreads, strict=True)),
        f"{values[0] - values[1]:+.4f} ({low:+.4f} to {high:+.4f})", verdict,
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
        "difference (95%, paired)",
        "verdict",
    ]
    how = f"MiniLM, Luthier in {options.precision}, the Trainer in float32; {options.seeds} seeds pooled, "
    how += f"{options.rows} test rows at most; {minutes:.0f} minutes."
    text = f"{how}\n\n{table(columns, rows)}"
    write("Scores against the stock Trainer", "make parity", text)


if __name__ == "__main__":
    main()
