"""Words of a text in any script, for measures that count them.

Chinese, Japanese, Thai, Lao, Burmese and Khmer are written without blanks: there each character is a word, with the
marks that belong to it.
"""

from __future__ import annotations

import functools
import re
import unicodedata

_NO_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\uff66-\uff9f"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a word and of a piece."""
    # Vowel signs of Indian and other scripts are marks, which \w leaves out: without them words fall apart.
    points = (chr(point) for point in range(0x300, 0x10000))
    marks = "".join(re.escape(point) for point in points if unicodedata.category(point).startswith("M"))
    alone = rf"[{_NO_BLANKS}][{marks}]*"
    word = rf"(?=[^\W_]){alone}|[^\W_{_NO_BLANKS}](?:[^\W_{_NO_BLANKS}]|[{marks}])*"
    return re.compile(word), re.compile(rf"{alone}|[^\s{_NO_BLANKS}]+")


def words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation: runs of letters, marks and digits."""
    return _patterns()[0].findall(text.lower())


def pieces(text: str) -> list[str]:
    """Return what stands between blanks, punctuation and all, in the case that it has."""
    return _patterns()[1].findall(text)


def folded(text: str) -> str:
    """Return the text without differences of case and of white space."""
    return " ".join(text.casefold().split())
