"""What a fairseq transformer is made of, read from its settings and held against the shapes of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.interop.fairseq.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_accurate": "gelu_new", "gelu_fast": "gelu_new", "tanh": "tanh"}
"""fairseq's names of activations, and transformers'."""
_REFUSED = {
    "adaptive_softmax_cutoff": "an adaptive softmax",
    "adaptive_input": "adaptive input embeddings",
    "character_embeddings": "embeddings of characters",
    "char_inputs": "embeddings of characters",
    "no_token_positional_embeddings": "no positions",
    "cross_self_attention": "cross-self-attention",
    "no_cross_attention": "no attention to its source",
    "encoder_layers_to_keep": "layers pruned after LayerDrop",
    "decoder_layers_to_keep": "layers pruned after LayerDrop",
    "encoder_layerdrop": "LayerDrop",
    "decoder_layerdrop": "LayerDrop",
    "quant_noise_pq": "quantization noise",
    "quant_noise_scalar": "quantization noise",
    "base_layers": "BASE layers",
    "scale_fc": "NormFormer's scales",
    "scale_attn": "NormFormer's scales",
    "scale_heads": "NormFormer's scales",
    "scale_resids": "NormFormer's scales",
    "encoder_xformers_att_config": "attention of xFormers",
    "decoder_xformers_att_config": "attention of xFormers",
    "alignment_heads": "alignments",
    "alignment_layer": "alignments",
}
_POSITIONS = 1024
"""What fairseq takes where a file does not say."""
_OFFSET = 2
"""A learned table has rows for positions from the id of padding plus one."""


@dataclass(frozen=True, slots=True)
class Side:
    """An encoder or a decoder. ``inner`` is the width of its feed-forward layers, ``positions`` how many it takes."""

    vocabulary: int
    layers: int
    heads: int
    inner: int
    normalize_before: bool
    final_norm: bool
    learned_positions: bool
    positions: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """A fairseq transformer; a language model has no encoder.

    Attributes:
        share_all: one table for sources, targets and the output layer.
        share_output: one table for targets and the output layer.
    """

    width: int
    encoder: Side | None
    decoder: Side
    activation: str
    dropout: float
    attention_dropout: float
    activation_dropout: float
    scale_embedding: bool
    layernorm_embedding: bool
    share_all: bool
    share_output: bool

    @property
    def is_fsmt(self) -> bool:
        """Whether transformers' FSMT computes exactly this: it is post-norm, and shares all tables or none."""
        sides = (self.encoder, self.decoder)
        plain = all(
            side is not None and not (side.normalize_before or side.final_norm or side.learned_positions) for side in sides
        )
        return plain and not self.layernorm_embedding and self.share_all == self.share_output

    @property
    def limit(self) -> int:
        """Tokens of a text at most."""
        return min(side.positions for side in (self.encoder, self.decoder) if side is not None)


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """Read off what a checkpoint's transformer is made of.

    Raises:
        InputError: it has something that is not known here; the message names it.
    """
    settings, weights, where = checkpoint.settings, checkpoint.weights, str(checkpoint.path)
    _refuse(checkpoint)
    table = weights["decoder.embed_tokens.weight"]
    translates = not checkpoint.is_language_model
    share_all = translates and bool(settings.get("share_all_embeddings"))
    activation = str(settings.get("activation_fn") or "relu")
    if activation not in ACTIVATIONS:
        raise InputError(f'its activation "{activation}" is not known here', where=where)
    result = Architecture(
        width=int(table.shape[1]),
        encoder=_side("encoder", settings, weights, where) if translates else None,
        decoder=_side("decoder", settings, weights, where),
        activation=ACTIVATIONS[activation],
        dropout=float(settings.get("dropout") or 0.0),
        attention_dropout=float(settings.get("attention_dropout") or 0.0),
        activation_dropout=float(settings.get("activation_dropout") or settings.get("relu_dropout") or 0.0),
        scale_embedding=not settings.get("no_scale_embedding"),
        layernorm_embedding="decoder.layernorm_embedding.weight" in weights,
        share_all=share_all,
        share_output=share_all or bool(settings.get("share_decoder_input_output_embed")),
    )
    _check_shared(result, weights, where)
    _check_names(result, weights, where)
    return result


