"""The three workloads that are measured: what Luthier trains on, and the same features for the stock Trainer."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.assembly import Assembly, assemble
from luthier.config import load_config
from luthier.data.preparation import Prepared


@dataclass(frozen=True)
class Workload:
    """One data set with its settings.

    ``bars``: the least ratio of useful tokens a second, by precision. ``updates``: for parity, cut so that three
    seeds of all workloads run in about 30 minutes on two cores.
    """

    name: str
    values: dict[str, Any]
    bars: dict[str, float]
    updates: int


def folder() -> Path:
    """Return the folder of the data sets."""
    path = os.environ.get("LUTHIER_BENCH_DATA")
    if not path or not Path(path).is_dir():
        sys.exit("LUTHIER_BENCH_DATA must name the folder that holds the data sets.")
    return Path(path)


def first_sentences(path: Path, count: int, aside: Path) -> Path:
    """Copy the first sentences of a CoNLL file to ``aside``."""
    kept: list[str] = []
    sentences, inside = 0, False
    for line in path.read_text(encoding="utf-8").split("\n"):
        token = bool(line.strip()) and not line.startswith("-DOCSTART-")
        if inside and not token:
            sentences += 1
            if sentences == count:
                break
        inside = token
        kept.append(line)
    aside.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return aside


def workloads(scratch: Path) -> list[Workload]:
    """Return the workloads; ``scratch`` takes what must be cut first."""
    data = folder()
    banking = data / "text_classification" / "banking77"
    conll = data / "ner" / "conll2003"
    squad = data / "question_answering" / "squad_v1_dev"
    conll_train = first_sentences(conll / "eng.train", 4000, scratch / "conll-train.conll")
    return [
        Workload(
            "banking77",
            {
                "task": {"name": "text-classification", "max_tokens": 128},
                "data": {
                    "train": str(banking / "train.csv"),
                    "test": str(banking / "test.csv"),
                    "columns": {"text": "text", "label": "category"},
                },
                "train": {"batch": "32 examples", "learning_rate": 5e-4},
            },
            {"auto": 2.5, "float32": 1.7},
            updates=180,
        ),
        Workload(
            "conll2003-4000",
            {
                "task": {"name": "token-classification", "max_tokens": 128},
                "data": {"train": str(conll_train), "test": str(conll / "eng.testb"), "format": "conll"},
                "train": {"batch": "32 examples", "learning_rate": 2e-4},
            },
            {"auto": 2.5, "float32": 1.7},
            updates=80,
        ),
        Workload(
            "squad-v1",
            {
                "task": {"name": "question-answering", "max_tokens": 384, "stride": 128},
                "data": {"train": str(squad / "train.json"), "test": str(squad / "test.json")},
                "train": {"batch": "8 examples", "learning_rate": 1e-4},
            },
            {"auto": 2.0, "float32": 1.3},
            updates=50,
        ),
    ]


def prepared(workload: Workload, scratch: Path, **train: Any) -> tuple[Assembly, Prepared]:
    """Resolve and encode one workload."""
    values = {"model": "minilm", **workload.values, "train": {**workload.values["train"], **train}}
    assembly = assemble(load_config(None, (), values))
    return assembly, assembly.prepare(scratch / workload.name)
