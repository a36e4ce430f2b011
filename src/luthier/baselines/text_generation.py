"""The baseline of raw text: an n-gram model of characters with modified Kneser-Ney smoothing.

Interpolated, with three discounts an order (Chen and Goodman, 1998), trained on the same rows. Symbols are the
characters that the training text has twice or more; any other is spelled in the bytes of its UTF-8, so every string
has a probability, and rare characters of the training text teach how the unknown is spelled. A document begins after
a mark that is never predicted, and its end is a symbol of its own. Given any context, the probabilities of all symbols
sum to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.tasks.task import Prediction

_ORDER = 8
_MAX_CHARACTERS = 8_000_000
"""More training text than this is thinned out to it, evenly: memory stays at about 1 GB."""
_END = 256
_UNTRUSTED = (0.5, 1.0, 1.5)
"""Discounts where the counts are too few to estimate them (KenLM takes the same)."""


@dataclass(frozen=True, slots=True)
class _Level:
    """What is known of all n-grams of one length. A context is the n-gram of one symbol less that it ends with.

    N-gram number i has id i + 1 as a context of the next level; id 0 is the beginning of a document.

    Attributes:
        keys: context id times number of symbols plus last symbol, int64 [n-grams], sorted.
        shares: of each n-gram, its discounted count over its context's total, [n-grams].
        backoff: by context id, the weight of the level below, [contexts]; 1 where nothing follows the context.
    """

    keys: np.ndarray
    shares: np.ndarray
    backoff: np.ndarray


class NgramModel:
    """How likely text is by counting; it writes none. See the module.

    Attributes:
        num_symbols: how many symbols share the probability.

    Args:
        order: symbols of an n-gram, the predicted one included.
    """

    name = "n-gram"

    def __init__(self, *, order: int = _ORDER) -> None:
        self._order = order

    def fit(self, examples: Iterable[Any]) -> None:
        documents = list(_thinned(examples))
        points, counts = np.unique(_points("".join(documents)), return_counts=True)
        self._known = points[counts > 1]
        self.num_symbols = _END + 1 + len(self._known)
        encoded = [self.symbols(document) for document in documents]
        del documents
        self._levels = _levels(encoded, self.num_symbols, self._order)

    def predict(self, example: Any) -> Prediction:
        """Return no text, ``loss`` in nats over all symbols (the end is one), and ``bytes`` of UTF-8."""
        symbols = self.symbols(example.document)
        loss = -float(np.log(self.probabilities(symbols)).sum())
        size = len(example.document.encode())
        return {"text": None, "finish_reason": None, "loss": loss, "bytes": size}

    def symbols(self, document: str) -> np.ndarray:
        """Return a document as symbols: 0 to 255 bytes, 256 the end, from 257 known characters; int64 [T]."""
        points = _points(document)
        places = np.searchsorted(self._known, points)
        known = np.zeros(len(points), dtype=bool)
        inside = places < len(self._known)
        known[inside] = self._known[places[inside]] == points[inside]
        spelled = "".join(map(chr, points[~known].tolist()))
        lengths = np.ones(len(points), dtype=np.int64)
        lengths[~known] = [len(char.encode()) for char in spelled]
        symbols = np.repeat(places + _END + 1, lengths)
        symbols[np.repeat(~known, lengths)] = np.frombuffer(spelled.encode(), dtype=np.uint8)
        return np.append(symbols, _END)

    def probabilities(self, symbols: np.ndarray) -> np.ndarray:
        """Return the probability of each symbol given those before it in the same document, float64 [T]."""
        probability = np.full(len(symbols), 1.0 / self.num_symbols)
        contexts = np.zeros(len(symbols), dtype=np.int64)
        for level in self._levels:
            # A context that training never saw leaves the shorter one's probability as it is; so do all longer ones.
            seen = np.flatnonzero(contexts >= 0)
            keys = contexts[seen] * self.num_symbols + symbols[seen]
            places = np.searchsorted(level.keys, keys)
            places[places == len(level.keys)] = 0
            found = level.keys[places] == keys if len(level.keys) else np.zeros(len(seen), dtype=bool)
            probability[seen] *= level.backoff[contexts[seen]]
            probability[seen[found]] += level.shares[places[found]]
            ids = np.full(len(symbols), -1, dtype=np.int64)
            ids[seen[found]] = places[found] + 1
            contexts = np.append(0, ids[:-1])
        return probability


def _points(text: str) -> np.ndarray:
    """Return the code points of a text, uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _thinned(examples: Iterable[Any]) -> Iterator[str]:
    """Return the documents, or an even choice of them where they exceed what fits."""
    total = sum(len(example.document) for example in examples if example.document is not None)
    share = min(1.0, _MAX_CHARACTERS / max(1, total))
    passed = taken = 0
    for example in examples:
        if example.document is None:
            continue
        if taken <= share * passed:
            document = example.document[: _MAX_CHARACTERS - taken]
            taken += len(document)
            yield document
        passed += len(example.document)


def _levels(documents: Sequence[np.ndarray], num_symbols: int, order: int) -> list[_Level]:
    """Count the n-grams of all lengths up to ``order``; the shortest come first."""
    levels: list[_Level] = []
    counted = _ngrams(documents, num_symbols, order)
    keys, ngrams = next(counted)
    for longer_keys, longer in counted:
        # An n-gram that is not of the full length counts once for each symbol that stands before it somewhere.
        endings = np.empty(len(longer_keys), dtype=np.int64)
        endings[longer] = ngrams
        levels.append(_level(keys, np.bincount(endings, minlength=len(keys)), levels, num_symbols=num_symbols))
        keys, ngrams = longer_keys, longer
    counts = np.bincount(ngrams, minlength=len(keys))
    return [*levels, _level(keys, counts, levels, num_symbols=num_symbols)]


def _ngrams(documents: Sequence[np.ndarray], num_symbols: int, order: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return for each length the keys of a level, and for each symbol the place among them of the n-gram it ends."""
    symbols = np.concatenate([np.empty(0, dtype=np.int64), *documents])
    starts = np.cumsum([0, *(len(document) for document in documents)])[:-1]
    contexts = np.zeros(len(symbols), dtype=np.int64)
    for length in range(1, order + 1):
        keys, ngrams = np.unique(contexts * num_symbols + symbols, return_inverse=True)
        yield keys, ngrams
        if length < order:
            contexts[1:] = ngrams[:-1] + 1
            contexts[starts] = 0


def _level(keys: np.ndarray, counts: np.ndarray, shorter: Sequence[_Level], *, num_symbols: int) -> _Level:
    """Turn counts into probabilities: what the discounts take from a context's n-grams goes to the level below."""
    contexts = keys // num_symbols
    num_contexts = len(shorter[-1].keys) + 1 if shorter else 1
    discounts = np.asarray([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    totals = np.bincount(contexts, counts, num_contexts)
    taken = np.bincount(contexts, discounts, num_contexts)
    backoff = np.divide(taken, totals, out=np.ones(num_contexts), where=totals > 0)
    return _Level(keys, (counts - discounts) / totals[contexts], backoff)


def _discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """Return what is taken from counts of one, two, and three or more (Chen and Goodman, 1998, equation 26)."""
    one, two, three, four = (int((counts == count).sum()) for count in range(1, 5))
    if not (one and two and three):
        return _UNTRUSTED
    share = one / (one + 2 * two)
    found = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    sound = all(0 < discount <= count for count, discount in enumerate(found, 1))
    return found if sound else _UNTRUSTED