def _refuse(checkpoint: Checkpoint) -> None:
    """Refuse, by its name, what would be computed in another way."""
    settings, weights = checkpoint.settings, checkpoint.weights
    where = str(checkpoint.path)
    arch = str(settings.get("arch") or "")
    kind = "transformer_lm" if checkpoint.is_language_model else "transformer"
    if not arch.startswith(kind) or arch.startswith(("transformer_align", "transformer_from_pretrained")):
        raise InputError(
            f'its architecture "{arch}" is not known here', where=where, fix="What can be read: transformer, transformer_lm."
        )
    for name, meaning in _REFUSED.items():
        if settings.get(name):
            raise InputError(f"it has {meaning} ({name}), which is not known here", where=where)
    tables = ["decoder.embed_tokens.weight", *(["encoder.embed_tokens.weight"] if kind == "transformer" else [])]
    missing = [name for name in tables if name not in weights]
    if missing:
        raise InputError(f"its weight {missing[0]} is missing", where=where)
    widths = {int(weights[name].shape[1]) for name in tables}
    asked = {
        int(settings[name]) for name in ("decoder_input_dim", "decoder_output_dim", "decoder_embed_dim") if settings.get(name)
    }
    if len(widths | asked) > 1:
        raise InputError("its encoder, decoder and embeddings have different widths, which is not known here", where=where)


def _side(side: str, settings: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> Side:
    numbers = {int(name.split(".")[2]) for name in weights if name.startswith(f"{side}.layers.")}
    if numbers != set(range(len(numbers))) or not numbers:
        raise InputError(f"layers of its {side} are missing", where=where)
    heads = settings.get(f"{side}_attention_heads")
    if not heads:
        raise InputError(f"it does not say how many heads its {side} has ({side}_attention_heads)", where=where)
    kind = "source" if side == "encoder" else "target"
    said = settings.get(f"max_{kind}_positions") or settings.get("tokens_per_sample") or settings.get("max_positions")
    positions = int(said or _POSITIONS)
    learned = weights.get(f"{side}.embed_positions.weight")
    if bool(settings.get(f"{side}_learned_pos")) != (learned is not None):
        raise InputError(f"the positions of its {side} are not of the kind that its settings name", where=where)
    return Side(
        vocabulary=int(weights[f"{side}.embed_tokens.weight"].shape[0]),
        layers=len(numbers),
        heads=int(heads),
        inner=int(weights[f"{side}.layers.0.fc1.weight"].shape[0]),
        normalize_before=bool(settings.get(f"{side}_normalize_before")),
        final_norm=f"{side}.layer_norm.weight" in weights,
        learned_positions=learned is not None,
        positions=positions if learned is None else int(learned.shape[0]) - _OFFSET,
    )


def _check_shared(architecture: Architecture, weights: Mapping[str, Tensor], where: str) -> None:
    """Tables that are one by the settings must be equal."""
    tables = []
    if architecture.share_output:
        tables.append("decoder.output_projection.weight")
    if architecture.share_all:
        tables.append("encoder.embed_tokens.weight")
    own = weights["decoder.embed_tokens.weight"]
    for name in tables:
        if name in weights and not weights[name].equal(own):
            raise InputError(
                f"{name} should be the same as decoder.embed_tokens.weight, by its settings, and is not", where=where
            )


def _check_names(architecture: Architecture, weights: Mapping[str, Tensor], where: str) -> None:
    """Every weight that the transformer has must be there, and no other."""
    expected = set(_names(architecture))
    if strange := sorted(set(weights) - expected):
        raise InputError(f"it has a weight that is not known here ({strange[0]})", where=where)
    if missing := sorted(expected - set(weights)):
        raise InputError(f"its weight {missing[0]} is missing", where=where)


def _names(architecture: Architecture) -> Iterator[str]:
    yield "decoder.output_projection.weight"
    for name, side in (("encoder", architecture.encoder), ("decoder", architecture.decoder)):
        if side is None:
            continue
        yield f"{name}.embed_tokens.weight"
        if side.learned_positions:
            yield f"{name}.embed_positions.weight"
        attentions = ["self_attn", *(["encoder_attn"] if name == "decoder" and architecture.encoder else [])]
        parts = [f"{attention}.{part}_proj" for attention in attentions for part in ("q", "k", "v", "out")]
        parts += [*(f"{attention}_layer_norm" for attention in attentions), "fc1", "fc2", "final_layer_norm"]
        modules = [f"layers.{number}.{part}" for number in range(side.layers) for part in parts]
        modules += ["layer_norm"] if side.final_norm else []
        modules += ["layernorm_embedding"] if architecture.layernorm_embedding else []
        yield from (f"{name}.{module}.{kind}" for module in modules for kind in ("weight", "bias"))
