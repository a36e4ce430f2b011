"""What a checkpoint needs beside itself: its dictionaries, and the codes by which text becomes their symbols.

They are looked for beside the checkpoint, in the data folder that its settings name, in ``data-bin`` near it, or where
``fairseq:checkpoint.pt?data=FOLDER&codes=FILE&source=en&target=fr`` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from luthier.errors import InputError, did_you_mean
from luthier.interop.fairseq.checkpoint import Checkpoint

_OPTIONS = ("data", "codes", "source", "target")
_CODES = ("bpecodes", "codes", "code", "bpe.codes", "codes.bpe", "bpe.code", "code.bpe", "codes.txt")
_MODELS = ("sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "spm.bpe.model", "bpe.model")
_PAIR = re.compile(r"\.([\w]+)-([\w]+)\.\w+\.(?:idx|bin)$")


@dataclass(frozen=True, slots=True)
class Companions:
    """The files; ``source`` and ``target`` may be the same, ``codes`` is None where none were found or asked for."""

    source: Path
    target: Path
    codes: Path | None


def split_name(rest: str) -> tuple[Path, dict[str, str]]:
    """Split what follows ``fairseq:`` into the checkpoint's path and its options.

    Raises:
        InputError: an option that does not exist.
    """
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in _OPTIONS:
            raise InputError(
                f'there is no option "{option}"', where=f"model: fairseq:{rest}", fix=did_you_mean(option, _OPTIONS)
            )
    return Path(name).expanduser(), options


def find_companions(checkpoint: Checkpoint, options: Mapping[str, str], rows: tuple[int, int]) -> Companions:
    """Find the dictionaries and the codes of a checkpoint.

    Args:
        options: see the top.
        rows: of the tables of sources and targets; a dictionary has four symbols fewer.

    Raises:
        InputError: a dictionary is missing, or which is which cannot be told; the message says what was looked for.
    """
    places = _places(checkpoint, options)
    if checkpoint.is_language_model:
        found = _first(places, ["dict.txt"])
        if found is None:
            raise _missing(checkpoint, "dict.txt", places)
        return Companions(found, found, _codes(places, options))
    for place in places:
        dictionaries = {path.name.split(".")[1]: path for path in sorted(place.glob("dict.*.txt"))}
        if dictionaries:
            source, target = _which(checkpoint, options, place, dictionaries, rows)
            return Companions(dictionaries[source], dictionaries[target], _codes(places, options))
    raise _missing(checkpoint, "dict.LANGUAGE.txt", places)


def _places(checkpoint: Checkpoint, options: Mapping[str, str]) -> list[Path]:
    """Return the folders to look in, the likeliest first."""
    if "data" in options:
        data = Path(options["data"]).expanduser()
        if not data.is_dir():
            raise InputError(
                f'there is no folder "{data}"', where="model", fix="Name the folder that holds dict.*.txt: ?data=..."
            )
        return [data, data.parent]
    beside, named = checkpoint.path.resolve().parent, str(checkpoint.task.get("data") or "").split(":")[0]
    places = [beside, beside / "data-bin", beside.parent / "data-bin"]
    if named:
        # What the settings name was seen from where fairseq-train ran; that is often near the checkpoint.
        places += [Path(named), *(folder / named for folder in (beside, *list(beside.parents)[:2]))]
    return list(dict.fromkeys(place.resolve() for place in [*places, beside.parent] if place.is_dir()))


def _first(places: Sequence[Path], names: Sequence[str]) -> Path | None:
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def _codes(places: Sequence[Path], options: Mapping[str, str]) -> Path | None:
    if "codes" not in options:
        return _first([*places, *(place.parent for place in places)], [*_CODES, *_MODELS])
    if options["codes"] in ("", "none"):
        return None
    path = Path(options["codes"]).expanduser()
    if not path.is_file():
        raise InputError(f'there is no file "{path}"', where="model", fix="Name the file with the BPE codes: ?codes=...")
    return path


def _which(
    checkpoint: Checkpoint, options: Mapping[str, str], place: Path, found: Mapping[str, Path], rows: tuple[int, int]
) -> tuple[str, str]:
    """Return the languages of source and target, by what is said, by the data's names, by the sizes of the tables."""
    where = str(place)
    said = tuple(options.get(side) or checkpoint.task.get(f"{side}_lang") for side in ("source", "target"))
    if all(said):
        for language in said:
            if language not in found:
                raise InputError(f"there is no dict.{language}.txt", where=where, fix=f"What is there: {', '.join(found)}.")
        return str(said[0]), str(said[1])
    if any(said) and len(found) == 2:
        (other,) = set(found) - set(said)
        return (str(said[0]), other) if said[0] else (other, str(said[1]))
    pairs = {match.groups() for path in place.iterdir() if (match := _PAIR.search(path.name)) is not None}
    fitting = [(str(a), str(b)) for a, b in pairs if a in found and b in found]
    if len(fitting) == 1:
        return fitting[0]
    contents = {path.read_bytes() for path in found.values()}
    names = sorted(found)
    if len(names) == 2 and len(contents) == 1:
        return names[0], names[1]
    sizes = {name: 4 + _lines(path) for name, path in found.items()}
    fitting = [(a, b) for a in names for b in names if a != b and (sizes[a], sizes[b]) == rows]
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(
        f"it is not said which of {', '.join(names)} is the source",
        where=where,
        fix=f"Say it: fairseq:{checkpoint.path.name}?source={names[0]}&target={names[-1]}",
    )


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)


def _missing(checkpoint: Checkpoint, name: str, places: Sequence[Path]) -> InputError:
    looked = ", ".join(str(place) for place in places)
    return InputError(
        f"its dictionary is missing: there is no {name} in {looked}",
        where=str(checkpoint.path),
        fix=f"Name the folder that holds it: fairseq:{checkpoint.path.name}?data=data-bin",
    )
