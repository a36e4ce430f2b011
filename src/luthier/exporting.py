"""Exports: a finished run in another form, scored again on the held-out rows before it counts as done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from luthier.assembly import open_split
from luthier.config import RunConfig, load_config
from luthier.data.batching import by_length
from luthier.data.preparation import Split, encode, prepare
from luthier.engines.engine import Batch, Model
from luthier.errors import InputError, did_you_mean
from luthier.evaluation import validate
from luthier.registry import Registry
from luthier.runs import RunFolder
from luthier.tasks.task import Output
from luthier.trained import TrainedModel, load

_TOLERANCE = 1e-3
"""Of a row's loss, relative to it or to 1: rounding in float32 is a hundred times less."""
_LOGIT_TOLERANCE = 1e-2
"""Of a logit, relative to it or to 1: toolchains round otherwise, and a network of many layers adds that up."""
_MAX_TOKENS = 4096
_MAX_ROWS = 500
"""Of a file on which another toolchain is held against the run's."""

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
        logits: where another toolchain was asked, and it does not write text: the largest difference of a logit,
            relative to it or to 1.
        metrics: where another toolchain was asked: the task's metrics on these rows, of the run's model and of the export.
    """

    folder: Path
    rows: int
    difference: float
    losses: tuple[float, float]
    note: str = ""
    logits: float | None = None
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        before, after = self.losses
        return {
            "folder": str(self.folder),
            "rows": self.rows,
            "difference": self.difference,
            "loss": {"run": before, "export": after},
            **({"note": self.note} if self.note else {}),
            **({"logits": self.logits} if self.logits is not None else {}),
            **({"metrics": {name: {"run": a, "export": b} for name, (a, b) in self.metrics.items()}} if self.metrics else {}),
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

Opener = Callable[[Path, Path], AbstractContextManager[Any]]
OPENED = Registry(
    "export format",
    {"keras": "luthier.engines.keras.exported:keras_file", "saved-model": "luthier.engines.keras.exported:saved_model"},
)
"""Exports that no engine loads: from the whole model in the hub's form, and the folder to write into, to what was written,
open for that part of a Model that scoring asks for."""


def export(run: str | Path, *, to: str, output: str | Path | None = None, device: str = "auto") -> Export:
    """Write a run's model in another form, load that, and hold it against the run's on the test rows.

    Args:
        run: a finished run's folder.
        to: a name of EXPORTERS, OPENED or SOURCES.
        output: a new folder; by default RUN/export/FORMAT.

    Raises:
        InputError: no such format, the output exists, this model cannot be exported so, or the export differs.
    """
    known = [*EXPORTERS, *OPENED, *SOURCES]
    if to not in known:
        raise InputError(f'no export format "{to}"', fix=did_you_mean(to, known))
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
            config = load_config(folder.path / "config.yaml")
            with _written(trained, made, Path(scratch) / "model", to=to, device=device) as exported:
                result = _compare(trained, exported, target, config, same=to in EXPORTERS)
        if target.exists():
            target.rmdir()
        made.rename(target)
    return result


@contextmanager
def _written(trained: TrainedModel, made: Path, model: Path, *, to: str, device: str) -> Iterator[Model]:
    """Write an export into ``made`` and give it back loaded; ``model`` is where a hub folder may lie beside it."""
    if to in OPENED:
        trained.model.save_whole(model)
        _complete(trained, model)
        _complete(trained, made)
        opener: Opener = OPENED.get(to)
        with opener(model, made) as opened:
            yield opened
        return
    exporter: Exporter = EXPORTERS.get(to)
    exporter(trained, made)
    if to in REOPENED:
        model.mkdir()
        REOPENED.get(to)(made, model)
        made = model
    _complete(trained, made)
    yield load(made, device=device, precision="float32").model


def _complete(trained: TrainedModel, folder: Path) -> None:
    """Add what a model folder needs beside the weights."""
    trained.tokenizer.save(folder)
    shutil.copyfile(trained.source.folder / "luthier.json", folder / "luthier.json")


def _compare(trained: TrainedModel, exported: Model, target: Path, config: RunConfig, *, same: bool) -> Export:
    """Score both on the held-out rows; ``same``: both are of this process's toolchain, so that losses say it all."""
    spec = config.data.test if config.data.test is not None else (None if config.data.share else config.data.validation)
    note = ""
    if spec is None and same:
        return Export(target, 0, 0.0, (0.0, 0.0))
    if spec is None:
        spec, note = config.data.train, "the run has no held-out file: these are rows that it was trained on"
    with tempfile.TemporaryDirectory(prefix="luthier-") as scratch:
        source = open_split(spec, name="test", format=config.data.format, encoding=config.data.encoding)
        prepared = prepare(
            trained.task, {"test": source}, columns=config.data.columns, validation=None,
            max_rejected=config.data.max_rejected, folder=Path(scratch),
        )  # fmt: skip
        encode(prepared, trained.tokenizer, Path(scratch))
        split = prepared.splits["test"]
        if not same:
            split = replace(split, index=split.index[:_MAX_ROWS])
        (ours, weights), (theirs, _) = (_losses(model, split) for model in (trained.model, exported))
        worst = _worst(ours, theirs, _TOLERANCE, target, what="losses")
        logits, metrics = None, {}
        if not same:
            micro_tokens = min(_MAX_TOKENS, trained.model.micro_tokens, exported.micro_tokens)
            one, other = (_Recording(model, micro_tokens) for model in (trained.model, exported))
            before, after = (validate(cast(Model, model), split) for model in (one, other))
            metrics = {name: (value, after[name]) for name, value in before.items()}
            if one.logits:
                logits = _worst(
                    np.concatenate(one.logits), np.concatenate(other.logits), _LOGIT_TOLERANCE, target, what="logits"
                )
    total = float(weights.sum()) or 1.0
    means = (float(ours.sum()) / total, float(theirs.sum()) / total)
    return Export(target, len(split), worst, means, note=note, logits=logits, metrics=metrics)


