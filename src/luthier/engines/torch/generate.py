"""Writing with a network: token by token with a key-value cache, or by beam search.

B prompts (padded on the left for a decoder), V vocabulary. Token by token is written out here, because what is
written must come out as it is computed and stop within one token; beam search is transformers' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.generation import FinishReason, GenerationOptions, Stopped, TokenStep


class TokenWriter:
    """Writes with one network.

    Args:
        network: a decoder or an encoder-decoder, whole, in evaluation mode, with an attention that knows padding.
        end_ids: tokens that end a text, beside those that the network's own config names.
        reserved: positions that virtual tokens take from what is written.
    """

    def __init__(self, network: Any, end_ids: Sequence[int], *, reserved: int = 0) -> None:
        self._network, self._reserved = network, reserved
        self._decoder_only = not network.config.is_encoder_decoder
        own = network.generation_config.eos_token_id
        named = own if isinstance(own, (list, tuple)) else [] if own is None else [own]
        self._end_ids = sorted({*named, *end_ids})
        # What the model's own generation config says of every text: transformers' beam search heeds it by itself.
        self._never = list(network.generation_config.suppress_tokens or ())
        self._least = int(network.generation_config.min_new_tokens or 0)
        pad = network.config.get_text_config().pad_token_id
        self._pad_id = int(pad) if pad is not None else (self._end_ids[0] if self._end_ids else 0)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._network.device
        return device

    def write(
        self, features: Sequence[Feature], options: GenerationOptions, stopped: Stopped | None
    ) -> Iterator[list[TokenStep]]:
        """See luthier.generation.Generator.generate."""
        ids, mask = self._padded(features)
        limits = [self._limit(feature, options) for feature in features]
        prefixes = [feature.arrays.get("decoder_prefix", np.zeros(0, dtype=np.int32)).tolist() for feature in features]
        if options.num_beams > 1:
            yield self._beams(ids, mask, limits, prefixes, options, stopped)
        else:
            yield from self._one_by_one(ids, mask, limits, prefixes, options, stopped)

    def _padded(self, features: Sequence[Feature]) -> tuple[Tensor, Tensor]:
        """Return ids and mask [B, T]: a decoder's prompts end together, an encoder's sources begin together."""
        lengths = [feature.length for feature in features]
        ids = np.full((len(features), max(lengths)), self._pad_id)
        mask = np.zeros(ids.shape, dtype=np.int64)
        for row, feature in enumerate(features):
            place = slice(-lengths[row], None) if self._decoder_only else slice(0, lengths[row])
            ids[row, place], mask[row, place] = feature.arrays["input_ids"], 1
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)

    def _limit(self, feature: Feature, options: GenerationOptions) -> int:
        """Return how many tokens may be written: also no more than the positions that are left."""
        limit = int(feature.facts["max_new_tokens"][0]) if "max_new_tokens" in feature.facts else options.max_new_tokens
        config = self._network.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        limit = min(limit, options.max_new_tokens)
        if not positions:
            return limit
        return max(1, min(limit, int(positions) - self._reserved - (feature.length if self._decoder_only else 1)))

    def _one_by_one(
        self,
        ids: Tensor,
        mask: Tensor,
        limits: Sequence[int],
        prefixes: Sequence[Sequence[int]],
        options: GenerationOptions,
        stopped: Stopped | None,
    ) -> Iterator[list[TokenStep]]:
        state = _Decoding(self._network, ids, mask, decoder_only=self._decoder_only)
        generator = torch.Generator(device=self._device).manual_seed(options.seed)
        written: list[list[int]] = [[] for _ in limits]
        alive = list(range(len(limits)))
        for number in range(max(limits) + max(map(len, prefixes))):
            logits = state.next_logits()
            if self._never:
                logits[:, self._never] = -torch.inf
            if number < self._least:
                logits[:, self._end_ids] = -torch.inf
            chosen = _choose(logits, options, generator).tolist()
            steps: list[TokenStep] = []
            left: list[int] = []
            for row, index in enumerate(alive):
                if number < len(prefixes[index]):
                    chosen[row] = prefixes[index][number]
                    left.append(row)
                    continue
                reason = self._reason(index, chosen[row], written[index], limits[index], stopped)
                ended = chosen[row] in self._end_ids
                steps.append(TokenStep(index, None if ended else chosen[row], reason))
                if reason is None:
                    left.append(row)
            if steps:
                yield steps
            if not left:
                return
            state.go_on(
                torch.tensor([chosen[row] for row in left], device=self._device), left if len(left) < len(alive) else None
            )
            alive = [alive[row] for row in left]

    def _reason(self, index: int, token: int, written: list[int], limit: int, stopped: Stopped | None) -> FinishReason | None:
        if token in self._end_ids:
            return "stop"
        written.append(token)
        if stopped is not None and stopped(index, written):
            return "stop"
        return "length" if len(written) >= limit else None

    def _beams(
        self,
        ids: Tensor,
        mask: Tensor,
        limits: Sequence[int],
        prefixes: Sequence[Sequence[int]],
        options: GenerationOptions,
        stopped: Stopped | None,
    ) -> list[TokenStep]:
        """Return all tokens of the best beam of each prompt."""
        forced = len(prefixes[0])
        given: dict[str, Any] = {}
        if forced:
            start = self._network.config.decoder_start_token_id
            given["decoder_input_ids"] = torch.tensor([[start, *prefix] for prefix in prefixes], device=self._device)
        found = self._network.generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=options.num_beams,
            do_sample=False,
            length_penalty=options.length_penalty,
            max_new_tokens=max(limits),
            eos_token_id=self._end_ids or None,
            pad_token_id=self._pad_id,
            # fairseq's models end at the first num_beams finished texts; most others say nothing.
            early_stopping=self._network.generation_config.early_stopping or False,
            forced_bos_token_id=None,
            **given,
        )
        start = ids.shape[1] if self._decoder_only else 1 + forced
        steps: list[TokenStep] = []
        for index, row in enumerate(found[:, start:].tolist()):
            written: list[int] = []
            reason: FinishReason | None = None
            for token in row:
                reason = self._reason(index, token, written, limits[index], stopped)
                steps.append(TokenStep(index, None if token in self._end_ids else token, reason))
                if reason is not None:
                    break
            if reason is None:
                steps.append(TokenStep(index, None, "length"))
        return steps


class _Decoding:
    """The network between two tokens: its cache, and what it is given next."""

    def __init__(self, network: Any, ids: Tensor, mask: Tensor, *, decoder_only: bool) -> None:
        self._network, self._decoder_only = network, decoder_only
        self._cache: Any = None
        self._mask = mask
        self._encoded: Any = None
        if decoder_only:
            self._next = ids
            self._positions = (mask.cumsum(1) - 1).clamp(min=0)
        else:
            self._encoded = network.get_encoder()(input_ids=ids, attention_mask=mask)
            start = network.config.decoder_start_token_id
            self._next = torch.full((len(ids), 1), start, device=ids.device)

    def next_logits(self) -> Tensor:
        """Return float32 [B, V] for the token after what was given."""
        given: dict[str, Any] = {"attention_mask": self._mask, "cache": self._cache, "use_cache": True}
        if self._decoder_only:
            output = self._network(input_ids=self._next, position_ids=self._positions, logits_to_keep=1, **given)
        else:
            output = self._network(encoder_outputs=self._encoded, decoder_input_ids=self._next, **given)
        self._cache = output.cache
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def go_on(self, tokens: Tensor, rows: Sequence[int] | None) -> None:
        """Take up the chosen tokens [b] of the rows that go on (None: all)."""
        if rows is not None:
            kept = torch.tensor(rows, device=tokens.device)
            self._cache.reorder_cache(kept)
            self._mask = self._mask[kept]
            if self._encoded is not None:
                self._encoded.last_hidden_state = self._encoded.last_hidden_state[kept]
        self._next = tokens[:, None]
        if self._decoder_only:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
            self._positions = self._mask.sum(1, keepdim=True) - 1


def _choose(logits: Tensor, options: GenerationOptions, generator: torch.Generator) -> Tensor:
    """Return one token a row [B]: the likeliest, or drawn by temperature, top-k and then top-p."""
    if not options.temperature:
        return logits.argmax(-1)
    logits = logits / options.temperature
    if options.top_k and options.top_k < logits.shape[-1]:
        least = logits.topk(options.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = logits.softmax(-1)
    if options.top_p < 1:
        ordered, places = probabilities.sort(-1, descending=True)
        # The token that reaches top_p is still in: what is out had that much before it.
        out = ordered.cumsum(-1) - ordered >= options.top_p
        probabilities = probabilities.masked_fill(out.gather(-1, places.argsort(-1)), 0.0)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


@contextmanager
def attending(network: Any, name: str) -> Iterator[None]:
    """Let the network attend in transformers' own way: ours knows packed rows alone."""
    before = network.config._attn_implementation
    if before == name:
        yield
        return
    network.set_attn_implementation(name)
    try:
        yield
    finally:
        network.set_attn_implementation(before)
