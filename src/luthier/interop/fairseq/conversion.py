"""A checkpoint of fairseq as a folder in the hub's format, converted once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from luthier.errors import InputError
from luthier.interop.converted import digest_of, made_once
from luthier.interop.fairseq.architecture import Architecture, architecture_of
from luthier.interop.fairseq.checkpoint import Checkpoint, read_checkpoint
from luthier.interop.fairseq.companions import Companions, find_companions, split_name
from luthier.interop.fairseq.dictionary import Dictionary
from luthier.interop.fairseq.hub_form import write_model
from luthier.interop.fairseq.tokenizers import CONTINUES, write_tokenizer

_BLANK = "\u2581"
"""Begins a word among SentencePiece's symbols."""
_PIECES = 0.02
"""A dictionary of words may hold a few symbols that look like pieces."""
_VERSION = "fairseq 1"
"""Of what is written; a new one makes old conversions be made again."""


def converted(name: str, cache: Path) -> Path:
    """Return the hub folder of a checkpoint, made where the cache has none of these files.

    Args:
        name: what follows ``fairseq:``: a path, and options behind a ``?``.
        cache: takes the folder.

    Raises:
        SecurityError: the checkpoint holds more than weights and plain settings.
        InputError: it or its dictionaries are missing, damaged, do not fit together, or are of a kind not known here.
    """
    path, options = split_name(name)
    if not path.is_file():
        raise InputError(f'there is no file "{path}"', where="model", fix="Write fairseq: and the path of a checkpoint (.pt).")
    checkpoint = read_checkpoint(path)
    architecture = architecture_of(checkpoint)
    encoder = architecture.encoder or architecture.decoder
    companions = find_companions(checkpoint, options, (encoder.vocabulary, architecture.decoder.vocabulary))
    if companions.codes is None and "codes" not in options:
        _check_whole_words(companions.source, checkpoint)
    if companions.codes is None and "codes" not in options:
        _needs_no_codes(path, companions.source)
    files = [path, companions.source, companions.target, *([companions.codes] if companions.codes else [])]
    target = cache / f"fairseq-{digest_of(files, salt=_VERSION)}"
    return made_once(target, lambda folder: _convert(checkpoint, architecture, companions, folder))


def _check_whole_words(path: Path, checkpoint: Checkpoint) -> None:
    """Without codes a text's words must be symbols; say so where most are pieces, or nearly all of it would be unknown."""
    symbols = Dictionary.read(path).symbols
    pieces = [symbol for symbol in symbols if symbol.endswith(CONTINUES) or symbol.startswith(_BLANK)]
    if len(pieces) > _PIECES * len(symbols):
        raise InputError(
            f'its dictionary holds pieces of words (such as "{pieces[0]}"), and no codes that make them are near it',
            where=str(path),
            fix=f"Name them: fairseq:{checkpoint.path.name}?codes=FILE; or codes=none, where all text is in pieces already.",
        )


def _needs_no_codes(checkpoint: Path, dictionary: Path) -> None:
    """Refuse a dictionary of pieces without the codes that cut words into them: most words would be unknown."""
    pieces = [symbol for symbol in Dictionary.read(dictionary).symbols if symbol.endswith("@@") or symbol.startswith("\u2581")]
    if pieces:
        raise InputError(
            f'it holds pieces of words (such as "{pieces[0]}"), and no codes that cut words were found',
            where=str(dictionary),
            fix=f"Name them: fairseq:{checkpoint.name}?codes=FILE, or ?codes=none for text that is cut already.",
        )


def _convert(checkpoint: Checkpoint, architecture: Architecture, companions: Companions, folder: Path) -> None:
    source, target = Dictionary.read(companions.source), Dictionary.read(companions.target)
    for side, dictionary, path in (
        (architecture.encoder, source, companions.source),
        (architecture.decoder, target, companions.target),
    ):
        if side is not None and len(dictionary) != side.vocabulary:
            raise InputError(
                f"it has {len(dictionary)} symbols, and the checkpoint's table {side.vocabulary} rows",
                where=str(path),
                fix=f"Name the data folder that {checkpoint.path.name} was trained with: ?data=...",
            )
    write_model(architecture, checkpoint.weights, folder)
    write_tokenizer(folder, source=source, target=target, codes=companions.codes)