def _worst(ours: np.ndarray, theirs: np.ndarray, tolerance: float, target: Path, *, what: str) -> float:
    """Return the largest difference, relative to ours or to 1.

    Raises:
        InputError: one is beyond the tolerance, or not finite.
    """
    differences = np.abs(ours - theirs) / np.maximum(1.0, np.abs(ours))
    worst = float(differences.max(initial=0.0))
    if worst > tolerance or not np.isfinite(theirs).all():
        beyond = f"{int((differences > tolerance).sum())} of {len(differences)} {what} differ beyond rounding"
        raise InputError(
            f"the exported model differs from the run's: {beyond}, the worst by {worst:.2g}; nothing was written",
            where=str(target),
        )
    return worst


def _losses(model: Model, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's loss and the weight of its targets, float64 [N]."""
    assert split.features is not None
    features, count = split.features, _num_features(split)
    sums, weights = np.zeros(count), np.zeros(count)
    for members in _batches(features.lengths[:count], model):
        found, weight = model.losses(model.collate([features[index] for index in members]))
        sums[members], weights[members] = found, weight
    return sums, weights


class _Recording:
    """A model that keeps the logits that it gives, [N] float32 each, in the order in which it is asked.

    Args:
        model: computes them.
        micro_tokens: what it says of itself, so that two models are asked in the same order.
    """

    def __init__(self, model: Model, micro_tokens: int) -> None:
        self._model, self.micro_tokens = model, micro_tokens
        self.logits: list[np.ndarray] = []
        self.collate, self.losses = model.collate, model.losses

    def outputs(self, batch: Batch) -> list[Output]:
        found = self._model.outputs(batch)
        self.logits += [output.logits.reshape(-1) for output in found]
        return found


def _num_features(split: Split) -> int:
    """Return how many features the split's rows have: those of rows that were left out come after them."""
    assert split.features is not None
    return int(np.searchsorted(split.features.groups, len(split)))


def _batches(lengths: np.ndarray, model: Model) -> Iterator[list[int]]:
    return by_length(lengths.tolist(), min(_MAX_TOKENS, model.micro_tokens))
