"""Gold answers of extractive question answering: read in every form that data sets use, and checked.

An answer's text must stand in the context at its offset (code points). Where it does not, the offset is
repaired: to the only place where the text stands, or else to the nearest within 50 characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.data.rows import Row

_NEAR = 50
REPAIRED = "answer offset repaired"
GUESSED = "answer without an offset: the first place in the context is taken"
DROPPED = "a reference answer that does not stand in the context was left out"


def read_answers(row: Row, context: str) -> tuple[tuple[tuple[int, str], ...] | None, str]:
    """Return ((start, text), ...) of the gold answers, and a remark for the ledger.

    None means that the row has no gold; an empty tuple that it has no answer.

    Raises:
        RowError: no answer of the row stands in the context.
    """
    given = _given(row)
    if given is None:
        return None, ""
    remarks: list[str] = []
    placed: list[tuple[int, str]] = []
    for text, start in given:
        place, remark = _place(text, start, context)
        if remark and remark not in remarks:
            remarks.append(remark)
        if place is not None:
            placed.append((place, text))
    if given and not placed:
        text, start = given[0]
        at = "" if start is None else f" at {start}"
        raise row.error(f'the answer "{_short(text)}" does not stand in the context{at}, nor once, nor near', column="answers")
    return tuple(placed), "; ".join(remarks)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _place(text: str, start: int | None, context: str) -> tuple[int | None, str]:
    """Return where an answer stands, and a remark where that is not what the row said."""
    if start is not None and start >= 0 and context.startswith(text, start):
        return start, ""
    first = context.find(text)
    if first < 0:
        return None, DROPPED
    only = context.find(text, first + 1) < 0
    if start is None:
        return first, "" if only else GUESSED
    if only:
        return first, REPAIRED
    places = []
    while first >= 0:
        places.append(first)
        first = context.find(text, first + 1)
    nearest = min(places, key=lambda place: (abs(place - start), place))
    return (nearest, REPAIRED) if abs(nearest - start) <= _NEAR else (None, DROPPED)


def _given(row: Row) -> list[tuple[str, int | None]] | None:
    """Return (text, offset) pairs as the row gives them; None when it says nothing of an answer."""
    answers = row.get("answers")
    if answers is None and "answer" in row and row["answer"] is not None:
        answers = [{"text": row["answer"], "answer_start": row.get("answer_start")}]
    if answers is None:
        return [] if _flag(row.get("is_impossible")) else None
    if _flag(row.get("is_impossible")):
        return []
    pairs = _pairs(answers, row)
    return [(text, start) for text, start in pairs if text.strip()]


def _flag(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "1", "yes")) or value == 1


def _pairs(answers: Any, row: Row) -> list[tuple[str, int | None]]:
    if isinstance(answers, str):
        return [(answers, _offset(row.get("answer_start"), row))]
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, list) or (starts is not None and (not isinstance(starts, list) or len(starts) != len(texts))):
            raise row.error("expected {text: [...], answer_start: [...]} of one length", column="answers")
        answers = [
            {"text": text, "answer_start": start} for text, start in zip(texts, starts or [None] * len(texts), strict=True)
        ]
    if not isinstance(answers, list):
        raise row.error(f"found {type(answers).__name__}, expected answers with their text and offset", column="answers")
    pairs = []
    for answer in answers:
        text = answer.get("text") if isinstance(answer, Mapping) else answer
        if not isinstance(text, str):
            raise row.error(f"found {type(text).__name__}, expected the text of an answer", column="answers")
        pairs.append((text, _offset(answer.get("answer_start"), row) if isinstance(answer, Mapping) else None))
    return pairs


def _offset(value: Any, row: Row) -> int | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        return int(value)
    except (ValueError, TypeError):
        raise row.error(f"found {value!r}, expected a whole number", column="answer_start") from None
