"""Gold answers of extractive question answering: read in every form that data sets use, and checked.

An answer's text must stand in the context at its offset (code points). Where it does not, the offset is
repaired: to the only place where the text stands, or else to the nearest within 50 characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.data.rows import Row

NEAR = 50
"""Code points that a wrong offset may be away from the text, where that stands several times."""
REPAIRED = "answer offset repaired"
GUESSED = "answer without an offset stands several times: the first place is taken"
DROPPED = "a reference answer that does not stand in the context is left out"
CONTRADICTED = "marked as impossible: its answer is left out"

Answers = tuple[tuple[int, str], ...]
_Given = list[tuple[str, int | None]]
_WORDS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


def read_answers(row: Row, context: str) -> tuple[Answers | None, str]:
    """Return ((start, text), ...) of the gold answers, and a remark for the ledger.

    None means that the row has no gold; an empty tuple that the question has no answer. Read are ``answers`` as
    ``{text: [...], answer_start: [...]}`` or ``[{text, answer_start}, ...]``, else ``answer`` with ``answer_start``;
    an empty answer, no answer in the list, or ``is_impossible`` mean that there is none.

    Raises:
        RowError: no answer of the row stands in the context, or a value is of no known form.
    """
    given, remark = _given(row)
    if given is None:
        return None, ""
    remarks = [remark] if remark else []
    placed: list[tuple[int, str]] = []
    for text, start in given:
        place, remark = _place(text, start, context)
        if remark and remark not in remarks:
            remarks.append(remark)
        if place is not None:
            placed.append((place, text))
    if given and not placed:
        raise row.error(_misplaced(*given[0], context), column=_column(row))
    return tuple(placed), "; ".join(remarks)


def _place(text: str, start: int | None, context: str) -> tuple[int | None, str]:
    """Return where an answer stands, and a remark where that is not what the row said."""
    if start is not None and start >= 0 and context.startswith(text, start):
        return start, ""
    places = _places(text, context)
    if not places:
        return None, DROPPED
    if start is None:
        return places[0], "" if len(places) == 1 else GUESSED
    nearest = min(places, key=lambda place: abs(place - start))
    if len(places) == 1 or abs(nearest - start) <= NEAR:
        return nearest, REPAIRED
    return None, DROPPED


def _places(text: str, context: str) -> list[int]:
    places = []
    place = context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    return places


def _misplaced(text: str, start: int | None, context: str) -> str:
    shown = text if len(text) <= 40 else text[:39] + "…"
    times = len(_places(text, context))
    if not times:
        return f'the answer "{shown}" does not stand in the context'
    return f'the answer "{shown}" stands {times} times in the context, but not within {NEAR} characters of its offset {start}'


def _given(row: Row) -> tuple[_Given | None, str]:
    """Return (text, offset) pairs as the row gives them, None when it says nothing of an answer; and a remark."""
    impossible = _flag(row)
    pairs = _pairs(row)
    stated = [(text, start) for text, start in pairs or () if text.strip()]
    if impossible:
        return [], CONTRADICTED if stated else ""
    if pairs is None:
        return None, ""
    if impossible is False and not stated:
        raise row.error("it is false, but there is no answer", column="is_impossible")
    return stated, ""


def _flag(row: Row) -> bool | None:
    """Return ``is_impossible``; None where the row does not say."""
    value = row.get("is_impossible")
    if value is None or value == "":
        return None
    known = _WORDS.get(str(value).strip().lower())
    if known is None:
        raise row.error(f"found {value!r}, expected true or false", column="is_impossible")
    return known


def _column(row: Row) -> str:
    return "answers" if row.get("answers") is not None else "answer"


def _pairs(row: Row) -> _Given | None:
    answers = _unwrapped(row.get(_column(row)))
    if answers is None:
        return None
    if isinstance(answers, str):
        answers = {"text": answers, "answer_start": row.get("answer_start")}
    if isinstance(answers, Mapping):
        answers = _records(answers, row)
    if not isinstance(answers, list):
        raise row.error(f"found {type(answers).__name__}, expected answers with their text and offset", column=_column(row))
    return [_pair(answer, row) for answer in answers]


def _records(answers: Mapping[str, Any], row: Row) -> list[Mapping[str, Any]]:
    """Turn {text: [...], answer_start: [...]} into a list of records; a single answer may stand without brackets."""
    texts, starts = _unwrapped(answers.get("text")), _unwrapped(answers.get("answer_start"))
    if isinstance(texts, str):
        texts, starts = [texts], starts if isinstance(starts, list) else [starts]
    if (
        not isinstance(texts, list)
        or not isinstance(starts, list | None)
        or len(texts) != len(texts if starts is None else starts)
    ):
        raise row.error("expected {text: [...], answer_start: [...]} of one length", column=_column(row))
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts or [None] * len(texts), strict=True)]


def _pair(answer: Any, row: Row) -> tuple[str, int | None]:
    text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, Mapping) else (answer, None)
    if not isinstance(text, str):
        raise row.error(f"found {type(text).__name__}, expected the text of an answer", column=_column(row))
    return text, _offset(start, row)


def _offset(value: Any, row: Row) -> int | None:
    """Return an offset; a table with empty cells writes 12 as 12.0."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (ValueError, TypeError):
        number = 0.5
    if isinstance(value, bool) or not number.is_integer():
        raise row.error(f"found {value!r}, expected a whole number", column="answer_start")
    return int(number)


def _unwrapped(value: Any) -> Any:
    """Return arrays of NumPy, which a data frame holds, as lists."""
    return value.tolist() if hasattr(value, "tolist") else value
