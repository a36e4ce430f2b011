"""Checkpoints that survive being killed: written aside, synced, renamed, listed with digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MANIFEST = "manifest.json"
_STATE = "training.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One valid checkpoint: its folder, its step, the loop's own state and the facts saved beside it."""

    folder: Path
    step: int
    state: dict[str, Any]
    facts: dict[str, Any]


class Checkpoints:
    """The ``checkpoints/`` folder of a run.

    Args:
        folder: made when the first checkpoint is saved.
        keep: how many of the newest to keep, beside the best.
        facts: written beside the loop's state (digests of the data), for whoever resumes.
    """

    def __init__(self, folder: Path, *, keep: int, facts: Mapping[str, Any] | None = None) -> None:
        self.folder, self.keep, self._facts = folder, keep, dict(facts or {})

    def save(self, step: int, state: dict[str, Any], write: Callable[[Path], None], *, best: int | None) -> Path:
        """Write one checkpoint and drop those that need not be kept.

        Args:
            step: optimizer steps done.
            state: the loop's own state, plain JSON.
            write: writes the model's state into a folder.
            best: the step of the best checkpoint so far, never dropped.
        """
        final = self._path(step)
        aside = final.with_name(final.name + ".writing")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        write(aside)
        (aside / _STATE).write_text(json.dumps({**self._facts, "loop": state}, indent=1) + "\n", encoding="utf-8")
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        manifest = {"step": step, "files": {path.relative_to(aside).as_posix(): _digest(path) for path in files}}
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for path in [*files, aside / _MANIFEST]:
            _sync(path)
        _sync(aside)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        _sync(self.folder)
        self._prune(best)
        return final

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose files are whole, or None."""
        return next(self._valid(), None)

    def at(self, step: int) -> Checkpoint | None:
        """Return the checkpoint of one step, or None when it is missing or damaged."""
        return _read(self._path(step))

    def damaged(self) -> list[Path]:
        """Return the folders that look like checkpoints but are not whole."""
        return [folder for folder in self._folders() if _read(folder) is None]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def _folders(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if path.is_dir() and path.name[5:].isdigit()]
        return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)

    def _valid(self) -> Iterator[Checkpoint]:
        for folder in self._folders():
            checkpoint = _read(folder)
            if checkpoint is not None:
                yield checkpoint

    def _prune(self, best: int | None) -> None:
        folders = self._folders()
        for folder in folders[max(1, self.keep) :]:
            if int(folder.name[5:]) != best:
                shutil.rmtree(folder)


def _read(folder: Path) -> Checkpoint | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, digest in manifest["files"].items():
            if _digest(folder / name) != digest:
                return None
        facts = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return Checkpoint(folder, int(manifest["step"]), facts.pop("loop"), facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
