"""Cleaning of parallel text, on request: rules that leave pairs of texts out, each with its reason for the ledger."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.errors import InputError
from luthier.metrics.words import folded, words

Rule = Callable[[str, str], bool]
"""Of source and target: whether the pair is left out."""

_SCRIPTS = {
    "latn": (("LATIN",), "af az bs ca cs cy da de en eo es et eu fi fr ga gl hr ht hu id is it lt lv ms mt nb nl nn no oc pl pt"
             " ro sk sl so sq sr su sv sw tl tr uz vi zu afr cat ces dan deu eng epo est eus fin fra gle glg hrv hun ind isl"
             " ita lav lit nld nob nno pol por ron slk slv spa swe tur vie"),
    "cyrl": (("CYRILLIC",), "be bg kk ky mk mn ru sr tg tt uk uz bel bul kaz mkd rus srp ukr"),
    "hans": (("CJK", "IDEOGRAPHIC"), "zh zho cmn yue"),
    "hant": (("CJK", "IDEOGRAPHIC"), ""),
    "jpan": (("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"), "ja jpn"),
    "hang": (("HANGUL",), "ko kor"),
    "kore": (("HANGUL",), ""),
    "arab": (("ARABIC",), "ar fa ps ur ara fas pes urd"),
    "grek": (("GREEK",), "el ell"),
    "hebr": (("HEBREW",), "he yi heb"),
    "deva": (("DEVANAGARI",), "hi mr ne sa hin mar nep"),
    "thai": (("THAI",), "th tha"),
    "beng": (("BENGALI",), "as bn ben"),
    "taml": (("TAMIL",), "ta tam"),
    "telu": (("TELUGU",), "te tel"),
    "knda": (("KANNADA",), "kn kan"),
    "mlym": (("MALAYALAM",), "ml mal"),
    "gujr": (("GUJARATI",), "gu guj"),
    "guru": (("GURMUKHI",), "pa pan"),
    "sinh": (("SINHALA",), "si sin"),
    "geor": (("GEORGIAN",), "ka kat"),
    "armn": (("ARMENIAN",), "hy hye"),
    "ethi": (("ETHIOPIC",), "am ti amh"),
    "khmr": (("KHMER",), "km khm"),
    "laoo": (("LAO",), "lo lao"),
    "mymr": (("MYANMAR",), "my mya"),
}  # fmt: skip
"""By ISO 15924 code: how Unicode's names of its letters begin, and the languages that are written in it."""

_DENSE = re.compile("[\u3040-\u30ff\uac00-\ud7a3\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Cleaning:
    """Which rules are asked for.

    Attributes:
        empty: leaves out pairs with a side that has no letters.
        equal: source and target are the same but for case and white space, so that nothing is translated.
        length_ratio: one side has more than so many times the characters of the other. A kana or a Korean syllable
            counts as two characters and a Chinese character as three, since they say as much.
        script: fewer than half of a side's words are in the script of its language; words that both sides have (names,
            placeholders) do not count, unless there are no others.
        duplicates: the pair stood before, but for white space.
    """

    empty: bool = False
    equal: bool = False
    length_ratio: float | None = None
    script: bool = False
    duplicates: bool = False

    def start(self, source_language: str | None = None, target_language: str | None = None) -> Cleaner:
        """Return a cleaner that has seen no pair yet.

        Args:
            source_language: a code such as ``zh``, ``zh_CN`` or ``zho_Hans``; None: the source's script is not looked at.
            target_language: likewise; the rule ``script`` needs it.

        Raises:
            InputError: the rule ``script`` is asked for, and the script of a language is not known.
        """
        rules: list[tuple[str, Rule]] = []
        if self.empty:
            rules.append(("a side has no letters", lambda source, target: not (_has_letters(source) and _has_letters(target))))
        if self.equal:
            rules.append(("source and target are the same", lambda source, target: folded(source) == folded(target)))
        if self.length_ratio is not None:
            rules.append((f"length ratio above {self.length_ratio:g}", functools.partial(_unequal, self.length_ratio)))
        if self.script:
            if target_language is None:
                what = "the rule script needs the language of the target"
                raise InputError(what, where="task.clean", fix="Say it: task.target_language=fr")
            if source_language is not None:
                given = scripts_of(source_language)
                what = f"source is not in the script of {source_language}"
                rules.append((what, lambda source, target: not _is_in(given, source, target)))
            wanted = scripts_of(target_language)
            what = f"target is not in the script of {target_language}"
            rules.append((what, lambda source, target: not _is_in(wanted, target, source)))
        if self.duplicates:
            rules.append(("the same pair stood before", _Seen()))
        return Cleaner(rules)


class Cleaner:
    """Looks at the pairs of one split, in their order."""

    def __init__(self, rules: Sequence[tuple[str, Rule]]) -> None:
        self._rules = rules

    def reason(self, source: str, target: str) -> str | None:
        """Return why the pair is left out, by the first rule that says so; None: it stays."""
        return next((f"cleaned: {what}" for what, leaves_out in self._rules if leaves_out(source, target)), None)


def scripts_of(language: str) -> tuple[str, ...]:
    """Return how Unicode's names of a language's letters begin: ``("CYRILLIC",)`` for ``ru``.

    Raises:
        InputError: no script is known for this code.
    """
    primary, *others = language.lower().replace("_", "-").split("-")
    written = [names for code, (names, _) in _SCRIPTS.items() if code in others]
    written = written or [names for names, languages in _SCRIPTS.values() if primary in languages.split()]
    if not written:
        what = f'the rule script knows no script for the language "{language}"'
        raise InputError(
            what, where="task.clean", fix=f"Add its script to the code, such as {language}_Latn or {language}_Cyrl."
        )
    return tuple(name for names in written for name in names)


def _has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))


def _unequal(ratio: float, source: str, target: str) -> bool:
    short, long = sorted((_length(source), _length(target)))
    return long > ratio * short


def _length(text: str) -> int:
    text = text.strip()
    return len(text) if text.isascii() else len(text) + len(_DENSE.findall(text)) + len(_CHINESE.findall(text))


def _is_in(scripts: tuple[str, ...], text: str, other: str) -> bool:
    if all(_script(letter) in scripts for letter in set(filter(str.isalpha, text))):
        return True
    # Words and not letters, so that one long foreign name does not outweigh a few Chinese characters around it.
    everything, copied = words(text), set(words(other))
    own = [word for word in everything if word not in copied]
    # A name may carry an ending in the right script: one letter is enough.
    found = [{_script(letter) for letter in word if letter.isalpha()} for word in own or everything]
    return 2 * sum(not part.isdisjoint(scripts) for part in found if part) >= sum(map(bool, found))


@functools.cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "")
    # HALFWIDTH KATAKANA LETTER A; KATAKANA-HIRAGANA PROLONGED SOUND MARK
    return re.split("[ -]", name.removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH "))[0]


class _Seen:
    """Whether a pair stood before; keeps eight bytes of each."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __call__(self, source: str, target: str) -> bool:
        text = "\n".join(" ".join(side.split()) for side in (source, target))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest in self._digests:
            return True
        self._digests.add(digest)
        return False
