"""SentencePiece models, under the ids of a fairseq dictionary.

A ``.model`` is a protocol buffer, ``ModelProto`` of SentencePiece's ``sentencepiece_model.proto``; the few fields that
decide about pieces are read here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import SPECIAL, UNK, Dictionary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_UNIGRAM, _BPE = 1, 2
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6
_MODEL_TYPE, _SUFFIX, _BYTES = 3, 24, 35  # of TrainerSpec
_CHARSMAP, _DUMMY, _REMOVE = 2, 3, 4  # of NormalizerSpec
_BLANK = "▁"
_UNSEEN = "\ue000"
"""Stands for a run of characters that are unknown."""
_PENALTY = 10.0
"""By how much an unknown character scores less than the worst piece."""


@dataclass(frozen=True, slots=True)
class _Model:
    """What decides about pieces.

    Attributes:
        scores: of each normal piece, in the model's order.
        bpe: merged pairs; else the likeliest pieces.
        charsmap: of the normalisation, compiled.
        prefix: whether a text gets a blank before it.
        squeeze: whether blanks at its ends and doubled ones fall away.
    """

    scores: Mapping[str, float]
    bpe: bool
    charsmap: bytes
    prefix: bool
    squeeze: bool


def pieces_backend(dictionary: Dictionary, path: Path) -> Backend:
    """Return a tokenizer that splits as the model does, under the dictionary's ids.

    Raises:
        InputError: this is no SentencePiece model, or one of a kind that is not known here.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    model = _read(path)
    ids = _vocabulary(dictionary, model)
    strange = [symbol for symbol in dictionary.symbols[len(SPECIAL) :] if _strange(symbol, model)]
    if model.bpe:
        backend = Tokenizer(models.BPE(ids, _merges(model), unk_token=SPECIAL[UNK], fuse_unk=True))
    else:
        unknown = min(model.scores.values()) - _PENALTY
        scores = {**{name: unknown * len(name) + len(name) - 1 for name in strange}, **model.scores}
        backend = Tokenizer(models.Unigram([(name, scores.get(name, 0.0)) for name in ids], UNK, False))
    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.squeeze:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    steps.append(normalizers.Replace(Regex(_run(model, [name for name in strange if name in ids])), _UNSEEN))
    backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if model.prefix else "never"
    whole = any(_BLANK in piece[1:] for piece in model.scores)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_BLANK, scheme, split=not whole)
    backend.decoder = decoders.Sequence(
        [decoders.Replace(Regex(" [0-9]+$"), ""), decoders.Replace(_BLANK, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _vocabulary(dictionary: Dictionary, model: _Model) -> dict[str, int]:
    """Return name -> id: the dictionary's, then the pieces that it has not. A name that no text can have has a blank."""
    ids: dict[str, int] = {}
    for number, symbol in enumerate(dictionary.symbols):
        made = symbol in model.scores or (_strange(symbol, model) and (len(symbol) == 1 or not model.bpe))
        usable = number < len(SPECIAL) or (made and dictionary.ids[symbol] == number)
        ids[symbol if usable else f"{symbol} {number}"] = number
    for piece in model.scores:
        ids.setdefault(piece, len(ids))
    return ids


def _strange(symbol: str, model: _Model) -> bool:
    """Whether the model knows none of a symbol's characters: SentencePiece then writes it as it stands, as one piece."""
    return not any(char in model.scores for char in symbol)


def _run(model: _Model, known: Sequence[str]) -> str:
    """Return a pattern of neighbouring characters that the model does not know, which together are one unknown piece."""
    chars = {char for piece in model.scores for char in piece} | {_BLANK, " "}
    codes = "".join(rf"\x{{{ord(char):x}}}" for char in sorted(chars))
    other = f"[^{codes}]"
    longer = "|".join(re.escape(name) for name in known if len(name) > 1)
    return rf"(?<!{other})" + (f"(?!(?:{longer})(?!{other}))" if longer else "") + other + "{2,}"


def _merges(model: _Model) -> list[tuple[str, str]]:
    """Return the pairs that make up each piece, the best piece first: SentencePiece merges by the piece's score."""
    order = {piece: number for number, piece in enumerate(sorted(model.scores, key=lambda piece: -model.scores[piece]))}
    merges = []
    for piece in order:
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [pair for pair in pairs if pair[0] in order and pair[1] in order]
        merges += sorted(known, key=lambda pair: (order[pair[0]], order[pair[1]]))
    return merges


def _read(path: Path) -> _Model:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})", where=str(path)) from error
    scores: dict[str, float] = {}
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    kinds: set[int] = set()
    try:
        for field, value in _fields(content):
            if field == 1:
                piece = dict(_fields(value))
                kind = piece.get(3, _NORMAL)
                kinds.add(kind)
                if kind in (_NORMAL, _USER_DEFINED):
                    scores[piece[1].decode("utf-8")] = struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]
            elif field == 2:
                trainer = dict(_fields(value))
            elif field == 3:
                normalizer = dict(_fields(value))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise InputError("this is no SentencePiece model, or a damaged one", where=str(path), fix="Get it again.") from error
    if not scores:
        raise InputError("this SentencePiece model has no pieces", where=str(path), fix="Get it again.")
    kind = trainer.get(_MODEL_TYPE, _UNIGRAM)
    refused = {
        "its type (word or character)": kind not in (_UNIGRAM, _BPE),
        "pieces that the user defined": _USER_DEFINED in kinds,
        "bytes for unknown characters": _BYTE in kinds or bool(trainer.get(_BYTES)),
        "blanks at the end of words": bool(trainer.get(_SUFFIX)),
    }
    for what in (name for name, there in refused.items() if there):
        raise InputError(f"this SentencePiece model has what is not known here: {what}", where=str(path))
    charsmap = normalizer.get(_CHARSMAP, b"")
    return _Model(scores, kind == _BPE, charsmap, bool(normalizer.get(_DUMMY, 1)), bool(normalizer.get(_REMOVE, 1)))


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field of a message: an int, or bytes."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(content, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + length > len(content):
            raise ValueError("cut off")
        yield number, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
