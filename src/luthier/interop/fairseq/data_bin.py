"""What fairseq-preprocess writes, as rows of text: ``fairseq:data-bin``.

``train.en-fr.en.{bin,idx}`` and ``train.en-fr.fr.{bin,idx}`` with ``dict.en.txt`` and ``dict.fr.txt`` become rows with
``source`` and ``target``; ``train.{bin,idx}`` with ``dict.txt``, of a language model, rows with ``text``. Symbols are put
together again (``hel@@ lo``, ``▁hel lo``), so the codes of a model split a text into the ids that stood there.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from luthier.data.rows import Row
from luthier.errors import InputError, RowError, did_you_mean
from luthier.interop.fairseq.dictionary import EOS, UNK, Dictionary
from luthier.interop.fairseq.indexed import IndexedIds

Joining = Literal["@@", "▁", " "]

SCHEME = "fairseq:"
_VERSION = "data-bin 1"
"""Of how ids become text; a new one makes data that was prepared before be prepared again."""
_SPLITS = {"train": "train", "validation": "valid"}
"""Other splits are its ``test``."""
_OPTIONS = ("split", "source", "target", "bpe")
_NO_LANGUAGE = "None"


def joining_of(dictionary: Dictionary) -> Joining:
    """Tell how the symbols of a dictionary become words again."""
    if any(symbol.endswith("@@") for symbol in dictionary.symbols):
        return "@@"
    pieces = sum(symbol.startswith("▁") for symbol in dictionary.symbols)
    return "▁" if 10 * pieces > len(dictionary) else " "


def joined(symbols: Sequence[str], joining: Joining) -> str:
    """Put symbols together as fairseq's ``--remove-bpe`` does."""
    if joining == "@@":
        return (" ".join(symbols) + " ").replace("@@ ", "").rstrip()
    return "".join(symbols).replace("▁", " ").strip() if joining == "▁" else " ".join(symbols)


@dataclass(slots=True)
class _Side:
    """The sentences of one language; or all text of a language model."""

    role: str
    dictionary: Dictionary
    ids: list[IndexedIds]
    joining: Joining

    def text(self, shard: int, number: int) -> tuple[str, bool]:
        """Return a sentence's text, and whether something stands in it that no text stands for."""
        ids = self.ids[shard][number]
        if len(ids) and ids[-1] == EOS:
            ids = ids[:-1]
        said = ids[ids > EOS]
        lost = len(said) < len(ids) or bool((ids == UNK).any())
        return joined([self.dictionary.symbols[value] for value in said], self.joining), lost


