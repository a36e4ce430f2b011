"""fairseq's transformers where no stock class is exact: pre-norm, learned positions, separate dictionaries, language models.

Weights keep fairseq's names under ``model.``; only the output layer is ``lm_head``.

B sequences, T tokens, H width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationMixin
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithPast,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.models.bart.modeling_bart import shift_tokens_right

from luthier.engines.torch.fairseq_layers import (
    CAUSAL,
    SEQ2SEQ,
    FairseqConfig,
    FairseqLMConfig,
    FairseqPreTrainedModel,
    FairseqStack,
)


class FairseqModel(FairseqPreTrainedModel):
    """An encoder-decoder without its output layer."""

    def __init__(self, config: FairseqConfig) -> None:
        super().__init__(config)
        self.encoder = FairseqStack(config, side="encoder")
        self.decoder = FairseqStack(config, side="decoder", crossed=True)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        embedding: nn.Embedding = self.encoder.embed_tokens
        return embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.encoder.embed_tokens = value
        if self.config.share_all_embeddings:
            self.decoder.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        segments: Any = None,
        **_: Any,
    ) -> Seq2SeqModelOutput:
        """As BartModel."""
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, segments=segments
            )
        encoded = encoder_outputs[0]
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache(config=self.config))
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded,
            encoder_attention_mask=attention_mask,
            cache=cache,
            inputs_embeds=decoder_inputs_embeds,
            segments=segments,
        )
        return Seq2SeqModelOutput(last_hidden_state=decoded.last_hidden_state, cache=cache, encoder_last_hidden_state=encoded)


class FairseqForConditionalGeneration(FairseqPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """An encoder-decoder; saves and loads like any other model once it is registered."""

    def __init__(self, config: FairseqConfig) -> None:
        super().__init__(config)
        table = "model.decoder.embed_tokens.weight"
        self._tied_weights_keys = {}
        if config.share_decoder_input_output_embed:
            self._tied_weights_keys["lm_head.weight"] = table
        if config.share_all_embeddings:
            self._tied_weights_keys["model.encoder.embed_tokens.weight"] = table
        self.model = FairseqModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Shift [B, T] right behind the start token."""
        shifted: Tensor = shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)
        return shifted

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **given: Any,
    ) -> Seq2SeqLMOutput:
        """As BartForConditionalGeneration."""
        if decoder_input_ids is None and labels is not None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(input_ids, attention_mask, decoder_input_ids, **given)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None if labels is None else functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            cache=outputs.cache,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
        )


class FairseqLMModel(FairseqPreTrainedModel):
    """A language model without its output layer."""

    config_class = FairseqLMConfig

    def __init__(self, config: FairseqLMConfig) -> None:
        super().__init__(config)
        self.decoder = FairseqStack(config, side="decoder")
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        embedding: nn.Embedding = self.decoder.embed_tokens
        return embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.decoder.embed_tokens = value

    def forward(
        self, input_ids: Tensor | None = None, cache: Any = None, use_cache: bool | None = None, **given: Any
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """As FairseqStack."""
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = DynamicCache(config=self.config)
        return self.decoder(input_ids=input_ids, cache=cache, **given)


class FairseqForCausalLM(FairseqPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A language model; saves and loads like any other model once it is registered."""

    config_class = FairseqLMConfig

    def __init__(self, config: FairseqLMConfig) -> None:
        super().__init__(config)
        shared = config.share_decoder_input_output_embed
        self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"} if shared else {}
        self.model = FairseqLMModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **given: Any,
    ) -> CausalLMOutputWithPast:
        """As LlamaForCausalLM."""
        outputs = self.model(input_ids, **given)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, cache=outputs.cache)


def register() -> None:
    """Make transformers' auto classes know the models. They never load code of a folder for it."""
    AutoConfig.register(SEQ2SEQ, FairseqConfig, exist_ok=True)
    AutoConfig.register(CAUSAL, FairseqLMConfig, exist_ok=True)
    AutoModelForSeq2SeqLM.register(FairseqConfig, FairseqForConditionalGeneration, exist_ok=True)
    AutoModelForCausalLM.register(FairseqLMConfig, FairseqForCausalLM, exist_ok=True)
