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
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.results import table, write

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "four-ways"
CONFIG = EXAMPLE / "medical-questions.yaml"
PAGE = ROOT / "docs" / "four-ways.md"
ENGINES = ("torch", "tensorflow", "jax")
PACKAGES = {"torch": ("torch",), "tensorflow": ("tensorflow", "keras", "keras_hub"), "jax": ("jax", "keras", "keras_hub")}
METRICS = ("f1", "exact_match", "no_answer_accuracy")


@dataclass(slots=True)
class Way:
    """What one way gave.

    Attributes:
        runs: the scores of the test split, by metric, of one run a seed; none where ``missing`` says why.
        seconds: of each run's process: processor time, which other work on the machine does not lengthen as it does the
            other one, wall time.
    """

    name: str
    lines: int
    runs: list[dict[str, float]] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    missing: str = ""

    def score(self, metric: str) -> str:
        """Return the mean over the seeds, and the range."""
        values = [run[metric] for run in self.runs]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        return f"{statistics.mean(values):.3f}{spread}"

    def time(self, place: int) -> str:
        """Return the mean processor (0) or wall (1) seconds of a run."""
        return f"{statistics.mean(pair[place] for pair in self.seconds):.0f}"


def run_engine(way: Way, engine: str, output: Path, *overrides: str) -> None:
    """Run the config with one engine, and note what came of it."""
    lacking = [package for package in PACKAGES[engine] if importlib.util.find_spec(package) is None]
    if lacking:
        way.missing = f'{", ".join(lacking)} not installed here: pip install "luthier[{engine}]"'
        return
    command = [sys.executable, "-m", "luthier", "train", str(CONFIG), f"engine={engine}", f"output={output}", *overrides]
    done, seconds = timed(command)
    if done.returncode == 2:
        way.missing = done.stderr.strip().splitlines()[-1]
        return
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    test = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["test"]
    way.runs.append({key: test[key]["value"] for key in METRICS})
    way.seconds.append(seconds)


def timed(command: list[str]) -> tuple[subprocess.CompletedProcess[str], tuple[float, float]]:
    """Run a command; return what became of it, and its processor and wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, (used, time.perf_counter() - began)


def run_script(way: Way, run: Path, folder: Path) -> None:
    """Export a torch run as a script, run that, and note what came of it."""
    subprocess.run(
        [sys.executable, "-m", "luthier", "export", str(run), "--to", "script", "--output", str(folder)],
        capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    done, seconds = timed([sys.executable, str(folder / "train.py")])
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["test"]
    way.lines = code_lines(folder / "train.py")
    way.runs.append({key: scores[key] for key in METRICS})
    way.seconds.append(seconds)


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
        rows.append([way.name, *map(way.score, METRICS), way.time(0), way.time(1), str(way.lines)])
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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="key=value of the config; then nothing is written but the table on stdout")
    options = parser.parse_args()
    ways = {engine: Way(f"engine: {engine}", code_lines(CONFIG)) for engine in ENGINES}
    script = Way("the script", 0)
    with tempfile.TemporaryDirectory(prefix="luthier-four-ways-") as scratch:
        for seed in range(options.seeds):
            folder = Path(scratch) / str(seed)
            for engine, way in ways.items():
                if not way.missing:
                    run_engine(way, engine, folder / engine / CONFIG.stem, f"train.seed={seed}", *options.overrides)
                    print(seed, way, flush=True)
            if not ways["torch"].missing:
                run_script(script, folder / "torch" / CONFIG.stem, folder / "script")
                print(seed, script, flush=True)
                if seed == 0 and not options.overrides:
                    keep_script(folder / "script")
    text = described([*ways.values(), *([script] if script.runs else [])])
    print(text)
    if not options.overrides:
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        how = f"MiniLM in float32, {threads} threads a process; 85 test questions; mean and range over {options.seeds} seeds."
        write("One description, four ways", "python -m benchmarks.four_ways", f"{how}\n\n{text}")
        write_page(f"{how}\n\n{text}")


if __name__ == "__main__":
    main()
