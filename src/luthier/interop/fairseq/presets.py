"""The sizes that fairseq's ``--arch`` names stand for (``fairseq/models/transformer*`` of 0.12.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a transformer.

    Attributes:
        differs: what of it a new model of Luthier has not; empty: nothing that changes its size.
        causal: a language model.
    """

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    dropout: float = 0.1
    differs: str = ""
    causal: bool = False


def _lm(layers: int, hidden_size: int, heads: int, intermediate_size: int, dropout: float = 0.1, differs: str = "") -> Sizes:
    return Sizes(layers, hidden_size, heads, intermediate_size, dropout, differs, causal=True)


_ADAPTIVE = "it has adaptive inputs and an adaptive softmax"

PRESETS: Mapping[str, Sizes] = {
    "transformer": Sizes(6, 512, 8, 2048),
    "transformer_tiny": Sizes(2, 64, 2, 64),
    "transformer_iwslt_de_en": Sizes(6, 512, 4, 1024),
    "transformer_wmt_en_de": Sizes(6, 512, 8, 2048),
    "transformer_vaswani_wmt_en_de_big": Sizes(6, 1024, 16, 4096, 0.3),
    "transformer_vaswani_wmt_en_fr_big": Sizes(6, 1024, 16, 4096, 0.1),
    "transformer_wmt_en_de_big": Sizes(6, 1024, 16, 4096, 0.3, "it has a dropout of 0.1 in its attention"),
    "transformer_wmt_en_de_big_t2t": Sizes(6, 1024, 16, 4096, 0.3, "its norms come first, and it has three kinds of dropout"),
    "transformer_lm": _lm(6, 512, 8, 2048),
    "transformer_lm_big": _lm(12, 1024, 16, 4096),
    "transformer_lm_wiki103": _lm(16, 1024, 8, 4096, 0.3, _ADAPTIVE),
    "transformer_lm_baevski_wiki103": _lm(16, 1024, 8, 4096, 0.3, _ADAPTIVE),
    "transformer_lm_gbw": _lm(12, 512, 16, 4096, 0.1, "it has no norm at its end"),
    "transformer_lm_baevski_gbw": _lm(12, 512, 16, 4096, 0.1, "it has no norm at its end"),
    "transformer_lm_gpt": _lm(12, 768, 12, 3072),
    "transformer_lm_gpt2_small": _lm(24, 1024, 16, 4096),
    "transformer_lm_gpt2_medium": _lm(36, 1280, 20, 5120),
    "transformer_lm_gpt2_big": _lm(48, 1600, 25, 6400),
}
