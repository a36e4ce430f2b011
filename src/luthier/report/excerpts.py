"""The worst errors: texts with what they should be, what the model said, and where."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from luthier.report.formats import count, plural
from luthier.report.markup import Html, element, join, user
from luthier.tasks.task import Excerpt, Mark

MAX_EXCERPTS = 50
MAX_CHARACTERS = 2000
_MAX_ANSWER = 300
_OPEN = 8
"""Excerpts shown at once; the rest unfold."""
_LEAD = 500
"""Characters shown before the first mark of a text that must be clipped."""


def draw_excerpts(excerpts: Sequence[Excerpt]) -> Html:
    """Draw the errors, worst first, with the legend of their marks."""
    wrong = [excerpt for excerpt in excerpts if excerpt.severity > 0][:MAX_EXCERPTS]
    if not wrong:
        return element("p", "No error to show: every example that was scored is right.", class_="quiet")
    legend = _legend() if any(excerpt.marks for excerpt in wrong) else Html("")
    shown = element("ol", *(_card(excerpt) for excerpt in wrong[:_OPEN]), class_="excerpts")
    rest = wrong[_OPEN:]
    if not rest:
        return join([legend, shown])
    more = element("ol", *(_card(excerpt) for excerpt in rest), class_="excerpts", start=_OPEN + 1)
    return join([legend, shown, element("details", element("summary", f"{count(len(rest))} more"), more)])


def _card(excerpt: Excerpt) -> Html:
    parts = [element("dl", _answer("gold", excerpt.gold), _answer("predicted", excerpt.predicted))]
    if excerpt.note:
        parts.append(element("p", excerpt.note, class_="quiet", dir="auto"))
    parts.append(element("p", _marked(excerpt.text, excerpt.marks), class_="text", dir="auto"))
    return element("li", *parts)


def _answer(name: str, answer: str) -> Html:
    clipped = answer if len(answer) <= _MAX_ANSWER else answer[:_MAX_ANSWER] + " …"
    value = user(clipped) if clipped else element("span", "(nothing)", class_="quiet")
    return element("div", element("dt", name), element("dd", value, class_=name))


def _legend() -> Html:
    kinds = (("gold", "gold: should have been marked"), ("predicted", "predicted by the model"), ("both", "both agree"))
    items = (element("li", element("span", "text", class_=f"mark {kind}"), f" {meaning}") for kind, meaning in kinds)
    return element("ul", *items, class_="legend")


def _marked(text: str, marks: Sequence[Mark]) -> Html:
    """Return the text, clipped, with its marks; where marks overlap, the stretch carries both."""
    start, end = _window(text, marks)
    inside = [mark for mark in marks if mark.start < end and mark.end > start and mark.start < mark.end]
    edges = sorted({start, end, *(max(start, mark.start) for mark in inside), *(min(end, mark.end) for mark in inside)})
    parts: list[Html] = [_cut(start, "before")]
    for left, right in pairwise(edges):
        kinds = sorted({mark.kind for mark in inside if mark.start <= left and mark.end >= right})
        segment = text[left:right]
        parts.append(element("span", segment, class_=" ".join(["mark", *kinds])) if kinds else join([segment]))
        parts += [_label(mark) for mark in inside if min(end, mark.end) == right and (mark.label or mark.kind != "both")]
    parts.append(_cut(len(text) - end, "after"))
    return join(parts)


def _window(text: str, marks: Sequence[Mark]) -> tuple[int, int]:
    """Return the stretch to show: the start of the text, or from shortly before the first mark where that is far in."""
    if len(text) <= MAX_CHARACTERS:
        return 0, len(text)
    nearest = min((mark for mark in marks if mark.start < mark.end), key=lambda mark: mark.start, default=None)
    start = 0 if nearest is None or nearest.end <= MAX_CHARACTERS - 100 else max(0, nearest.start - _LEAD)
    start = min(start, len(text) - MAX_CHARACTERS)
    return start, start + MAX_CHARACTERS


def _cut(characters: int, side: str) -> Html:
    if characters <= 0:
        return Html("")
    return element("span", f" [… {plural(characters, 'character')} {side} this not shown] ", class_="cut")


def _label(mark: Mark) -> Html:
    words = mark.label if mark.kind == "both" else f"{mark.kind} {mark.label}".rstrip()
    return element("span", words, class_=f"tag {mark.kind}")
