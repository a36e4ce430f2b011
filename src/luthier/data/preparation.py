"""From the files of a config to features on disk, with an account of every row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.checks import DataChecks, marks_of
from luthier.data.columns import apply_columns, map_columns
from luthier.data.features import Feature, FeatureStore
from luthier.data.ledger import Entry
from luthier.data.row_store import RowStore
from luthier.data.rows import Row
from luthier.data.sources import Source
from luthier.data.splitting import split_by_share
from luthier.errors import InputError, RowError
from luthier.inference import windows
from luthier.report import Finding
from luthier.tasks.task import Task
from luthier.tokenizer import Tokenizer
from luthier.units import Share

NOTHING_TO_LEARN = "nothing to learn from"


@dataclass(frozen=True, slots=True)
class Split:
    """The sound rows of one split; its features are numbered like its rows."""

    name: str
    task: Task[Any]
    store: RowStore
    index: np.ndarray
    """Positions in ``store`` of this split's rows."""
    features: FeatureStore | None = None

    def __len__(self) -> int:
        return len(self.index)

    def place(self, position: int) -> tuple[str, int]:
        """Return file and line of a row."""
        return self.store.place(int(self.index[position]))

    def row(self, position: int) -> Row:
        row: Row = self.store[int(self.index[position])]
        return row

    def example(self, position: int) -> Any:
        return self.task.parse(self.row(position))

    def examples(self) -> Iterator[Any]:
        """Yield all examples, parsed anew."""
        return (self.example(position) for position in range(len(self)))


@dataclass(frozen=True, slots=True)
class Examples:
    """A split's examples as an iterable that may be walked more than once."""

    split: Split

    def __iter__(self) -> Iterator[Any]:
        return self.split.examples()


@dataclass(slots=True)
class Prepared:
    """All that is known of the data before the first step."""

    task: Task[Any]
    splits: dict[str, Split]
    entries: list[Entry]
    findings: list[Finding]
    notes: list[str]
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Read:
    """One source, read once."""

    store: RowStore
    keys: list[str]
    strata: list[str]
    marks: list[tuple[bytes, bytes]]
    """Of each row, for the checks."""
    left_out: list[Entry]
    """Rows that were rejected, or skipped by cleaning."""


def read_rows(source: Source, task: Task[Any], columns: Mapping[str, str], *, gold: bool) -> Iterator[Row | RowError]:
    """Yield a source's rows under the task's roles; a bad row comes as its error.

    Without ``gold`` the columns of the answer are not read: a flaw in them is no matter for prediction.

    Raises:
        InputError: a required column is missing, or the file is damaged.
    """
    roles = tuple(role for role in task.columns if gold or not role.gold)
    columns = {role: column for role, column in columns.items() if gold or role not in {r.name for r in task.columns if r.gold}}
    mapping: Mapping[str, str] | None = None
    for row in source.rows():
        if isinstance(row, RowError):
            yield row
            continue
        if mapping is None:
            mapping = map_columns(roles, list(row), columns, where=f"{row.file}:{row.line}")
        try:
            yield apply_columns(row, mapping, roles)
        except RowError as error:
            yield error


