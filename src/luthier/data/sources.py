"""Where rows come from: a file, several, a glob, two files of parallel text, a hub data set, or Python."""

from __future__ import annotations

import difflib
import glob
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from luthier.data.readers import READERS, DataFile
from luthier.data.readers.parallel import read_parallel, sides
from luthier.data.rows import Row
from luthier.engines.engine import Choice
from luthier.errors import InputError, RowError


class Source(Protocol):
    """Rows that can be read more than once."""

    @property
    def files(self) -> Sequence[str]:
        """What it reads, as the user named it."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know, after the rows were read."""

    @property
    def origin(self) -> Any:
        """What decides the rows beside the content, as JSON; None where no digest stands for the rows exactly."""

    def rows(self) -> Iterator[Row | RowError]: ...

    def digest(self) -> str:
        """Return a digest of the content."""


def open_source(spec: Any, *, format: Choice | None = None, encoding: str | None = None) -> Source:
    """Open a source.

    Args:
        spec: a path, a glob, ``train.{en,fr}`` for parallel text (the source first), ``hf:NAME[:CONFIG]:SPLIT``, a list of
            paths, or a list of dicts.
        format: a reader with its options; default by suffix and content.
        encoding: default UTF-8.

    Raises:
        InputError: nothing there.
    """
    if isinstance(spec, (list, tuple)) and all(isinstance(row, Mapping) for row in spec):
        return PythonRows(spec)
    if isinstance(spec, str) and spec.startswith("hf:"):
        return HubRows(spec)
    specs = [spec] if isinstance(spec, str) else list(spec)
    if not specs or not all(isinstance(item, str) for item in specs):
        raise InputError(f"found {spec!r}", fix="Give a path, a glob, a list of paths, or a list of rows.")
    return Files([paths for item in specs for paths in _paths(item, format)], format=format, encoding=encoding)


def _paths(spec: str, format: Choice | None) -> list[tuple[str, ...]]:
    """Return one path for each file, two for parallel text."""
    if "://" in spec:
        raise InputError("addresses on a network are not read", where=spec, fix="Download the file and give its path.")
    path = Path(spec).expanduser()
    if path.is_dir():
        raise InputError("this is a folder", where=spec, fix=f"Name its files: {spec.rstrip('/')}/*.csv")
    if path.is_file():
        return [(spec,)]
    pair = sides(spec)
    if pair is not None:
        return [_parallel(spec, pair, format)]
    if any(char in spec for char in "*?["):
        found = sorted(name for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not found:
            raise InputError("no file fits this pattern", where=spec)
        return [(name,) for name in found]
    siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    if not path.parent.is_dir():
        raise InputError("there is no such folder", where=str(path.parent))
    raise InputError("there is no such file", where=spec, fix=f'Did you mean "{path.with_name(near[0])}"?' if near else None)


def _parallel(spec: str, pair: tuple[str, str], format: Choice | None) -> tuple[str, str]:
    """Return the two paths of parallel text once both are there and are not of another format."""
    for side, name in zip(("source", "target"), pair, strict=True):
        if not Path(name).expanduser().is_file():
            fix = "Braces and patterns do not go together: give a list." if any(char in name for char in "*?[") else None
            raise InputError("there is no such file", where=name, fix=fix or f"It is the {side} of {spec}.")
    suffixes = {DataFile(Path(name)).suffix for name in pair}
    other = format.name if format else READERS.suffixes.get(suffixes.pop(), "text") if len(suffixes) == 1 else "text"
    if other != "text":
        raise InputError(
            f"braces name two files of parallel text, line by line, and these would be {other}",
            where=spec,
            fix=f"Give a list: [{pair[0]}, {pair[1]}]",
        )
    return pair


class Files:
    """Local files, one after another.

    Args:
        paths: one path for each file, or source and target of parallel text.
        format: of the single files.
        encoding: default UTF-8.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]], *, format: Choice | None, encoding: str | None) -> None:
        self._parts = [
            [DataFile(Path(path).expanduser(), name=path, encoding=encoding) for path in together] for together in paths
        ]
        self._files = [file for part in self._parts for file in part]
        self._format = format

    @property
    def files(self) -> Sequence[str]:
        return [file.name for file in self._files]

    @property
    def notes(self) -> Sequence[str]:
        return list(dict.fromkeys(note for file in self._files for note in file.notes))

    @property
    def origin(self) -> Any:
        format = None if self._format is None else [self._format.name, dict(self._format.options)]
        return [[[(file.name, file.encoding) for file in part] for part in self._parts], format]

    def rows(self) -> Iterator[Row | RowError]:
        for file, *target in self._parts:
            if target:
                yield from read_parallel(file, target[0])
                continue
            choice = self._format or Choice(READERS.for_file(file))
            yield from READERS.get(choice.name)(file, **choice.options)

    def digest(self) -> str:
        digests = [self._digest_of(file) for file in self._files]
        # Of several files each counts alone: a line that moves from one to the next changes the rows.
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    @staticmethod
    def _digest_of(file: DataFile) -> str:
        total = hashlib.sha256()
        with file.open() as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                total.update(block)
        return total.hexdigest()


class PythonRows:
    """Rows given from Python."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self.files: Sequence[str] = ["<rows>"]
        self.notes: Sequence[str] = []
        # They may hold anything, and a digest of that is either slow or not exact.
        self.origin: Any = None

    def rows(self) -> Iterator[Row | RowError]:
        for number, values in enumerate(self._rows, 1):
            yield Row(values, file="<rows>", line=number)

    def digest(self) -> str:
        return hashlib.sha256(json.dumps([dict(row) for row in self._rows], default=str, sort_keys=True).encode()).hexdigest()


class HubRows:
    """A data set of the hub, or a local folder that the ``datasets`` library reads.

    ``hf:NAME`` takes the split train; ``hf:NAME:SPLIT`` and ``hf:NAME:CONFIG:SPLIT`` say which.
    """

    def __init__(self, spec: str) -> None:
        parts = spec.removeprefix("hf:").split(":")
        if len(parts) > 3 or not all(parts):
            raise InputError(
                "this names no hub data set", where=spec, fix="Write hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT."
            )
        self._spec = spec
        self._name, self._config, self._split = (
            parts[0],
            parts[1] if len(parts) == 3 else None,
            parts[-1] if len(parts) > 1 else "train",
        )
        self._data: Any = None
        self.files: Sequence[str] = [spec]
        self.notes: Sequence[str] = []
        self.origin: Any = spec

    def _load(self) -> Any:
        if self._data is None:
            try:
                import datasets
            except ImportError as error:
                raise InputError(
                    "the datasets package is missing", where=self._spec, fix='Install it: pip install "luthier[hub]"'
                ) from error
            try:
                self._data = datasets.load_dataset(self._name, self._config, split=self._split)
            except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise InputError(f"the data set cannot be loaded ({reason})", where=self._spec) from error
        return self._data

    def rows(self) -> Iterator[Row | RowError]:
        data = self._load()
        names = {column: _class_names(feature) for column, feature in data.features.items()}
        for number, values in enumerate(data, 1):
            row = {column: _named(value, names[column]) for column, value in values.items()}
            yield Row(row, file=self._spec, line=number)

    def digest(self) -> str:
        return str(self._load()._fingerprint)


def _class_names(feature: Any) -> Sequence[str] | None:
    """Return the class names of a ClassLabel, or of a list of them."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return names if isinstance(names, list) else None


def _named(value: Any, names: Sequence[str] | None) -> Any:
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
