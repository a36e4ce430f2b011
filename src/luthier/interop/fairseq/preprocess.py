"""Parallel text as the folder that fairseq-preprocess would make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.readers import DataFile
from luthier.data.readers.parallel import sides
from luthier.data.sources import open_source
from luthier.errors import InputError, RowError
from luthier.interop.fairseq.dictionary import EOS, UNK, Dictionary
from luthier.interop.fairseq.indexed import write_ids
from luthier.interop.fairseq.tokenizers import read_vocabulary

_ROLES = ("source", "target")
_AT_ONCE = 1000


@dataclass(slots=True)
class WrittenSide:
    """One side of a split, as it was written.

    Attributes:
        name: of its two files, without the suffix: ``train.en-fr.en``.
        symbols: of its dictionary.
        sentences: how many there are.
        tokens: of all sentences, their ends included.
        unknown: the tokens that the dictionary lacks.
    """

    name: str
    symbols: int
    sentences: int = 0
    tokens: int = 0
    unknown: int = 0


def write_data_bin(
    folder: Path,
    splits: Mapping[str, Any],
    *,
    languages: tuple[str, str],
    dictionaries: tuple[Path | None, Path | None] = (None, None),
    codes: Path | None = None,
    joined: bool = False,
) -> list[WrittenSide]:
    r"""Write ``train.en-fr.en.{bin,idx}`` and so on with ``dict.en.txt`` and ``dict.fr.txt``.

    Of parallel text every line becomes a sentence, blank ones too, and ``\n``, ``\r\n`` and ``\r`` end a line, as for
    fairseq-preprocess; the files are the same bytes.

    Args:
        folder: a new or empty one.
        splits: fairseq's name of a split (train, valid, test) -> where its rows with ``source`` and ``target`` are, as in
            ``data`` of a config: ``"train.{en,fr}"``, a table's path, rows.
        languages: of source and target.
        dictionaries: the ``dict.txt`` of source and target; for None a new one is made from the split train.
        codes: of the BPE, or a SentencePiece model; default: the text is split already, as for fairseq-preprocess.
        joined: one dictionary for both sides.

    Raises:
        InputError: the folder is not empty, rows cannot be read, or the options do not go together. Of parallel
            text this is said before anything is written.
    """
    _check(folder, languages, dictionaries, joined)
    made = not any(dictionaries) if joined else not all(dictionaries)
    if made and codes is not None:
        raise InputError(
            "codes need the dictionaries of the model that they belong to",
            where=str(codes),
            fix="Name both dict.*.txt, or give text that is split already.",
        )
    if made and "train" not in splits:
        raise InputError("without the split train there is nothing to make dictionaries from", where=str(folder))
    for spec in splits.values():
        _check_lines(spec)
    both = _dictionaries(splits.get("train"), dictionaries, joined)
    folder.mkdir(parents=True, exist_ok=True)
    for language, dictionary in zip(languages, both, strict=True):
        dictionary.write(folder / f"dict.{language}.txt")
    written = []
    for name, spec in splits.items():
        for role, language, dictionary in zip(_ROLES, languages, both, strict=True):
            side = WrittenSide(f"{name}.{'-'.join(languages)}.{language}", len(dictionary))
            write_ids(folder / side.name, _encoded(_texts(spec, role), dictionary, codes, side), symbols=len(dictionary))
            written.append(side)
    return written


def _check(folder: Path, languages: tuple[str, str], dictionaries: tuple[Path | None, Path | None], joined: bool) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        what = "this folder is not empty" if folder.is_dir() else "this is a file"
        raise InputError(what, where=str(folder), fix="Name a new folder.")
    if languages[0] == languages[1]:
        raise InputError(f"both sides are in {languages[0]}", fix="The names of the files tell the sides apart by language.")
    if joined and all(dictionaries):
        raise InputError(
            "found two dictionaries, and both sides are to have one", where=str(dictionaries[1]), fix="Give one of them."
        )


def _pair(spec: Any) -> tuple[DataFile, DataFile] | None:
    """Return the two files of parallel text."""
    names = sides(spec) if isinstance(spec, str) else None
    if names is None:
        return None
    source, target = (DataFile(Path(name).expanduser(), name=name) for name in names)
    return source, target


def _check_lines(spec: Any) -> None:
    """Read parallel text once, so that what is wrong with it is said before a file is written."""
    open_source(spec)
    pair = _pair(spec)
    if pair is None:
        return
    source, target = (sum(1 for _ in file.lines()) for file in pair)
    if source != target:
        raise InputError(
            f"{pair[0].name} has {source} lines, {pair[1].name} {target}; they must agree",
            where=spec,
            fix="Line n of one file translates line n of the other: get or align them again.",
        )


def _dictionaries(train: Any, given: tuple[Path | None, Path | None], joined: bool) -> tuple[Dictionary, Dictionary]:
    if joined:
        path = given[0] or given[1]
        both = Dictionary.read(path) if path else _built(train, *_ROLES)
        return both, both
    source, target = (Dictionary.read(path) if path else _built(train, role) for role, path in zip(_ROLES, given, strict=True))
    return source, target


def _built(spec: Any, *roles: str) -> Dictionary:
    return Dictionary.build(text.split() for role in roles for text in _texts(spec, role))


def _texts(spec: Any, role: str) -> Iterator[str]:
    pair = _pair(spec)
    if pair is not None:
        for line in pair[_ROLES.index(role)].lines():
            yield line.rstrip()
        return
    for row in open_source(spec).rows():
        if isinstance(row, RowError):
            raise row
        if not isinstance(row.get(role), str):
            raise row.error("there is no text", column=role)
        yield row[role]


def _encoded(rest: Iterator[str], dictionary: Dictionary, codes: Path | None, side: WrittenSide) -> Iterator[np.ndarray]:
    """Yield the ids of texts with their ends, and count them."""
    vocabulary = read_vocabulary(dictionary, codes)
    while texts := list(islice(rest, _AT_ONCE)):
        for ids in vocabulary.ids_of(texts):
            side.sentences += 1
            side.tokens += len(ids) + 1
            side.unknown += int((ids == UNK).sum())
            yield np.append(ids, EOS)
