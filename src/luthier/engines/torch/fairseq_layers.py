"""The layers of fairseq's transformers, and what their configs say.

The computation follows fairseq 0.12.2, ``fairseq/models/transformer`` and ``fairseq/modules/transformer_layer.py``.
Attention runs through transformers' interface, so packed rows, caches and beam search work as for any other model.

B sequences, T tokens, H width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.cache_utils import EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.modeling_utils import PreTrainedModel
from transformers.models.bart.modeling_bart import BartAttention

SEQ2SEQ, CAUSAL = "fairseq-transformer", "fairseq-transformer-lm"
_FIRST_POSITION = 2
"""fairseq counts positions from the id of padding plus one, and that id is always 1."""


class FairseqConfig(PreTrainedConfig):  # type: ignore[misc]
    """An encoder-decoder's; ``vocab_size`` is that of the targets. ``tie_word_embeddings`` is whether anything is shared."""

    model_type = SEQ2SEQ
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 8
    src_vocab_size: int = 8
    d_model: int = 8
    max_position_embeddings: int = 1024
    max_source_positions: int = 1024
    max_target_positions: int = 1024
    encoder_layers: int = 1
    encoder_attention_heads: int = 1
    encoder_ffn_dim: int = 8
    encoder_normalize_before: bool = False
    encoder_final_norm: bool = False
    encoder_learned_pos: bool = False
    decoder_layers: int = 1
    decoder_attention_heads: int = 1
    decoder_ffn_dim: int = 8
    decoder_normalize_before: bool = False
    decoder_final_norm: bool = False
    decoder_learned_pos: bool = False
    layernorm_embedding: bool = False
    scale_embedding: bool = True
    activation_function: str = "relu"
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    share_all_embeddings: bool = False
    share_decoder_input_output_embed: bool = False
    init_std: float = 0.02
    use_cache: bool = True
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2


class FairseqLMConfig(FairseqConfig):
    """A language model's: the decoder's values alone count."""

    model_type = CAUSAL
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "decoder_attention_heads",
        "num_hidden_layers": "decoder_layers",
    }

    is_encoder_decoder: bool = False
    decoder_start_token_id: int | None = None


class SinusoidalPositions(nn.Module):
    """Sines in the first half, cosines in the second, computed where they are needed: there is nothing to save."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions from 0, of any shape, to that shape with H behind it."""
        half = self._width // 2
        step = math.log(10000) / (half - 1)
        rates = torch.exp(torch.arange(half, dtype=torch.float, device=positions.device) * -step)
        angles = (positions + _FIRST_POSITION).float()[..., None] * rates
        return functional.pad(torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1), (0, self._width % 2))


