"""What Python users call, and what every command calls: train, check, load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.assembly import Assembly, assemble, versions
from luthier.checkpoints import Checkpoint, Checkpoints
from luthier.config import RunConfig, load_config
from luthier.data.ledger import summarize_splits, write_ledger
from luthier.data.preparation import Prepared
from luthier.data.sources import Source
from luthier.engines.engine import Model
from luthier.errors import DivergedError, InputError, StoppedError
from luthier.evaluation import calibrated, validate
from luthier.events import Event
from luthier.inference import trained_pieces
from luthier.loggers import LOGGERS
from luthier.proof import NO_VALIDATION, Proof, prove, score_before
from luthier.report import Finding, Report, SplitSummary
from luthier.report.card import model_card
from luthier.report.html import write_html
from luthier.runs import Run, RunFolder, metrics_json, write_atomic
from luthier.signals import StopRequests
from luthier.tasks.task import Task
from luthier.training import fit

__all__ = ["Observer", "check", "resume", "train"]


class Observer:
    """Hears what happens. This one says nothing; the command line's prints."""

    def stage(self, text: str) -> None:
        """Hear what is being done now."""

    def settings(self, settings: Mapping[str, str], facts: Mapping[str, str | int]) -> None:
        """Hear what was resolved."""

    def data(self, splits: Sequence[SplitSummary], findings: Sequence[Finding], notes: Sequence[str]) -> None:
        """Hear what the data holds."""

    def example(self, pieces: Sequence[tuple[str, bool]]) -> None:
        """Hear how one training row reads, piece by piece, and which pieces are learned."""

    def event(self, event: Event) -> None:
        """Hear what the loop does."""

    def report(self, report: Report, run: Run) -> None:
        """Hear the end."""


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    *overrides: str,
    observer: Observer | None = None,
    **values: Any,
) -> Run:
    """Train, evaluate and report: ``luthier.train("news.yaml")`` or ``luthier.train(task=..., model=..., data=...)``.

    Args:
        config: a YAML file, or a mapping like one.
        overrides: ``"train.duration=1 epoch"``, as on the command line.
        observer: hears what happens; by default nothing is printed.
        values: top-level keys of a config.

    Raises:
        InputError: the config or the data cannot be used.
        DivergedError, StoppedError: the run ended early; its state is saved.
    """
    path = Path(config) if isinstance(config, (str, Path)) else None
    resolved = load_config(path, overrides, {**(config if isinstance(config, Mapping) else {}), **values})
    assembly = assemble(resolved)
    name = path.parent.name if path is not None and path.name == "config.yaml" else path.stem if path is not None else None
    folder = RunFolder.claim(resolved.output, name=name or assembly.task.name)
    write_atomic(folder.path / "config.yaml", assembly.config.to_yaml())
    return _run(assembly, folder, observer or Observer(), resume=None)


def resume(run: str | Path, *overrides: str, observer: Observer | None = None) -> Run:
    """Go on with a run that stopped, from its newest whole checkpoint; from the start where there is none.

    Raises:
        InputError: no run folder, a finished run, or data that changed since.
    """
    folder = RunFolder.existing(Path(run))
    if (folder.path / "metrics.json").exists():
        raise InputError("this run has finished", where=str(folder.path), fix="Start another one from its config.yaml.")
    assembly = assemble(load_config(folder.path / "config.yaml", overrides))
    checkpoints = Checkpoints(folder.checkpoints, keep=assembly.config.train.keep)
    observer = observer or Observer()
    for damaged in checkpoints.damaged():
        observer.stage(f"passing over {damaged}, which is not whole")
    checkpoint = checkpoints.newest()
    if checkpoint is not None:
        _same_data(assembly.sources, checkpoint)
    return _run(assembly, folder, observer, resume=checkpoint)


def _same_data(sources: Mapping[str, Source], checkpoint: Checkpoint) -> None:
    digests = checkpoint.facts.get("data", {})
    for name, source in sources.items():
        if digests.get(name) != source.digest():
            raise InputError(
                "the data has changed since the checkpoint was written",
                where=f"data.{name} ({', '.join(source.files)})",
                fix="Restore the file, or start a new run.",
            )


@dataclass(slots=True)
class _Context:
    """What the steps of one run share."""

    assembly: Assembly
    folder: RunFolder
    observer: Observer
    prepared: Prepared


def _run(assembly: Assembly, folder: RunFolder, observer: Observer, *, resume: Checkpoint | None) -> Run:
    observer.stage("reading the data")
    try:
        prepared = assembly.prepare(folder.start_work(), new_model=folder.new_model, say=observer.stage)
        context = _Context(assembly, folder, observer, prepared)
        write_ledger(folder.path / "ledger.parquet", prepared.entries)
        notes = [*prepared.notes, *([] if "validation" in prepared.splits else [NO_VALIDATION])]
        observer.data(summarize_splits(prepared.entries), prepared.findings, notes)
        observer.stage("loading the model")
        model = assembly.load(prepared)
        observer.settings(assembly.described(), {**model.facts, **prepared.task.lessons()})
        writer = assembly.writer(model, prepared.task)
        before = {}
        if writer is not None and not assembly.is_new:
            observer.stage("scoring the model before it is tuned")
            base = assembly.untuned(model, prepared)
            before = score_before(base, prepared, assembly.writer(base, prepared.task))
            del base
        finished = _fit(context, model, resume)
        task = _calibrate(context, model)
        model.save(folder.model)
        facts = {
            "base_model": assembly.source.name,
            "columns": dict(assembly.config.data.columns),
            "versions": versions(),
            "generation": assembly.config.generation.model_dump(exclude_none=True),
        }
        folder.save_task(task, assembly.tokenizer, facts)
        observer.stage("scoring")
        proof = prove(model, prepared, predictions=folder.predictions, writer=writer, before=before)
        return _close(context, model, proof, finished)
    except (InputError, KeyboardInterrupt):
        if resume is None:
            folder.discard()
        raise
    finally:
        folder.end_work()


