"""Parallel text as the folder that fairseq-preprocess would make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.sources import open_source
from luthier.errors import InputError, RowError
from luthier.interop.fairseq.dictionary import EOS, Dictionary
from luthier.interop.fairseq.indexed import write_ids
from luthier.interop.fairseq.tokenizers import read_vocabulary

_ROLES = ("source", "target")
_AT_ONCE = 1000


def write_data_bin(
    folder: Path,
    splits: Mapping[str, Any],
    *,
    languages: tuple[str, str],
    dictionaries: Path | None = None,
    codes: Path | None = None,
    joined: bool = False,
) -> None:
    """Write ``train.en-fr.en.{bin,idx}`` and so on with ``dict.en.txt`` and ``dict.fr.txt``.

    Args:
        folder: a new or empty one.
        splits: fairseq's name of a split (train, valid, test) -> where its rows with ``source`` and ``target`` are, as in
            ``data`` of a config: ``"train.{en,fr}"``, a table's path, rows.
        languages: of source and target.
        dictionaries: the folder whose ``dict.LANGUAGE.txt`` are taken; default: new ones from the split train.
        codes: of the BPE, or a SentencePiece model; default: the text is split already, as for fairseq-preprocess.
        joined: one new dictionary for both sides.

    Raises:
        InputError: the folder is not empty, rows cannot be read, or there are codes and no dictionaries.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError("this folder is not empty", where=str(folder), fix="Name a new one.")
    if dictionaries is None and codes is not None:
        raise InputError(
            "codes need the dictionaries of the model that they belong to",
            where=str(codes),
            fix="Name the folder with dict.*.txt, or give text that is split already.",
        )
    if dictionaries is None and "train" not in splits:
        raise InputError("without the split train there is nothing to make dictionaries from", where=str(folder))
    both = _made(splits["train"], joined) if dictionaries is None else _read(dictionaries, languages)
    folder.mkdir(parents=True, exist_ok=True)
    for language, dictionary in zip(languages, both, strict=True):
        dictionary.write(folder / f"dict.{language}.txt")
    for name, spec in splits.items():
        for role, language, dictionary in zip(_ROLES, languages, both, strict=True):
            prefix = folder / f"{name}.{'-'.join(languages)}.{language}"
            write_ids(prefix, _encoded(spec, role, dictionary, codes), symbols=len(dictionary))


def _read(folder: Path, languages: tuple[str, str]) -> tuple[Dictionary, Dictionary]:
    source, target = (Dictionary.read(folder / f"dict.{language}.txt") for language in languages)
    return source, target


def _made(spec: Any, joined: bool) -> tuple[Dictionary, Dictionary]:
    if joined:
        both = Dictionary.build(text.split() for role in _ROLES for text in _texts(spec, role))
        return both, both
    source, target = (Dictionary.build(text.split() for text in _texts(spec, role)) for role in _ROLES)
    return source, target


def _texts(spec: Any, role: str) -> Iterator[str]:
    for row in open_source(spec).rows():
        if isinstance(row, RowError):
            raise row
        if not isinstance(row.get(role), str):
            raise row.error("there is no text", column=role)
        yield row[role]


def _encoded(spec: Any, role: str, dictionary: Dictionary, codes: Path | None) -> Iterator[np.ndarray]:
    vocabulary, rest = read_vocabulary(dictionary, codes), _texts(spec, role)
    while texts := list(islice(rest, _AT_ONCE)):
        for ids in vocabulary.ids_of(texts):
            yield np.append(ids, EOS)
