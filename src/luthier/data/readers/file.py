"""One data file: its bytes, unzipped, strictly decoded, line by line, with places that can be named."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from luthier.errors import InputError

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before utf-16: its mark begins with that of utf-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_GUESSES = ("gb18030", "shift_jis", "latin-1")


class DataFile:
    """A file that a reader reads.

    Attributes:
        path: where it is.
        name: as the user gave it.
        encoding: default UTF-8, strict; nothing is guessed.
        notes: what a person should know (a byte order mark was stripped).
    """

    def __init__(self, path: Path, *, name: str | None = None, encoding: str | None = None) -> None:
        self.path, self.name = path, name or str(path)
        self.notes: list[str] = []
        try:
            self.encoding = codecs.lookup(encoding or "utf-8").name
        except LookupError as error:
            raise InputError(
                f'there is no encoding "{encoding}"', where="data.encoding", fix="Write for example utf-8, latin-1 or gb18030."
            ) from error

    @property
    def suffix(self) -> str:
        """The suffix that tells the format: ``.csv`` of ``a.csv.gz``."""
        path = self.path.with_suffix("") if self.path.suffix == ".gz" else self.path
        return path.suffix.lower()

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the bytes, unzipped; any damage becomes an InputError."""
        try:
            if self.path.suffix == ".gz":
                with gzip.open(self.path, "rb") as stream:
                    yield io.BufferedReader(stream)
            else:
                with self.path.open("rb") as stream:
                    yield stream
        except EOFError as error:
            raise InputError("the archive is cut off", where=self.name, fix="Get the file again.") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"this is no sound gzip archive ({error})",
                where=self.name,
                fix="Get the file again, or drop .gz from its name.",
            ) from error
        except OSError as error:
            raise InputError(f"it cannot be read ({error.strerror or error})", where=self.name) from error

    def lines(self) -> Iterator[str]:
        r"""Yield decoded lines with their ends. Only ``\n``, ``\r\n`` and ``\r`` end a line.

        Raises:
            InputError: empty, not in its encoding, or with NUL bytes; names line and byte.
        """
        with self.open() as stream:
            if self.encoding.startswith(("utf-16", "utf-32")):
                yield from self._wide_lines(stream)
                return
            offset, number = 0, 0
            for raw in stream:
                if not offset:
                    self._look_at_start(raw)
                    if raw.startswith(codecs.BOM_UTF8) and self.encoding == "utf-8":
                        self.notes.append(f"{self.name}: a byte order mark was stripped")
                        raw = raw[3:]
                        offset = 3
                number += 1
                text = self._decoded(raw, number, offset)
                offset += len(raw)
                if "\r" in text:
                    pieces = _LINE.findall(text)
                    number += len(pieces) - 1
                    yield from pieces
                elif text:
                    yield text
            if not offset:
                raise InputError("the file is empty", where=self.name)

    def text(self) -> str:
        """Return the whole text."""
        return "".join(self.lines())

    def _look_at_start(self, raw: bytes) -> None:
        for mark, encoding in _MARKS.items():
            if raw.startswith(mark):
                raise InputError(
                    f"this is {encoding.upper()}, not {self.encoding}", where=self.name, fix=f"Say so: data.encoding={encoding}"
                )

    def _decoded(self, raw: bytes, number: int, offset: int) -> str:
        if b"\0" in raw:
            at = offset + raw.index(b"\0")
            raise InputError(
                f"byte {at} is NUL, so this is no text",
                where=f"{self.name}:{number}",
                fix="Is it another format or encoding? See data.format and data.encoding.",
            )
        try:
            return raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            bad = raw[error.start]
            raise InputError(
                f"byte {offset + error.start} (0x{bad:02x}) is not {self.encoding}",
                where=f"{self.name}:{number}",
                fix=f"Save it as UTF-8, or name its encoding: data.encoding={self._guess(raw)}",
            ) from error

    def _guess(self, raw: bytes) -> str:
        """Return an encoding that at least decodes the line: a suggestion, never used unasked."""
        for encoding in _GUESSES:
            try:
                text = raw.decode(encoding)
            except UnicodeDecodeError:
                continue
            if encoding == "latin-1" or sum("\u4e00" <= char <= "\u9fff" or "\u3040" <= char <= "\u30ff" for char in text) > 1:
                return encoding
        return "latin-1"

    def _wide_lines(self, stream: IO[bytes]) -> Iterator[str]:
        text_stream = io.TextIOWrapper(stream, encoding=self.encoding, newline="")
        seen = False
        try:
            for number, line in enumerate(text_stream, 1):
                seen = True
                if "\0" in line:
                    raise InputError("there is a NUL character, so this is no text", where=f"{self.name}:{number}")
                yield line.removeprefix("\ufeff") if number == 1 else line
        except UnicodeError as error:
            raise InputError(
                f"this is not {self.encoding} ({error})", where=self.name, fix="Name its encoding: data.encoding=..."
            ) from error
        finally:
            text_stream.detach()
        if not seen:
            raise InputError("the file is empty", where=self.name)
