"""Tokens become text: decoded, cut at stop strings, handed on piece by piece."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from luthier.data.features import Feature
from luthier.generation import GenerationOptions, Stopped, TokenStep, Writer


class Bytes:
    """A tokenizer whose tokens are bytes, so that a character may take several."""

    def decode(self, ids: np.ndarray) -> str:
        return bytes(ids.tolist()).decode("utf-8", "replace")


class Recital:
    """Writes given texts, a byte a step; remembers how far it came."""

    def __init__(self, *texts: str) -> None:
        self._texts = [text.encode() for text in texts]
        self.computed = 0
        self.batches: list[int] = []

    def generate(
        self, features: Sequence[Feature], options: GenerationOptions, *, end_ids=(), stopped: Stopped | None = None
    ) -> Iterator[list[TokenStep]]:
        self.batches.append(len(features))
        texts = [self._texts[int(feature.arrays["input_ids"][0])] for feature in features]
        ids: list[list[int]] = [[] for _ in texts]
        alive = set(range(len(texts)))
        while alive:
            self.computed += 1
            steps = []
            for index in sorted(alive):
                ids[index].append(texts[index][len(ids[index])])
                whole = len(ids[index]) == len(texts[index])
                reason = "stop" if whole or (stopped and stopped(index, ids[index])) else None
                reason = reason or ("length" if len(ids[index]) == options.max_new_tokens else None)
                steps.append(TokenStep(index, ids[index][-1], reason))
                if reason:
                    alive.discard(index)
            yield steps


def prompt(number: int, length: int = 1) -> Feature:
    return Feature({"input_ids": np.asarray([number] * length, dtype=np.int32)})


def test_texts_come_in_the_order_of_the_prompts_whatever_their_lengths():
    recital = Recital("zero", "one", "two")
    writer = Writer(recital, Bytes(), GenerationOptions())
    written = writer.write([prompt(2, 5), prompt(0, 9), prompt(1, 2)])
    assert [text.text for text in written] == ["two", "zero", "one"]
    assert {text.finish_reason for text in written} == {"stop"}


def test_many_prompts_are_written_in_several_batches():
    recital = Recital("a")
    assert len(Writer(recital, Bytes(), GenerationOptions()).write([prompt(0, 100)] * 50)) == 50
    assert sum(recital.batches) == 50
    assert max(recital.batches) <= 20


def test_a_stop_string_ends_the_text_and_is_not_part_of_it():
    recital = Recital("one\n\ntwo")
    (written,) = Writer(recital, Bytes(), GenerationOptions(stop=("\n\n",))).write([prompt(0)])
    assert (written.text, written.finish_reason) == ("one", "stop")
    assert recital.computed == 5


def test_the_limit_is_said():
    (written,) = Writer(Recital("abcdef"), Bytes(), GenerationOptions(max_new_tokens=3)).write([prompt(0)])
    assert (written.text, written.finish_reason) == ("abc", "length")


@pytest.mark.parametrize("text", ["plain", "naïve 東京 ✓", "a STO b", "ends with ST"])
def test_the_pieces_of_a_stream_make_the_text(text):
    pieces = list(Writer(Recital(text), Bytes(), GenerationOptions(stop=("STOP",))).stream(prompt(0)))
    assert "".join(pieces) == text
    assert len(pieces) > 1
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stream_never_shows_the_beginning_of_a_stop_string():
    pieces = list(Writer(Recital("yes STOP no"), Bytes(), GenerationOptions(stop=("STOP",))).stream(prompt(0)))
    assert "".join(pieces) == "yes "


def test_a_closed_stream_computes_nothing_more():
    recital = Recital("a long text that nobody reads to its end")
    stream = Writer(recital, Bytes(), GenerationOptions()).stream(prompt(0))
    assert next(stream) + next(stream) == "a "
    stream.close()
    assert recital.computed == 2


def test_the_rows_that_are_written_for_are_spread_evenly_and_the_same_every_time():
    options = GenerationOptions(rows=5)
    assert sorted(options.positions(9)) == [0, 2, 4, 6, 8]
    assert options.positions(3) == {0, 1, 2}
    assert GenerationOptions(rows=0).positions(9) == frozenset()
    assert len(GenerationOptions().positions(9)) == 9


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"num_beams": 2, "temperature": 0.5}, "beam"),
        ({"stop": ("",)}, "stop"),
        ({"rows": -1}, "rows"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, word):
    with pytest.raises(ValueError, match=word):
        GenerationOptions(**values)
