"""fairseq's dictionaries: ``dict.en.txt``, one ``symbol count`` a line, in the order of their ids from 4 on.

Ids 0 to 3 are ``<s> <pad> </s> <unk>`` and stand in no file. fairseq-preprocess fills the rest up to a multiple of 8
with ``madeupword0000 0`` and so on. Format: ``fairseq/data/dictionary.py`` of 0.12.2.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import InputError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BOS, PAD, EOS, UNK = range(4)
_OVERWRITE = "#fairseq:overwrite"
_MULTIPLE = 8


@dataclass(frozen=True)
class Dictionary:
    """Symbols by id, with how often each was seen.

    A symbol may stand twice where the file says ``#fairseq:overwrite``; the later id is then the one it is written as.

    Attributes:
        symbols: all of them, the four special ones first: as many as the model's table has rows.
        counts: one for each symbol.
    """

    symbols: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> Dictionary:
        """Read ``dict.txt``.

        Raises:
            InputError: there is no such file, it is not UTF-8, or a line is no ``symbol count`` or a symbol of before;
                the message names the line.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # universal newlines, and no other end of a line
        except OSError as error:
            raise InputError(f"it cannot be read ({error.strerror or error})", where=str(path)) from error
        except UnicodeDecodeError as error:
            raise InputError(f"byte {error.start} is not UTF-8", where=str(path), fix="Get the dictionary again.") from error
        if not lines[-1]:
            lines.pop()
        symbols, counts = list(SPECIAL), [0] * len(SPECIAL)
        seen = set(SPECIAL)
        for number, line in enumerate(lines, 1):
            symbol, count, again = _entry(line, f"{path}:{number}")
            if symbol in seen and not again:
                raise InputError(
                    f'the symbol "{symbol}" stands twice',
                    where=f"{path}:{number}",
                    fix=f"Write {_OVERWRITE} behind the line if it means to replace the first one, as for fairseq.",
                )
            seen.add(symbol)
            symbols.append(symbol)
            counts.append(count)
        if len(symbols) == len(SPECIAL):
            raise InputError("the dictionary is empty", where=str(path))
        return cls(tuple(symbols), tuple(counts))

    @classmethod
    def build(cls, sentences: Iterable[Sequence[str]]) -> Dictionary:
        """Make a dictionary as fairseq-preprocess does: the most frequent first, of equal counts the first by code points.

        Args:
            sentences: the symbols of each.
        """
        found: Counter[str] = Counter()
        for sentence in sentences:
            found.update(sentence)
        counts = [found.pop(symbol, 0) for symbol in SPECIAL]
        # fairseq sorts the symbols and then takes the most common ones, which keeps the order of equals.
        ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        symbols = [*SPECIAL, *(symbol for symbol, _ in ordered)]
        counts += [count for _, count in ordered]
        taken, number = set(symbols), 0
        while len(symbols) % _MULTIPLE:
            filler = f"madeupword{number:04d}"
            number += 1
            if filler not in taken:
                symbols.append(filler)
                counts.append(0)
        return cls(tuple(symbols), tuple(counts))

    def write(self, path: Path) -> None:
        """Write ``dict.txt``."""
        seen = set(SPECIAL)
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            for symbol, count in list(zip(self.symbols, self.counts, strict=True))[len(SPECIAL) :]:
                stream.write(f"{symbol} {count}{f' {_OVERWRITE}' if symbol in seen else ''}\n")
                seen.add(symbol)

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """Symbol -> id; of a symbol that stands twice the later one."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Return the ids of symbols, without the end; ``<unk>`` for those that are not there."""
        ids = self.ids
        return [ids.get(symbol, UNK) for symbol in symbols]


def _entry(line: str, where: str) -> tuple[str, int, bool]:
    """Return symbol, count and whether it may replace one of before."""
    rest, _, last = line.rstrip().rpartition(" ")
    again = last == _OVERWRITE
    symbol, count = (rest.rpartition(" ")[::2]) if again else (rest, last)
    try:
        if not symbol:
            raise ValueError
        return symbol, int(count), again
    except ValueError as error:
        raise InputError(
            f'found "{line.strip()[:40]}", expected a symbol, a blank and its count',
            where=where,
            fix="This is not the dict.txt that fairseq-preprocess writes.",
        ) from error
