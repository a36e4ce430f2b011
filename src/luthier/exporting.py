"""Exports: a finished run in another form, scored again on the held-out rows before it counts as done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.assembly import open_split
from luthier.config import RunConfig, load_config
from luthier.data.batching import by_length
from luthier.data.preparation import Split, encode, prepare
from luthier.engines.engine import Model
from luthier.errors import InputError, did_you_mean
from luthier.registry import Registry
from luthier.runs import RunFolder
from luthier.trained import TrainedModel, load

_TOLERANCE = 1e-3
"""Of a row's loss, relative to it or to 1: rounding in float32 is a hundred times less."""
_MAX_TOKENS = 4096

Exporter = Callable[[TrainedModel, Path], None]
EXPORTERS = Registry("export format")
SOURCES = Registry("export format", {"script": "luthier.interop.script:write_script"})
"""Exports that hold no model, so that there is nothing to score: from a run's folder to a sentence about what was written."""


@dataclass(frozen=True, slots=True)
class Export:
    """What came out of an export.

    Attributes:
        folder: where it lies.
        rows: held-out rows on which it was scored; 0 where the run has none.
        difference: the largest difference of a row's loss from the run's own model, relative to it or to 1.
        losses: mean loss per target of the run's model and of the export.
        note: what there is to say of an export that holds no model.
    """

    folder: Path
    rows: int
    difference: float
    losses: tuple[float, float]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        before, after = self.losses
        return {
            "folder": str(self.folder),
            "rows": self.rows,
            "difference": self.difference,
            "loss": {"run": before, "export": after},
            **({"note": self.note} if self.note else {}),
        }


@EXPORTERS.register("safetensors")
def safetensors(trained: TrainedModel, folder: Path) -> None:
    """The whole model in the hub's folder format; an adapter is merged into its base."""
    trained.model.save_whole(folder)


@EXPORTERS.register("fairseq")
def fairseq(trained: TrainedModel, folder: Path) -> None:
    """A checkpoint and dictionaries that fairseq 0.12.2 loads."""
    from luthier.interop.fairseq.export import export_fairseq

    export_fairseq(trained, folder)


REOPENED = Registry("export format", {"fairseq": "luthier.interop.fairseq.export:reopened"})
"""Of exports that are no model folder: from one, and an empty folder, to its model in the hub's form."""


def export(run: str | Path, *, to: str, output: str | Path | None = None, device: str = "auto") -> Export:
    """Write a run's model in another form, load that, and hold it against the run's on the test rows.

    Args:
        run: a finished run's folder.
        to: a name of EXPORTERS or SOURCES.
        output: a new folder; by default RUN/export/FORMAT.

    Raises:
        InputError: no such format, the output exists, this model cannot be exported so, or the export differs.
    """
    if to not in EXPORTERS and to not in SOURCES:
        raise InputError(f'no export format "{to}"', fix=did_you_mean(to, [*EXPORTERS, *SOURCES]))
    folder = RunFolder.existing(Path(run))
    target = Path(output).expanduser() if output else folder.path / "export" / to
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError("the output exists and is not empty", where=str(target), fix="Name another one with --output.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        if to in SOURCES:
            result = Export(target, 0, 0.0, (0.0, 0.0), note=SOURCES.get(to)(folder.path, made))
        else:
            trained = load(folder.path, device=device, precision="float32")
            exporter: Exporter = EXPORTERS.get(to)
            exporter(trained, made)
            model = made
            if to in REOPENED:
                model = Path(scratch) / "model"
                model.mkdir()
                REOPENED.get(to)(made, model)
            _complete(trained, model)
            result = _compare(trained, model, target, load_config(folder.path / "config.yaml"), device=device)
        if target.exists():
            target.rmdir()
        made.rename(target)
    return result


def _complete(trained: TrainedModel, folder: Path) -> None:
    """Add what a model folder needs beside the weights."""
    trained.tokenizer.save(folder)
    shutil.copyfile(trained.source.folder / "luthier.json", folder / "luthier.json")


def _compare(trained: TrainedModel, made: Path, target: Path, config: RunConfig, *, device: str) -> Export:
    spec = config.data.test if config.data.test is not None else (None if config.data.share else config.data.validation)
    if spec is None:
        return Export(target, 0, 0.0, (0.0, 0.0))
    exported = load(made, device=device, precision="float32")
    with tempfile.TemporaryDirectory(prefix="luthier-") as scratch:
        source = open_split(spec, name="test", format=config.data.format, encoding=config.data.encoding)
        prepared = prepare(
            trained.task, {"test": source}, columns=config.data.columns, validation=None,
            max_rejected=config.data.max_rejected, folder=Path(scratch),
        )  # fmt: skip
        encode(prepared, trained.tokenizer, Path(scratch))
        split = prepared.splits["test"]
        (ours, weights), (theirs, _) = (_losses(model.model, split) for model in (trained, exported))
    differences = np.abs(ours - theirs) / np.maximum(1.0, np.abs(ours))
    worst = float(differences.max(initial=0.0))
    if worst > _TOLERANCE or not np.isfinite(theirs).all():
        beyond = f"{int((differences > _TOLERANCE).sum())} of {len(differences)} losses differ beyond rounding"
        raise InputError(
            f"the exported model differs from the run's: {beyond}, the worst by {worst:.2g}; nothing was written",
            where=str(target),
        )
    total = float(weights.sum()) or 1.0
    return Export(target, len(split), worst, (float(ours.sum()) / total, float(theirs.sum()) / total))


def _losses(model: Model, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's loss and the weight of its targets, float64 [N]."""
    features = split.features
    assert features is not None
    sums, weights = np.zeros(len(features)), np.zeros(len(features))
    for members in _batches(features.lengths, model):
        found, weight = model.losses(model.collate([features[index] for index in members]))
        sums[members], weights[members] = found, weight
    return sums, weights


def _batches(lengths: np.ndarray, model: Model) -> Iterator[list[int]]:
    return by_length(lengths.tolist(), min(_MAX_TOKENS, model.micro_tokens))
