"""The ledger: one line for every input row, so that nothing disappears unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.report import SplitSummary

Outcome = Literal["used", "truncated", "skipped", "rejected"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one input row.

    ``outcome``: used; truncated (used, but text was cut); skipped (sound, but nothing to learn from or to
    score); rejected (cannot be read as an example). ``reason`` may also remark on a used row.
    """

    file: str
    line: int
    split: str
    outcome: Outcome
    reason: str = ""
    tokens: int = 0
    targets: int = 0
    cut: int = 0


def write_ledger(path: Path, entries: Sequence[Entry]) -> None:
    """Write ledger.parquet: file, line, split, outcome, reason, tokens, targets."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "file": pa.array([entry.file for entry in entries], pa.string()).dictionary_encode(),
        "line": pa.array([entry.line for entry in entries], pa.int64()),
        "split": pa.array([entry.split for entry in entries], pa.string()).dictionary_encode(),
        "outcome": pa.array([entry.outcome for entry in entries], pa.string()).dictionary_encode(),
        "reason": pa.array([entry.reason for entry in entries], pa.string()).dictionary_encode(),
        "tokens": pa.array([entry.tokens for entry in entries], pa.int64()),
        "targets": pa.array([entry.targets for entry in entries], pa.int64()),
    }
    pq.write_table(pa.table(columns), path)


_TEXTS = ("file", "split", "outcome", "reason")
_COLUMNS = ("file", "line", "split", "outcome", "reason", "tokens", "targets", "cut")


def write_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Write entries as they are, to read them again with ``read_entries``."""
    import pyarrow as pa

    columns = {
        name: pa.array([getattr(entry, name) for entry in entries], pa.string() if name in _TEXTS else pa.int64())
        for name in _COLUMNS
    }
    table = pa.table({name: column.dictionary_encode() if name in _TEXTS else column for name, column in columns.items()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_entries(path: Path) -> list[Entry]:
    """Read what ``write_entries`` wrote."""
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    return [Entry(*values) for values in zip(*(_listed(table.column(name)) for name in _COLUMNS), strict=True)]


def _listed(column: Any) -> list[Any]:
    """Return a column as a list: numbers, or texts by their place in a dictionary. ``to_pylist`` takes 20 times as long."""
    values: list[Any] = []
    for chunk in column.chunks:
        if column.type == "int64":
            values += chunk.to_numpy().tolist()
        else:
            texts = chunk.dictionary.to_pylist()
            values += [texts[place] for place in chunk.indices.to_numpy().tolist()]
    return values


def summarize_splits(entries: Iterable[Entry]) -> list[SplitSummary]:
    """Return the sums of each split, in the order in which splits first occur."""
    outcomes: dict[str, Counter[str]] = {}
    sums: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for entry in entries:
        outcomes.setdefault(entry.split, Counter())[entry.outcome] += 1
        sums.setdefault(entry.split, Counter()).update(tokens=entry.tokens, targets=entry.targets, cut=entry.cut)
        if entry.reason:
            reasons.setdefault(entry.split, Counter())[entry.reason] += 1
    return [
        SplitSummary(
            name=split,
            rows=outcome.total(),
            used=outcome["used"],
            truncated=outcome["truncated"],
            skipped=outcome["skipped"],
            rejected=outcome["rejected"],
            tokens=sums[split]["tokens"],
            targets=sums[split]["targets"],
            cut_tokens=sums[split]["cut"],
            reasons=dict(reasons.get(split, Counter()).most_common()),
        )
        for split, outcome in outcomes.items()
    ]
