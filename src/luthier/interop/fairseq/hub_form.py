"""A fairseq transformer in the hub's form and back: config.json, and the names of the weights.

Where transformers' FSMT computes the same it is FSMT; else it is Luthier's own class, see luthier.engines.torch.fairseq.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.interop.fairseq.architecture import Architecture, Side
from luthier.interop.weights import save_weights

if TYPE_CHECKING:
    from torch import Tensor

FSMT, SEQ2SEQ, CAUSAL = "fsmt", "fairseq-transformer", "fairseq-transformer-lm"
_CLASSES = {
    FSMT: "FSMTForConditionalGeneration",
    SEQ2SEQ: "FairseqForConditionalGeneration",
    CAUSAL: "FairseqForCausalLM",
}
_OUTPUT = "decoder.output_projection.weight"
_TABLE, _SOURCES = "decoder.embed_tokens.weight", "encoder.embed_tokens.weight"
_PAD = 1


def model_type(architecture: Architecture) -> str:
    """Return what config.json names."""
    if architecture.encoder is None:
        return CAUSAL
    return FSMT if architecture.is_fsmt else SEQ2SEQ


def hub_config(architecture: Architecture) -> dict[str, Any]:
    """Return the values of config.json."""
    kind, decoder = model_type(architecture), architecture.decoder
    values: dict[str, Any] = {
        "model_type": kind,
        "architectures": [_CLASSES[kind]],
        "d_model": architecture.width,
        "activation_function": architecture.activation,
        "dropout": architecture.dropout,
        "attention_dropout": architecture.attention_dropout,
        "activation_dropout": architecture.activation_dropout,
        "scale_embedding": architecture.scale_embedding,
        "tie_word_embeddings": architecture.share_output or architecture.share_all,
        "max_position_embeddings": architecture.limit,
        "pad_token_id": _PAD,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "is_encoder_decoder": architecture.encoder is not None,
        "dtype": "float32",
    }
    if architecture.encoder is not None:
        values |= {"decoder_start_token_id": 2, "src_vocab_size": architecture.encoder.vocabulary}
        values |= _side_config("encoder", architecture.encoder, plain=kind == FSMT)
    values |= _side_config("decoder", decoder, plain=kind == FSMT)
    if kind == FSMT:
        return {**values, "tgt_vocab_size": decoder.vocabulary, "forced_eos_token_id": None}
    return {
        **values,
        "vocab_size": decoder.vocabulary,
        "layernorm_embedding": architecture.layernorm_embedding,
        "share_all_embeddings": architecture.share_all,
        "share_decoder_input_output_embed": architecture.share_output,
    }


def generation_config(architecture: Architecture) -> dict[str, Any]:
    """Return the values of generation_config.json, with which transformers' beam search is fairseq's: it ends with the
    first finished beams, writes at least one token, and never padding.
    """
    start = {} if architecture.encoder is None else {"decoder_start_token_id": 2}
    search = {"num_beams": 5, "early_stopping": True, "min_new_tokens": 1, "suppress_tokens": [_PAD]}
    return {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": _PAD, **start, **search}


def write_model(architecture: Architecture, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors from fairseq's weights."""
    save_weights(hub_weights(architecture, weights), folder)
    values = {"config.json": hub_config(architecture), "generation_config.json": generation_config(architecture)}
    for name, content in values.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _side_config(name: str, side: Side, *, plain: bool) -> dict[str, Any]:
    values = {f"{name}_layers": side.layers, f"{name}_attention_heads": side.heads, f"{name}_ffn_dim": side.inner}
    if plain:
        return values
    return {
        **values,
        f"{name}_normalize_before": side.normalize_before,
        f"{name}_final_norm": side.final_norm,
        f"{name}_learned_pos": side.learned_positions,
        f"max_{'source' if name == 'encoder' else 'target'}_positions": side.positions,
    }


def architecture_of_config(values: Mapping[str, Any]) -> Architecture:
    """Return what a config.json of one of these kinds describes: the inverse of ``hub_config``."""
    plain = values["model_type"] == FSMT
    tied = bool(values["tie_word_embeddings"])
    return Architecture(
        width=values["d_model"],
        encoder=_side_of("encoder", values, values["src_vocab_size"]) if values["model_type"] != CAUSAL else None,
        decoder=_side_of("decoder", values, values["tgt_vocab_size" if plain else "vocab_size"]),
        activation=values["activation_function"],
        dropout=values["dropout"],
        attention_dropout=values["attention_dropout"],
        activation_dropout=values["activation_dropout"],
        scale_embedding=values["scale_embedding"],
        layernorm_embedding=bool(values.get("layernorm_embedding")),
        share_all=tied if plain else bool(values["share_all_embeddings"]),
        share_output=tied if plain else bool(values["share_decoder_input_output_embed"]),
    )


def _side_of(name: str, values: Mapping[str, Any], vocabulary: int) -> Side:
    kind = "source" if name == "encoder" else "target"
    return Side(
        vocabulary=vocabulary,
        layers=values[f"{name}_layers"],
        heads=values[f"{name}_attention_heads"],
        inner=values[f"{name}_ffn_dim"],
        normalize_before=bool(values.get(f"{name}_normalize_before")),
        final_norm=bool(values.get(f"{name}_final_norm")),
        learned_positions=bool(values.get(f"{name}_learned_pos")),
        positions=values.get(f"max_{kind}_positions") or values["max_position_embeddings"],
    )


def hub_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name fairseq's weights as the hub's classes do; tables that are one stand there once."""
    kind = model_type(architecture)
    shared = _shared(architecture)
    named = {_hub_name(name, kind): value for name, value in weights.items() if name not in shared}
    if kind == FSMT:
        named |= {f"model.{side}.embed_positions.weight": _sinusoidal(architecture) for side in ("encoder", "decoder")}
    return named


def fairseq_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the weights of one of the hub's classes as fairseq does, with every shared table in all its places."""
    kind = model_type(architecture)
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        new = _OUTPUT if name == "lm_head.weight" else name.removeprefix("model.")
        if not (kind == FSMT and new.endswith(".embed_positions.weight")):
            named[new] = value
    one = [_TABLE, *_shared(architecture)]
    table = next(named[name] for name in one if name in named)  # transformers saves it under one of its names
    return named | dict.fromkeys(one, table)


def _shared(architecture: Architecture) -> list[str]:
    return [
        *([_OUTPUT] if architecture.share_output else []),
        *([_SOURCES] if architecture.share_all else []),
    ]


def _hub_name(name: str, kind: str) -> str:
    return "lm_head.weight" if name == _OUTPUT and kind != FSMT else f"model.{name}"


def _sinusoidal(architecture: Architecture) -> Tensor:
    """Return the table of positions that FSMT keeps beside its weights, float32 [positions and two, H]."""
    import math

    import torch

    half = architecture.width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float) * -(math.log(10000) / (half - 1)))
    angles = torch.arange(architecture.limit + _PAD + 1, dtype=torch.float)[:, None] * rates
    table = torch.nn.functional.pad(torch.cat([torch.sin(angles), torch.cos(angles)], dim=1), (0, architecture.width % 2))
    table[_PAD] = 0
    return table
