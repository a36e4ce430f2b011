"""Training speed beside other packages, as a user gets them: ``make peers``.

TRL's SFTTrainer on a Llama of 29 M with random weights: chat rows (alpaca), the responses alone with loss, batch 32; with
its defaults (recomputing activations, bfloat16), without those in float32, and packed, with as many tokens a step. On a CPU
its packing lets sequences see each other: TRL itself warns of that. simpletransformers on MiniLM: tagging of CoNLL-2003,
batch 32, with its defaults, which pad every sentence to 128 tokens.

Each package has an environment of its own, beside the same torch. Each run is a process of its own, and Luthier's alternate
with the other's (A B A B). What is compared is tokens without padding a processor second; the first two steps are dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import LuthierSide
from benchmarks.results import table, write
from benchmarks.stock import planned, useful_tokens
from benchmarks.workloads import small_decoder, workloads
from luthier.samples import fetch

_DROPPED = 2
_TOKENS = 512
"""Of a packed row of TRL's."""


@dataclass(frozen=True)
class Peer:
    """Another package and what it is measured on.

    Attributes:
        package: its name on PyPI, and of its script here.
        title: of the table.
        workload: Luthier's side.
        modes: what its script is asked for.
        model: a folder, from one for scratch.
        rows: what its script reads, from Luthier's side and the features of each step.
    """

    package: str
    title: str
    workload: str
    modes: tuple[str, ...]
    model: Callable[[Path], str]
    rows: Callable[[LuthierSide, Sequence[Sequence[int]]], list[dict[str, Any]]]


def dialogues(side: LuthierSide, steps: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Return token ids with the mask of what is learned."""
    arrays = [side.features[index].arrays for members in steps for index in members]
    return [{"input_ids": a["input_ids"].tolist(), "completion_mask": (a["labels"] >= 0).astype(int).tolist()} for a in arrays]


def sentences(side: LuthierSide, steps: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Return words with their tags."""
    split = side.data.splits["train"]
    rows = [split.row(int(side.features.groups[index])) for members in steps for index in members]
    return [{"words": list(row["tokens"]), "tags": list(row["tags"])} for row in rows]


PEERS = (
    Peer(
        "trl", "TRL: Llama of 29 M, chat rows", "alpaca", ("defaults", "plain", "packed"), small_decoder, dialogues
    ),
    Peer(
        "simpletransformers", "simpletransformers: MiniLM, tagging of CoNLL-2003", "conll2003-4000", ("defaults",),
        lambda _: str(fetch("minilm")), sentences,
    ),
)  # fmt: skip


def environment(folder: Path, package: str) -> Path:
    """Make a package's environment, unless it is there; return its Python."""
    python = folder / package / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / package)], check=True)
        constraints = str(Path(__file__).parents[1] / "constraints.txt")
        for name in ("torch", package):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--constraint", constraints, name], check=True)
    return python


def side_of(peer: Peer, scratch: Path, precision: str, steps: int) -> LuthierSide:
    """Return Luthier's side of the workload."""
    scratch.mkdir(parents=True, exist_ok=True)
    workload = next(one for one in workloads(scratch) if one.name == peer.workload)
    return LuthierSide(workload, scratch / precision, precision, steps)


def luthier_rate(peer: Peer, scratch: Path, precision: str, steps: int) -> float:
    """Return Luthier's rate, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", peer.package, "--alone", precision]
    done = subprocess.run(
        [*command, "--steps", str(steps), "--scratch", str(scratch)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


def alone(peer: Peer, scratch: Path, precision: str, steps: int) -> None:
    """Take the steps and print the rate."""
    side = side_of(peer, scratch, precision, steps)
    for _ in range(steps):
        side.step()
    chosen = planned(side.features, side.settings, steps)[_DROPPED:]
    tokens = useful_tokens(side.features, chosen)
    print(tokens / sum(side.seconds[_DROPPED:]))


def peer_rate(peer: Peer, python: Path, scratch: Path, mode: str, side: LuthierSide, steps: int) -> float | None:
    """Return the other package's rate in one mode; None where it fails."""
    chosen = planned(side.features, side.settings, steps)
    total = useful_tokens(side.features, chosen)
    rows = scratch / f"{peer.package}.json"
    rows.write_text(json.dumps(peer.rows(side, chosen)), encoding="utf-8")
    batch = round(total / steps / _TOKENS) if mode == "packed" else len(chosen[0])
    script = str(Path(__file__).with_name(f"peer_{peer.package}.py"))
    arguments: list[Any] = [rows, peer.model(scratch), scratch / "out", steps, batch, side.settings.learning_rate, mode]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), script, *map(str, arguments)], capture_output=True, text=True, env=kept, cwd=scratch, check=False
    )
    if done.returncode:
        print(f"{peer.package}, {mode}: {done.stderr.splitlines()[-1]}", flush=True)
        return None
    result = json.loads(done.stdout.splitlines()[-1])
    seconds = result["seconds"][_DROPPED:]
    # Where it does not say which rows a step had, those of a step are taken to be as long as the others.
    tokens = sum(result["tokens"][_DROPPED:]) if "tokens" in result else total / steps * len(seconds)
    return float(tokens / sum(seconds))


def measure(peer: Peer, scratch: Path, python: Path, *, steps: int, turns: int) -> list[list[str]]:
    """Return the rows of the table."""
    side = side_of(peer, scratch, "float32", steps)
    found: dict[str, list[float]] = {}
    for turn in range(turns):
        for precision in ("float32", "auto"):
            found.setdefault(f"Luthier, {precision}", []).append(luthier_rate(peer, scratch, precision, steps))
        for mode in peer.modes:
            rate = peer_rate(peer, python, scratch, mode, side, steps)
            if rate is not None:
                found.setdefault(f"{peer.package}, {mode}", []).append(rate)
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
    """Measure all packages, or those named, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "luthier-peers")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--alone", choices=("auto", "float32"), help="take Luthier's steps and print their rate")
    options = parser.parse_args()
    for peer in (one for one in PEERS if one.package in (options.names or [one.package])):
        with tempfile.TemporaryDirectory(prefix="luthier-peers-") as folder:
            scratch = options.scratch or Path(folder)
            if options.alone:
                alone(peer, scratch, options.alone, options.steps)
                return
            python = environment(options.environments, peer.package)
            rows = measure(peer, scratch, python, steps=options.steps, turns=options.turns)
        text = f"{options.turns} turns of {options.steps} steps, the first {_DROPPED} dropped.\n\n"
        text += table(["side", "tokens a processor second (lowest to highest)", "Luthier auto is faster by"], rows)
        write(f"Training speed beside {peer.title}", "make peers", text)


if __name__ == "__main__":
    main()
