"""From the tokenizer of a model folder back to fairseq's dictionaries: the inverse of luthier.interop.fairseq.tokenizers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import SPECIAL, Dictionary
from luthier.interop.fairseq.tokenizers import CONTINUES
from luthier.vocabulary import TARGET_FILE


def dictionaries_of(folder: Path) -> tuple[Dictionary, Dictionary]:
    """Return the dictionaries of source and target; how often a symbol was seen is not known any more, so all count 1.

    Raises:
        InputError: the tokenizer is none that was made from dictionaries.
    """
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    rows = (config.get("unknown") or {}).get("from")
    if not rows:
        raise InputError(
            "its tokenizer was not made from dictionaries of fairseq, so none can be written",
            where=str(folder / "tokenizer.json"),
        )
    names = ("tokenizer.json", TARGET_FILE if (folder / TARGET_FILE).is_file() else "tokenizer.json")
    source, target = (_dictionary(folder / name, count) for name, count in zip(names, rows, strict=True))
    return source, target


def _dictionary(path: Path, rows: int) -> Dictionary:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    names = {number: name for name, number in _ids(model).items()}
    symbols = tuple(_symbol(names[number], number, model.get("end_of_word_suffix")) for number in range(rows))
    return Dictionary(symbols, (0,) * len(SPECIAL) + (1,) * (rows - len(SPECIAL)))


def _ids(model: Mapping[str, Any]) -> dict[str, int]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        return dict(vocabulary)
    return {name: number for number, (name, _) in enumerate(vocabulary)}


def _symbol(name: str, number: int, word_end: str | None) -> str:
    """Return the symbol that a tokenizer knows as ``name``."""
    if name.endswith(f" {number}"):  # one that no text becomes, under a name of its own
        return name.removesuffix(f" {number}")
    if name in SPECIAL or not word_end:
        return name
    return name.removesuffix(word_end) if name.endswith(word_end) else name + CONTINUES
