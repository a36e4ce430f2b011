"""The n-gram model, compared with modified Kneser-Ney smoothing written out with dictionaries, one n-gram at a time."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from luthier.baselines import text_generation
from luthier.baselines.text_generation import NgramModel

END = 256
TOY = [
    "the cat sat on the mat. the cat ate.",
    "a cat and a rat sat; the rat ate the hat",
    "that hat! the mat, the café",
    "",
    "le café est là, et là aussi: né à l'été",
    "天気がいい。天気が悪い。",
]


@dataclass(frozen=True)
class Text:
    document: str | None


def fitted(documents: list[str | None], *, order: int = 4) -> NgramModel:
    model = NgramModel(order=order)
    model.fit([Text(document) for document in documents])
    return model


class KneserNey:
    """The definition: symbols are characters, bytes as ints, and the end; histories are padded with None."""

    def __init__(self, documents: list[str], order: int) -> None:
        characters = Counter("".join(documents))
        self.known = {character for character, count in characters.items() if count >= 2}
        self.alphabet = [*range(256), "END", *sorted(self.known)]
        self.order = order
        self.counts: list[Counter] = [Counter() for _ in range(order + 1)]
        before: list[defaultdict] = [defaultdict(set) for _ in range(order + 1)]
        for document in documents:
            padded = [None] * (order - 1) + self.spell(document)
            for place in range(order - 1, len(padded)):
                self.counts[order][tuple(padded[place - order + 1 : place + 1])] += 1
                for size in range(1, order):
                    ngram = tuple(padded[place - size + 1 : place + 1])
                    before[size][ngram].add(tuple(padded[place - size : place + 1]))
        for size in range(1, order):
            self.counts[size] = Counter({ngram: len(longer) for ngram, longer in before[size].items()})
        self.estimated = 0
        self.discounts = [None, *(self.discounts_of(size) for size in range(1, order + 1))]

    def spell(self, document: str) -> list:
        symbols: list = []
        for character in document:
            symbols += [character] if character in self.known else list(character.encode())
        return [*symbols, "END"]

    def discounts_of(self, size: int) -> list[float]:
        n = Counter(self.counts[size].values())
        if n[1] and n[2] and n[3]:
            y = n[1] / (n[1] + 2 * n[2])
            found = [0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
            if all(0 < found[k] <= k for k in (1, 2, 3)):
                self.estimated += 1
                return found
        return [0.0, 0.5, 1.0, 1.5]

    def probability(self, history: tuple, symbol: object, size: int) -> float:
        if size == 0:
            return 1 / len(self.alphabet)
        context = history[len(history) - size + 1 :]
        followers = {ngram[-1]: count for ngram, count in self.counts[size].items() if ngram[:-1] == context}
        shorter = self.probability(history, symbol, size - 1)
        if not followers:
            return shorter
        taken = {follower: self.discounts[size][min(count, 3)] for follower, count in followers.items()}
        total = sum(followers.values())
        own = followers.get(symbol, 0) - taken.get(symbol, 0)
        return own / total + sum(taken.values()) / total * shorter

    def probabilities(self, document: str) -> list[float]:
        symbols = self.spell(document)
        padded = [None] * (self.order - 1) + symbols
        histories = [tuple(padded[place : place + self.order - 1]) for place in range(len(symbols))]
        return [self.probability(history, symbol, self.order) for history, symbol in zip(histories, symbols, strict=True)]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_each_symbol_has_the_probability_of_the_definition(order):
    model, oracle = fitted(TOY, order=order), KneserNey(TOY, order)
    assert model.num_symbols == len(oracle.alphabet)
    for document in [*TOY, "the rat sat on the hat", "Zürich ☂ 天", "tttt", "naïve café", "\U0001f600"]:
        found = model.probabilities(model.symbols(document))
        np.testing.assert_allclose(found, oracle.probabilities(document), rtol=1e-12)


def test_the_discounts_are_estimated_where_the_counts_suffice():
    assert KneserNey(TOY, 3).estimated >= 1  # else the comparison above would only see the fixed ones
    assert KneserNey(TOY, 3).estimated < 3


@pytest.mark.parametrize("history", ["", "t", "the ca", "the cat sat", "天気", "zzz", "é\U0001f600", "xyz the"])
def test_the_probabilities_of_all_next_symbols_sum_to_one(history):
    model = fitted(TOY)
    before = model.symbols(history)[:-1]
    following = [model.probabilities(np.append(before, symbol))[-1] for symbol in range(model.num_symbols)]
    assert math.fsum(following) == pytest.approx(1, abs=1e-12)
    assert min(following) > 0


def test_probabilities_sum_to_one_in_real_looking_text_of_full_order():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("etaoinshr"), size=rng.integers(1, 6))) for _ in range(60)]
    model = NgramModel()
    model.fit([Text(" ".join(rng.choice(words, size=50))) for _ in range(30)])
    for history in [" ".join(words[:5]), words[7] + " " + words[8][:1], "qu"]:
        before = model.symbols(history)[:-1]
        following = [model.probabilities(np.append(before, symbol))[-1] for symbol in range(model.num_symbols)]
        assert math.fsum(following) == pytest.approx(1, abs=1e-12)


def test_a_document_is_spelled_so_that_it_can_be_read_back():
    model = fitted(TOY)
    known = sorted(character for character, count in Counter("".join(TOY)).items() if count >= 2)
    for document in [*TOY, "Ω and ω, ☂\U0001f600", "\x00\r\n", "ñandú"]:
        *symbols, end = model.symbols(document).tolist()
        spelled = b"".join(bytes([s]) if s < END else known[s - END - 1].encode() for s in symbols)
        assert (spelled.decode(), end) == (document, END)


def test_a_prediction_is_the_loss_of_the_document_and_its_end_and_no_text():
    model = fitted(TOY)
    prediction = model.predict(Text("the café ☂"))
    probabilities = KneserNey(TOY, 4).probabilities("the café ☂")
    assert prediction == {
        "text": None,
        "finish_reason": None,
        "loss": pytest.approx(-math.fsum(map(math.log, probabilities))),
        "bytes": 13,
    }


def test_text_like_the_training_text_takes_fewer_bits():
    rng = np.random.default_rng(1)
    words = ["red", "blue", "green", "old", "town", "river"]
    model = fitted([" ".join(rng.choice(words, size=20)) for _ in range(50)])
    like, unlike = (model.predict(Text(text)) for text in ("old green river town", "dol neerg revir nwot"))
    assert like["bytes"] == unlike["bytes"]
    assert 3 * like["loss"] < unlike["loss"]


def test_without_training_text_all_symbols_are_equally_likely():
    model = fitted([None])
    assert model.predict(Text("ab"))["loss"] == pytest.approx(3 * math.log(257))


def test_rows_that_are_no_documents_are_passed_over():
    with_dialogues, without = fitted([None, *TOY, None]), fitted(TOY)
    assert with_dialogues.predict(Text("the mat")) == without.predict(Text("the mat"))


def test_more_text_than_fits_is_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr(text_generation, "_MAX_CHARACTERS", 100)
    documents = [chr(ord("a") + place) * 10 for place in range(20)]
    half = fitted(documents)
    assert "".join(map(chr, half._known.tolist())) == "acegikmoqs"


def test_one_document_that_does_not_fit_is_cut(monkeypatch):
    monkeypatch.setattr(text_generation, "_MAX_CHARACTERS", 100)
    model = fitted(["a" * 60 + "b" * 60 + "c" * 60])
    assert "".join(map(chr, model._known.tolist())) == "ab"
