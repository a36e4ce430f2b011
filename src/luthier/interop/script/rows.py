"""The rows of a run in the plain form that a script reads: parsed, checked, and under fixed names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from luthier.chat import DEFAULT_TEMPLATE, ChatTemplate
from luthier.data.preparation import Split
from luthier.data.rows import Row
from luthier.tasks.labels import number
from luthier.tasks.tagged_text import tags_of
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_generation import TextGeneration
from luthier.tokenizer import Tokenizer

Fields = Iterator[tuple[str, Any]]
"""The names and values of a row."""


def write_rows(split: Split, tokenizer: Tokenizer, path: Path) -> int:
    """Write the rows of an encoded split that have features, in order, one JSON object a line; return how many.

    A training row without anything to learn has no features: the order of training is one of the others.
    """
    assert split.features is not None
    places = np.unique(split.features.groups)
    with path.open("w", encoding="utf-8") as stream:
        for place in places.tolist():
            stream.write(json.dumps(_record(split, split.row(place), tokenizer), ensure_ascii=False) + "\n")
    return len(places)


def _record(split: Split, row: Row, tokenizer: Tokenizer) -> dict[str, Any]:
    example = split.task.parse(row)
    known = {"id": row["id"]} if isinstance(row.get("id"), (str, int)) else {}
    return {**known, **dict(_FIELDS[split.task.name](split.task, example, tokenizer))}


def _classified(task: TextClassification, example: Any, tokenizer: Tokenizer) -> Fields:
    yield "text", example.text
    if example.pair is not None:
        yield "text_pair", example.pair
    gold = example.gold
    yield "label", number(gold) if task.objective == "squared_error" else list(gold) if isinstance(gold, tuple) else gold


def _tagged(task: Any, example: Any, tokenizer: Tokenizer) -> Fields:
    yield "tokens", [example.text[start:end] for start, end in example.words]
    yield "tags", tags_of(example)


def _asked(task: Any, example: Any, tokenizer: Tokenizer) -> Fields:
    yield "question", example.question
    yield "context", example.context
    answers = example.answers or ()
    yield "answers", {"text": [text for _, text in answers], "answer_start": [start for start, _ in answers]}


def _paired(task: Any, example: Any, tokenizer: Tokenizer) -> Fields:
    yield "source", example.source
    yield "target", example.target


def _generated(task: TextGeneration, example: Any, tokenizer: Tokenizer) -> Fields:
    if example.dialogue is None:
        yield "text", example.document
    else:
        yield from _dialogue(task, example, tokenizer)


def _dialogue(task: TextGeneration, example: Any, tokenizer: Tokenizer) -> Fields:
    """Yield a dialogue, and how the model's chat template writes it."""
    template = tokenizer.chat_template or ChatTemplate(DEFAULT_TEMPLATE, tokenizer.special_tokens)
    rendered = template.render(example.dialogue)
    yield "messages", [{"role": turn.role, "content": turn.content} for turn in example.dialogue]
    yield "rendered", rendered
    whole = task.train_on == "all"
    yield "learned", [[0, len(rendered)]] if whole else [list(span) for span in template.spans(example.dialogue)]
    yield "prompt", template.prompt(example.dialogue[:-1])
    yield "answer", example.answer


_FIELDS: Mapping[str, Callable[[Any, Any, Tokenizer], Fields]] = {
    "text-classification": _classified,
    "token-classification": _tagged,
    "question-answering": _asked,
    "translation": _paired,
    "summarization": _paired,
    "text-generation": _generated,
}
