"""The tokenizer of a KerasHub preset, built from its vocabulary files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {"llama": _SPLIT % "{1,3}", "qwen2": _SPLIT % "", "qwen3": _SPLIT % ""}
"""Where a text is cut before its bytes are paired, as the models' own tokenizers do; the other kinds do as GPT-2."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Special tokens of a kind's tokenizer, by transformers' names; what texts are put between; what the model takes."""

    special: Mapping[str, str]
    between: tuple[str, str] | None = None
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")


_WORD_PIECES = _Kind(
    {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}, between=("[CLS]", "[SEP]")
)
_SEGMENTS = ("input_ids", "token_type_ids", "attention_mask")
_KINDS: Mapping[str, _Kind] = {
    "bert": replace(_WORD_PIECES, inputs=_SEGMENTS),
    "distilbert": _WORD_PIECES,
    "roberta": _Kind(
        {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}, between=("<s>", "</s>")
    ),
    "bart": _Kind({"bos": "<s>", "eos": "</s>", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}, between=("<s>", "</s>")),
    "gpt2": _Kind({"bos": "<|endoftext|>", "eos": "<|endoftext|>"}),
    "llama": _Kind({"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"}),
    "qwen2": _Kind({"eos": "<|endoftext|>", "pad": "<|endoftext|>"}),
    "qwen3": _Kind({"eos": "<|im_end|>", "pad": "<|endoftext|>"}),
}


def tokenizer_of(preset: Path, kind: str) -> tuple[Any, list[Path]]:
    """Return transformers' tokenizer for a preset, and the files that it came from.

    Args:
        kind: of the model, as transformers names it.

    Raises:
        InputError: its files are missing or damaged, or it is of SentencePiece.
    """
    from transformers import PreTrainedTokenizerFast

    assets = preset / "assets" / "tokenizer"
    described = preset / "tokenizer.json"
    try:
        options = dict(json.loads(described.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "it has no tokenizer.json that can be read", where=str(preset), fix="Save it with its tokenizer."
        ) from error
    known = _KINDS[kind]
    pieced = known.special is _WORD_PIECES.special
    words, pieces, merges = (assets / name for name in ("vocabulary.txt", "vocabulary.json", "merges.txt"))
    if pieced and words.is_file():
        made, files = _word_pieces(words, options), [words]
    elif not pieced and pieces.is_file() and merges.is_file():
        made, files = _byte_pairs(pieces, merges, options, kind=kind), [pieces, merges]
    else:
        proto = " (that of SentencePiece is not read)" if any(assets.glob("*.spm")) else ""
        raise InputError(
            f"its tokenizer's vocabulary is not there{proto}", where=str(assets), fix="Give a folder in the hub's format."
        )
    special = {name: token for name, token in known.special.items() if made.token_to_id(token) is not None}
    lost = sorted({*known.special.values()} - {*special.values()} - {"<mask>", "[MASK]"})
    if lost:
        raise InputError(f'its vocabulary has no "{lost[0]}"', where=str(assets))
    if known.between:
        _put_between(made, known.between, pairs="segments" if pieced else "double")
    named = {f"{name}_token": token for name, token in special.items()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, clean_up_tokenization_spaces=False, model_input_names=[*known.inputs], **named
    )
    return tokenizer, [described, *files]


def _word_pieces(path: Path, options: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InputError("its vocabulary is not UTF-8", where=str(path), fix="Get the preset again.") from error
    suffix, unknown = str(options.get("suffix_indicator", "##")), str(options.get("oov_token", "[UNK]"))
    vocabulary = {token: number for number, token in enumerate(lines)}
    if len(vocabulary) != len(lines):
        raise InputError("a token stands there twice", where=str(path), fix="Get the preset again.")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, continuing_subword_prefix=suffix))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(options.get("lowercase")), strip_accents=bool(options.get("strip_accents"))
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=suffix)
    return tokenizer


def _byte_pairs(pieces: Path, merges: Path, options: Mapping[str, Any], *, kind: str) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    spaced = bool(options.get("add_prefix_space"))
    try:
        model = models.BPE.from_file(str(pieces), str(merges))
    except Exception as error:  # the package raises nothing narrower
        raise InputError(f"its vocabulary cannot be read: {error}", where=str(pieces), fix="Get the preset again.") from error
    tokenizer = Tokenizer(model)
    if kind.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    if kind in _SPLITS:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLITS[kind]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=False),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _put_between(tokenizer: Tokenizer, ends: tuple[str, str], *, pairs: str) -> None:
    """Begin and end texts as the kind does; RoBERTa has two tokens between a pair, BERT a second segment."""
    from tokenizers import processors

    first, last = ends
    between = f"{first} $A {last} $B:1 {last}:1" if pairs == "segments" else f"{first} $A {last} {last} $B {last}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=between, special_tokens=[(token, tokenizer.token_to_id(token)) for token in ends]
    )
