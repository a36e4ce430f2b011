"""Writing text: what is asked of a Generator, and the text that its tokens become.

An engine yields tokens; here they are decoded, held against stop strings, and handed on whole or piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from luthier.data.features import Feature
from luthier.tokenizer import Tokenizer

FinishReason = Literal["stop", "length"]
_MAX_TOKENS = 2048
"""Prompt tokens of a batch at most, and as many rows as that gives; what is written comes on top."""
_MAX_ROWS = 64
_INCOMPLETE = "\ufffd"
"""What the bytes of half a character decode to."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How text is written.

    Attributes:
        max_new_tokens: tokens written at most.
        num_beams: 1 writes token by token, more is beam search (then temperature must be 0).
        temperature: 0 always takes the likeliest token.
        top_p: the least set of likeliest tokens whose probability reaches this is drawn from.
        top_k: only so many of the likeliest tokens are drawn from; 0 is all.
        length_penalty: of beam search: a beam's score is divided by its length to this power.
        stop: strings that end the text; they are not part of it.
        seed: of the draws.
        rows: in evaluation, how many held-out rows are written for; None is all.
    """

    max_new_tokens: int = 256
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    length_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be 1 or more")
        if self.num_beams < 1:
            raise ValueError(f"num_beams is {self.num_beams}; it must be 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (all) or more")
        if self.num_beams > 1 and self.temperature:
            raise ValueError("beam search draws nothing: with num_beams above 1 leave temperature at 0")
        if any(not text for text in self.stop):
            raise ValueError("stop holds an empty string; it would end every text before it begins")
        if self.rows is not None and self.rows < 0:
            raise ValueError(f"rows is {self.rows}; it must be 0 or more")

    def positions(self, count: int) -> frozenset[int]:
        """Return which of ``count`` held-out rows are written for: evenly spread, the same for every system."""
        if self.rows is None or self.rows >= count:
            return frozenset(range(count))
        return frozenset(int(place) for place in np.linspace(0, count - 1, self.rows).round()) if self.rows else frozenset()


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One token that was written.

    Attributes:
        index: the feature it belongs to.
        token: its id; None when a text ends without one more token.
        finish_reason: set with the last one: ``stop`` (the model's own end, or a stop string) or ``length``.
    """

    index: int
    token: int | None
    finish_reason: FinishReason | None = None


Stopped = Callable[[int, Sequence[int]], bool]
"""(index, the ids written so far) to whether this text ends here."""


@runtime_checkable
class Generator(Protocol):
    """What a model under a head that writes can do beside Model: apart, so that serving can replace it."""

    def generate(
        self,
        features: Sequence[Feature],
        options: GenerationOptions,
        *,
        end_ids: Sequence[int] = (),
        stopped: Stopped | None = None,
    ) -> Iterator[list[TokenStep]]:
        """Write after each feature's ``input_ids`` (a prompt), or for an encoder-decoder from it as a source.

        Yields the tokens of one decoding step, at most one a feature (beam search yields a finished batch at
        once). Closing the iterator stops computing. ``facts["max_new_tokens"]`` of a feature lowers the limit.

        Args:
            features: without labels; ``arrays["decoder_prefix"]`` are tokens that a decoder is forced to begin with.
            options: see there; ``stop`` and ``rows`` are not the engine's business.
            end_ids: tokens that end a text, beside the model's own.
            stopped: ends a text early; its last token is part of what was yielded.
        """


@dataclass(frozen=True, slots=True)
class Written:
    """A text that a model wrote."""

    text: str
    finish_reason: FinishReason


@dataclass(frozen=True)
class Writer:
    """A Generator with a tokenizer around it.

    Attributes:
        end_ids: tokens that end a text, beside the model's own.
    """

    generator: Generator
    tokenizer: Tokenizer
    options: GenerationOptions
    end_ids: tuple[int, ...] = ()

    def write(self, features: Sequence[Feature]) -> list[Written]:
        """Return one text a feature, in order. Neighbours in length are written together."""
        results: list[Written | None] = [None] * len(features)
        for members in self.batches(features):
            chosen = [features[place] for place in members]
            for place, written in zip(members, self._batch(chosen), strict=True):
                results[place] = written
        return [written for written in results if written is not None]

    def batches(self, features: Sequence[Feature]) -> list[list[int]]:
        """Return the places of the features that are written together, the longest first."""
        return list(_batches([feature.length for feature in features]))

    def _batch(self, features: Sequence[Feature]) -> list[Written]:
        ids: list[list[int]] = [[] for _ in features]
        reasons: list[FinishReason] = ["length"] * len(features)
        for steps in self.generator.generate(features, self.options, end_ids=self.end_ids, stopped=self._stopped()):
            for step in steps:
                if step.token is not None:
                    ids[step.index].append(step.token)
                if step.finish_reason is not None:
                    reasons[step.index] = step.finish_reason
        return [Written(self._text(found), reason) for found, reason in zip(ids, reasons, strict=True)]

    def stream(self, feature: Feature) -> Iterator[str]:
        """Yield a text piece by piece as it is written; closing the iterator stops computing."""
        ids: list[int] = []
        said = ""
        steps = self.generator.generate([feature], self.options, end_ids=self.end_ids, stopped=self._stopped())
        for step in (step for batch in steps for step in batch):
            if step.token is not None:
                ids.append(step.token)
            text = self._text(ids)
            # The end of the text may still change: half a character, or the beginning of a stop string.
            sure = text if step.finish_reason else _sure(text, self.options.stop)
            if sure.startswith(said) and len(sure) > len(said):
                yield sure[len(said) :]
                said = sure

    def _text(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(np.asarray(ids, dtype=np.int32))
        places = [place for place in (text.find(stop) for stop in self.options.stop) if place >= 0]
        return text[: min(places)] if places else text

    def _stopped(self) -> Stopped | None:
        if not self.options.stop:
            return None

        def stopped(_: int, ids: Sequence[int]) -> bool:
            text = self.tokenizer.decode(np.asarray(ids, dtype=np.int32))
            return any(stop in text for stop in self.options.stop)

        return stopped


def _sure(text: str, stops: Sequence[str]) -> str:
    """Return what of a growing text will stay."""
    while text.endswith(_INCOMPLETE):
        text = text[:-1]
    held = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
    return text[: len(text) - held]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield places, longest first: rows of like length, so that little is padded."""
    members: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = lengths[members[0]] if members else lengths[place]
        if members and (len(members) == _MAX_ROWS or longest * (len(members) + 1) > _MAX_TOKENS):
            yield members
            members = []
        members.append(place)
    if members:
        yield members
