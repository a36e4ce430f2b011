"""From a network's last states to its logits: the vocabulary layer by itself, so that it runs where it is needed.

Families scale states or logits, cap or bias them. What such a function gives is held against what the network
itself gives, once, when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from luthier.errors import InputError

Vocabulary = Callable[[Tensor], Tensor]
_TOLERANCE = 1e-4
"""Of the comparison, relative to the largest logit."""


class VocabularyLayer:
    """[T, H] to [T, V].

    Attributes:
        out_features: V.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        config = network.config.get_text_config()
        self.out_features = int(config.vocab_size)
        self._scale = _scale_of(network, config)
        self._divisor = float(getattr(config, "logits_scaling", None) or 1.0)
        self._factor = float(getattr(config, "logit_scale", None) or 1.0)
        bias = getattr(network, "final_logits_bias", None)
        self._biased = bias is not None and bool(bias.any())  # most are all zeros, and adding them costs a pass
        self._cap = getattr(config, "final_logit_softcapping", None)

    def parameters(self) -> Iterator[Tensor]:
        """Yield the layer's weights."""
        yield from self._network.get_output_embeddings().parameters()

    def __call__(self, states: Tensor) -> Tensor:
        layer = self._network.get_output_embeddings()
        logits: Tensor = layer(states * self._scale if self._scale != 1.0 else states)
        logits = logits * (self._factor / self._divisor) if self._factor != self._divisor else logits
        bias = getattr(self._network, "final_logits_bias", None)
        if bias is not None and self._biased:
            logits = logits + bias.reshape(-1).to(logits.device)
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)


def last_states(network: Any, **inputs: Any) -> Tensor:
    """Return the states [B, T, H] that a network's vocabulary layer takes; of an encoder-decoder its decoder's."""
    body = network.base_model
    states: Tensor
    if body is not network:
        states = body(**inputs, use_cache=False).last_hidden_state
        return states
    # T5 and its kin have no body of their own between the two stacks and the vocabulary layer.
    mask = inputs.get("attention_mask")
    encoded = network.get_encoder()(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).last_hidden_state
    states = network.get_decoder()(
        input_ids=inputs["decoder_input_ids"], encoder_hidden_states=encoded, encoder_attention_mask=mask, use_cache=False
    ).last_hidden_state
    return states


def _scale_of(network: Any, config: Any) -> float:
    """T5 and most of its kin scale the last states where the vocabulary layer is the embedding table."""
    tied = config.model_type in ("umt5", "switch_transformers") and config.tie_word_embeddings
    return float(config.d_model**-0.5) if getattr(config, "scale_decoder_outputs", tied) else 1.0


def vocabulary_of(network: Any) -> Vocabulary:
    """Return the vocabulary layer of a network in float32 that writes.

    Raises:
        InputError: the network computes its logits in a way that is not known here.
    """
    layer = VocabularyLayer(network)
    config = network.config
    ids = torch.arange(2, 8, device=network.device)[None] % layer.out_features
    given: dict[str, Any] = {"input_ids": ids}
    if config.is_encoder_decoder:
        given["decoder_input_ids"] = ids
    with torch.no_grad():
        own = network(**given, use_cache=False).logits
        states = last_states(network, **given)
        if _equal(own, states):
            return _logits_already
        if _equal(own, layer(states)):
            return layer
    raise InputError(
        f'models of the kind "{config.model_type}" compute their logits in a way that is not known here',
        where="model",
        fix="Choose a model of another family.",
    )


def _logits_already(states: Tensor) -> Tensor:
    """FSMT's decoder ends with its vocabulary layer."""
    return states


def _equal(own: Tensor, ours: Tensor) -> bool:
    return own.shape == ours.shape and float((own - ours).abs().max()) <= _TOLERANCE * max(1.0, float(own.abs().max()))
