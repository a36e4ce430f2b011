"""Useful tokens a second of training, Luthier against the stock Trainer, interleaved step by step in one process.

``make bench``. Both sides take the same updates: the same rows in the same order. The stock Trainer's loop leads;
before each of its steps every other side takes the same one. Time is processor time of forward, backward and
update (Luthier's with collating, the Trainer's without); the first two steps are dropped. The ratio of a step needs
no tokens: both sides have the same. The table has its median and its quartiles, the share of the machine's measured
matrix-product peak that useful tokens reach, and the ratio that there would be if Luthier reached all of it. Below stands
what Luthier's time goes into, from a profile of three more steps. Losses are compared by ``benchmarks.curves``, without
dropout and from the same first weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from benchmarks.results import flops_peak, quartiles, table, write
from benchmarks.stock import Steps, planned, stock_model, trainer, uninterrupted, useful_tokens
from benchmarks.workloads import Workload, prepared, tune_stock, workloads
from luthier.checkpoints import Checkpoints
from luthier.heads import Seq2SeqHead, writes
from luthier.runs import peak_memory_bytes
from luthier.training import fit
from luthier.units import Duration

_DROPPED = 2
COLUMNS = (
    "work", "Luthier", "stock", "stock tokens/cpu s", "Luthier tokens/cpu s", "ratio (quartiles)", "bar",
    "share of peak: stock, Luthier", "ratio at the peak",
)  # fmt: skip
_PROFILED = 3
_KINDS = {
    "matrix products": ("mm", "addmm"),
    "attention": ("bmm", "PackedProducts", "PackedProductsBackward", "_softmax", "_softmax_backward_data", "index_select"),
    "casts and copies": ("copy_", "fill_", "add_"),
    "activations and norms": ("gelu", "gelu_backward", "silu", "silu_backward", "mul", "native_layer_norm",
                              "native_layer_norm_backward", "rsqrt", "pow"),
    "dropout": ("_Dropout", "_DropoutBackward", "bitwise_and"),
    "optimizer": ("_fused_adamw_", "linalg_vector_norm"),
}  # fmt: skip
"""torch's operations by what they are for; the softmax of the vocabulary's loss counts as attention's."""


class LuthierSide:
    """One loaded model that trains through the real loop, a step whenever it is asked."""

    def __init__(self, workload: Workload, scratch: Path, precision: str, steps: int) -> None:
        self.assembly, self.data = prepared(workload, scratch, precision=precision)
        self.model: Any = self.assembly.load(self.data)
        features = self.data.splits["train"].features
        assert features is not None
        self.features = features
        self.settings = uninterrupted(self.assembly.settings(), Duration(steps, "steps"))
        self.seconds: list[float] = []
        self._events: Iterator[Any] = fit(
            self.model, features, self.settings, checkpoints=Checkpoints(scratch / "none", keep=1)
        )

    def step(self) -> None:
        """Take one step; the checkpoint after the last one is never written."""
        began = time.process_time()
        for event in self._events:
            if event.kind == "progress":
                break
        self.seconds.append(time.process_time() - began)


class Interleaved(transformers.TrainerCallback):  # type: ignore[misc]
    """Lets the other sides step before each step of the Trainer, and clocks that step."""

    def __init__(self, sides: list[LuthierSide]) -> None:
        self.sides, self.seconds = sides, list[float]()
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        for side in self.sides:
            side.step()
        self._began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.process_time() - self._began)


def stock_steps(workload: Workload, side: LuthierSide, scratch: Path, clock: Any, *, bf16: bool, steps: int) -> None:
    """Train the stock side, with ``clock`` listening."""
    head, folder = side.data.task.head, side.assembly.source.folder
    rows = Steps(side.features, head, planned(side.features, side.settings, steps))
    model = tune_stock(stock_model(folder, head, seed=0), workload, head)
    made = trainer(
        model, AutoTokenizer.from_pretrained(folder), rows, out=scratch / "stock", rate=side.settings.learning_rate,
        seed=0, bf16=bf16, callbacks=[clock],
    )  # fmt: skip
    made.train()


