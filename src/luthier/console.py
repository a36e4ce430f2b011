"""What the commands print for people. ``--json`` calls nothing of this."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from luthier.api import Observer
from luthier.events import Event
from luthier.metrics import Score, gain
from luthier.report import Finding, Report, SplitSummary
from luthier.report.formats import (
    baseline_name,
    bytes_text,
    count,
    headline_score,
    interval,
    main_split,
    metric_name,
    metric_value,
    plural,
    seconds_text,
    visible,
)
from luthier.report.tables import cell_text
from luthier.tasks.task import Excerpt, Table

if TYPE_CHECKING:
    from rich.console import Console

    from luthier.progress import Progress
    from luthier.runs import Run

MAX_TEXT = 160
"""Characters of a text that stands beside its prediction."""
MAX_REASONS = 6
MAX_PLACES = 3
MAX_TABLE_ROWS = 30
WIDE = 72
"""Columns of a terminal from which tables get more air."""


def open_console(file: IO[str] | None = None) -> Console:
    """Return a console that prints text as it is: no markup, no emoji, no colours of its own for numbers.

    A stream that cannot write every character writes a question mark in its place: a run must not end on that.
    """
    from rich.console import Console

    stream = file if file is not None else sys.stdout
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if "utf" not in encoding and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return Console(file=stream, markup=False, highlight=False, emoji=False)


def show_settings(settings: Mapping[str, str], facts: Mapping[str, str | int], *, file: IO[str] | None = None) -> None:
    """Print the resolved config and what the engine made of it."""
    console = open_console(file)
    values = {key: str(value) for key, value in settings.items()}
    found = {key.replace("_", " "): count(value) if isinstance(value, int) else str(value) for key, value in facts.items()}
    for title, pairs in (("settings", values), ("engine", found)):
        if pairs:
            _heading(console, title)
            _pairs(console, pairs)


def show_data(
    splits: Sequence[SplitSummary], findings: Sequence[Finding], notes: Sequence[str], *, file: IO[str] | None = None
) -> None:
    """Print what became of every input row, and what was found in the data."""
    console = open_console(file)
    _heading(console, "data")
    keys = ("rows", "used", "truncated", "skipped", "rejected", "tokens")
    rows = [[split.name, *(count(getattr(split, key)) for key in keys)] for split in splits]
    _table(console, ["split", *keys], rows)
    for split in splits:
        if split.cut_tokens:
            lost = f"{plural(split.cut_tokens, 'token')} of {plural(split.truncated, 'row')}"
            _bullet(console, f"{split.name}: {lost} lie beyond the limit and are cut")
        for reason, rows_with in list(split.reasons.items())[:MAX_REASONS]:
            _bullet(console, f"{split.name}: {plural(rows_with, 'row')}: {reason}")
        if len(split.reasons) > MAX_REASONS:
            _bullet(console, f"{split.name}: {count(len(split.reasons) - MAX_REASONS)} more reasons in the ledger")
    for finding in findings:
        places = ", ".join(finding.places[:MAX_PLACES])
        _bullet(console, f"{finding.title}: {count(finding.count)}{f' ({places})' if places else ''}")
    _notes(console, notes)


def show_example(pieces: Sequence[tuple[str, bool]], *, file: IO[str] | None = None) -> None:
    """Print one training row as the model gets it: what is learned is green, and in brackets where there is no colour."""
    from rich.text import Text

    if not pieces:
        return
    console = open_console(file)
    coloured = console.color_system is not None
    _heading(console, "one training row, learned parts " + ("in green" if coloured else "in [[ ]]"))
    text = Text()
    for part, trained in pieces:
        text.append(visible(part if coloured or not trained else f"[[{part}]]"), style="green" if trained else "")
    console.print(text)


def show_scores(report: Report, *, file: IO[str] | None = None) -> None:
    """Print the headline score with its interval beside the baselines, the other metrics, and the verdict."""
    console = open_console(file)
    score, split = headline_score(report), main_split(report)
    if score is not None and split is not None:
        metric = report.headline
        _heading(console, f"{metric_name(metric)} on the {split} split")
        others = {name: scores[metric] for name, scores in report.baselines.items() if metric in scores}
        ranked = sorted(others, key=lambda name: -gain(metric, others[name].value))
        named = [("this model", score), *((baseline_name(name), others[name]) for name in ranked)]
        rows = [[name, metric_value(metric, one.value), interval(metric, one) or "-"] for name, one in named]
        _table(console, ["", metric_name(metric), "95% interval"], rows)
        rest = {name: value for name, value in report.scores[split].items() if name != metric}
        if rest:
            said = ", ".join(f"{metric_name(name)} {metric_value(name, value.value)}" for name, value in rest.items())
            _print(console, f"also: {said}")
    _print(console, "")
    _print(console, report.verdict, style="bold")


def show_predictions(samples: Iterable[Excerpt], *, file: IO[str] | None = None) -> None:
    """Print texts with what the model says of them and, where it is another thing, what is right."""
    console = open_console(file)
    for number, sample in enumerate(samples):
        if not number:
            _heading(console, "some predictions")
        text = " ".join(sample.text.split())
        _print(console, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT].rstrip()} ...")
        if sample.note:
            _print(console, f"  {sample.note}")
        right = sample.gold == sample.predicted
        said = sample.predicted or "(nothing)"
        _print(console, f"  -> {said}" if right else f"  -> {said}   (gold: {sample.gold or '(nothing)'})", style="cyan")


def show_next(folder: Path, *, file: IO[str] | None = None) -> None:
    """Print where the report is and what to type next."""
    console = open_console(file)
    run = shlex.quote(str(folder))
    _heading(console, "next")
    lines = {
        "report": str(folder / "report.html"),
        "predict": f'luthier predict {run} "Your text here"',
        "evaluate": f"luthier evaluate {run} --data other.csv",
    }
    for name, line in lines.items():  # never wrapped: they are there to be copied
        console.print(f"  {name:<9} {visible(line)}", soft_wrap=True)


def show_evaluation(
    scores: Mapping[str, Score],
    split: SplitSummary,
    findings: Sequence[Finding],
    notes: Sequence[str],
    tables: Sequence[Table],
    *,
    file: IO[str] | None = None,
) -> None:
    """Print the scores of a model on a file, what the file held, and the task's tables."""
    show_data([split], findings, notes, file=file)
    console = open_console(file)
    _heading(console, "scores")
    rows = [
        [metric_name(name), metric_value(name, score.value), interval(name, score) or "-"] for name, score in scores.items()
    ]
    _table(console, ["metric", "value", "95% interval"], rows)
    for table in tables:
        if table.kind != "confusion" and table.rows:  # a grid is for the report
            _heading(console, table.title)
            _table(console, table.columns, [[cell_text(cell) for cell in row] for row in table.rows[:MAX_TABLE_ROWS]])
            if len(table.rows) > MAX_TABLE_ROWS:
                _print(console, f"and {count(len(table.rows) - MAX_TABLE_ROWS)} more")


