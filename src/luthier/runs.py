"""The run folder: what a run leaves behind, and how it is read again."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from luthier.errors import InputError
from luthier.events import Event
from luthier.metrics import Score
from luthier.report import Curve
from luthier.tasks import TASKS
from luthier.tasks.task import Task
from luthier.tokenizer import Tokenizer


class Run:
    """A finished run, as Python users see it.

    Attributes:
        folder: the run folder.
        metrics: scores by split, then by metric: ``run.metrics["test"]["accuracy"].value``.
        baselines: scores by baseline, then by metric.
        training: tokens, steps, seconds and the like.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "metrics.json"
        if not path.is_file():
            raise InputError(
                "there is no finished run here", where=str(folder), fix=f"Go on with: luthier train --resume {folder}"
            )
        values = json.loads(path.read_text(encoding="utf-8"))
        self.training: dict[str, Any] = values.pop("train")
        self.signatures: dict[str, str] = values.pop("signatures")
        self.baselines = {name: _scores(scores) for name, scores in values.pop("baselines").items()}
        self.metrics: dict[str, dict[str, Score]] = {split: _scores(scores) for split, scores in values.items()}

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def model(self) -> Path:
        """The model in the hub's folder format."""
        return self.folder / "model"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def _scores(values: Mapping[str, Any]) -> dict[str, Score]:
    return {name: Score(**score) for name, score in values.items()}


class RunFolder:
    """A run folder that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.work = path / ".work"
        self.new_model = path / "new_model"
        self.model = path / "model"
        self.predictions = path / "predictions"
        self.events = path / "events.jsonl"

    @classmethod
    def claim(cls, output: str | None, *, name: str) -> RunFolder:
        """Make a new, empty run folder.

        Args:
            output: the folder that the user asked for; one that is not empty is refused.
            name: of the default folder, ``runs/NAME``, numbered when taken.
        """
        if output is not None:
            path = Path(output).expanduser()
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                fix = f"Go on with it: luthier train --resume {path}; or name another output."
                raise InputError("the output exists and is not empty", where=str(path), fix=fix)
            path.mkdir(parents=True, exist_ok=True)
            return cls(path)
        number = 1
        while True:
            path = Path("runs") / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Open the folder of a run that stopped.

        Raises:
            InputError: it is no run folder.
        """
        if not (path / "config.yaml").is_file():
            raise InputError("this is no run folder: there is no config.yaml", where=str(path))
        return cls(path)

    def start_work(self) -> Path:
        """Make an empty folder for rows and features of this process."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        return self.work

    def discard(self) -> None:
        """Remove a folder in which nothing was trained yet, so that a refused run leaves nothing behind."""
        if not self.events.exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def end_work(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)

    def finish(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.new_model, ignore_errors=True)

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file whole or not at all."""
        write_atomic(self.path / name, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def append(self, event: Event) -> None:
        """Append one event."""
        with self.events.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event.to_json(), ensure_ascii=False, default=str) + "\n")

    def curves(self) -> list[Curve]:
        """Return the curves of loss, learning rate and validation metrics from the events.

        After a resume, later events of a step supersede earlier ones.
        """
        points: dict[str, dict[int, float]] = {"loss": {}, "learning_rate": {}}
        for event in read_events(self.events):
            step = event["step"]
            if event["event"] == "resumed":
                for values in points.values():
                    for later in [known for known in values if known > step]:
                        del values[later]
            elif event["event"] == "progress":
                points["loss"][step] = event["loss"]
                points["learning_rate"][step] = event["learning_rate"]
            elif event["event"] == "evaluated":
                for name, value in event["metrics"].items():
                    points.setdefault(f"validation {name}", {})[step] = value
        return [Curve(name, tuple(sorted(values.items()))) for name, values in points.items() if values]

    def save_task(self, task: Task[Any], tokenizer: Tokenizer, facts: Mapping[str, Any]) -> None:
        """Write what a model folder needs beside the weights: luthier.json and the tokenizer."""
        tokenizer.save(self.model)
        text = json.dumps({"task": task.to_json(), **facts}, indent=1, ensure_ascii=False)
        write_atomic(self.model / "luthier.json", text + "\n")


def write_atomic(path: Path, text: str) -> None:
    """Write a text file aside and rename it."""
    aside = path.with_name(path.name + ".writing")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run; a line that was cut by a crash is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def task_of(values: Mapping[str, Any], *, where: str) -> Task[Any]:
    """Rebuild the task that luthier.json describes.

    Raises:
        InputError: the file describes no task that this version knows.
    """
    described = values.get("task")
    if not isinstance(described, Mapping) or described.get("name") not in TASKS:
        raise InputError(
            "luthier.json names no task that this version knows", where=where, fix="Update Luthier, or train again."
        )
    task: Task[Any] = TASKS.get(described["name"]).from_json(described)
    return task


def peak_memory_bytes() -> int:
    """Return the peak of this process's resident memory."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts what the parent had when it started this process
        line = next((line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")), None)
        if line is not None:
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def metrics_json(
    scores: Mapping[str, Mapping[str, Score]],
    baselines: Mapping[str, Mapping[str, Score]],
    training: Mapping[str, Any],
    signatures: Mapping[str, str],
) -> dict[str, Any]:
    """Return the content of metrics.json."""
    return {
        **{split: {name: score.to_json() for name, score in metrics.items()} for split, metrics in scores.items()},
        "train": dict(training),
        "baselines": {who: {name: score.to_json() for name, score in metrics.items()} for who, metrics in baselines.items()},
        "signatures": dict(signatures),
    }
