"""Words of a text: found in it, or joined to it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_IDEOGRAPHS = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Thai, Lao, Burmese and Khmer put no blanks between words either.
_UNSPACED = _IDEOGRAPHS + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\S")
_CJK = re.compile(rf"[{_IDEOGRAPHS}\u3000-\u303f\uff00-\uffef]")


def words_of(text: str) -> tuple[tuple[int, int], ...]:
    """Return (start, end) of each word, in code points.

    A character of a script without blanks (Chinese, Japanese, Thai ...) is a word, a run of word characters is one, and
    so is any other character that is no white space. Combining marks belong to what they stand on.
    """
    words: list[tuple[int, int]] = []
    open_mark = False
    for match in _WORD.finditer(text):
        start, end = match.span()
        mark = text[start] > "\u02ff" and unicodedata.category(text[start])[0] == "M"
        after = open_mark and text[start].isalnum() and not _unspaced(text[start])
        if words and words[-1][1] == start and (mark or after):
            words[-1] = (words[-1][0], end)
        else:
            words.append((start, end))
        open_mark = mark
    return tuple(words)


def _unspaced(character: str) -> bool:
    return re.match(f"[{_UNSPACED}]", character) is not None


def join_words(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text of words, with a blank between two unless both sides are Chinese or Japanese; and their places."""
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    position = 0
    for word in words:
        # Nothing below U+3000 is Chinese or Japanese: most words are done with one comparison.
        if parts and (word[0] < "\u3000" or not (_CJK.match(parts[-1][-1]) and _CJK.match(word[0]))):
            parts.append(" ")
            position += 1
        parts.append(word)
        places.append((position, position + len(word)))
        position += len(word)
    return "".join(parts), tuple(places)