class LearnedPositions(nn.Embedding):
    """A table whose first rows, those of fairseq's offset, are never read."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__(count + _FIRST_POSITION, width, padding_idx=_FIRST_POSITION - 1)

    def forward(self, positions: Tensor) -> Tensor:
        """As SinusoidalPositions."""
        return super().forward(positions + _FIRST_POSITION)


class FairseqLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """A layer of an encoder or a decoder, with its norms before or after each block."""

    def __init__(self, config: FairseqConfig, index: int, *, side: str, crossed: bool) -> None:
        super().__init__()
        width, decodes = config.d_model, side == "decoder"
        heads, inner = getattr(config, f"{side}_attention_heads"), getattr(config, f"{side}_ffn_dim")

        def attention(*, causal: bool) -> BartAttention:
            return BartAttention(
                width, heads, dropout=config.attention_dropout, is_decoder=decodes, is_causal=causal, config=config,
                layer_idx=index,
            )  # fmt: skip

        self._before = getattr(config, f"{side}_normalize_before")
        self._dropout, self._activation_dropout = config.dropout, config.activation_dropout
        self._activation = ACT2FN[config.activation_function]
        self.self_attn = attention(causal=decodes)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        if crossed:
            self.encoder_attn = attention(causal=False)
            self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        cache: Any = None,
        segments: Any = None,
    ) -> Tensor:
        """Map [B, T, H] to [B, T, H]."""
        given = {"cache": cache, "segments": segments}

        def attend(states: Tensor) -> Tensor:
            attended: Tensor = self.self_attn(states, attention_mask=attention_mask, **given)[0]
            return attended

        def look(states: Tensor) -> Tensor:
            seen: Tensor = self.encoder_attn(
                states, key_value_states=encoder_hidden_states, attention_mask=encoder_attention_mask, **given
            )[0]
            return seen

        hidden_states = self._block(hidden_states, self.self_attn_layer_norm, attend)
        if encoder_hidden_states is not None:
            hidden_states = self._block(hidden_states, self.encoder_attn_layer_norm, look)
        return self._block(hidden_states, self.final_layer_norm, self._feed)

    def _feed(self, states: Tensor) -> Tensor:
        inner = functional.dropout(self._activation(self.fc1(states)), self._activation_dropout, self.training)
        fed: Tensor = self.fc2(inner)
        return fed

    def _block(self, states: Tensor, norm: nn.Module, inner: Callable[[Tensor], Tensor]) -> Tensor:
        result = inner(norm(states) if self._before else states)
        states = states + functional.dropout(result, self._dropout, self.training)
        return states if self._before else norm(states)


class FairseqPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What the classes below share."""

    config_class = FairseqConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["FairseqLayer"]
    _skip_keys_device_placement: ClassVar[list[str]] = ["cache"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True


class FairseqStack(FairseqPreTrainedModel):
    """An encoder or a decoder."""

    def __init__(self, config: FairseqConfig, *, side: str, crossed: bool = False) -> None:
        super().__init__(config)
        self._decodes = side == "decoder"
        width, self._dropout = config.d_model, config.dropout
        self._scale = math.sqrt(width) if config.scale_embedding else 1.0
        rows = config.vocab_size if self._decodes else config.src_vocab_size
        self.embed_tokens = nn.Embedding(rows, width, config.pad_token_id)
        learned = getattr(config, f"{side}_learned_pos")
        count = config.max_target_positions if self._decodes else config.max_source_positions
        self.embed_positions = LearnedPositions(count, width) if learned else SinusoidalPositions(width)
        self.layernorm_embedding = nn.LayerNorm(width) if config.layernorm_embedding else None
        count = getattr(config, f"{side}_layers")
        self.layers = nn.ModuleList([FairseqLayer(config, index, side=side, crossed=crossed) for index in range(count)])
        self.layer_norm = nn.LayerNorm(width) if getattr(config, f"{side}_final_norm") else None
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        segments: Any = None,
        **_: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions | BaseModelOutput:
        """Map ids [B, T], or their embeddings before scaling [B, T, H], to states [B, T, H].

        Args:
            attention_mask: 1 at tokens, 0 at padding; [B, T], with what lies in the cache in front.
            position_ids: from 0; by default the places in the row, after those in the cache.
        """
        embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        own_cache = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        if position_ids is None:
            past = 0 if own_cache is None else own_cache.get_seq_length()
            positions = torch.arange(embedded.shape[1], device=embedded.device) + past
        else:
            positions = position_ids
        states = self._scale * embedded + self.embed_positions(positions).to(embedded.dtype)
        if self.layernorm_embedding is not None:
            states = self.layernorm_embedding(states)
        states = functional.dropout(states, self._dropout, self.training)
        shape = {"config": self.config, "inputs_embeds": embedded}
        if self._decodes:
            mask = create_causal_mask(**shape, attention_mask=attention_mask, cache=own_cache, position_ids=position_ids)
        else:
            mask = create_bidirectional_mask(**shape, attention_mask=attention_mask)
        if encoder_hidden_states is not None:
            encoder_attention_mask = create_bidirectional_mask(
                **shape, attention_mask=encoder_attention_mask, encoder_hidden_states=encoder_hidden_states
            )
        for layer in self.layers:
            # The encoder's states stand by position, so that gradient checkpointing passes their gradient on.
            states = layer(states, mask, encoder_hidden_states, encoder_attention_mask, cache=cache, segments=segments)
        if self.layer_norm is not None:
            states = self.layer_norm(states)
        if not self._decodes:
            return BaseModelOutput(last_hidden_state=states)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states, cache=cache)
