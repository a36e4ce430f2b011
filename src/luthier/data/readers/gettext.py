"""Translations of software, .po and .mo (manual of GNU gettext: "The Format of PO Files", "The Format of GNU MO Files")."""

from __future__ import annotations

import codecs
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError, RowError

_HEAD = 1 << 16
"""Bytes at the start of a .po file in which its header is looked for."""
_HEADER_LINE = re.compile(rb'^(?:msgstr[ \t]*)?"[^\n]*Content-Type:[^\n]*', re.IGNORECASE | re.MULTILINE)
_CHARSET = re.compile(r"Content-Type:[^\n]*?charset=([^\s;\\\"]+)", re.IGNORECASE)
_FIELD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)\s*(?=")')
_STRING = re.compile(r'\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", '"': '"'}
_MAGIC = 0x950412DE


@reader("po", suffixes=[".po"])
def read_po(file: DataFile) -> Iterator[Row | RowError]:
    """Yield ``source`` (msgid), ``target`` (msgstr) and ``context`` (msgctxt or None) of each translated message.

    A message with a plural gives two rows: msgid with the first form, msgid_plural with the last. Both have msgid as
    their document, so that a split keeps them together. The header is no row; fuzzy, obsolete and untranslated
    messages are none either, and a note counts them. The header says the charset, unless data.encoding does.

    Raises:
        InputError: not in its charset, or that one is unknown.
    """
    with file.open() as stream:
        header = _HEADER_LINE.search(stream.read(_HEAD))
    charset = _charset(header[0].decode("latin-1") if header else "", file)
    decoded = DataFile(file.path, name=file.name, encoding=charset)
    decoded.notes = file.notes
    left_out: Counter[str] = Counter()
    for entry in _entries(decoded, left_out):
        flaw = entry.flaw or next(
            (f"this message has no {name}" for name in ("msgid", "msgstr") if name not in entry.kinds), ""
        )
        if flaw:
            yield RowError(flaw, where=f"{file.name}:{entry.line}")
            continue
        texts = entry.texts
        if entry.fuzzy and texts["msgid"]:
            left_out["fuzzy"] += 1
            continue
        forms = [text for name, text in texts.items() if name.startswith("msgstr")]
        rows = _rows(texts["msgid"], forms, plural=texts.get("msgid_plural"), context=texts.get("msgctxt"), left_out=left_out)
        message = texts["msgid"] if len(rows) > 1 else None
        for values, name in zip(rows, ("msgid", "msgid_plural"), strict=False):
            yield Row(values, file=file.name, line=entry.lines[name], document=message)
    _note(file, left_out)


@reader("mo", suffixes=[".mo"])
def read_mo(file: DataFile) -> Iterator[Row | RowError]:
    """Yield the messages of a compiled file as ``read_po`` does; rows are numbered from 1.

    Raises:
        InputError: no sound .mo file, or not in its charset.
    """
    with file.open() as stream:
        data = stream.read()
    if not data:
        raise InputError("the file is empty", where=file.name)
    try:
        messages = list(_messages(data))
    except (struct.error, ValueError) as error:
        raise InputError(f"this is no sound .mo file ({error})", where=file.name, fix="Get or compile it again.") from error
    header = next((text for key, text in messages if not key), b"")
    charset = _charset(header.decode("latin-1"), file)
    left_out: Counter[str] = Counter()
    number = 0
    for place, message in enumerate(messages, 1):
        try:
            key, text = (part.decode(charset) for part in message)
        except UnicodeDecodeError as error:
            what = f"message {place} is not {charset}"
            raise InputError(what, where=file.name, fix="Name its encoding: data.encoding=latin-1") from error
        context, mark, ids = key.rpartition("\4")
        source, _, plural = ids.partition("\0")
        forms = text.split("\0") if plural else [text]
        rows = _rows(source, forms, plural=plural or None, context=context if mark else None, left_out=left_out)
        for values in rows:
            number += 1
            yield Row(values, file=file.name, line=number, document=source if plural else None)
    _note(file, left_out)


def _rows(
    source: str, forms: Sequence[str], *, plural: str | None, context: str | None, left_out: Counter[str]
) -> list[dict[str, Any]]:
    """Return the rows of one message; the header, which has no source, gives none."""
    if not source and context is None:
        return []
    pairs = [(source, forms[0])] if plural is None else [(source, forms[0]), (plural, forms[-1])]
    if not all(target for _, target in pairs):
        left_out["untranslated"] += 1
        return []
    return [{"source": given, "target": target, "context": context} for given, target in pairs]


def _charset(header: str, file: DataFile) -> str:
    """Return the charset to decode with: the user's, else the header's, else UTF-8."""
    found = _CHARSET.search(header)
    # CHARSET stands there in templates that nobody has filled in.
    if file.encoding != "utf-8" or found is None or found[1] == "CHARSET":
        return file.encoding
    try:
        b" ".decode(found[1])
    except (LookupError, ValueError) as error:
        what = f'its header names the charset "{found[1]}", which is none for such files'
        raise InputError(what, where=file.name, fix="Correct the header, or say it: data.encoding=latin-1") from error
    return codecs.lookup(found[1]).name


def _note(file: DataFile, left_out: Counter[str]) -> None:
    counts = [f"{left_out[kind]} {kind}" for kind in ("fuzzy", "untranslated", "obsolete") if left_out[kind]]
    if counts:
        listed = " and ".join(part for part in (", ".join(counts[:-1]), counts[-1]) if part)
        file.notes.append(f"{file.name}: {listed} {'message' if left_out.total() == 1 else 'messages'} left out")


@dataclass(slots=True)
class _Entry:
    """One message of a .po file, as it is read."""

    texts: dict[str, str] = field(default_factory=dict)
    """By keyword, in the file's order: msgctxt, msgid, msgid_plural, msgstr or msgstr[0] ..."""
    lines: dict[str, int] = field(default_factory=dict)
    line: int = 0
    fuzzy: bool = False
    flaw: str = ""

    @property
    def kinds(self) -> set[str]:
        return {name.split("[")[0] for name in self.texts}

    @property
    def ended(self) -> bool:
        """Whether what comes next, strings apart, belongs to another message."""
        return "msgstr" in self.kinds or bool(self.flaw and not self.texts)

    def comment(self, text: str) -> None:
        if text.startswith(("#,", "#=")) and "fuzzy" in (flag.strip() for flag in text[2:].split(",")):
            self.fuzzy = True

    def add(self, text: str, number: int) -> None:
        """Add a line: a keyword with strings, or strings alone."""
        self.line = self.line or number
        match = _FIELD.match(text)
        if match:
            if match[1] in self.texts:
                self.flaw = f"line {number}: {match[1]} stands twice"
            self.texts[match[1]] = ""
            self.lines[match[1]] = number
            text = text[match.end() :]
        strings = _STRING.findall(text)
        if _STRING.sub("", text) or not strings or not self.texts:
            self.flaw = self.flaw or f"line {number} is no part of a message"
            return
        name = next(reversed(self.texts))
        try:
            self.texts[name] += "".join(_ESCAPE.sub(_unescaped, string) for string in strings)
        except ValueError as error:
            self.flaw = self.flaw or f"line {number}: {error}"


def _entries(file: DataFile, left_out: Counter[str]) -> Iterator[_Entry]:
    """Yield the messages of a .po file, flawed ones too; obsolete ones are counted."""
    entry = _Entry()
    for number, line in enumerate(file.lines(), 1):
        text = line.strip()
        match = _FIELD.match(text)
        keyword = match[1] if match else ""
        opens = keyword in ("msgctxt", "msgid")
        # A message ends where the next one begins, or before a line that is neither a keyword nor a string.
        if (opens and (entry.ended or keyword in entry.texts)) or (entry.ended and text and not keyword and text[0] != '"'):
            yield entry
            entry = _Entry()
        if text.startswith("#~"):
            left_out["obsolete"] += bool(re.match(r'#~\s*msgid\s*"', text))
            entry.fuzzy = False
        elif text.startswith("#"):
            entry.comment(text)
        elif text:
            entry.add(text, number)
    if entry.line:
        yield entry


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code in _ESCAPED:
        return _ESCAPED[code]
    # Octal and hexadecimal ones are bytes of the charset: beyond ASCII they would be parts of characters.
    value = int(code, 8) if code[0] in "01234567" else int(code[1:], 16) if code[0] == "x" and len(code) > 1 else 128
    if value > 127:
        raise ValueError(f"there is no escape {match[0]}")
    return chr(value)


def _messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and text of each message of a .mo file, undecoded.

    Raises:
        ValueError, struct.error: the file is not sound.
    """
    order = {_MAGIC.to_bytes(4, "little"): "<", _MAGIC.to_bytes(4, "big"): ">"}.get(data[:4])
    if order is None:
        raise ValueError("its magic number is missing")
    revision, count, keys, texts = struct.unpack_from(f"{order}4I", data, 4)
    if revision >> 16 > 1:
        raise ValueError(f"its revision is {revision >> 16}; 0 and 1 are known")

    def string(table: int, place: int) -> bytes:
        length, offset = struct.unpack_from(f"{order}2I", data, table + 8 * place)
        if offset + length > len(data):
            raise ValueError("it is cut off")
        return data[offset : offset + length]

    for place in range(count):
        yield string(keys, place), string(texts, place)
