"""Folders that are made from foreign files once and then kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from luthier.errors import InputError


def digest_of(files: Iterable[Path], *, salt: str) -> str:
    """Return a digest of files, by their names and contents, and of ``salt``: 24 hexadecimal digits."""
    total = hashlib.sha256(salt.encode())
    for path in files:
        with path.open("rb") as stream:
            total.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()[:24]


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """Return ``target``; where it is missing, let ``make`` fill a folder beside it and rename that when it is whole.

    Raises:
        InputError: the cache cannot be written.
    """
    if target.is_dir():
        return target
    print(f"luthier: converting to {target}", file=sys.stderr)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=target.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            make(made)
            try:
                os.rename(made, target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
    except OSError as error:
        raise InputError(
            f"the cache cannot be written ({error})", where=str(target), fix="Set LUTHIER_CACHE to a folder with room."
        ) from error
    return target