def show_samples(found: Sequence[Mapping[str, Any]], *, file: IO[str] | None = None) -> None:
    """Print the sample models and data sets, two lines each."""
    console = open_console(file)
    for kind, title in (("model", "Sample models"), ("data", "Sample data")):
        _heading(console, title)
        for item in (item for item in found if item["kind"] == kind):
            about = item["description"] if kind == "model" else f"{item['task']}: {item['description']}"
            size = f", {bytes_text(item['download_bytes'])}" if item["download_bytes"] else ""
            here = "here" if item["fetched"] else f"luthier samples fetch {item['name']}"
            _print(console, f"{item['name']:<18} {about}")
            _print(console, f"{'':<18} {item['source']}{size}; licence {item['licence']}; {here}", style="dim")


def show_doctor(found: Sequence[Any], *, file: IO[str] | None = None) -> None:
    """Print what this machine has and lacks; each item has ``to_json``."""
    console = open_console(file)
    for item in (item.to_json() for item in found):
        _print(console, f"{item['state']:<8} {item['name']}: {item['detail']}")
        if item["fix"]:
            _print(console, f"         {item['fix']}")


class ConsoleObserver(Observer):
    """Prints a run as it goes."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self.file = file
        self._progress: Progress | None = None
        self._noted: set[str] = set()

    def stage(self, text: str) -> None:
        self._close()
        _print(open_console(self.file), f"{text} ...", style="dim")

    def settings(self, settings: Mapping[str, str], facts: Mapping[str, str | int]) -> None:
        show_settings(settings, facts, file=self.file)

    def data(self, splits: Sequence[SplitSummary], findings: Sequence[Finding], notes: Sequence[str]) -> None:
        show_data(splits, findings, notes, file=self.file)
        self._noted.update(notes)

    def example(self, pieces: Sequence[tuple[str, bool]]) -> None:
        show_example(pieces, file=self.file)

    def event(self, event: Event) -> None:
        from luthier.progress import Progress

        if self._progress is None:
            self._progress = Progress(self.file)
            _heading(self._progress.console, "training")
        self._progress.consume(event)
        if event.kind in ("finished", "stopped", "diverged"):
            self._close()

    def report(self, report: Report, run: Run) -> None:
        self._close()
        show_scores(report, file=self.file)
        _notes(open_console(self.file), [note for note in report.notes if note not in self._noted])
        show_predictions(report.samples, file=self.file)
        show_next(run.folder, file=self.file)

    def estimate(self, result: Mapping[str, Any]) -> None:
        """Print what ``luthier check`` found training would cost."""
        console = open_console(self.file)
        _heading(console, "estimate")
        low, high = result["seconds"]
        _pairs(
            console,
            {
                "steps": count(result["steps"]),
                "time": f"{seconds_text(low)} to {seconds_text(high)}",
                "memory": bytes_text(result["memory_bytes"]),
                "speed": f"{count(result['tokens_per_second'])} tokens/s",
                "loss now": f"{result['loss']:.3f} a target, before training",
            },
        )

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _heading(console: Console, title: str) -> None:
    _print(console, "")
    _print(console, title[:1].upper() + title[1:], style="bold underline")


def _print(console: Console, text: str, *, style: str | None = None) -> None:
    console.print(visible(text), style=style)


def _bullet(console: Console, text: str) -> None:
    """Print a line of a list; where it wraps, it goes on under itself."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid()
    grid.add_column(width=4)
    grid.add_column(overflow="fold")
    grid.add_row("  -", Text(visible(text)))
    console.print(grid)


def _notes(console: Console, notes: Sequence[str]) -> None:
    from rich.text import Text

    for note in notes:
        console.print(Text.assemble(("note: ", "bold yellow"), visible(note)))


def _pairs(console: Console, pairs: Mapping[str, str]) -> None:
    """Print names and values in two columns; a long value goes on under itself."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        grid.add_row(f"  {name}", Text(visible(value)))
    console.print(grid)


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without frame: the first column to the left, figures to the right."""
    from rich.table import Table as Grid
    from rich.text import Text

    gap = 2 if console.width >= WIDE else 1
    grid = Grid(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        grid.add_column(visible(column), justify="right" if index else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(visible(cell)) for cell in row))
    console.print(grid)
