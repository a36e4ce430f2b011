"""What ``luthier init`` proposes for texts with their translations: parallel text, translation memories, messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.readers import READERS, DataFile
from luthier.data.readers.parallel import sides
from luthier.engines.engine import Choice
from luthier.errors import InputError
from luthier.samples import SAMPLES

_READERS = ("tmx", "po", "mo")
_CODE = re.compile(r"(?!src$|tgt$|trg$)[a-z]{2,3}([-_][A-Za-z]{2,8})*")
"""``en``, ``pt-BR``, ``eng_Latn``; not the names of the sides."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Task, model and training for such texts, and why."""

    task: Any
    why: str
    model: Any
    because: str
    train: dict[str, Any]


def named(data: Sequence[str]) -> str:
    """Return what names the data: of two files, or of ``train.en`` with ``train.fr`` beside it, ``train.{en,fr}``.

    Raises:
        InputError: there are more than two, or beside a file of text lie several others that may be its translation.
    """
    if len(data) > 2:
        raise InputError(f"found {len(data)} files", fix="Give one, or the two of parallel text, the source first.")
    if len(data) == 2:
        return _braces(data[0], data[1])
    path = Path(data[0])
    language = _language(path)
    if not language or not path.is_file():
        return data[0]
    others = [
        other.name
        for other in sorted(path.parent.iterdir())
        if _language(other) not in ("", language) and _difference(path.name, other.name) is not None
    ]
    if len(others) > 1:
        fix = f"Give both files, the source first: luthier init {path} {path.with_name(others[0])}"
        raise InputError(f"beside it lie {', '.join(others)}", where=data[0], fix=fix)
    return _braces(data[0], str(path.with_name(others[0]))) if others else data[0]


def pairs_in(spec: str, format: Choice | None, *, whole: bool) -> Pairs | None:
    """Return the proposal for texts with translations; None where the data is of another kind.

    Args:
        spec: the data, as in a config.
        format: of the file, where it is said.
        whole: whether all rows were seen, so that they are not very many.
    """
    both = sides(spec)
    if both is None and (format.name if format else READERS.for_file(DataFile(Path(spec).expanduser()))) not in _READERS:
        return None
    braces = re.search(r"\{([^{}]*),([^{}]*)\}", spec)
    codes = braces.groups() if braces and all(_CODE.fullmatch(code) for code in braces.groups()) else None
    why = f'Lines of "{both[0]}" with their translations in "{both[1]}"' if both else "Texts with their translations"
    task: Any = "translation"
    if codes:
        task = {"name": task, "source_language": codes[0], "target_language": codes[1]}
    told = "" if codes else " Name the languages in task; the target's decides how BLEU splits words."
    sample = "marian-" + "-".join(codes or ())
    model: Any = {"name": "new", "architecture": "marian"}
    if sample in SAMPLES:
        model, because = sample, "A translator for these languages. A hub id or a folder fits as well."
        train = {"duration": "3 epochs", "batch": "32 examples", "learning_rate": 1e-4}
    else:
        because = "A new small model, which needs many pairs. With a translator to begin with (a hub id, a folder) few will do."
        train = {"duration": "30 epochs" if whole else "10 epochs", "batch": "2048 tokens", "learning_rate": 1e-3}
    return Pairs(task, f"{why}: translation.{told}", model, because, train)


def _language(path: Path) -> str:
    """Return the suffix where it is a language's code and tells no format, else nothing."""
    suffix = DataFile(path).suffix
    return suffix[1:] if suffix not in READERS.suffixes and _CODE.fullmatch(suffix[1:]) else ""


def _difference(one: str, other: str) -> int | None:
    """Return the only part between dots in which two names differ."""
    parts, others = one.split("."), other.split(".")
    places = [place for place, (left, right) in enumerate(zip(parts, others, strict=False)) if left != right]
    return places[0] if len(parts) == len(others) and len(places) == 1 else None


def _braces(source: str, target: str) -> str:
    place = _difference(source, target)
    if place is None:
        one, other = Path(source), Path(target)
        same = one.parent == other.parent
        return str(one.with_name(f"{{{one.name},{other.name}}}")) if same else f"{{{source},{target}}}"
    parts = source.split(".")
    parts[place] = f"{{{parts[place]},{target.split('.')[place]}}}"
    return ".".join(parts)
