"""One description, four ways: the same run by the engines torch, tensorflow and jax, and by the script of the torch run.

``python -m benchmarks.four_ways``. Each way has a process of its own, one after another; an engine that is not installed is
named and left out. The table goes to RESULTS.md and docs/four-ways.md, the script to examples/four-ways/.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import table, write

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "four-ways"
CONFIG = EXAMPLE / "medical-questions.yaml"
PAGE = ROOT / "docs" / "four-ways.md"
ENGINES = ("torch", "tensorflow", "jax")
PACKAGES = {"torch": ("torch",), "tensorflow": ("tensorflow", "keras", "keras_hub"), "jax": ("jax", "keras", "keras_hub")}
METRICS = ("f1", "exact_match", "no_answer_accuracy")


@dataclass(frozen=True, slots=True)
class Way:
    """What one way gave.

    Attributes:
        scores: of the test split; empty where ``missing`` says why there are none.
        seconds: of the whole process: processor time, which other work on the machine does not lengthen as it does the
            other one, wall time.
    """

    name: str
    lines: int
    scores: dict[str, tuple[float, str]]
    seconds: tuple[float, float] = (0.0, 0.0)
    missing: str = ""


def by_engine(engine: str, output: Path, *overrides: str) -> Way:
    """Run the config with one engine."""
    name, lines = f"engine: {engine}", code_lines(CONFIG)
    lacking = [package for package in PACKAGES[engine] if importlib.util.find_spec(package) is None]
    if lacking:
        return Way(name, lines, {}, missing=f'{", ".join(lacking)} not installed here: pip install "luthier[{engine}]"')
    command = [sys.executable, "-m", "luthier", "train", str(CONFIG), f"engine={engine}", f"output={output}", *overrides]
    done, seconds = timed(command)
    if done.returncode != 0:
        if done.returncode == 2:
            return Way(name, lines, {}, missing=done.stderr.strip().splitlines()[-1])
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    test = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["test"]
    scores = {key: (test[key]["value"], f"{test[key]['low']:.3f} to {test[key]['high']:.3f}") for key in METRICS}
    return Way(name, lines, scores, seconds)


def timed(command: list[str]) -> tuple[subprocess.CompletedProcess[str], tuple[float, float]]:
    """Run a command; return what became of it, and its processor and wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, (used, time.perf_counter() - began)


def by_script(run: Path, folder: Path) -> Way:
    """Export the torch run as a script and run that."""
    subprocess.run(
        [sys.executable, "-m", "luthier", "export", str(run), "--to", "script", "--output", str(folder)],
        capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    done, seconds = timed([sys.executable, str(folder / "train.py")])
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["test"]
    return Way("the script", code_lines(folder / "train.py"), {key: (scores[key], "") for key in METRICS}, seconds)


def code_lines(path: Path) -> int:
    """Return the lines that are neither empty nor a comment."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def keep_script(folder: Path) -> None:
    """Put the script beside the config, with the sample's name in place of this machine's path; the rows stay behind."""
    text = (folder / "train.py").read_text(encoding="utf-8")
    text = re.sub(r'(len\(sys\.argv\) > 1 else )".*"', r'\1"minilm"', text)
    (EXAMPLE / "train.py").write_text(text, encoding="utf-8")


def described(ways: list[Way]) -> str:
    """Return the table."""
    columns = ["way", "F1", "exact match", "no-answer accuracy", "processor, s", "wall, s", "lines written"]
    rows, notes = [], []
    for way in ways:
        if way.missing:
            rows.append([way.name, "not run", "", "", "", "", str(way.lines)])
            notes.append(f"- {way.name}: {way.missing}")
            continue
        scores = [f"{value:.3f}" + (f" ({interval})" if interval else "") for value, interval in way.scores.values()]
        rows.append([way.name, *scores, f"{way.seconds[0]:.0f}", f"{way.seconds[1]:.0f}", str(way.lines)])
    text = table(columns, rows)
    return text + ("\n\n" + "\n".join(notes) if notes else "")


def write_page(text: str) -> None:
    """Replace the table of the docs page."""
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"<!-- begin table -->.*?<!-- end table -->", re.DOTALL)
    PAGE.write_text(marked.sub(lambda _: f"<!-- begin table -->\n{text}\n<!-- end table -->", page), encoding="utf-8")


def main() -> None:
    """Run all ways and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="key=value of the config; then nothing is written but the table on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-four-ways-") as scratch:
        folder = Path(scratch)
        ways = []
        for engine in ENGINES:
            ways.append(by_engine(engine, folder / engine / CONFIG.stem, *options.overrides))
            print(ways[-1], flush=True)
        if not ways[0].missing:
            ways.append(by_script(folder / "torch" / CONFIG.stem, folder / "script"))
            print(ways[-1], flush=True)
        text = described(ways)
        print(text)
        if not options.overrides:
            keep_script(folder / "script")
            threads = os.environ.get("OMP_NUM_THREADS", "all")
            how = f"MiniLM in float32, seed 0, {threads} threads a process; intervals are 95%, over the 85 test questions."
            write("One description, four ways", "python -m benchmarks.four_ways", f"{how}\n\n{text}")
            write_page(f"{how}\n\n{text}")
        shutil.rmtree(folder / "script", ignore_errors=True)


if __name__ == "__main__":
    main()
