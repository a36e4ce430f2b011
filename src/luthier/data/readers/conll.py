"""CoNLL: one token a line with its tags in columns, sentences apart by blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import RowError

_BLANKS = re.compile(r"[ \t]+")


@reader("conll", suffixes=[".conll", ".iob", ".bio", ".iob2", ".bioes"])
def read_conll(file: DataFile, *, token_column: int = 0, tag_column: int = -1) -> Iterator[Row | RowError]:
    """Yield one row a sentence: ``tokens`` and, where there is more than one column, ``tags``.

    A line of white space alone, a lone tab too, ends a sentence; ``-DOCSTART-`` ends a document. Columns are
    apart by a tab where the line has one, else by blanks; other white space (no-break space) is text.

    Args:
        file: the file.
        token_column: the token's column, from 0; negative from the end.
        tag_column: the tag's column, likewise.
    """
    sentence = _Sentence(file, token_column, tag_column)
    documents = 0
    for number, line in enumerate(file.lines(), 1):
        text = line.rstrip("\r\n")
        if not text.strip(" \t"):
            yield from sentence.end(documents)
        elif text.startswith("-DOCSTART-"):
            yield from sentence.end(documents)
            documents += 1
        else:
            sentence.add(text, number)
    yield from sentence.end(documents)


class _Sentence:
    """The sentence that is being read."""

    def __init__(self, file: DataFile, token_column: int, tag_column: int) -> None:
        self.file, self.token_column, self.tag_column = file, token_column, tag_column
        self.width: int | None = None
        self._clear()

    def _clear(self) -> None:
        self.tokens: list[str] = []
        self.tags: list[str] = []
        self.line = 0
        self.flaw = ""

    def add(self, text: str, number: int) -> None:
        self.line = self.line or number
        cells = text.split("\t") if "\t" in text else _BLANKS.split(text.strip(" "))
        self.width = self.width or len(cells)
        if len(cells) != self.width:
            self.flaw = self.flaw or f"line {number} has {len(cells)} columns, the first one {self.width}"
            return
        try:
            token, tag = cells[self.token_column], cells[self.tag_column]
        except IndexError:
            self.flaw = self.flaw or f"line {number} has {len(cells)} columns, too few for the columns asked for"
            return
        if not token.strip():
            self.flaw = self.flaw or f"line {number} has an empty token"
        self.tokens.append(token)
        self.tags.append(tag)

    def end(self, documents: int) -> Iterator[Row | RowError]:
        if self.line:
            if self.flaw:
                yield RowError(self.flaw, where=f"{self.file.name}:{self.line}")
            else:
                values = {"tokens": self.tokens, "tags": self.tags} if (self.width or 1) > 1 else {"tokens": self.tokens}
                document = str(documents) if documents else None
                yield Row(values, file=self.file.name, line=self.line, document=document)
        self._clear()
