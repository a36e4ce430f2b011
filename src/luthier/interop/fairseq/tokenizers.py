"""A fairseq dictionary, and the codes by which text became its symbols, as a tokenizer of the hub's folder format.

| codes | what a text becomes |
| --- | --- |
| subword-nmt (``#version: 0.2``), fastBPE (three columns) | words at blanks, merged from characters; ``hel@@ lo`` |
| SentencePiece (``.model``) | pieces of the normalised text; ``▁hel lo`` |
| none | words at white space, which must be the dictionary's symbols: text that is split already |

The ids are fairseq's own. What codes can make and the dictionary has not is ``<unk>``: such pieces are needed on the way
to longer ones, so they get ids behind the dictionary's, and ``unknown`` in tokenizer_config.json says from where on.
Where source and target have dictionaries of their own, target_tokenizer.json holds the target's.

fairseq's own Moses tokenisation (``--tokenizer moses``) is not done: text comes as its codes expect it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import BOS, EOS, PAD, SPECIAL, UNK, Dictionary
from luthier.vocabulary import TARGET_FILE, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

Kind = Literal["subword_nmt", "fastbpe", "sentencepiece"]

CONTINUES = "@@"
"""Ends a symbol that goes on in the next one."""
_WORD_END = "</w>"
_WHITE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
"""What Python's ``str.split`` takes for white space, as fairseq does."""


def write_tokenizer(
    folder: Path,
    *,
    source: Dictionary,
    target: Dictionary,
    codes: Path | None = None,
    kind: Kind | None = None,
) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        folder: is there already.
        codes: of the BPE, or a SentencePiece model; None: words at white space.
        kind: of the codes; default: by their content.

    Raises:
        InputError: the codes cannot be read, or are of a kind that is not known here.
    """
    made = [read_vocabulary(source, codes, kind)]
    if target.symbols != source.symbols:
        made.append(read_vocabulary(target, codes, kind))
    for side, name in zip(made, ("tokenizer.json", TARGET_FILE), strict=False):
        side.backend.save(str(folder / name))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[PAD],
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "split_special_tokens": True,  # a text that says "</s>" means these four characters
        "unknown": {"from": [len(source), len(target)], "id": UNK},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def kind_of(codes: Path) -> Kind:
    """Tell the kind of codes from their content.

    Raises:
        InputError: there is no such file, or it is of no kind that is known here.
    """
    try:
        with codes.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise InputError(f"they cannot be read ({error.strerror or error})", where=str(codes)) from error
    first = head.split(b"\n")[0]
    if first.startswith(b"#version:"):
        return "subword_nmt"
    if b"\0" in head or head.startswith(b"\n"):  # field 1 of a protocol buffer, which begins as an empty line
        return "sentencepiece"
    return "fastbpe" if len(first.split(b" ")) == 3 else "subword_nmt"


def read_vocabulary(dictionary: Dictionary, codes: Path | None = None, kind: Kind | None = None) -> Vocabulary:
    """Return what turns text into the ids of a dictionary; see ``write_tokenizer``."""
    from tokenizers import AddedToken, processors

    if codes is None:
        backend = _words(dictionary)
    elif (kind or kind_of(codes)) == "sentencepiece":
        from luthier.interop.fairseq.sentencepiece import pieces_backend

        backend = pieces_backend(dictionary, codes)
    else:
        backend = _merged(dictionary, _merges(codes))
    # <unk> is no special token here: fairseq writes it out, where special tokens are left out.
    backend.add_special_tokens([AddedToken(SPECIAL[number], special=True, normalized=False) for number in (BOS, PAD, EOS)])
    if codes is not None:  # else the codes would split it, where a data-bin or fairseq wrote it
        backend.add_tokens([AddedToken(SPECIAL[UNK], special=False, normalized=False)])
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[(SPECIAL[EOS], EOS)]
    )
    backend.encode_special_tokens = True
    return Vocabulary(backend, len(dictionary), UNK)


def _vocabulary(dictionary: Dictionary, names: Iterable[str]) -> dict[str, int]:
    """Return name -> id. A name without use, as of a symbol that a later one replaces, becomes one that no text can have."""
    ids: dict[str, int] = {}
    for number, (symbol, name) in enumerate(zip(dictionary.symbols, names, strict=True)):
        usable = number < len(SPECIAL) or (name and name not in ids and dictionary.ids[symbol] == number)
        ids[name if usable else f"{symbol} {number}"] = number
    return ids


def _words(dictionary: Dictionary) -> Backend:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel(_vocabulary(dictionary, dictionary.symbols), unk_token=SPECIAL[UNK]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_WHITE), "removed")
    # A decoder's pieces are put together without a blank between them.
    backend.decoder = decoders.Sequence([decoders.Replace(Regex("$"), " "), decoders.Fuse(), decoders.Replace(Regex(" $"), "")])
    return backend


def _merged(dictionary: Dictionary, merges: Sequence[tuple[str, str]]) -> Backend:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    ids = _vocabulary(dictionary, [_bpe_name(symbol) for symbol in dictionary.symbols])
    for pair in merges:
        for piece in (*pair, "".join(pair)):
            ids.setdefault(piece, len(ids))
    backend = Tokenizer(models.BPE(ids, list(merges), unk_token=SPECIAL[UNK], end_of_word_suffix=_WORD_END, fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPECIAL[UNK], SPECIAL[UNK] + _WORD_END), decoders.BPEDecoder(_WORD_END)]
    )
    return backend


def _bpe_name(symbol: str) -> str:
    if symbol in SPECIAL:
        return symbol
    return symbol.removesuffix(CONTINUES) if symbol.endswith(CONTINUES) else symbol + _WORD_END


def _merges(codes: Path) -> list[tuple[str, str]]:
    """Read the merges of subword-nmt (``left right``) or fastBPE (``left right count``), in order, each once."""
    try:
        lines = codes.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"they cannot be read ({error.strerror or error})", where=str(codes)) from error
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8, so these are no BPE codes", where=str(codes)) from error
    columns = 3
    start = 0
    if lines[0].startswith("#version:"):
        if lines[0].split()[1:] != ["0.2"]:
            raise InputError(f'BPE codes of "{lines[0].strip()}" are not known here', where=f"{codes}:1", fix="Known: 0.2.")
        columns, start = 2, 1
    merges: dict[tuple[str, str], None] = {}
    for number, line in enumerate(lines[start:], start + 1):
        parts = line.strip("\r\n ").split(" ")
        if parts == [""] and number == len(lines):
            break
        if len(parts) != columns:
            raise InputError(
                f'found "{line.strip()[:40]}"',
                where=f"{codes}:{number}",
                fix="Known are codes of subword-nmt that begin with #version: 0.2, and of fastBPE: two pieces and a count.",
            )
        merges[parts[0], parts[1]] = None
    return list(merges)
