"""Extractive question answering: the answer is a stretch of the context, or there is none.

A raw record, and the feature that it becomes for a BERT; the labels are the first and last token of the answer:

    {"question": "Who sings?", "context": "Ada sings.", "answers": {"text": ["Ada"], "answer_start": [0]}}
    Feature(arrays={"input_ids": [101, 2040, 10955, 1029, 102, 15262, 10955, 1012, 102], "labels": [5, 5], ...},
            facts={"starts": [-1, -1, -1, -1, -1, 0, 4, 9, -1], "ends": [-1, -1, -1, -1, -1, 3, 9, 10, -1]})

A long context becomes several windows that overlap; a window without the whole answer points at its first token,
which also stands for "no answer" (Devlin et al., 2019). Where no window holds the answer whole, nothing is learned
from the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.heads import IGNORED, SpanHead
from luthier.metrics import squad
from luthier.metrics.classification import ratio
from luthier.tasks.answers import Answers, read_answers
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Mark, Output, Prediction, Table, Task, learned
from luthier.tokenizer import Tokenizer, Tokens

_CANDIDATES = 20
"""Spans that share the probability, as in BERT's own script."""
_SURE = 1e9
"""The null score where there is no span to compare with: JSON has no infinity."""
_AROUND = 120
"""Characters shown on either side of an answer."""
_QUESTION_WORDS = ("who", "what", "when", "where", "why", "how", "which", "other")
_ASKING = re.compile(
    r"(?P<who>\b(?:who|whose|whom)\b|谁|哪位|哪个人|何人)"
    r"|(?P<when>\bwhen\b|什么时候|什么时间|何时|几时|哪年|哪一年|哪天|哪一天)"
    r"|(?P<where>\bwhere\b|什么地方|哪里|哪儿|何处|何地)"
    r"|(?P<why>\bwhy\b|为什么|为何)"
    r"|(?P<how>\bhow\b|怎么|怎样|如何|多少|多[大长高远久重深快]|几(?!乎))"
    r"|(?P<which>\bwhich\b|哪|何种)"
    r"|(?P<what>\bwhat\b|什么|何物|啥)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class QuestionExample:
    """A question and its context.

    Attributes:
        answers: (start, text) of each reference, in code points; empty: there is no answer; None: no gold.
        remark: what was repaired in reading the answers, for the ledger.
    """

    question: str
    context: str
    answers: Answers | None = None
    remark: str = ""

    @property
    def references(self) -> list[str]:
        return [text for _, text in self.answers or ()]


@dataclass(frozen=True)
class QuestionAnswering(Task[QuestionExample]):
    """See the module.

    A prediction is {answer, start, end, score, null_score, n_best}. ``start`` and ``end`` are None, and the answer is
    empty, where there is none. ``score`` is a probability over the best spans and, where the task knows of questions
    without an answer, over "no answer". ``null_score`` is the log odds of "no answer" against the best answer: the
    difference of their logits. Each of ``n_best`` is {answer, start, end, score}, best first, never "no answer".

    Attributes:
        stride: tokens of overlap between windows; at most half of a window's room for the context.
        max_answer_tokens: the longest answer that is predicted.
        n_best: answers listed in a prediction, at most 20.
        has_no_answer: learned: whether questions without an answer occur. Without them there is always an answer.
        null_threshold: learned on validation: there is no answer when the null score is above it.
    """

    name: ClassVar[str] = "question-answering"
    headline: ClassVar[str] = "f1"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("question", True, "the question", ("query",)),
        Column("context", True, "the passage that holds the answer", ("passage", "paragraph")),
        Column("answers", False, "the answers with their offsets, as in SQuAD", gold=True),
        Column("answer", False, "the answer's text; empty: there is no answer", ("answer_text",), gold=True),
        Column("answer_start", False, "the answer's offset in code points", gold=True),
        Column("is_impossible", False, "whether the passage does not tell", gold=True),
    )

    stride: int = 128
    max_answer_tokens: int = 30
    n_best: int = 5
    has_no_answer: bool = learned(False)
    null_threshold: float = learned(0.0)

    def __post_init__(self) -> None:
        if self.stride < 0:
            raise ValueError(f"stride is {self.stride}; it must be 0 or more tokens")
        if self.max_answer_tokens < 1:
            raise ValueError(f"max_answer_tokens is {self.max_answer_tokens}; it must be 1 or more")
        if not 1 <= self.n_best <= _CANDIDATES:
            raise ValueError(f"n_best is {self.n_best}; it must be from 1 to {_CANDIDATES}")

    @property
    def head(self) -> SpanHead:
        return SpanHead()

    def limit(self, tokenizer: Tokenizer) -> int:
        return tokenizer.limit_for(self.max_tokens, default=384)

    def parse(self, row: Row) -> QuestionExample:
        question, context = row.text("question").strip(), row.text("context")
        answers, remark = read_answers(row, context)
        return QuestionExample(question, context, answers, remark)

    def fit(self, examples: Iterable[QuestionExample]) -> Self:
        answered = unanswered = False
        for example in examples:
            answered = answered or bool(example.answers)
            unanswered = unanswered or example.answers == ()
        if not answered:
            fix = "Is the column of the answers mapped? See data.columns."
            raise InputError("no question has an answer, so there is nothing to learn", where="data.train", fix=fix)
        return replace(self, has_no_answer=unanswered)

    def adopt(self, config: Mapping[str, Any]) -> Self:
        """A config does not say whether the model was trained on questions without an answer.

        Models that were not score "no answer" low, so it is allowed.
        """
        return replace(self, has_no_answer=True)

    def encode(self, examples: Sequence[QuestionExample], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        limit = self.limit(tokenizer)
        contexts = list(dict.fromkeys(example.context for example in examples))
        tokens = dict(zip(contexts, tokenizer.tokenize(contexts), strict=True))
        questions = tokenizer.ids_of([example.question for example in examples])
        encoded = []
        for example, question in zip(examples, questions, strict=True):
            context = tokens[example.context]
            room = limit - tokenizer.num_special(pair=True)
            asked = question[: room // 2]
            windows = self._windows(room - len(asked), len(context))
            features = [_window(asked, context, window, tokenizer) for window in windows]
            if gold:
                features = _labelled(features, example, context, windows)
            features[0] = replace(features[0], cut=len(question) - len(asked))
            encoded.append(features)
        return encoded

    def _windows(self, size: int, length: int) -> list[tuple[int, int]]:
        """Return the first and the end token of each window over a context."""
        step = size - min(self.stride, size // 2)
        windows = [(0, min(size, length))]
        while windows[-1][1] < length:
            start = windows[-1][0] + step
            windows.append((start, min(start + size, length)))
        return windows

    def decode(self, example: QuestionExample, outputs: list[Output]) -> Prediction:
        null = min((float(output.logits[:, 0].sum()) for output in outputs), default=0.0)
        best = self._best(example.context, outputs)
        logits = np.asarray([logit for logit, _, _ in best] + ([null] if self.has_no_answer or not best else []))
        weights = np.exp(logits - logits.max())
        shares = [round(float(share), 6) for share in weights / weights.sum()]
        n_best = [
            {"answer": example.context[start:end], "start": start, "end": end, "score": share}
            for (_, start, end), share in zip(best[: self.n_best], shares, strict=False)
        ]
        # Rounded before it is compared: the threshold is learned from the rounded number.
        null_score = round(null - best[0][0], 6) if best else _SURE
        chosen: Prediction = {"answer": "", "start": None, "end": None, "score": shares[-1]}
        if best and not (self.has_no_answer and null_score > self.null_threshold):
            chosen = n_best[0]
        return {**chosen, "null_score": null_score, "n_best": n_best}

    def _best(self, context: str, outputs: Iterable[Output]) -> list[tuple[float, int, int]]:
        """Return (logit, start, end) of the best spans over all windows, in characters, white space trimmed."""
        best: dict[tuple[int, int], float] = {}
        spans = [span for output in outputs for span in self._spans(output)]
        for logit, start, end in sorted(spans, key=lambda span: (-span[0], span[1], span[2])):
            text = context[start:end]
            start += len(text) - len(text.lstrip())
            if text.strip():
                best.setdefault((start, start + len(text.strip())), logit)
            if len(best) == _CANDIDATES:
                break
        return [(logit, start, end) for (start, end), logit in best.items()]

    def _spans(self, output: Output) -> list[tuple[float, int, int]]:
        """Return (logit, start, end) in characters of one window's best spans."""
        starts, ends = output.feature.facts["starts"], output.feature.facts["ends"]
        inside = np.flatnonzero(ends > starts)
        if not len(inside):
            return []
        reach = min(self.max_answer_tokens, len(inside))
        lasts = np.append(output.logits[1, inside], np.full(reach - 1, -np.inf, dtype=np.float32))
        scores = output.logits[0, inside][:, None] + np.lib.stride_tricks.sliding_window_view(lasts, reach)
        top = min(_CANDIDATES, scores.size)
        chosen = np.argpartition(scores, scores.size - top, axis=None)[-top:]
        chosen = chosen[np.isfinite(scores.ravel()[chosen])]
        firsts, lengths = np.divmod(chosen, reach)
        begins, finishes = starts[inside[firsts]], ends[inside[firsts + lengths]]
        return list(zip(scores.ravel()[chosen].tolist(), begins.tolist(), finishes.tolist(), strict=True))

    def measure(self, example: QuestionExample, prediction: Prediction) -> Counts:
        exact, f1 = self._score(example, prediction["answer"])
        counts = {"n": 1.0, "exact": exact, "f1": f1}
        if self.has_no_answer:
            kind = self.stratum(example)
            counts |= {f"n/{kind}": 1.0, f"exact/{kind}": exact, f"f1/{kind}": f1}
        word = question_word(example.question)
        return counts | {f"~n/{word}": 1.0, f"~exact/{word}": exact, f"~f1/{word}": f1}

    def _score(self, example: QuestionExample, answer: str) -> tuple[float, float]:
        return squad.score(answer, example.references, no_answer=self.has_no_answer)

    def summarize(self, total: Counts) -> dict[str, float]:
        n = total.get("n", 0.0)
        metrics = {"f1": ratio(total.get("f1", 0.0), n), "exact_match": ratio(total.get("exact", 0.0), n)}
        if self.has_no_answer:
            metrics["has_answer_f1"] = ratio(total.get("f1/answerable", 0.0), total.get("n/answerable", 0.0))
            metrics["no_answer_accuracy"] = ratio(total.get("exact/unanswerable", 0.0), total.get("n/unanswerable", 0.0))
        return metrics

    def calibrate(self, scored: Iterable[tuple[QuestionExample, Prediction]]) -> Self:
        """Set the threshold with the best F1; it stays as it is where the rows are all of one kind."""
        if not self.has_no_answer:
            return self
        rows = [
            (prediction["null_score"], self._score(example, best["answer"])[1], bool(example.answers))
            for example, prediction in scored
            for best in prediction["n_best"][:1]
        ]
        if len({answerable for _, _, answerable in rows}) < 2:
            return self
        return replace(self, null_threshold=squad.best_threshold(rows))

    def gold(self, example: QuestionExample) -> Any:
        if example.answers is None:
            return None
        return {"answers": [{"text": text, "answer_start": start} for start, text in example.answers]}

    def identity(self, example: QuestionExample) -> tuple[str, str]:
        return f"{example.question}\0{example.context}", next(iter(example.references), "")

    def stratum(self, example: QuestionExample) -> str:
        return "answerable" if example.answers else "unanswerable"

    def notes(self, examples: Iterable[QuestionExample], split: str) -> Sequence[str]:
        if self.has_no_answer:
            return ()
        count = sum(example.answers == () for example in examples)
        if not count:
            return ()
        return (f"{split}: {count} rows have no answer, but every training row has one, so the model always answers them.",)

    def question(self, text: str) -> Row:
        asked, tab, context = text.partition("\t")
        if not tab:
            raise InputError("there is no context", fix="Write the question, a tab, and the passage.")
        return Row({"question": asked, "context": context}, file="<text>", line=1)

    def excerpt(self, example: QuestionExample, prediction: Prediction) -> Excerpt:
        golds = {(start, start + len(text)) for start, text in example.answers or ()}
        found = (prediction["start"], prediction["end"]) if prediction["start"] is not None else None
        spans: dict[tuple[int, int], Any] = {}
        if found:
            spans[found] = "both" if found in golds else "predicted"
        if found not in golds:
            spans |= {(start, start + len(text)): "gold" for start, text in (example.answers or ())[:1]}
        text, marks = _excerpt(example.context, spans)
        wanted = example.references[0] if example.references else "no answer"
        severity = (1 - self._score(example, prediction["answer"])[1]) * (0.5 + prediction["score"])
        return Excerpt(text, wanted, prediction["answer"] or "no answer", severity, marks, example.question)

    def tables(self, total: Counts) -> Sequence[Table]:
        words = [(word, "~", word) for word in _QUESTION_WORDS]
        tables = [_table("By question word", "question word", words, total)]
        if self.has_no_answer:
            kinds = [(kind, "", kind) for kind in ("answerable", "unanswerable")]
            tables.append(_table("By answerability", "question", kinds, total))
        return tables

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.question_answering import BestSentence, NoAnswer

        return (BestSentence(), NoAnswer()) if self.has_no_answer else (BestSentence(),)


def question_word(question: str) -> str:
    """Return who, what, when, where, why, how or which, whichever comes first, in English or Chinese; else ``other``."""
    match = _ASKING.search(question)
    return match.lastgroup or "other" if match else "other"


def _window(asked: np.ndarray, context: Tokens, window: tuple[int, int], tokenizer: Tokenizer) -> Feature:
    """Return one window's feature; its facts hold the characters of each context token, -1 elsewhere."""
    part = slice(*window)
    joined = tokenizer.join(asked, context.ids[part])
    starts = np.full(len(joined.arrays["input_ids"]), -1, dtype=np.int32)
    ends = starts.copy()
    inside = slice(joined.second, joined.second + window[1] - window[0])
    starts[inside], ends[inside] = context.starts[part], context.ends[part]
    return Feature(joined.arrays, {"starts": starts, "ends": ends})


def _labelled(
    features: Sequence[Feature], example: QuestionExample, context: Tokens, windows: Sequence[tuple[int, int]]
) -> list[Feature]:
    """Add the first and last token of the first reference that some window holds whole."""
    whole = [span for span in _token_spans(example, context) if any(low <= span[0] and span[1] < high for low, high in windows)]
    labelled = []
    for feature, (low, high) in zip(features, windows, strict=True):
        labels = (0, 0) if whole or not example.answers else (IGNORED, IGNORED)
        if whole and low <= whole[0][0] and whole[0][1] < high:
            shift = int(np.argmax(feature.facts["starts"] >= 0)) - low
            labels = (whole[0][0] + shift, whole[0][1] + shift)
        arrays = {**feature.arrays, "labels": np.asarray(labels, dtype=np.int32)}
        labelled.append(replace(feature, arrays=arrays))
    return labelled


def _token_spans(example: QuestionExample, context: Tokens) -> list[tuple[int, int]]:
    """Return the first and last context token of each reference that has any."""
    spans = []
    for start, text in example.answers or ():
        touched = np.flatnonzero(
            (context.starts < start + len(text)) & (context.ends > start) & (context.ends > context.starts)
        )
        if len(touched):
            spans.append((int(touched[0]), int(touched[-1])))
    return spans


def _excerpt(context: str, spans: Mapping[tuple[int, int], Any]) -> tuple[str, tuple[Mark, ...]]:
    """Return what stands around some spans, with a mark for each; "…" where something is left out."""
    pieces: list[tuple[int, int]] = []
    for start, end in sorted(spans) or [(0, _AROUND)]:
        low, high = max(0, start - _AROUND), min(len(context), end + _AROUND)
        if pieces and low <= pieces[-1][1]:
            low, high = pieces[-1][0], max(high, pieces.pop()[1])
        pieces.append((low, high))
    text, marks = "", []
    for low, high in pieces:
        text += (" … " if text else "… ") if low else ""
        shift = len(text) - low
        inside = [span for span in spans if low <= span[0] and span[1] <= high]
        marks += [Mark(start + shift, end + shift, "answer", spans[start, end]) for start, end in inside]
        text += context[low:high]
    return text + (" …" if pieces[-1][1] < len(context) else ""), tuple(marks)


def _table(title: str, column: str, rows: Sequence[tuple[str, str, str]], total: Counts) -> Table:
    """Return a table of scores; a row is its name, the prefix and the suffix of its keys."""
    lines = []
    for name, mark, key in rows:
        if n := total.get(f"{mark}n/{key}", 0.0):
            lines.append((name, total[f"{mark}exact/{key}"] / n, total[f"{mark}f1/{key}"] / n, int(n)))
    return Table(title, (column, "exact match", "F1", "rows"), tuple(lines))
