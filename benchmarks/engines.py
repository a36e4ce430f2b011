"""The same run by the engines torch, tensorflow and jax: test scores with the paired intervals of their differences.

``make engines``. Each run is a process of its own, in float32, with the same settings; dropout and, on a Keras engine, its
draws differ. R8 is a sample; CoNLL-2003 lies in LUTHIER_BENCH_DATA, and the first sentences of it are used. Each row of the
table is held against the engine torch on the same test rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.four_ways import ENGINES, timed
from benchmarks.results import table, write
from benchmarks.workloads import first_sentences, folder
from luthier.metrics.bootstrap import Bootstrap, paired_interval
from luthier.runs import task_of

COLUMNS = ("work", "engine", "metric", "score (95%)", "difference from torch (95%, paired)", "verdict", "processor, s")


@dataclass(frozen=True)
class Work:
    """A name and what ``luthier train`` is given."""

    name: str
    arguments: tuple[str, ...]


def works(scratch: Path) -> list[Work]:
    """Return R8 and a part of CoNLL-2003, whose files are put into ``scratch``."""
    conll = folder() / "ner" / "conll2003"
    train = first_sentences(conll / "eng.train", 3000, scratch / "train.conll")
    test = first_sentences(conll / "eng.testb", 1500, scratch / "test.conll")
    news = Path(__file__).parents[1] / "examples" / "news-topics.yaml"
    return [
        Work("Reuters R8", (str(news), "train.duration=1 epoch")),
        Work(
            "CoNLL-2003, 3000 sentences",
            (
                "task=token-classification", "model=minilm", f"data.train={train}", f"data.test={test}",
                "data.format=conll", "task.max_tokens=128", "train.duration=3 epochs", "train.learning_rate=2e-4",
            ),
        ),
    ]  # fmt: skip


def run(work: Work, engine: str, output: Path) -> float:
    """Train with one engine; return the processor seconds."""
    command = [sys.executable, "-m", "luthier", "train", *work.arguments, "train.precision=float32"]
    done, (used, _) = timed([*command, f"engine={engine}", f"output={output}"])
    if done.returncode:
        raise RuntimeError(done.stderr)
    return used


def counted(output: Path) -> tuple[Any, Bootstrap]:
    """Return a run's task, and the counts of its test rows."""
    described = output / "model" / "luthier.json"
    found = Bootstrap()
    with (output / "predictions" / "test.jsonl").open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            found.add(f"{line['file']}\0{line['line']}", line["counts"])
    return task_of(json.loads(described.read_text(encoding="utf-8")), where=str(described)), found


def rows_of(work: Work, scratch: Path) -> list[list[str]]:
    """Run all engines and return the work's rows of the table."""
    rows: list[list[str]] = []
    first: Bootstrap | None = None
    for engine in ENGINES:
        output = scratch / engine / "run"
        used = run(work, engine, output)
        task, found = counted(output)
        first = first or found
        score = found.scores(task.summarize)[task.headline]
        apart, verdict = "", ""
        if found is not first:
            low, high = paired_interval(found, first, task.summarize, task.headline)
            difference = score.value - first.scores(task.summarize)[task.headline].value
            apart = f"{difference:+.4f} ({low:+.4f} to {high:+.4f})"
            verdict = "equal within the interval" if low <= 0 <= high else "APART"
        interval = f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})"
        rows.append([work.name, engine, task.headline, interval, apart, verdict, f"{used:.0f}"])
        print(" | ".join(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Run all works by all engines and write the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="luthier-engines-") as scratch:
        for number, work in enumerate(works(Path(scratch))):
            rows += rows_of(work, Path(scratch) / str(number))
            write("The same run by three engines", "make engines", f"MiniLM in float32, seed 0.\n\n{table(COLUMNS, rows)}")


if __name__ == "__main__":
    main()
