"""Extractive question answering: the answer is a stretch of the context, or there is none.

A raw record, and the feature that it becomes for a BERT; labels are the first and last token of the answer:

    {"question": "Who sings?", "context": "Ada sings.", "answers": {"text": ["Ada"], "answer_start": [0]}}
    Feature(arrays={"input_ids": [101, 2040, 10955, 1029, 102, 15262, 10955, 1012, 102], "labels": [5, 5], ...},
            facts={"starts": [-1, -1, -1, -1, -1, 0, 4, 9, -1], "ends": [-1, -1, -1, -1, -1, 3, 9, 10, -1]})

A long context becomes several windows that overlap; a window without the whole answer points at its first token,
which also stands for "no answer" (Devlin et al., 2019). A prediction's ``null_score`` is the log odds of no answer
against the best answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.heads import SpanHead
from luthier.metrics import squad
from luthier.metrics.classification import ratio
from luthier.tasks.answers import read_answers
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Mark, Output, Prediction, Table, Task, learned
from luthier.tokenizer import Tokenizer, Tokens

_CANDIDATES = 20
"""First and last tokens that are combined, as in BERT's own script."""
_SURE = 1e9
"""The null score where there is no candidate at all."""
_AROUND = 150
"""Characters shown on either side of an answer."""
_QUESTION_WORDS = ("who", "what", "when", "where", "why", "how", "which")
_CHINESE_WORDS = {"为什么": "why", "为何": "why", "什么": "what", "何时": "when", "哪里": "where", "哪儿": "where", "谁": "who",
                  "怎么": "how", "如何": "how", "多少": "how", "几": "how", "哪": "which"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class QuestionExample:
    """A question and its context. ``answers``: (start, text) of each reference; empty: no answer; None: no gold."""

    question: str
    context: str
    answers: tuple[tuple[int, str], ...] | None = None
    remark: str = ""

    @property
    def references(self) -> list[str]:
        return [text for _, text in self.answers or ()]


@dataclass(frozen=True)
class QuestionAnswering(Task[QuestionExample]):
    """See the module.

    Attributes:
        stride: tokens of overlap between windows.
        max_answer_tokens: the longest answer that is predicted.
        n_best: answers listed in a prediction.
        has_no_answer: learned: whether questions without an answer occur.
        null_threshold: learned on validation: no answer when null score minus best score is above it.
    """

    name: ClassVar[str] = "question-answering"
    headline: ClassVar[str] = "f1"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("question", True, "the question", ("query",)),
        Column("context", True, "the passage that holds the answer", ("passage", "paragraph")),
        Column("answers", False, "the answers with their offsets, as in SQuAD", gold=True),
        Column("answer", False, "the answer's text", ("answer_text",), gold=True),
        Column("answer_start", False, "the answer's offset in code points", gold=True),
        Column("is_impossible", False, "whether the passage does not tell", gold=True),
    )

    stride: int = 128
    max_answer_tokens: int = 30
    n_best: int = 5
    has_no_answer: bool = learned(False)
    null_threshold: float = learned(0.0)

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
        answered = unanswered = 0
        for example in examples:
            answered += bool(example.answers)
            unanswered += not example.answers
        if not answered:
            raise InputError("no question has an answer, so there is nothing to learn", where="data.train")
        return replace(self, has_no_answer=unanswered > 0)

    def adopt(self, config: Mapping[str, Any]) -> Self:
        return replace(self, has_no_answer=True)

    def encode(self, examples: Sequence[QuestionExample], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        limit = self.limit(tokenizer)
        contexts = list(dict.fromkeys(example.context for example in examples))
        tokens = dict(zip(contexts, tokenizer.tokenize(contexts), strict=True))
        questions = tokenizer.tokenize([example.question for example in examples])
        return [
            self._windows(example, question, tokens[example.context], tokenizer, limit, gold)
            for example, question in zip(examples, questions, strict=True)
        ]

    def _windows(
        self, example: QuestionExample, question: Tokens, context: Tokens, tokenizer: Tokenizer, limit: int, gold: bool
    ) -> list[Feature]:
        room = limit - tokenizer.num_special(pair=True)
        asked = question.ids[: room // 2]
        cut = len(question) - len(asked)
        size = room - len(asked)
        step = max(1, size - min(self.stride, size - 1))
        features = []
        start = 0
        while True:
            end = min(start + size, len(context))
            features.append(self._window(example, asked, context, start, end, tokenizer, cut, gold))
            if end == len(context):
                return features
            start, cut = start + step, 0

    def _window(
        self, example: QuestionExample, asked: np.ndarray, context: Tokens, start: int, end: int, tokenizer: Tokenizer,
        cut: int, gold: bool,
    ) -> Feature:  # fmt: skip
        joined = tokenizer.join(asked, context.ids[start:end])
        length = len(joined.arrays["input_ids"])
        starts, ends = np.full(length, -1, dtype=np.int32), np.full(length, -1, dtype=np.int32)
        inside = slice(joined.second, joined.second + end - start)
        starts[inside], ends[inside] = context.starts[start:end], context.ends[start:end]
        arrays = dict(joined.arrays)
        if gold:
            arrays["labels"] = np.asarray(_labels(example, starts, ends), dtype=np.int32)
        return Feature(arrays, {"starts": starts, "ends": ends}, cut=cut)

    def decode(self, example: QuestionExample, outputs: list[Output]) -> Prediction:
        spans: list[tuple[float, int, int]] = []
        null = min((float(output.logits[0, 0] + output.logits[1, 0]) for output in outputs), default=0.0)
        for output in outputs:
            spans += self._spans(output)
        spans.sort(key=lambda span: (-span[0], span[1], span[2]))
        best: list[tuple[float, int, int]] = []
        seen: set[tuple[int, int]] = set()
        for score, start, end in spans:
            if (start, end) not in seen:
                seen.add((start, end))
                best.append((score, start, end))
            if len(best) == _CANDIDATES:
                break
        return self._prediction(example, best, null)

    def _spans(self, output: Output) -> list[tuple[float, int, int]]:
        """Return (score, start, end) in characters of one window's best spans."""
        starts, ends = output.feature.facts["starts"], output.feature.facts["ends"]
        inside = np.flatnonzero(starts >= 0)
        if not len(inside):
            return []
        begin, finish = output.logits[0, inside], output.logits[1, inside]
        top = min(_CANDIDATES, len(inside))
        first = np.argpartition(-begin, top - 1)[:top]
        last = np.argpartition(-finish, top - 1)[:top]
        length = last[None, :] - first[:, None] + 1
        rows, columns = np.nonzero((length >= 1) & (length <= self.max_answer_tokens))
        scores = begin[first[rows]] + finish[last[columns]]
        return [
            (float(score), int(starts[inside[first[row]]]), int(ends[inside[last[column]]]))
            for score, row, column in zip(scores, rows, columns, strict=True)
        ]

    def _prediction(self, example: QuestionExample, best: Sequence[tuple[float, int, int]], null: float) -> Prediction:
        """Return the prediction; scores are probabilities over the candidates, no answer among them where it may be."""
        logits = np.asarray([score for score, _, _ in best] + ([null] if self.has_no_answer or not best else []))
        weights = np.exp(logits - logits.max())
        shares = weights / weights.sum()
        n_best = [
            {"answer": example.context[start:end], "start": start, "end": end, "score": round(float(share), 6)}
            for (_, start, end), share in zip(best, shares, strict=False)
        ]
        margin = null - best[0][0] if best else _SURE
        common = {"null_score": round(margin, 6), "n_best": n_best[: self.n_best]}
        if not best or (self.has_no_answer and margin > self.null_threshold):
            return {"answer": "", "start": None, "end": None, "score": round(float(shares[-1]), 6), **common}
        return {**n_best[0], **common}

    def measure(self, example: QuestionExample, prediction: Prediction) -> Counts:
        exact, f1 = _scores(example, prediction["answer"])
        answered = bool(example.answers)
        kind = "answerable" if answered else "unanswerable"
        word = question_word(example.question)
        counts = {"n": 1.0, "exact": exact, "f1": f1, f"n/{kind}": 1.0, f"f1/{kind}": f1, f"exact/{kind}": exact}
        return counts | {f"~n/{word}": 1.0, f"~f1/{word}": f1, f"~exact/{word}": exact}

    def summarize(self, total: Counts) -> dict[str, float]:
        n = total.get("n", 0.0)
        metrics = {"f1": ratio(total.get("f1", 0.0), n), "exact_match": ratio(total.get("exact", 0.0), n)}
        if self.has_no_answer:
            answerable, unanswerable = total.get("n/answerable", 0.0), total.get("n/unanswerable", 0.0)
            metrics["answerable_f1"] = ratio(total.get("f1/answerable", 0.0), answerable)
            metrics["no_answer_accuracy"] = ratio(total.get("f1/unanswerable", 0.0), unanswerable)
        return metrics

    def calibrate(self, scored: Iterable[tuple[QuestionExample, Prediction]]) -> Self:
        if not self.has_no_answer:
            return self
        rows = []
        for example, prediction in scored:
            best = prediction["n_best"][0]["answer"] if prediction["n_best"] else ""
            rows.append((float(prediction["null_score"]), _scores(example, best)[1], bool(example.answers)))
        return replace(self, null_threshold=squad.best_threshold(rows)[0])

    def gold(self, example: QuestionExample) -> Any:
        if example.answers is None:
            return None
        return {"answers": [{"text": text, "answer_start": start} for start, text in example.answers]}

    def identity(self, example: QuestionExample) -> tuple[str, str]:
        return f"{example.question}\0{example.context}", "\0".join(example.references)

    def stratum(self, example: QuestionExample) -> str:
        return "answerable" if example.answers else "unanswerable"

    def question(self, text: str) -> Row:
        asked, tab, context = text.partition("\t")
        if not tab:
            raise InputError("there is no context", fix="Write the question, a tab, and the passage.")
        return Row({"question": asked, "context": context}, file="<text>", line=1)

    def excerpt(self, example: QuestionExample, prediction: Prediction) -> Excerpt:
        gold = [(start, start + len(text)) for start, text in example.answers or ()]
        found = (prediction["start"], prediction["end"]) if prediction["start"] is not None else None
        low, high = _shown(example.context, [*gold, *([found] if found else [])])
        marks = []
        for start, end in dict.fromkeys(gold):
            if low <= start and end <= high:
                marks.append(Mark(start - low, end - low, "answer", "both" if (start, end) == found else "gold"))
        if found and found not in gold:
            marks.append(Mark(found[0] - low, found[1] - low, "predicted", "predicted"))
        _, f1 = _scores(example, prediction["answer"])
        severity = (1 - f1) * (0.5 + prediction["score"])
        text = ("… " if low else "") + example.context[low:high] + (" …" if high < len(example.context) else "")
        moved = tuple(replace(mark, start=mark.start + 2 * bool(low), end=mark.end + 2 * bool(low)) for mark in marks)
        wanted = example.references[0] if example.references else "no answer"
        return Excerpt(text, wanted, prediction["answer"] or "no answer", severity, moved, example.question)

    def tables(self, total: Counts) -> Sequence[Table]:
        words = [word for word in (*_QUESTION_WORDS, "other") if total.get(f"~n/{word}")]
        tables = [_table("By question word", "question word", [(word, f"/{word}", "~") for word in words], total)]
        if self.has_no_answer:
            kinds = [(kind, f"/{kind}", "") for kind in ("answerable", "unanswerable") if total.get(f"n/{kind}")]
            tables.append(_table("By answerability", "question", kinds, total))
        return tables

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.question_answering import BestSentence, NoAnswer

        return (BestSentence(), NoAnswer()) if self.has_no_answer else (BestSentence(),)


def question_word(question: str) -> str:
    """Return the question word that stands first, else ``other``."""
    for word in question.lower().replace("'", " ").split():
        if word.strip("?,.;:") in _QUESTION_WORDS:
            return word.strip("?,.;:")
    return next((word for chinese, word in _CHINESE_WORDS.items() if chinese in question), "other")


def _labels(example: QuestionExample, starts: np.ndarray, ends: np.ndarray) -> tuple[int, int]:
    """Return the first and last token of the first reference, or (0, 0) where the window does not hold it whole."""
    if not example.answers:
        return 0, 0
    begin, text = example.answers[0]
    end = begin + len(text)
    inside = np.flatnonzero((starts >= 0) & (ends > starts))
    touched = inside[(starts[inside] < end) & (ends[inside] > begin)]
    if not len(touched) or begin < starts[inside[0]] or end > ends[inside[-1]]:
        return 0, 0
    return int(touched[0]), int(touched[-1])


def _scores(example: QuestionExample, answer: str) -> tuple[float, float]:
    return squad.exact_match(answer, example.references), squad.f1(answer, example.references)


def _shown(context: str, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if not spans:
        return 0, min(len(context), 2 * _AROUND)
    low, high = spans[0][0] - _AROUND, spans[0][1] + _AROUND
    for start, end in spans[1:]:
        low, high = min(low, start - 20), max(high, end + 20)
    return max(0, low), min(len(context), high)


def _table(title: str, column: str, rows: Sequence[tuple[str, str, str]], total: Counts) -> Table:
    lines = []
    for name, key, mark in rows:
        n = total.get(f"{mark}n{key}", 0.0)
        exact, f1 = (ratio(total.get(f"{mark}{kind}{key}", 0.0), n) for kind in ("exact", "f1"))
        lines.append((name, exact, f1, int(n)))
    return Table(title, (column, "exact match", "F1", "rows"), tuple(lines))
