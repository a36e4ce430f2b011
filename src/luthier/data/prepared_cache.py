"""Prepared data kept between runs: rows, features, ledger, findings and the fitted task, by a digest of all that made them.

An entry is a folder of Arrow and JSON files, made aside and renamed; ``manifest.json`` has the size and the digest of every
file, so that a torn entry is seen and made anew. An entry that is removed while a process reads it stays whole for that
process, as files do that are open.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.features import FeatureStore
from luthier.data.ledger import read_entries, write_entries
from luthier.data.preparation import Prepared, Split
from luthier.data.row_store import RowStore
from luthier.data.sources import Source
from luthier.report import Finding
from luthier.tasks.task import Task
from luthier.units import Share

LIMIT_BYTES = 10 * 10**9
"""What all entries may take together; the ones that were not used for longest go first."""
CODE = (
    "data",
    "tasks",
    "metrics",
    "chat.py",
    "generation.py",
    "heads.py",
    "inference.py",
    "tokenizer.py",
    "units.py",
    "vocabulary.py",
)
"""Of this package, what decides rows, features and the ledger."""
_MANIFEST, _FACTS, _POSITIONS, _ENTRIES = "manifest.json", "prepared.json", "positions.npz", "entries.arrow"
_ASIDE = ".aside-"
_FORGOTTEN_SECONDS = 24 * 3600
"""Age after which what a process left aside is taken for left behind."""


def source_digests(sources: Mapping[str, Source]) -> dict[str, str] | None:
    """Return the digest of each source; None where one of them has no digest that stands for its rows exactly."""
    if any(source.origin is None for source in sources.values()):
        return None
    return {name: source.digest() for name, source in sources.items()}


def prepared_key(
    task: Task[Any],
    sources: Mapping[str, Source],
    *,
    digests: Mapping[str, str],
    tokenizer: str,
    columns: Mapping[str, str],
    validation: Share | None,
    max_rejected: Share,
    versions: Mapping[str, str],
) -> str:
    """Return the name of the entry for this data: a digest of all that decides what ``prepare`` and ``encode`` make.

    Args:
        task: with its options, not fitted.
        sources: by split.
        digests: of the sources' content.
        tokenizer: the digest of its files.
        columns, validation, max_rejected: as ``prepare`` takes them.
        versions: of the packages that tokenise. Luthier's own code counts by its content.
    """
    described = {
        "task": [type(task).__module__, type(task).__qualname__, task.to_json()],
        "sources": [[name, source.origin, digests[name]] for name, source in sources.items()],
        "tokenizer": tokenizer,
        "columns": dict(columns),
        "validation": repr(validation),
        "max_rejected": repr(max_rejected),
        "versions": dict(versions),
        "code": _code_digest(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _code_digest() -> str:
    """Return a digest of the code that prepares data: another version, or a change of it, prepares anew."""
    total = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] in CODE:
            total.update(f"{path.relative_to(root)}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


class PreparedCache:
    """The entries under one folder.

    Args:
        root: made when the first entry is kept, for its owner alone: entries hold the user's texts.
        limit: bytes of all entries.
    """

    def __init__(self, root: Path, *, limit: int = LIMIT_BYTES) -> None:
        self._root, self._limit = root, limit

    def read(self, key: str, task: Task[Any], *, say: Callable[[str], None] = lambda text: None) -> Prepared | None:
        """Open an entry; a damaged one is removed.

        Args:
            key: see ``prepared_key``.
            task: not fitted.
            say: hears of damage.
        """
        folder = self._root / key
        if not folder.is_dir():
            return None
        try:
            prepared = _opened(folder, task)
            os.utime(folder)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            if folder.is_dir():  # else another process has just removed it
                say(f"passing over prepared data in the cache that is damaged ({str(error) or type(error).__name__})")
                self._remove(folder)
            return None
        return prepared

    def keep(self, key: str, prepared: Prepared, folder: Path) -> None:
        """Keep what was prepared in ``folder``, which stays as it is, and remove the oldest entries above the limit.

        Nothing is kept where the fitted task does not come back from JSON as it is, or where the entry alone is
        above the limit. Where another process was faster, its entry stays.

        Raises:
            OSError: it cannot be written.
        """
        if _refitted(prepared.task, json.loads(json.dumps(prepared.task.to_json()))) != prepared.task:
            return
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=_ASIDE, dir=self._root) as aside:
            made = Path(aside) / key
            made.mkdir()
            _write(prepared, folder, made)
            if _size(made) > self._limit:
                return
            try:
                made.rename(self._root / key)
            except OSError:
                if not (self._root / key).is_dir():
                    raise
        self._make_room(newest=key)

    def _make_room(self, *, newest: str) -> None:
        sizes: dict[Path, tuple[float, int]] = {}
        for folder in self._root.iterdir():
            with suppress(OSError):  # another process may remove it now
                used = folder.stat().st_mtime
                if not folder.name.startswith(_ASIDE):
                    sizes[folder] = used, _size(folder)
                elif time.time() - used > _FORGOTTEN_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        total = sum(size for _, size in sizes.values())
        for folder in sorted(sizes, key=sizes.__getitem__):
            if total <= self._limit:
                break
            if folder.name != newest:
                self._remove(folder)
                total -= sizes[folder][1]

    def _remove(self, folder: Path) -> None:
        """Take an entry away in one step, so that nobody finds half of it."""
        with suppress(OSError), tempfile.TemporaryDirectory(prefix=_ASIDE, dir=self._root) as aside:
            folder.rename(Path(aside) / "old")


def _write(prepared: Prepared, source: Path, folder: Path) -> None:
    """Write an entry; the big files are linked where the file system can, else copied."""
    stores: dict[str, dict[str, str]] = {}
    for name, split in prepared.splits.items():
        assert split.features is not None, "only encoded data is kept"
        stores[name] = {"rows": split.store.path.name, "features": split.features.path.name}
        for path in (split.store.path, split.features.path, split.features.numbers):
            if not (folder / path.name).exists():
                _link(source / path.name, folder / path.name)
    positions: dict[str, Any] = {f"at_{name}": split.index for name, split in prepared.splits.items()}
    np.savez(folder / _POSITIONS, **positions)
    write_entries(folder / _ENTRIES, prepared.entries)
    facts = {
        "task": prepared.task.to_json(),
        "splits": stores,
        "findings": [asdict(finding) for finding in prepared.findings],
        "notes": list(prepared.notes),
        "digests": prepared.digests,
    }
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    files = {path.name: {"size": path.stat().st_size, "sha256": _digest(path)} for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")


def _opened(folder: Path, task: Task[Any]) -> Prepared:
    """Open an entry once every byte of it was looked at: less work than its source's digest, and far less than its making.

    Raises:
        OSError, ValueError, KeyError, TypeError, EOFError: it is not whole.
    """
    files: dict[str, dict[str, Any]] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
    for name, known in files.items():
        path = folder / name
        if path.stat().st_size != known["size"] or _digest(path) != known["sha256"]:
            raise ValueError(f"{name} is not as it was written")
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    fitted = _refitted(task, facts["task"])
    rows = {name: RowStore(folder / name) for name in {split["rows"] for split in facts["splits"].values()}}
    with np.load(folder / _POSITIONS) as positions:
        splits = {
            name: Split(name, fitted, rows[split["rows"]], positions[f"at_{name}"], FeatureStore(folder / split["features"]))
            for name, split in facts["splits"].items()
        }
    findings = [Finding(item["title"], item["count"], tuple(item["places"])) for item in facts["findings"]]
    return Prepared(fitted, splits, read_entries(folder / _ENTRIES), findings, facts["notes"], facts["digests"])


def _refitted(task: Task[Any], values: Mapping[str, Any]) -> Task[Any]:
    again: Task[Any] = type(task).from_json(values)
    return again


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
