"""Entities as spans: tag schemes, and entity-level counts as seqeval and conlleval count them.

A span is (start, end, label), end exclusive: in words for tags, in code points for texts. The spans of one row
do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

Span = tuple[int, int, str]

OUTSIDE = "O"
KINDS = ("boundary", "type", "both", "missed", "spurious")
SCHEMES = ("IOB2", "IOB1", "BIOES", "BILOU", "BMES")

_BEGIN = "BSU"
_END = "ELSU"
_PREFIXES = "BIMELSU"
# The prefixes of an entity: alone, first, inside, last. In IOB1 one that directly follows another of its label begins with B.
_PATTERNS = {"IOB2": "BBII", "IOB1": "IIII", "BIOES": "SBIE", "BILOU": "UBIL", "BMES": "SBME"}


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


def schemes_of_tags(tags: Sequence[str], spans: Sequence[Span]) -> tuple[str, ...]:
    """Return the SCHEMES in which exactly these tags are written for their entities (see :func:`spans_of_tags`).

    All of them where there is no entity; none where the tags break every scheme, as ``O I-PER B-LOC`` does.
    """
    prefixes = [tag[0] for tag in tags]
    return tuple(scheme for scheme in SCHEMES if _prefixes(spans, len(tags), scheme) == prefixes)


def _prefixes(spans: Sequence[Span], num_words: int, scheme: str) -> list[str]:
    alone, first, inside, last = tuple(_PATTERNS[scheme])
    prefixes = [OUTSIDE] * num_words
    for start, end, _ in spans:
        prefixes[start:end] = alone if end == start + 1 else first + inside * (end - start - 2) + last
    if scheme == "IOB1":
        for (_, end, label), (start, _, other) in pairwise(spans):
            if start == end and other == label:
                prefixes[start] = "B"
    return prefixes


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
    ``type`` where one with its borders has another label, ``both`` where one overlaps it with other borders and
    another label, else ``missed``. A predicted entity that overlaps no gold one is ``spurious``.
    """
    wanted, found = set(gold), set(predicted)
    counts = dict.fromkeys(KINDS, 0)
    for start, end, label in wanted - found:
        near = [span for span in found if span[0] < end and span[1] > start]
        if not near:
            counts["missed"] += 1
        elif any(span[2] == label for span in near):
            counts["boundary"] += 1
        else:
            counts["type" if near[0][:2] == (start, end) else "both"] += 1
    for start, end, _ in found - wanted:
        counts["spurious"] += not any(left < end and right > start for left, right, _ in wanted)
    return {kind: count for kind, count in counts.items() if count}
