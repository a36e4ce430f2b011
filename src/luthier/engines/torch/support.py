"""Which tuning methods work for which families of models: tried one by one, and held to by a contract test.

Other families are not refused: what they cannot do is found when they are loaded, as it is for these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

MERGED = ("lora", "dora", "rslora", "ia3")
"""Adapters that can be merged into their base."""

_WRITING = ("full", "freeze", *MERGED, "prompt", "prefix")
"""A model that writes has no head of its own to train."""
_READING = ("full", "head", "freeze", *MERGED, "prompt", "prefix")
_ENCODER = {SequenceHead: _READING, TokenHead: _READING, SpanHead: _READING}
_DECODER = {CausalHead: _WRITING, SequenceHead: _READING}

SUPPORTED: Mapping[str, Mapping[type[Head], tuple[str, ...]]] = {
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "electra": _ENCODER,
    # Its layers take no keys and values from outside.
    "distilbert": {head: tuple(name for name in methods if name != "prefix") for head, methods in _ENCODER.items()},
    "gpt2": _DECODER,
    "llama": _DECODER,
    "qwen3": _DECODER,
    "gemma3_text": _DECODER,
    "mistral": _DECODER,
    "marian": {Seq2SeqHead: _WRITING},
    "bart": {Seq2SeqHead: _WRITING},
    "t5": {Seq2SeqHead: _WRITING},
}
"""Methods by the kind of model (``model_type`` of its config) and head."""


def rows() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (kind of model, name of the head, its methods), for a printed table."""
    for family, heads in SUPPORTED.items():
        for head, methods in heads.items():
            yield family, head.__name__, methods