def prepare(
    task: Task[Any],
    sources: Mapping[str, Source],
    *,
    columns: Mapping[str, str],
    validation: Share | None,
    max_rejected: Share,
    folder: Path,
) -> Prepared:
    """Read, check and split the sources, and fit the task; ``encode`` comes after.

    Args:
        task: with its options, not fitted.
        sources: by split: train, validation, test.
        columns: role to column, as the user mapped them.
        validation: the share of train to hold out when there is no validation source.
        max_rejected: how many bad rows of a source are borne; above it the run stops.
        folder: where the rows are stored.

    Raises:
        InputError: a damaged file, too many bad rows, an empty split, nothing to learn.
    """
    marks: dict[str, list[tuple[bytes, bytes]]] = {}
    prepared = Prepared(task, {}, [], [], [])
    for name, source in sources.items():
        # Text of another kind has columns of its own.
        own = columns if name != "general" else {}
        read = _read(name, source, task, own, folder=folder, max_rejected=max_rejected)
        prepared.entries += read.left_out
        prepared.digests[name] = source.digest()
        prepared.notes += source.notes
        marks[str(read.store.path)] = read.marks
        whole = np.arange(len(read.store))
        if name == "train" and validation is not None and "validation" not in sources:
            held = split_by_share(read.keys, read.strata, validation)
            if held.all() or not held.any():
                left = "no row to train on" if held.all() else "nothing to validate on"
                raise InputError(
                    f"{validation} of {len(held)} rows leaves {left}",
                    where="data.validation",
                    fix="Give more rows, another share, or a file of their own.",
                )
            prepared.splits["train"] = Split("train", task, read.store, whole[~held])
            prepared.splits["validation"] = Split("validation", task, read.store, whole[held])
        else:
            prepared.splits[name] = Split(name, task, read.store, whole)
    prepared.findings = _findings(prepared.splits.values(), marks)
    if "train" in prepared.splits:
        fit_task(prepared)
    return prepared


def _findings(splits: Iterable[Split], marks: Mapping[str, Sequence[tuple[bytes, bytes]]]) -> list[Finding]:
    """Check all rows; ``marks`` by the path of their store."""
    checks = DataChecks()
    for split in splits:
        of_store = marks[str(split.store.path)]
        for row in split.index.tolist():
            checks.add(split.name, partial(_place, split.store, row), of_store[row])
    return checks.findings()


def _place(store: RowStore, row: int) -> str:
    file, line = store.place(row)
    return f"{file}:{line}"


def fit_task(prepared: Prepared) -> None:
    """Fit the task on the training split, and note what the held-out splits hold that it has never seen."""
    fitted = prepared.task.fit(Examples(prepared.splits["train"]))
    prepared.task = fitted
    for name, split in prepared.splits.items():
        prepared.splits[name] = Split(name, fitted, split.store, split.index)
        if name != "train":
            prepared.notes += fitted.notes(Examples(prepared.splits[name]), name)


def _read(
    name: str, source: Source, task: Task[Any], columns: Mapping[str, str], *, folder: Path, max_rejected: Share
) -> _Read:
    keys: list[str] = []
    strata: list[str] = []
    marks: list[tuple[bytes, bytes]] = []
    errors: list[RowError] = []
    cleaned: list[Entry] = []
    # What is held out is scored as it is.
    cleaner = task.cleaner() if name == "train" else None

    def sound() -> Iterator[Row]:
        for row in read_rows(source, task, columns, gold=True):
            if isinstance(row, RowError):
                errors.append(row)
                continue
            try:
                example = task.parse(row)
            except RowError as error:
                errors.append(error)
                continue
            reason = cleaner(example) if cleaner else None
            if reason:
                cleaned.append(Entry(row.file, row.line, name, "skipped", reason))
                continue
            if task.gold(example) is None:
                errors.append(row.error(task.without_gold or f"there is no value for {_gold_columns(task)}"))
                continue
            given, answer = task.identity(example)
            keys.append(row.document if row.document is not None else given)
            marks.append(marks_of(given, answer))
            strata.append(task.stratum(example))
            yield row

    store = RowStore.write(folder / f"{name}.rows.arrow", sound())
    refuse_too_many(errors, len(store) + len(cleaned), max_rejected, where=", ".join(source.files))
    if not len(store):
        what = f"cleaning left none of {len(cleaned)} rows" if cleaned else "there is no row"
        raise InputError(what, where=f"data.{name} ({', '.join(source.files)})")
    return _Read(store, keys, strata, marks, [*cleaned, *(_rejected(error, name) for error in errors)])