def profiled(side: LuthierSide) -> str:
    """Return what a side's time goes into."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(_PROFILED):
            side.step()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profile.key_averages()}
    total = sum(times.values())
    shares = {kind: sum(times.get(name, 0.0) for name in names) / total for kind, names in _KINDS.items()}
    shares["the rest"] = 1.0 - sum(shares.values())
    return ", ".join(f"{kind} {100 * share:.0f}%" for kind, share in shares.items())


def measure(workload: Workload, scratch: Path, *, steps: int) -> tuple[list[list[str]], str]:
    """Return the rows of the table, against float32 and the stock Trainer's own bfloat16, and where the time goes."""
    rows: list[list[str]] = []
    goes: dict[str, str] = {}
    for bf16 in (False, True):
        bars = {"auto": workload.bfloat16_bar} if bf16 else workload.bars
        more = 0 if bf16 else _PROFILED
        sides = [LuthierSide(workload, scratch / f"{precision}-{bf16}", precision, steps + more) for precision in bars]
        clock = Interleaved(sides)
        stock_steps(workload, sides[0], scratch, clock, bf16=bf16, steps=steps)
        chosen = planned(sides[0].features, sides[0].settings, steps)[_DROPPED:]
        tokens = useful_tokens(sides[0].features, chosen)
        theirs = clock.seconds[_DROPPED:]
        for side, (precision, bar) in zip(sides, bars.items(), strict=True):
            ours = side.seconds[_DROPPED:]
            ratios = [other / one for one, other in zip(ours, theirs, strict=True)]
            work = operations(side) * tokens
            shares = [
                work / seconds / flops_peak(dtype)
                for seconds, dtype in (
                    (sum(theirs), "bfloat16" if bf16 else "float32"),
                    (sum(ours), side.model.facts["precision"]),
                )
            ]
            rows.append([
                workload.name, f"{precision} ({side.model.facts['precision']}, {side.model.facts['batching']})",
                "bfloat16" if bf16 else "float32", f"{tokens / sum(theirs):.0f}", f"{tokens / sum(ours):.0f}",
                f"**{statistics.median(ratios):.2f}** ({quartiles(ratios)})", f"{bar}",
                ", ".join(f"{100 * share:.0f}%" for share in shares), f"{statistics.median(ratios) / shares[1]:.1f}",
            ])  # fmt: skip
            print(" | ".join(rows[-1]), flush=True)
            if not bf16:
                goes[precision] = profiled(side)
        del sides, clock
        gc.collect()
    return rows, "\n".join(f"- {precision}: {shares}" for precision, shares in goes.items())


def operations(side: LuthierSide) -> float:
    """Return the operations a useful token needs: 6 a weight of a trained matrix, 4 of one that passes gradients on.

    Of an encoder-decoder each side by its share of the tokens, of the vocabulary layer by the share of tokens that
    have a target. Attention's own products are left out.
    """
    from luthier.engines.torch import structure

    network, features = side.model.network, side.features
    targets = float(features.num_targets.sum() / features.lengths.sum())
    pairs = isinstance(side.data.task.head, Seq2SeqHead)
    total = 0.0
    for name, module in structure.products(network).items():
        of_source = ".encoder." in name or name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
        share = (1 - targets if of_source else targets) if pairs else 1.0
        total += share * sum(_operations(weight) for weight in module.parameters() if weight.dim() == 2)
    if writes(side.data.task.head):
        total += targets * _operations(network.get_output_embeddings().weight)
    return total


def _operations(weight: torch.Tensor) -> int:
    return (6 if weight.requires_grad else 4) * weight.numel()


def peak_memory(workload: str, side: str, steps: int) -> float:
    """Return the peak resident memory in GB of one side, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench", workload, "--steps", str(steps), "--alone", side]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["gigabytes"])


def run_alone(workload: Workload, side: str, scratch: Path, steps: int) -> None:
    """Take a few steps of one side and print this process's peak."""
    precision = "auto" if side == "auto" else "float32"
    ours = LuthierSide(workload, scratch / "ours", precision, steps)
    if side == "stock":
        ours.model = None  # the loop that was not begun holds it too
        ours._events = iter(())
        gc.collect()
        stock_steps(workload, ours, scratch, Interleaved([]), bf16=False, steps=steps)
    else:
        for _ in range(steps):
            ours.step()
    print(json.dumps({"gigabytes": peak_memory_bytes() / 2**30}))


def main() -> None:
    """Measure all workloads, or those named, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--memory-steps", type=int, default=6)
    parser.add_argument("--alone", choices=("stock", "auto", "float32"), help="take steps of one side and print its peak")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        chosen = [one for one in workloads(Path(folder)) if one.bars and (not options.names or one.name in options.names)]
        if options.alone:
            run_alone(chosen[0], options.alone, Path(folder), options.steps)
            return
        for workload in chosen:
            rows, goes = measure(workload, Path(folder) / workload.name, steps=options.steps)
            peaks = {side: peak_memory(workload.name, side, options.memory_steps) for side in ("stock", "auto", "float32")}
            how = f"{torch.get_num_threads()} threads; {options.steps} steps, the first {_DROPPED} dropped. "
            how += (
                f"Matrix-product peak: float32 {flops_peak('float32') / 1e9:.0f}, bfloat16 {flops_peak('bfloat16') / 1e9:.0f} "
            )
            how += "GFLOP a processor second. "
            how += "Peak memory of a process of its own: " + ", ".join(f"{name} {peak:.2f} GB" for name, peak in peaks.items())
            how += f" (auto {peaks['auto'] / peaks['stock']:.2f} of stock's)."
            title = f"Training speed against the stock Trainer: {workload.title}"
            write(title, f"python -m benchmarks.bench {workload.name}", f"{how}\n\n{table(COLUMNS, rows)}\n\n{goes}")


if __name__ == "__main__":
    main()
