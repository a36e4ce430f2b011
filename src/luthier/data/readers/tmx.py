"""TMX, the exchange format of translation memories (Translation Memory eXchange 1.4b, LISA/GALA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.parsers import expat

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError, RowError, SecurityError

_BLOCK = 1 << 16
_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
"""Inline elements that hold formatting codes, not text."""


@reader("tmx", suffixes=[".tmx"])
def read_tmx(file: DataFile, *, source: str | None = None, target: str | None = None) -> Iterator[Row | RowError]:
    """Yield one row a translation unit: ``source`` and ``target``. Rows are numbered from 1, as units may share a line.

    Of a segment the plain text is kept, what stands in ``hi`` too; formatting codes (bpt, ept, it, ph, ut) are
    dropped with all that is in them. The document's own declaration says its encoding, unless data.encoding does.
    Declarations of entities are refused; a document type that is named elsewhere is never fetched.

    Args:
        file: the file.
        source: the source's language code, in any case: ``pt`` stands for ``pt-BR`` too, but not the other way
            round; default: srclang of the header.
        target: likewise; default: the other one, where all units have the same two languages.

    Raises:
        InputError: no sound TMX, or its languages do not tell which two are meant.
        SecurityError: it declares entities.
    """
    units = _Units(file, source, target)
    fed = False
    try:
        for block in _blocks(file):
            fed = True
            units.parser.Parse(block, False)
            yield from units.take()
        if not fed:
            raise InputError("the file is empty", where=file.name)
        units.parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise InputError(
            f"this is no sound TMX ({error})",
            where=file.name,
            fix="Get the file again; if it is in another encoding than it says, name that: data.encoding=latin-1.",
        ) from error
    yield from units.take()
    if units.several:
        file.notes.append(f"{file.name}: units with several texts of a side, of which the first was taken: {units.several}")


def _blocks(file: DataFile) -> Iterator[str | bytes]:
    """Yield the document: its bytes, or its text where data.encoding has a say in how to decode it."""
    if file.encoding != "utf-8":
        yield from file.lines()
        return
    with file.open() as stream:
        yield from iter(lambda: stream.read(_BLOCK), b"")


def _normal(code: str) -> str:
    return code.strip().replace("_", "-").casefold()


class _Units:
    """What the parser calls; holds one unit at a time."""

    def __init__(self, file: DataFile, source: str | None, target: str | None) -> None:
        self._file = file
        self._source, self._target = (_normal(code) if code else None for code in (source, target))
        self._inferred = self._target is None
        self.several = 0
        self._ready: list[Row | RowError] = []
        self._number = 0
        self._root = False
        self._texts: list[tuple[str, str]] = []
        """Language and text of the unit's variants."""
        self._flaw = ""
        self._language = ""
        self._parts: list[str] | None = None
        """Pieces of the segment that is being read."""
        self._codes = 0
        """How deep inside a formatting code."""
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity
        self.parser.SkippedEntityHandler = self._skipped

    def take(self) -> list[Row | RowError]:
        ready, self._ready = self._ready, []
        return ready

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if not self._root and name != "tmx":
            raise InputError(f"this is no TMX: it begins with <{name}>", where=self._file.name)
        self._root = True
        if self._parts is not None:
            self._codes += bool(self._codes or name in _CODES)
        elif name == "header" and self._source is None:
            declared = _normal(attributes.get("srclang", ""))
            self._source = declared if declared != "*all*" else None
        elif name == "tu":
            self._number += 1
            self._texts, self._flaw = [], ""
        elif name == "tuv":
            self._language = _normal(attributes.get("xml:lang") or attributes.get("lang", ""))
            if not self._language:
                self._flaw = "a text of this unit has no xml:lang"
        elif name == "seg":
            self._parts = []

    def _end(self, name: str) -> None:
        if self._parts is not None:
            if self._codes:
                self._codes -= 1
            elif name == "seg":
                self._texts.append((self._language, "".join(self._parts).strip()))
                self._parts = None
        elif name == "tu":
            self._ready.append(self._row())

    def _text(self, text: str) -> None:
        if self._parts is not None and not self._codes:
            self._parts.append(text)

    def _entity(self, name: str, *_: object) -> None:
        raise SecurityError(
            f'{self._file.name}: it declares the entity "{name}"; such declarations can fill the memory or read other '
            "files, so they are refused. Write the characters themselves."
        )

    def _skipped(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            self._flaw = f'the entity "&{name};" is not declared'

    def _row(self) -> Row | RowError:
        where = f"{self._file.name}:{self._number}"
        if self._flaw:
            return RowError(self._flaw, where=where)
        languages = list(dict.fromkeys(language for language, _ in self._texts))
        if self._inferred or self._source is None:
            self._infer(languages, where)
        chosen: list[str] = []
        several = False
        for side, wanted in (("source", self._source), ("target", self._target)):
            found = [text for language, text in self._texts if language == wanted]
            found = found or [text for language, text in self._texts if wanted and language.startswith(f"{wanted}-")]
            if not found:
                what = f"this unit has no {side}" + (f" in {wanted}" if wanted else "")
                return RowError(f"{what} (found: {', '.join(languages) or 'nothing'})", where=where)
            chosen.append(found[0])
            several = several or len(found) > 1
        self.several += several
        return Row({"source": chosen[0], "target": chosen[1]}, file=self._file.name, line=self._number)

    def _infer(self, languages: list[str], where: str) -> None:
        """Settle the target by the first unit with two languages; refuse units with others after it."""
        if self._target is None and len(languages) == 2 and self._source:
            primary = self._source.split("-")[0]
            near = [language for language in languages if language == self._source]
            near = near or [language for language in languages if language.split("-")[0] == primary]
            if len(near) == 1:
                self._source = near[0]
                self._target = languages[1 - languages.index(near[0])]
        settled = self._target is not None and set(languages) <= {self._source, self._target}
        if not settled and (len(languages) > 1 or self._target is not None):
            expected = f"{self._source or 'any'} and {self._target}" if self._target else f"srclang={self._source or '*all*'}"
            raise InputError(
                f"which languages are meant? This unit has {', '.join(languages)}; so far {expected}",
                where=where,
                fix="Say it: data.format={name: tmx, source: en, target: fr}",
            )
