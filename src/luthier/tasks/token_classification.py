"""Token classification: entities in a text, from tagged words or from character spans.

Two raw records of the same, and the feature that they become for a BERT with classes (O, B-LOC, I-LOC):

    {"tokens": ["In", "Ulaanbaatar"], "tags": ["O", "B-LOC"]}
    {"text": "In Ulaanbaatar", "spans": [{"start": 3, "end": 14, "label": "LOC"}]}
    Feature(arrays={"input_ids": [101, 1999, 17359, 14634, 3676, 6790, 2099, 102], "token_type_ids": [0, ...],
                    "labels": [-100, 0, 1, -100, -100, -100, -100, -100]},
            facts={"words": [-1, 0, 1, -1, -1, -1, -1, -1]})
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.heads import IGNORED, TokenHead
from luthier.metrics import classification as metrics
from luthier.metrics.spans import KINDS, OUTSIDE, SCHEMES, Span, error_kinds, span_counts, tag_parts
from luthier.tasks.tagged_text import INSIDE_WORD, TaggedText, entities_of, entity_record, from_text, from_tokens, tags_of
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Mark, Output, Prediction, Table, Task, learned
from luthier.tokenizer import Tokenizer, WordTokens


@dataclass(frozen=True)
class TokenClassification(Task[TaggedText]):
    """See the module.

    Attributes:
        stride: tokens that neighbouring windows of a long text share, at most half a window.
        labels: learned, the names of the classes: ``O``, and ``B-X`` and ``I-X`` of each label.
        scheme: learned, the scheme in which the tags of most rows are written; empty without tags. All are read alike.
    """

    name: ClassVar[str] = "token-classification"
    headline: ClassVar[str] = "f1"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("tokens", False, "the words, a list", ("words",)),
        Column("text", False, "the text, where there are no words", ("sentence",)),
        Column("tags", False, "a tag for each word: IOB1, IOB2, BIOES or BILOU", ("ner_tags", "labels"), gold=True),
        Column(
            "spans",
            False,
            "the entities of the text: a list of {start, end, label} or [start, end, label]",
            ("entities",),
            gold=True,
        ),
    )

    stride: int = 64
    labels: tuple[str, ...] = learned(())
    scheme: str = learned("")

    def __post_init__(self) -> None:
        if self.stride < 0:
            raise ValueError(f"stride is {self.stride}; it must be 0 or more tokens")

    @property
    def head(self) -> TokenHead:
        return TokenHead(len(self.labels), labels=self.labels)

    def parse(self, row: Row) -> TaggedText:
        if row.get("tokens") is not None and (row.get("tags") is not None or row.get("text") is None):
            return from_tokens(row)
        if row.get("text") is None:
            fix = "Name the column: data.columns.tokens=COLUMN or data.columns.text=COLUMN"
            raise row.error("there are neither tokens nor a text", fix=fix)
        if row.get("tags") is not None:
            raise row.error("there are tags, but no tokens that they belong to", column="tags")
        return from_text(row)

    def fit(self, examples: Iterable[TaggedText]) -> Self:
        labels: set[str] = set()
        schemes: Counter[str] = Counter()
        for example in examples:
            labels.update(label for _, _, label in example.entities or ())
            schemes.update(_schemes(example))
        if not labels:
            what = "there is no entity in any row, so there is nothing to learn"
            raise InputError(what, where="data.train", fix="Is this the right column of tags?")
        classes = [f"{prefix}-{label}" for label in sorted(labels) for prefix in "BI"]
        return replace(self, labels=(OUTSIDE, *classes), scheme=_most(schemes))

    def adopt(self, config: Mapping[str, Any]) -> Self:
        """Take over the names of the classes; one without a prefix (``PER``) means any word inside.

        Raises:
            InputError: none of them is ``O``: this is no tagger, or its classes have no names.
        """
        names = config.get("id2label") or {}
        found = [str(names[key]) for key in sorted(names, key=int)]
        if OUTSIDE not in found:
            what = f'no class of the model is "O" (found: {", ".join(found[:6]) or "none"})'
            raise InputError(what, where="config.json: id2label", fix="Give a model that was tuned to tag entities.")
        return replace(self, labels=tuple(_as_tag(name) for name in found))

    def encode(self, examples: Sequence[TaggedText], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        room = self.limit(tokenizer) - tokenizer.num_special()
        sentences = [[example.text[start:end] for start, end in example.words] for example in examples]
        classes = {tag: index for index, tag in enumerate(self.labels)}
        encoded = []
        for example, tokens in zip(examples, tokenizer.tokenize_words(sentences), strict=True):
            targets = self._targets(example, classes) if gold else None
            encoded.append(_features(tokens, targets, tokenizer, room=room, overlap=min(self.stride, room // 2)))
        return encoded

    @staticmethod
    def _targets(example: TaggedText, classes: Mapping[str, int]) -> np.ndarray:
        """Return the class of each word, IGNORED for labels that training has not seen; int32 [words]."""
        return np.asarray([classes.get(tag, IGNORED) for tag in tags_of(example)], dtype=np.int32)

    def decode(self, example: TaggedText, outputs: list[Output]) -> Prediction:
        tags = [OUTSIDE] * len(example.words)
        scores = [0.0] * len(example.words)
        for output in outputs:
            words = output.feature.facts["words"]
            places = np.flatnonzero(words >= 0)
            logits = output.logits[places].astype(np.float64)
            best = logits.argmax(axis=-1)
            # The softmax of the best class alone.
            sums = np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)
            for word, index, total in zip(words[places].tolist(), best.tolist(), sums.tolist(), strict=True):
                tags[word], scores[word] = self.labels[index], 1 / total
        return entities_of(example, tags, scores)

    def measure(self, example: TaggedText, prediction: Prediction) -> Counts:
        gold, found = example.entities or (), _spans(prediction)
        errors = {f"~error/{kind}": float(count) for kind, count in error_kinds(gold, found).items()}
        return {**span_counts(gold, found), **errors}

    def summarize(self, total: Counts) -> dict[str, float]:
        precision, recall, f1 = metrics.micro(total)
        return {"f1": f1, "precision": precision, "recall": recall, "macro_f1": metrics.macro_f1(total)}

    def tables(self, total: Counts) -> Sequence[Table]:
        rows = []
        counts = metrics.by_label(total)
        for label in [*self._names, *sorted(counts.keys() - set(self._names))]:
            tp, fp, fn = counts.get(label, (0.0, 0.0, 0.0))
            precision, recall = metrics.ratio(tp, tp + fp), metrics.ratio(tp, tp + fn)
            rows.append((label, precision, recall, metrics.f1(tp, fp, fn), int(tp + fn)))
        kinds = tuple((kind, int(total.get(f"~error/{kind}", 0.0))) for kind in KINDS)
        note = (
            "boundary: found with other borders; type: with another label; both: with other borders and another label; "
            "missed: nothing there; spurious: no entity there."
        )
        return (
            Table("By label", ("label", "precision", "recall", "F1", "entities"), tuple(rows)),
            Table("Errors by kind", ("kind", "errors"), kinds, kind="bars", note=note),
        )

    @property
    def _names(self) -> list[str]:
        return sorted({tag_parts(tag)[1] for tag in self.labels} - {""})

    def gold(self, example: TaggedText) -> Any:
        if example.entities is None:
            return None
        return {"entities": [entity_record(example.text, span) for span in example.entities]}

    def identity(self, example: TaggedText) -> tuple[str, str]:
        return example.text, json.dumps(example.entities, ensure_ascii=False)

    def stratum(self, example: TaggedText) -> str:
        return example.entities[0][2] if example.entities else ""

    def excerpt(self, example: TaggedText, prediction: Prediction) -> Excerpt:
        gold, found = set(example.entities or ()), set(_spans(prediction))
        scores = {
            span: entity.get("score", 1.0) for span, entity in zip(_spans(prediction), prediction["entities"], strict=True)
        }
        severity = len(gold - found) + sum(scores[span] for span in found - gold)
        kinds = (("both", gold & found), ("gold", gold - found), ("predicted", found - gold))
        marks = [Mark(*span, kind) for kind, spans in kinds for span in spans]  # type: ignore[arg-type]
        errors = ", ".join(f"{count} {kind}" for kind, count in error_kinds(gold, found).items())
        return Excerpt(
            example.text,
            _listed(example.text, gold),
            _listed(example.text, found),
            severity,
            tuple(sorted(marks, key=lambda mark: (mark.start, mark.end, mark.kind))),
            note=errors,
        )

    def question(self, text: str) -> Row:
        return Row({"text": text}, file="<text>", line=1)

    def notes(self, examples: Iterable[TaggedText], split: str) -> Sequence[str]:
        known = set(self._names)
        unknown: Counter[str] = Counter()
        schemes: Counter[str] = Counter()
        inside = 0
        for example in examples:
            unknown.update(label for _, _, label in example.entities or () if label not in known)
            schemes.update(_schemes(example))
            inside += INSIDE_WORD in example.remark
        notes = [
            f'{split}: the label "{label}" of {count} entities is unknown to training; they count as missed.'
            for label, count in unknown.most_common()
        ]
        scheme = _most(schemes)
        if self.scheme and scheme and schemes[self.scheme] < schemes[scheme]:
            notes.append(f"{split}: the tags are written in {scheme}, those of training in {self.scheme}; both are read.")
        if inside:
            notes.append(
                f"{split}: in {inside} rows an entity begins or ends inside a word; prediction will not cut words there."
            )
        return notes

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.token_classification import MostFrequentTag

        return (MostFrequentTag(),)


def _spans(prediction: Prediction) -> list[Span]:
    return [(entity["start"], entity["end"], entity["label"]) for entity in prediction["entities"]]


def _schemes(example: TaggedText) -> Sequence[str]:
    """Return the schemes that a row speaks for: rows without an entity speak for none."""
    return example.schemes or () if example.entities else ()


def _most(schemes: Mapping[str, int]) -> str:
    return max(SCHEMES, key=lambda scheme: schemes.get(scheme, 0)) if schemes else ""


def _listed(text: str, spans: Iterable[Span]) -> str:
    return ", ".join(f"{text[start:end]} ({label})" for start, end, label in sorted(spans)) or "none"


def _as_tag(name: str) -> str:
    try:
        tag_parts(name)
    except ValueError:
        return f"I-{name}"
    return name


def _features(
    tokens: WordTokens, targets: np.ndarray | None, tokenizer: Tokenizer, *, room: int, overlap: int
) -> list[Feature]:
    """Return the windows of one text; ``targets`` holds the class of each word."""
    firsts = np.flatnonzero(np.diff(tokens.words, prepend=-1))
    windows = _windows(firsts, len(tokens), room=room, overlap=overlap)
    owners = _owners(firsts, windows)
    features = []
    for number, (start, end, cut) in enumerate(windows):
        joined = tokenizer.join(tokens.ids[start:end])
        places = firsts[owners == number]
        words = np.full(len(joined.arrays["input_ids"]), -1, dtype=np.int32)
        words[places - start + joined.first] = tokens.words[places]
        arrays = joined.arrays
        if targets is not None:
            labels = np.full(len(words), IGNORED, dtype=np.int32)
            labels[places - start + joined.first] = targets[tokens.words[places]]
            arrays = {**arrays, "labels": labels}
        features.append(Feature(arrays, {"words": words}, cut=cut))
    return features


def _windows(firsts: np.ndarray, length: int, *, room: int, overlap: int) -> list[tuple[int, int, int]]:
    """Return windows (start, end, tokens cut) of at most ``room`` tokens, with borders at word starts.

    Neighbours share up to ``overlap`` tokens, fewer where the next word would not fit otherwise. Of a word
    longer than a window the rest is cut.

    Args:
        firsts: the first token of each word, ascending.
        length: the number of tokens.
    """
    if length <= room:
        return [(0, length, 0)]
    borders = np.append(firsts, length)
    windows: list[tuple[int, int, int]] = []
    start = 0
    while True:
        border = int(borders[np.searchsorted(borders, start + room, side="right") - 1])
        if border > start:
            windows.append((start, border, 0))
        else:
            border = int(borders[np.searchsorted(borders, start, side="right")])
            windows.append((start, start + room, border - start - room))
        if border == length:
            return windows
        following = int(borders[np.searchsorted(borders, border, side="right")])
        earliest = min(border, max(border - overlap, following - room))
        start = int(borders[np.searchsorted(borders, earliest)])


def _owners(firsts: np.ndarray, windows: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return for each word the window that sees it with the most context on its poorer side; int [words]."""
    owners = np.zeros(len(firsts), dtype=np.int64)
    if len(windows) == 1:
        return owners
    best = np.full(len(firsts), -1)
    for number, (start, end, _) in enumerate(windows):
        inside = slice(*np.searchsorted(firsts, (start, end)))
        context = np.minimum(firsts[inside] - start, end - 1 - firsts[inside])
        better = context > best[inside]
        owners[inside] = np.where(better, number, owners[inside])
        best[inside] = np.maximum(best[inside], context)
    return owners
