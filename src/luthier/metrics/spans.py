"""Entities as spans: tag schemes, and entity-level counts as seqeval and conlleval count them.

A span is (start, end, label), end exclusive: in words for tags, in code points for texts. The spans of one row
do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[int, int, str]

OUTSIDE = "O"
KINDS = ("boundary", "type", "missed", "spurious")

_BEGIN = "BSU"
_END = "ELSU"
_PREFIXES = "BIMELSU"


def tag_parts(tag: str) -> tuple[str, str]:
    """Return (prefix, label) of a tag: ``("B", "PER")``; ``("O", "")`` outside.

    Prefixes: B, I, and of BIOES, BILOU and BMES also M (inside), E and L (last), S and U (single). A prefix
    alone has the label ``_``, as in seqeval.

    Raises:
        ValueError: the tag is of none of these schemes.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, label = tag[:1], tag[1:2], tag[2:]
    if prefix in _PREFIXES and prefix and dash in ("", "-"):
        if label:
            return prefix, label
        if not dash:
            return prefix, "_"
    raise ValueError(tag)


def spans_of_tags(tags: Sequence[str]) -> list[Span]:
    """Return the entities of a sequence of tags, in words.

    Read as conlleval and seqeval (default mode) do, so that no scheme needs to be named: an entity begins at B, S or U,
    where the label changes, and after O, E, L, S or U; it ends where another one or O begins, and after E, L, S or U.

    Raises:
        ValueError: a tag is of no known scheme; its argument is the tag.
    """
    spans: list[Span] = []
    start, open_label = 0, ""
    for index, tag in enumerate(tags):
        prefix, label = (OUTSIDE, "") if tag == OUTSIDE else tag_parts(tag)
        if open_label and (label != open_label or prefix in _BEGIN):
            spans.append((start, index, open_label))
            open_label = ""
        if label and not open_label:
            start, open_label = index, label
        if open_label and prefix in _END:
            spans.append((start, index + 1, open_label))
            open_label = ""
    if open_label:
        spans.append((start, len(tags), open_label))
    return spans


def tags_of_spans(spans: Iterable[Span], num_words: int) -> list[str]:
    """Return the IOB2 tags of entities in words."""
    tags = [OUTSIDE] * num_words
    for start, end, label in spans:
        tags[start] = f"B-{label}"
        tags[start + 1 : end] = [f"I-{label}"] * (end - start - 1)
    return tags


def span_counts(gold: Iterable[Span], predicted: Iterable[Span]) -> dict[str, float]:
    """Return one row's ``tp/LABEL``, ``fp/LABEL`` and ``fn/LABEL``: an entity is right when borders and label are."""
    wanted, found = set(gold), set(predicted)
    counts: dict[str, float] = {}
    for kind, spans in (("tp", wanted & found), ("fp", found - wanted), ("fn", wanted - found)):
        for _, _, label in spans:
            counts[f"{kind}/{label}"] = counts.get(f"{kind}/{label}", 0.0) + 1.0
    return counts


def error_kinds(gold: Iterable[Span], predicted: Iterable[Span]) -> dict[str, int]:
    """Return how many errors of each kind a row has; kinds without any are left out.

    Each gold entity that was not found counts once: ``boundary`` where a predicted one with its label overlaps it,
    else ``type`` where one with another label does, else ``missed``. A predicted entity that overlaps no gold one
    is ``spurious``.
    """
    wanted, found = set(gold), set(predicted)
    counts = dict.fromkeys(KINDS, 0)
    for start, end, label in wanted - found:
        labels = {other for left, right, other in found if left < end and right > start}
        counts["boundary" if label in labels else "type" if labels else "missed"] += 1
    for start, end, _ in found - wanted:
        counts["spurious"] += not any(left < end and right > start for left, right, _ in wanted)
    return {kind: count for kind, count in counts.items() if count}
