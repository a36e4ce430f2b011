"""Training speed beside TRL's SFTTrainer, as a user gets it: ``make peers``.

A Llama of 29 M with random weights, chat rows (alpaca), the responses alone with loss, batch 32. TRL is installed into
an environment of its own, beside the same torch. Each run is a process of its own, and Luthier's alternate with TRL's
(A B A B). What is compared is tokens without padding a processor second; the first two steps are dropped. TRL runs
with its defaults (recomputing activations, bfloat16); without those in float32; and packed, with as many tokens a step.
On a CPU its packing lets sequences see each other: TRL itself warns of that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import LuthierSide
from benchmarks.results import table, write
from benchmarks.stock import planned
from benchmarks.workloads import small_decoder, workloads

_DROPPED = 2
_MODES = ("defaults", "plain", "packed")


def environment(folder: Path) -> Path:
    """Make TRL's environment, unless it is there; return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        constraints = str(Path(__file__).parents[1] / "constraints.txt")
        for package in ("torch", "trl"):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--constraint", constraints, package], check=True)
    return python


def write_rows(side: LuthierSide, steps: int, path: Path) -> int:
    """Write the features of the first steps in order for TRL; return the tokens of a step, on average."""
    order = [index for members in planned(side.features, side.settings, steps) for index in members]
    rows = []
    for index in order:
        arrays = side.features[index].arrays
        mask = (arrays["labels"] >= 0).astype(int).tolist()
        rows.append({"input_ids": arrays["input_ids"].tolist(), "completion_mask": mask})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return sum(len(row["input_ids"]) for row in rows) // steps


def rate(seconds: list[float], tokens: list[int]) -> float:
    """Return tokens a processor second of the steady steps."""
    return sum(tokens[_DROPPED:]) / sum(seconds[_DROPPED:])


def luthier_rate(scratch: Path, precision: str, steps: int) -> float:
    """Return Luthier's rate, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", "--alone", precision, "--steps", str(steps), "--scratch", str(scratch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def side_of(scratch: Path, precision: str, steps: int) -> LuthierSide:
    """Return Luthier's side of the workload."""
    scratch.mkdir(parents=True, exist_ok=True)
    workload = next(one for one in workloads(scratch) if one.name == "alpaca")
    return LuthierSide(workload, scratch / precision, precision, steps)


def alone(scratch: Path, precision: str, steps: int) -> None:
    """Take the steps and print the rate."""
    side = side_of(scratch, precision, steps)
    for _ in range(steps):
        side.step()
    chosen = planned(side.features, side.settings, steps)
    print(rate(side.seconds, [sum(int(side.features.lengths[index]) for index in members) for members in chosen]))


def measure(scratch: Path, python: Path, *, steps: int, turns: int) -> list[list[str]]:
    """Return the rows of the table."""
    side = side_of(scratch, "float32", steps)
    rows = scratch / "rows.json"
    tokens = write_rows(side, steps, rows)
    model, learning_rate = small_decoder(scratch), side.settings.learning_rate
    found: dict[str, list[float]] = {}
    for turn in range(turns):
        for precision in ("float32", "auto"):
            found.setdefault(f"Luthier, {precision}", []).append(luthier_rate(scratch, precision, steps))
        for mode in _MODES:
            batch = round(tokens / 512) if mode == "packed" else 32
            arguments: list[Any] = [rows, model, scratch / "trl", steps, batch, learning_rate, mode]
            script = str(Path(__file__).with_name("peer_trl.py"))
            kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            done = subprocess.run([str(python), script, *map(str, arguments)], capture_output=True, text=True, env=kept)
            if done.returncode:
                print(f"TRL, {mode}: {done.stderr.splitlines()[-1]}", flush=True)
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            found.setdefault(f"TRL, {mode}", []).append(rate(result["seconds"], result["tokens"]))
        print(turn, {name: round(rates[-1]) for name, rates in found.items()}, flush=True)
    base = statistics.median(found["Luthier, auto"])
    return [
        [
            name,
            f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})",
            f"{base / statistics.median(rates):.2f}",
        ]
        for name, rates in found.items()
    ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "luthier-peer-trl")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--alone", choices=("auto", "float32"), help="take Luthier's steps and print their rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-peers-") as folder:
        scratch = options.scratch or Path(folder)
        if options.alone:
            alone(scratch, options.alone, options.steps)
            return
        rows = measure(scratch, environment(options.environment), steps=options.steps, turns=options.turns)
    text = f"{options.turns} turns of {options.steps} steps, the first {_DROPPED} dropped.\n\n"
    text += table(["side", "tokens a processor second (lowest to highest)", "Luthier auto is faster by"], rows)
    write("Training speed beside TRL: Llama of 29 M, chat rows", "make peers", text)


if __name__ == "__main__":
    main()