def _fit(context: _Context, model: Model, resume: Checkpoint | None) -> Event:
    """Run the loop and pass its events on; return the last one."""
    assembly, folder, prepared = context.assembly, context.folder, context.prepared
    consumers: list[Callable[[Event], None]] = [folder.append, context.observer.event]
    consumers += [LOGGERS.get(name)(folder.path) for name in assembly.config.loggers]
    validation = prepared.splits.get("validation")
    checkpoints = Checkpoints(folder.checkpoints, keep=assembly.config.train.keep, facts={"data": prepared.digests})
    features = prepared.splits["train"].features
    assert features is not None
    last: Event | None = None
    with StopRequests() as requests:
        for event in fit(
            model,
            features,
            assembly.settings(),
            checkpoints=checkpoints,
            evaluate=None if validation is None else lambda: validate(model, validation),
            headline=prepared.task.criterion or prepared.task.headline,
            resume=resume,
            stop=lambda: requests.signal,
        ):
            last = event
            for consume in consumers:
                consume(event)
    assert last is not None
    _raise_early_end(last, folder)
    return last


def _raise_early_end(last: Event, folder: RunFolder) -> None:
    if last.kind == "stopped":
        message = f"stopped after step {last.step}, saved. Go on with: luthier train --resume {folder.path}"
        raise StoppedError(message, signal_number=int(last.data["signal"]))
    if last.kind == "diverged":
        kept = last.data["kept"]
        where = f"the last good state is in {kept}" if kept else "there was no checkpoint yet"
        what = f"training diverged at step {last.step}: {last.data['reason']}; {where}"
        raise DivergedError(f"{what}. Lower train.learning_rate or raise train.warmup.")


def _calibrate(context: _Context, model: Model) -> Task[Any]:
    """Set the task's thresholds on the validation split, for all splits."""
    prepared = context.prepared
    if "validation" in prepared.splits:
        prepared.task = calibrated(model, prepared.splits["validation"])
        prepared.splits = {name: replace(split, task=prepared.task) for name, split in prepared.splits.items()}
    return prepared.task


def _close(context: _Context, model: Model, proof: Proof, finished: Event) -> Run:
    """Write what remains: metrics, report, card."""
    assembly, folder, prepared = context.assembly, context.folder, context.prepared
    summary = {key: value for key, value in finished.data.items() if key not in ("reason", "best_step")}
    training = {**summary, "peak_memory_bytes": proof.peak_memory_bytes}
    report = proof.report(
        name=folder.path.name,
        model=assembly.source.name,
        settings=assembly.config.flat(),
        facts=model.facts,
        splits=summarize_splits(prepared.entries),
        findings=prepared.findings,
        notes=prepared.notes,
        training=training,
        curves=folder.curves(),
    )
    write_html(report, folder.path / "report.html")
    write_atomic(folder.path / "README.md", model_card(report))
    signatures = {**versions(), "interval": "95%, Poisson bootstrap, 1000 replicates, seed 0", **proof.signatures}
    folder.write_json("metrics.json", metrics_json(report.scores, report.baselines, training, signatures))
    folder.finish()
    run = Run(folder.path)
    context.observer.report(report, run)
    return run


def check(
    config: str | Path | Mapping[str, Any] | None = None, *overrides: str, observer: Observer | None = None, **values: Any
) -> dict[str, Any]:
    """Do all that ``train`` would do short of the first step, and say what it would cost.

    Returns:
        JSON: the resolved config, what each split holds, findings, notes, facts, and the estimates of
        ``steps``, ``seconds`` (a range) and ``memory_bytes`` from one measured probe step.
    """
    import tempfile

    from luthier.estimate import estimate

    path = Path(config) if isinstance(config, (str, Path)) else None
    resolved: RunConfig = load_config(path, overrides, {**(config if isinstance(config, Mapping) else {}), **values})
    assembly = assemble(resolved)
    observer = observer or Observer()
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        prepared = assembly.prepare(Path(folder), say=observer.stage)
        splits = summarize_splits(prepared.entries)
        notes = [*prepared.notes, *([] if "validation" in prepared.splits else [NO_VALIDATION])]
        observer.data(splits, prepared.findings, notes)
        example = trained_pieces(prepared, assembly.tokenizer)
        observer.example(example)
        model = assembly.load(prepared)
        observer.settings(assembly.described(), {**model.facts, **prepared.task.lessons()})
        writer = assembly.writer(model, prepared.task)
        before = writer is not None and not assembly.is_new
        estimated = estimate(model, prepared, assembly.settings(), writer=writer, scored_before=before)
    return {
        "config": assembly.config.flat(),
        "splits": {split.name: _split_json(split) for split in splits},
        "findings": [{"title": item.title, "count": item.count, "places": list(item.places)} for item in prepared.findings],
        "notes": notes,
        "facts": dict(model.facts),
        "example": [{"text": text, "trained": trained} for text, trained in example],
        **estimated,
    }


def _split_json(split: SplitSummary) -> dict[str, Any]:
    fields = ("rows", "used", "truncated", "skipped", "rejected", "tokens", "targets", "cut_tokens")
    return {**{name: getattr(split, name) for name in fields}, "reasons": dict(split.reasons)}
