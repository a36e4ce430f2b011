"""Texts with words and entities: read from rows, written as tags and as predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from luthier.data.rows import Row
from luthier.metrics.spans import Span, schemes_of_tags, spans_of_tags, tags_of_spans
from luthier.tasks.task import Prediction
from luthier.tasks.words import join_words, words_of

INSIDE_WORD = "a span begins or ends inside a word"
TRIMMED = "white space at the borders of a span left out"
NO_SCHEME = "the tags follow no scheme strictly; read as conlleval reads them"


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text with its words and entities.

    Attributes:
        words: (start, end) of each, in code points, ascending.
        entities: (start, end, label), ascending; each begins and ends with a word. None without gold.
        remark: for the ledger.
        schemes: those in which the row's tags are written; None without tags.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    entities: tuple[Span, ...] | None = None
    remark: str = ""
    schemes: tuple[str, ...] | None = field(default=None, compare=False)


def from_tokens(row: Row) -> TaggedText:
    tokens, tags = row["tokens"], row.get("tags")
    if not isinstance(tokens, list) or not tokens:
        raise row.error(f"found {_described(tokens)}, expected a list of words", column="tokens")
    for number, token in enumerate(tokens, 1):
        if not isinstance(token, str) or not token.strip():
            raise row.error(f"word {number} is {_described(token)}, expected text", column="tokens")
    text, words = join_words(tokens)
    if tags is None:
        return TaggedText(text, words)
    if not isinstance(tags, list):
        raise row.error(f"found {_described(tags)}, expected a list of tags", column="tags")
    if len(tags) != len(tokens):
        raise row.error(f"{len(tags)} tags for {len(tokens)} tokens", column="tags")
    for number, tag in enumerate(tags, 1):
        if not isinstance(tag, str):
            raise row.error(f"tag {number} is {_described(tag)}, expected a name such as B-PER", column="tags")
    try:
        spans = spans_of_tags(tags)
    except ValueError as error:
        what = f'found the tag "{error}", expected O or a name such as B-PER (IOB1, IOB2, BIOES, BILOU)'
        raise row.error(what, column="tags") from error
    entities = tuple((words[start][0], words[end - 1][1], label) for start, end, label in spans)
    schemes = schemes_of_tags(tags, spans)
    return TaggedText(text, words, entities, "" if schemes else NO_SCHEME, schemes)


def from_text(row: Row) -> TaggedText:
    text, spans = row.text("text"), row.get("spans")
    words = words_of(text)
    if spans is None:
        return TaggedText(text, words)
    if not isinstance(spans, list):
        raise row.error(f"found {_described(spans)}, expected a list of {{start, end, label}}", column="spans")
    remarks: dict[str, None] = {}
    entities = sorted(_span(item, text, row, remarks) for item in spans)
    for (start, end, _), (other, _, _) in pairwise(entities):
        if other < end:
            raise row.error(f"the spans at {start} and {other} overlap", column="spans")
    edges = {edge for start, end, _ in entities for edge in (start, end)}
    cut = _cut_words(words, edges)
    if len(cut) != len(words):
        remarks[INSIDE_WORD] = None
    return TaggedText(text, cut, tuple(entities), "; ".join(remarks))


def _span(item: Any, text: str, row: Row, remarks: dict[str, None]) -> Span:
    """Return one span of a row, without white space at its borders."""
    if isinstance(item, list) and len(item) == 3:
        item = dict(zip(("start", "end", "label"), item, strict=True))
    if not isinstance(item, Mapping) or not {"start", "end", "label"} <= item.keys():
        what = f"found {json.dumps(item, default=str)}, expected {{start, end, label}} or [start, end, label]"
        raise row.error(what, column="spans")
    start, end, label = item["start"], item["end"], item["label"]
    if type(start) is not int or type(end) is not int or not isinstance(label, str) or not label.strip():
        raise row.error(f"found {json.dumps(item, default=str)}, expected two whole numbers and a name", column="spans")
    if not 0 <= start < end <= len(text):
        raise row.error(f"the span {start} to {end} does not lie in the text of {len(text)} characters", column="spans")
    stretch = text[start:end]
    if not stretch.strip():
        raise row.error(f"the span {start} to {end} is blank", column="spans")
    if isinstance(item.get("text"), str) and item["text"] != stretch:
        what = f'at {start} to {end} stands "{stretch}", not "{item["text"]}"'
        raise row.error(what, column="spans", fix="Offsets count code points from 0, the end exclusive.")
    trimmed = start + len(stretch) - len(stretch.lstrip()), start + len(stretch.rstrip())
    if trimmed != (start, end):
        remarks[TRIMMED] = None
    return (*trimmed, label.strip())


def _cut_words(words: Sequence[tuple[int, int]], edges: set[int]) -> tuple[tuple[int, int], ...]:
    """Cut words in two where an edge lies inside, so that every entity is a run of words."""
    cut: list[tuple[int, int]] = []
    for start, end in words:
        inside = [edge for edge in range(start + 1, end) if edge in edges]
        cut += zip([start, *inside], [*inside, end], strict=True)
    return tuple(cut)


def _described(value: Any) -> str:
    if isinstance(value, str | list) and not value:
        return "nothing"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, int | float | str) else type(value).__name__


def tags_of(example: TaggedText) -> list[str]:
    """Return the IOB2 tag of each word."""
    first = {start: index for index, (start, _) in enumerate(example.words)}
    last = {end: index + 1 for index, (_, end) in enumerate(example.words)}
    spans = [(first[start], last[end], label) for start, end, label in example.entities or ()]
    return tags_of_spans(spans, len(example.words))


def entities_of(example: TaggedText, tags: Sequence[str], scores: Sequence[float]) -> Prediction:
    """Return a prediction from a tag and a score for each word; an entity's score is the mean over its words."""
    entities = []
    for start, end, label in spans_of_tags(tags):
        span = (example.words[start][0], example.words[end - 1][1], label)
        score = sum(scores[start:end]) / (end - start)
        entities.append({**entity_record(example.text, span), "score": round(score, 6)})
    return {"entities": entities}


def entity_record(text: str, span: Span) -> dict[str, Any]:
    start, end, label = span
    return {"start": start, "end": end, "label": label, "text": text[start:end]}
