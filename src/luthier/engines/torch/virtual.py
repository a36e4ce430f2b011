"""Virtual tokens: trained vectors before the text (prompt), or trained keys and values before it in every layer (prefix).

B sequences of T tokens, n virtual tokens, H the hidden width. peft holds the vectors and their file format. They
are put into the network by hooks on the stack that they belong to, so that losses, the vocabulary layer and
writing stay as they are; the results are those of peft's own forward. They run in padded groups, never packed.

A prompt stands before the source of an encoder-decoder, a prefix before what its decoder writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.torch.buckets import Buckets
from luthier.engines.torch.generate import TokenWriter
from luthier.errors import InputError
from luthier.generation import GenerationOptions, Stopped, TokenStep
from luthier.heads import Head, Seq2SeqHead, SequenceHead
from luthier.model_source import position_limit

_PROBED = (6, 3)
"""Lengths of the texts of the probe, longest first, as buckets order them."""
_TOLERANCE = 1e-4
"""Of the probe, relative to the largest result or 1."""


class VirtualTokens:
    """Hooks on a network.

    Args:
        network: of transformers; its layers are frozen.
        wrapper: peft's model around it.
        head: says whether the results of virtual tokens are cut away. A sequence head on an encoder reads the
            first position, which is a virtual token, as peft has it.

    Attributes:
        count: n.
        reserved: positions that are lost to text that is written.
    """

    def __init__(self, network: Any, wrapper: Any, head: Head) -> None:
        config = wrapper.peft_config["default"]
        self.count = int(config.num_virtual_tokens)
        self._wrapper, self._network = wrapper, network
        self._pending = self._lengthened = False
        pair = bool(network.config.is_encoder_decoder)
        decodes = not pair and _is_causal(network)
        network.add_module("virtual_tokens", wrapper.prompt_encoder)
        prefixed = str(config.peft_type.value) == "PREFIX_TUNING"
        self._written = pair and prefixed
        self.reserved = self.count if prefixed or not pair else 0
        if prefixed:
            stack = network.get_decoder() if pair else network.base_model
            self._signature = inspect.signature(stack.forward)
            stack.register_forward_pre_hook(self._before_prefixed, with_kwargs=True)
            return
        stack = network.get_encoder() if pair else network.base_model
        self._signature = inspect.signature(stack.forward)
        stack.register_forward_pre_hook(self._before_prompted, with_kwargs=True)
        stack.get_input_embeddings().register_forward_hook(self._embedded)
        if pair:
            network.get_decoder().register_forward_pre_hook(self._before_decoder, with_kwargs=True)
        elif decodes or not isinstance(head, SequenceHead):
            stack.register_forward_hook(self._cut)

    @property
    def windowed(self) -> bool:
        """Whether layers look back over a window: there padding between virtual tokens and text counts as text."""
        return bool(getattr(self._network.config.get_text_config(), "sliding_window", None))

    def check(self, features: Sequence[Feature]) -> None:
        """Refuse texts that do not fit beside the virtual tokens.

        Raises:
            InputError: the model has fewer positions.
        """
        name = "labels" if self._written else "input_ids"
        self.check_length(max((len(feature.arrays.get(name, ())) for feature in features), default=0))

    def check_length(self, length: int) -> None:
        """As ``check``, for one text of so many tokens."""
        limit = position_limit(self._network.config.get_text_config().to_dict())
        if limit and length + self.count > limit:
            raise InputError(
                f"a text of {length} tokens and {self.count} virtual ones do not fit into the model's {limit} positions",
                where="method.num_tokens",
                fix=f"Set max_tokens of the task to {limit - self.count} or less.",
            )

    def _named(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = self._signature.parameters
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def _extended(self, given: dict[str, Any], name: str, value: int) -> None:
        """Put n columns of ``value`` before what is given [B, T]."""
        tensor = given.get(name)
        if tensor is not None:
            given[name] = torch.cat([tensor.new_full((len(tensor), self.count), value), tensor], dim=1)

    def _before_prompted(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = self._named(args, kwargs)
        self._extended(given, "attention_mask", 1)
        positions = given.get("position_ids")
        if _filled(given.get("cache")):
            if positions is not None:
                given["position_ids"] = positions + self.count
            return (), given
        if positions is not None:
            given["position_ids"] = positions + self.count
            self._extended(given, "position_ids", 0)
            given["position_ids"][:, : self.count] = torch.arange(self.count, device=positions.device)
        self._extended(given, "token_type_ids", 0)
        # The ids of virtual tokens are never looked at; they must not be the padding id, which takes no position.
        self._extended(given, "input_ids", 1 if self._network.config.get_text_config().pad_token_id == 0 else 0)
        self._pending = self._lengthened = True
        return (), given

    def _embedded(self, _: Any, __: Any, output: Tensor) -> Tensor:
        """Put the vectors in the place of the first n: [B, n + T, H]."""
        if not self._pending:
            return output
        self._pending = False
        vectors = self._wrapper.get_prompt(batch_size=len(output)).to(output.dtype)
        return torch.cat([vectors, output[:, self.count :]], dim=1)

    def _cut(self, _: Any, __: Any, output: Any) -> Any:
        if self._lengthened:
            self._lengthened = False
            output.last_hidden_state = output.last_hidden_state[:, self.count :]
        return output

    def _before_decoder(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The decoder sees the encoder's virtual tokens too."""
        given = dict(kwargs)
        self._extended(given, "encoder_attention_mask", 1)
        return args, given

    def _before_prefixed(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = self._named(args, kwargs)
        self._extended(given, "attention_mask", 1)
        if given.get("position_ids") is not None:
            given["position_ids"] = given["position_ids"] + self.count
        cache = given.get("cache")
        if not _filled(cache):
            prefix = self._wrapper.get_prompt(batch_size=len(given["input_ids"]))
            if cache is None:
                given["cache"] = prefix
            else:
                _fill(cache, prefix)
        return (), given


def written_alone(
    writer: TokenWriter, features: Sequence[Feature], options: GenerationOptions, stopped: Stopped | None
) -> Iterator[list[TokenStep]]:
    """As ``writer.write``, one text after the other, so that there is no padding."""
    for index, feature in enumerate(features):
        ends = None if stopped is None else partial(_at, stopped, index)
        for steps in writer.write([feature], options, ends):
            yield [replace(step, index=index) for step in steps]


def _at(stopped: Stopped, index: int, _: int, written: Sequence[int]) -> bool:
    return stopped(index, written)


def _is_causal(network: Any) -> bool:
    """Whether a network without encoder looks back alone. Encoders have no token that generation could begin with."""
    from transformers.models.auto import modeling_auto

    kind = network.config.model_type
    encoders = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in encoders


def _filled(cache: Any) -> bool:
    return cache is not None and int(cache.get_seq_length()) > 0


def _fill(cache: Any, prefix: Any) -> None:
    """Put the prefix into an empty cache that was given."""
    own = getattr(cache, "self_attention_cache", cache)
    theirs = getattr(prefix, "self_attention_cache", prefix)
    for index, layer in enumerate(theirs.layers):
        own.update(layer.keys, layer.values, index)


def probe(network: Any, head: Head) -> bool:
    """Whether a network takes its virtual tokens: they have an effect, and two texts together give what each gives alone.

    The network is left in evaluation mode.
    """
    network.eval()
    buckets = Buckets(network, head)
    config = network.config.get_text_config()
    ids = [number for number in range(min(config.vocab_size, 100)) if number != config.pad_token_id]
    labels = {"labels": np.asarray(ids[:4], dtype=np.int32)} if isinstance(head, Seq2SeqHead) else {}
    features = [Feature({"input_ids": np.asarray(ids[:length], dtype=np.int32), **labels}) for length in _PROBED]
    try:
        with torch.no_grad():
            alone = [_results(buckets, [feature]) for feature in features]
            together = _results(buckets, features)
        trained = [parameter for parameter in network.virtual_tokens.parameters() if parameter.requires_grad]
        effects = torch.autograd.grad(_results(buckets, features).square().sum(), trained, allow_unused=True)
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError, NotImplementedError):
        # Whatever the network's code raises when it is called like this, it cannot be tuned so.
        return False
    expected = torch.cat(alone)
    if not any(effect is not None and bool(effect.any()) for effect in effects):
        return False
    if expected.shape != together.shape or not bool(torch.isfinite(together).all()):
        return False
    return float((expected - together).abs().max()) <= _TOLERANCE * max(1.0, float(expected.abs().max()))


def _results(buckets: Buckets, features: Sequence[Feature]) -> Tensor:
    (piece,) = buckets.pieces(features)
    return buckets.forward(piece.to(buckets.device))