class DataBin:
    """A split of a folder that fairseq-preprocess wrote; a Source.

    Args:
        spec: ``fairseq:FOLDER``, with options behind a ``?``: ``split`` (train, valid, test), ``source`` and ``target``
            (languages, where the folder has several pairs or the other direction is meant), ``bpe=kept`` (symbols stay
            as they are, apart by blanks).
        split: Luthier's name of it: train, validation, test.

    Raises:
        InputError: a file is missing or damaged, or an option does not exist.
    """

    def __init__(self, spec: str, split: str) -> None:
        name, _, query = spec.removeprefix(SCHEME).partition("?")
        self._spec, self._folder = spec, Path(name).expanduser()
        self._options = dict(parse_qsl(query, keep_blank_values=True))
        for option in self._options:
            if option not in _OPTIONS:
                raise InputError(f'there is no option "{option}"', where=spec, fix=did_you_mean(option, _OPTIONS))
        if self._options.get("bpe", "undone") not in ("undone", "kept"):
            raise InputError(f"found bpe={self._options['bpe']}", where=spec, fix="Write bpe=undone or bpe=kept.")
        if not self._folder.is_dir():
            raise InputError("there is no such folder", where=spec, fix="Name what fairseq-preprocess wrote: --destdir.")
        self._split = self._options.get("split") or _SPLITS.get(split, "test")
        self._paths: list[Path] = []
        self._sides = self._open()
        self._lost = 0
        self.files: Sequence[str] = [str(path) for path in self._paths if path.suffix == ".idx"]
        self.origin: Any = [_VERSION, self._split, sorted(self._options.items()), self.files]

    @property
    def notes(self) -> Sequence[str]:
        if not self._lost:
            return []
        count = sum(len(ids) for ids in self._sides[0].ids)
        return [
            f"{self._spec}: <unk> stands in {self._lost:,} of the {count:,} rows of {self._split}, for what the dictionary "
            "lacks; such a text may be split in another way than it was."
        ]

    def rows(self) -> Iterator[Row | RowError]:
        self._lost = 0
        for side in self._sides:
            for ids in side.ids:
                ids.check(len(side.dictionary))
        for shard, ids in enumerate(self._sides[0].ids):
            for number in range(len(ids)):
                read = {side.role: side.text(shard, number) for side in self._sides}
                self._lost += any(lost for _, lost in read.values())
                yield Row({role: text for role, (text, _) in read.items()}, file=str(ids.index_path), line=number + 1)

    def digest(self) -> str:
        total = hashlib.sha256()
        for path in self._paths:
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def _open(self) -> list[_Side]:
        """Open all shards of the split: train, train1 ..., which fairseq reads one after another."""
        languages = self._languages()
        sides: list[_Side] = []
        for role, language, first in languages:
            suffix = f".{first}.{language}" if first else ""
            path = self._folder / (f"dict.{language}.txt" if first else "dict.txt")
            dictionary = Dictionary.read(path)
            prefixes = [self._folder / f"{self._split}{suffix}"]
            for number in itertools.count(1):
                shard = self._folder / f"{self._split}{number}{suffix}"
                if not shard.with_name(f"{shard.name}.idx").is_file():
                    break
                prefixes.append(shard)
            shards = [IndexedIds(prefix) for prefix in prefixes]
            self._paths += [path, *(file for ids in shards for file in (ids.index_path, ids.path))]
            sides.append(_Side(role, dictionary, shards, " " if self._kept else joining_of(dictionary)))
        lengths = [[len(ids) for ids in side.ids] for side in sides]
        if len(lengths) == 2 and lengths[0] != lengths[1]:
            said = [f"{side.ids[0].index_path.name} has {sum(count)}" for side, count in zip(sides, lengths, strict=True)]
            raise InputError(f"{', '.join(said)} sentences; they must agree", where=self._spec, fix="Write the data again.")
        return sides

    @property
    def _kept(self) -> bool:
        return self._options.get("bpe") == "kept"

    def _languages(self) -> list[tuple[str, str, str]]:
        """Return (role, language, pair as the files name it) of each side; language and pair empty for a language model."""
        pattern = re.compile(rf"{re.escape(self._split)}\.([^.]+)-([^.]+)\.([^.]+)\.idx")
        names = sorted(path.name for path in self._folder.iterdir())
        found = [match.groups() for name in names if (match := pattern.fullmatch(name))]
        alone = [(first, second) for first, second, _ in found if second == _NO_LANGUAGE]
        pairs = sorted({(first, second) for first, second, _ in found if second != _NO_LANGUAGE})
        asked = self._options.get("source"), self._options.get("target")
        fitting = [
            (source, target, f"{first}-{second}")
            for first, second in pairs
            for source, target in ((first, second), (second, first))
            if all(wanted in (None, one) for wanted, one in zip(asked, (source, target), strict=True))
            and (any(asked) or source == first)
        ]
        if len(fitting) == 1:
            source, target, pair = fitting[0]
            return [("source", source, pair), ("target", target, pair)]
        if not pairs and f"{self._split}.idx" in names:
            return [("text", "", "")]
        if not pairs and len(alone) == 1:
            return [("text", alone[0][0], f"{alone[0][0]}-{_NO_LANGUAGE}")]
        if not pairs:
            raise self._missing(names)
        said = ", ".join(f"{first}-{second}" for first, second in pairs)
        raise InputError(
            f"it has the pairs {said}, and it is not said which is meant" if not any(asked) else f"it has the pairs {said}",
            where=self._spec,
            fix=f"Say it: {SCHEME}{self._folder}?source={pairs[0][0]}&target={pairs[0][1]}",
        )

    def _missing(self, names: Sequence[str]) -> InputError:
        splits = sorted({name.split(".")[0] for name in names if name.endswith(".idx")})
        return InputError(
            f"there is no {self._split}.SOURCE-TARGET.LANGUAGE.idx and no {self._split}.idx",
            where=self._spec,
            fix=f"It has {', '.join(splits)}. Say which: ?split={splits[0]}" if splits else "Is this a data-bin of fairseq?",
        )