def _gold_columns(task: Task[Any]) -> str:
    return " or ".join(f'"{column.name}"' for column in task.columns if column.gold) or "the answer"


def refuse_too_many(errors: Sequence[RowError], sound: int, max_rejected: Share, *, where: str) -> None:
    """Stop when more rows are bad than ``max_rejected`` allows."""
    total = sound + len(errors)
    if errors and (not sound or len(errors) > max_rejected.count(total)):
        shown = "\n".join(str(error) for error in errors[:2])
        what = f"{len(errors)} of {total} rows are rejected, more than data.max_rejected allows; the first:\n{shown}"
        raise InputError(what, where=where)


def _rejected(error: RowError, split: str) -> Entry:
    file, _, line = (error.where or "").rpartition(":")
    return Entry(file, int(line) if line.isdigit() else 0, split, "rejected", error.what)


def encode(prepared: Prepared, tokenizer: Tokenizer, folder: Path, *, progress: Callable[[int], None] | None = None) -> None:
    """Encode every split into a feature store, and complete the ledger's entries.

    Raises:
        InputError: the task and the model do not go together, or nothing is left to learn from.
    """
    prepared.notes += prepared.task.remarks(tokenizer)
    for name, split in prepared.splits.items():
        remarks: list[str] = []
        groups = _encoded(split, tokenizer, remarks, progress)
        features = FeatureStore.write(folder / f"{name}.features.arrow", groups, prepared.task.head)
        prepared.splits[name] = Split(name, prepared.task, split.store, split.index, features)
        prepared.entries += _entries(prepared.splits[name], features, remarks)
    order = {name: place for place, name in enumerate(prepared.splits)}
    prepared.entries.sort(key=lambda entry: (order[entry.split], entry.file, entry.line))
    if "train" in prepared.splits:
        train = prepared.splits["train"].features
        if train is None or not len(train):
            raise InputError("no row of the training split has anything to learn from", where="data.train")


def _encoded(
    split: Split, tokenizer: Tokenizer, remarks: list[str], progress: Callable[[int], None] | None
) -> Iterator[list[Feature]]:
    objective = split.task.head.objective
    for window in windows(split.examples()):
        for example, (features, refusal) in zip(window, _encoded_window(split.task, window, tokenizer), strict=True):
            remarks.append(refusal or getattr(example, "remark", ""))
            useful = split.name != "train" or any(objective.targets(feature.arrays["labels"])[1] for feature in features)
            yield features if useful else []
        if progress is not None:
            progress(len(window))


def _encoded_window(task: Task[Any], window: Sequence[Any], tokenizer: Tokenizer) -> list[tuple[list[Feature], str]]:
    """Return each example's features, or none and why this model cannot take it."""
    try:
        return [(features, "") for features in task.encode(window, tokenizer, gold=True)]
    except RowError as error:
        if len(window) == 1:
            return [([], error.what)]
    return [pair for example in window for pair in _encoded_window(task, [example], tokenizer)]


def _entries(split: Split, features: FeatureStore, remarks: Sequence[str]) -> Iterable[Entry]:
    def summed(values: np.ndarray) -> list[int]:
        return [int(value) for value in np.bincount(features.groups, weights=values, minlength=len(split))]

    counts = zip(summed(features.lengths), summed(features.num_targets), summed(features.cut), strict=True)
    present = np.bincount(features.groups, minlength=len(split)) > 0
    for position, (tokens, targets, cut) in enumerate(counts):
        file, line = split.place(position)
        if not present[position]:
            reason = "; ".join(part for part in (NOTHING_TO_LEARN, remarks[position]) if part)
            yield Entry(file, line, split.name, split.task.without_targets, reason)
        elif cut:
            reason = "; ".join(part for part in (remarks[position], "longer than max_tokens") if part)
            yield Entry(file, line, split.name, "truncated", reason, tokens, targets, cut)
        else:
            yield Entry(file, line, split.name, "used", remarks[position], tokens, targets)
