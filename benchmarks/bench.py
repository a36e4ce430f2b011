"""Useful tokens a second, Luthier against the stock Trainer, in one process that alternates both.

``make bench``. Useful tokens are those that are not padding. Time is processor time of the steps (forward,
backward, update, collating), the first two steps of each turn dropped; the figure is the median of the ratio
over turns. Wall time is shown beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.results import table, write
from benchmarks.stock import Rows, StepClock, stock_model, trainer
from benchmarks.workloads import Workload, prepared, workloads
from luthier.checkpoints import Checkpoints
from luthier.heads import Seq2SeqHead
from luthier.training import fit
from luthier.units import Duration

_DROPPED = 2


class LuthierSide:
    """One loaded model that trains a few steps a turn, through the real loop."""

    def __init__(self, workload: Workload, scratch: Path, precision: str) -> None:
        self.assembly, self.data = prepared(workload, scratch, precision=precision)
        self.model = self.assembly.load(self.data)
        self.scratch = scratch

    def turn(self, number: int, steps: int) -> tuple[float, float]:
        """Return useful tokens per processor second and per wall second."""
        import dataclasses

        features = self.data.splits["train"].features
        assert features is not None
        duration = Duration(steps + _DROPPED, "steps")
        settings = dataclasses.replace(
            self.assembly.settings(), duration=duration, seed=number, save_every=Duration(10**6, "steps")
        )
        cpu = wall = tokens = 0.0
        checkpoints = Checkpoints(self.scratch / "none", keep=1)
        for event in fit(self.model, features, settings, checkpoints=checkpoints):
            if event.kind == "progress" and event.step == _DROPPED:
                cpu, wall, tokens = time.process_time(), time.perf_counter(), event.data["tokens"]
            if event.kind == "progress" and event.step == steps + _DROPPED:
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                tokens = event.data["tokens"] - tokens
                break  # the checkpoint of the last step is no part of a step
        return tokens / cpu, tokens / wall


class StockSide:
    """The stock Trainer on the same features."""

    def __init__(self, workload: Workload, ours: LuthierSide, scratch: Path) -> None:
        head = ours.data.task.head
        folder = ours.assembly.source.folder
        features = ours.data.splits["train"].features
        assert features is not None
        self.head, self.scratch = head, scratch
        self.model = stock_model(folder, head, seed=0)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.rows = Rows(features, head)
        self.settings = ours.assembly.settings()

    def turn(self, number: int, steps: int) -> tuple[float, float]:
        """Return useful tokens per processor second and per wall second."""
        clock = StepClock()
        counter = _Counting(self.rows)
        self.trainer = trainer(
            self.model, self.tokenizer, counter, self.head, out=self.scratch / "stock",
            batch=int(self.settings.batch.value), rate=self.settings.learning_rate,
            steps=steps + _DROPPED, seed=number, clock=clock,
        )  # fmt: skip
        began: list[float] = []
        batch = int(self.settings.batch.value)

        class Mark(StepClock):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                began.append(time.process_time())
                began.append(time.perf_counter())

        self.trainer.add_callback(Mark())
        self.trainer.train()
        cpu, wall = time.process_time() - began[2 * _DROPPED], time.perf_counter() - began[2 * _DROPPED + 1]
        tokens = sum(counter.lengths[_DROPPED * batch : (_DROPPED + steps) * batch])
        return tokens / cpu, tokens / wall


class _Counting:
    """Rows that remember the lengths in the order in which they were taken."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.lengths = rows, list[int]()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        target = len(row["labels"]) if isinstance(self.rows.head, Seq2SeqHead) else 0
        self.lengths.append(len(row["input_ids"]) + target)
        return row


def measure(workload: Workload, scratch: Path, *, turns: int, steps: int) -> list[list[str]]:
    """Alternate stock, auto, float32 and return the rows of the table."""
    sides = {precision: LuthierSide(workload, scratch / precision, precision) for precision in workload.bars}
    stock = StockSide(workload, next(iter(sides.values())), scratch)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ["stock", *sides]}
    for number in range(turns):
        figures["stock"].append(stock.turn(number, steps))
        for name, side in sides.items():
            figures[name].append(side.turn(number, steps))
    rows = []
    for name, side in sides.items():
        ratios = [mine[0] / other[0] for mine, other in zip(figures[name], figures["stock"], strict=True)]
        walls = [mine[1] / other[1] for mine, other in zip(figures[name], figures["stock"], strict=True)]
        facts = side.model.facts
        rows.append([
            workload.name,
            f"{name} ({facts['precision']}, {facts['batching']})",
            f"{statistics.median(f[0] for f in figures['stock']):.0f}",
            f"{statistics.median(f[0] for f in figures[name]):.0f}",
            f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{statistics.median(walls):.2f}",
            f"{workload.bars[name]}",
        ])  # fmt: skip
        print(" | ".join(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure all workloads, or those named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        for workload in workloads(Path(folder)):
            if not options.names or workload.name in options.names:
                rows += measure(workload, Path(folder), turns=options.turns, steps=options.steps)
    columns = ["work", "Luthier", "stock tokens/cpu s", "Luthier tokens/cpu s", "ratio (processor time)", "ratio (wall)", "bar"]
    how = "MiniLM, and a small decoder and translator with random weights; "
    how += f"{torch.get_num_threads()} threads; {options.turns} turns of {options.steps} steps each."
    text = f"{how}\n\n{table(columns, rows)}"
    write("Useful tokens a second against the stock Trainer (float32, padded to the longest)", "make bench", text)


if __name__ == "__main__":
    main()
