"""Marian's small translators: a recurrent unit, SSRU, in place of the decoder's self-attention (Kim et al., 2019).

x = W h        f = sigmoid(Wf h + b)        c_t = f_t * c_(t-1) + (1 - f_t) * x_t        out = relu(c)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel
from transformers.cache_utils import EncoderDecoderCache

from luthier.engines.torch.attention import PairSegments, Segments


class MarianSSRUConfig(MarianConfig):  # type: ignore[misc]
    """As MarianConfig."""

    model_type = "marian-ssru"


class SSRU(nn.Module):
    """Stands where a decoder layer's self-attention stands, with its face.

    A cell's state takes the place of attention's keys and values, [B, 1, T, H] over all T tokens so far, so that
    transformers' cache, and what beam search does with it, work as they do for attention.
    """

    def __init__(self, width: int, layer: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, width, bias=False)
        self.forget = nn.Linear(width, width)
        self._layer = layer

    def forward(self, hidden_states: Tensor, cache: Any = None, segments: Any = None, **_: Any) -> tuple[Tensor, None]:
        """Map [B, T, H] to [B, T, H]; padding on the right changes nothing before it.

        A packed row [1, T, H] comes with ``segments``; its sequences are run side by side, each from its beginning.
        """
        if isinstance(segments, PairSegments):
            return self._packed(hidden_states, segments.targets), None
        return self._run(hidden_states, cache), None

    def _packed(self, row: Tensor, segments: Segments) -> Tensor:
        lengths = segments.bounds.diff().long()
        owners = torch.repeat_interleave(torch.arange(len(lengths), device=row.device), lengths)
        places = owners * segments.longest + segments.positions
        padded = row.new_zeros(len(lengths) * segments.longest, row.shape[-1]).index_copy(0, places, row[0])
        result = self._run(padded.view(len(lengths), segments.longest, -1), None)
        return result.flatten(0, 1).index_select(0, places)[None]

    def _run(self, hidden_states: Tensor, cache: Any) -> Tensor:
        # Many small steps add up: the state stays in float32 whatever the products are in.
        inputs = self.input(hidden_states).float()
        kept = torch.sigmoid(self.forget(hidden_states).float())
        own_cache = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        state = _last_state(own_cache, self._layer)
        states = []
        for fresh, keep in zip(inputs.unbind(1), kept.unbind(1), strict=True):
            state = (1 - keep) * fresh if state is None else torch.lerp(fresh, state, keep)
            states.append(state)
        cells = torch.stack(states, dim=1)
        if own_cache is not None:
            # The last state is all that is read; values are kept because a cache has both.
            own_cache.update(cells[:, None], cells[:, None, :, :1], self._layer)
        return torch.relu(cells).to(hidden_states.dtype)


def _last_state(cache: Any, layer: int) -> Tensor | None:
    """Return the state after the last token [B, H]; None before the first."""
    if cache is None or not cache.get_seq_length(layer):
        return None
    state: Tensor = cache.layers[layer].keys[:, 0, -1]
    return state


class MarianSSRUForConditionalGeneration(MarianMTModel):  # type: ignore[misc]
    """MarianMTModel with SSRU in its decoder. It saves and loads like any other model once it is registered."""

    config_class = MarianSSRUConfig

    def __init__(self, config: MarianSSRUConfig) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.model.decoder.layers):
            layer.self_attn = SSRU(config.d_model, index)
        self.post_init()


def register() -> None:
    """Make transformers' auto classes know the model. They never load code of a folder for it."""
    AutoConfig.register(MarianSSRUConfig.model_type, MarianSSRUConfig, exist_ok=True)
    AutoModelForSeq2SeqLM.register(MarianSSRUConfig, MarianSSRUForConditionalGeneration, exist_ok=True)
