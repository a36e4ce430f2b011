"""Text generation: a decoder goes on writing raw text, or answers in a dialogue.

A raw record of either form, and the feature that it becomes; the labels are the tokens that are learned:

    {"text": "Rates rose."}
    Feature(arrays={"input_ids": [0, 71, 502, 30, 0], "labels": [-100, 71, 502, 30, 0]}, facts={"bytes": [11]})

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    Feature(arrays={"input_ids": [1, 4093, 198, 26843, 2, ...], "labels": [-100, ..., 19556, 2, -100]},
            facts={"bytes": [5], "prompt_ids": [1, 4093, ...]})

Documents are kept whole; one that exceeds ``max_tokens`` is cut into pieces, and nothing is lost. A dialogue is
written by the model's own chat template, and the assistant's turns alone are learned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from luthier.chat import DEFAULT_TEMPLATE, ChatTemplate, trained_tokens
from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.generation import GenerationOptions
from luthier.heads import IGNORED, CausalHead
from luthier.metrics import rouge, written
from luthier.metrics.classification import ratio
from luthier.tasks.dialogues import Message, has_dialogue, read_dialogue
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Output, Prediction, Table, Task, learned
from luthier.tokenizer import Tokenizer, Tokens

Form = Literal["document", "dialogue"]
_LONGEST = 1024
"""Tokens of a feature by default, where the model takes as many."""
_PROMPT = 64
"""Tokens of a held-out document that are given, when the rest is written to look at."""
_ROWS: Mapping[str, int] = {"document": 20, "dialogue": 100}
"""Held-out rows that are written for by default."""
_NOT_WRITTEN: Prediction = {"text": None, "finish_reason": None}


@dataclass(frozen=True, slots=True)
class TextExample:
    """A document, or a dialogue; one of the two is None.

    Attributes:
        document: raw text.
        dialogue: turns; with gold the last one is the assistant's.
    """

    document: str | None
    dialogue: tuple[Message, ...] | None

    @property
    def answer(self) -> str | None:
        """The gold answer to the last turn of a dialogue."""
        if not self.dialogue or self.dialogue[-1].role != "assistant":
            return None
        return self.dialogue[-1].content


@dataclass(frozen=True)
class TextGeneration(Task[TextExample]):
    """See the module. A prediction is {text, finish_reason}; where the gold text was scored, {loss, targets, bytes} too:
    the sum of the loss in nats, the tokens, and the bytes of UTF-8 that they stand for.

    Attributes:
        train_on: of a dialogue, learn the assistant's turns alone, or all of the rendered text.
        form: learned: whether the rows are documents or dialogues.
    """

    name: ClassVar[str] = "text-generation"
    headline: ClassVar[str] = "bits_per_byte"
    criterion: ClassVar[str] = "loss"
    without_gold: ClassVar[str] = "the dialogue ends without an answer"
    without_targets: ClassVar[Literal["skipped", "rejected"]] = "rejected"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("text", False, "a raw document", ("document", "content", "article")),
        Column("messages", False, "a dialogue as the hub writes it: a list of {role, content}"),
        Column("conversations", False, "a dialogue as ShareGPT writes it: a list of {from, value}", ("conversation",)),
        Column("system", False, "the instruction that stands before a dialogue", ("system_prompt",)),
        Column("prompt", False, "what is asked", ("question",)),
        Column("response", False, "the answer to the prompt", ("completion", "answer"), gold=True),
        Column("instruction", False, "what is asked, as in Alpaca"),
        Column("input", False, "what the instruction is about, as in Alpaca"),
        Column("output", False, "the answer to the instruction, as in Alpaca", gold=True),
    )

    train_on: Literal["assistant", "all"] = "assistant"
    form: Form | None = learned(None)

    @property
    def head(self) -> CausalHead:
        return CausalHead()

    @property
    def generation(self) -> GenerationOptions:
        return GenerationOptions(max_new_tokens=128, rows=_ROWS[self.form or "dialogue"])

    def limit(self, tokenizer: Tokenizer) -> int:
        return tokenizer.limit_for(self.max_tokens, default=_LONGEST)

    def end_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        _, after = tokenizer.document_affixes
        found = set(after.tolist())
        if self.form != "document":
            marker = self._template(tokenizer).end_marker
            number = tokenizer.special_id(marker) if marker else None
            found |= set() if number is None else {number}
        return tuple(sorted(found))

    def parse(self, row: Row) -> TextExample:
        if has_dialogue(row):
            return TextExample(None, read_dialogue(row))
        if row.get("text") is None:
            roles = ", ".join(column.name for column in self.columns)
            raise row.error(f"there is no text and no dialogue; one of these columns is needed: {roles}")
        return TextExample(row.text("text"), None)

    def fit(self, examples: Iterable[TextExample]) -> Self:
        forms: set[Form] = {"document" if example.dialogue is None else "dialogue" for example in examples}
        if len(forms) > 1:
            fix = "Train on the documents first, then on the dialogues."
            raise InputError("some rows are raw text and some are dialogues", where="data.train", fix=fix)
        return replace(self, form=forms.pop() if forms else None)

    def remarks(self, tokenizer: Tokenizer) -> Sequence[str]:
        if self.form != "dialogue":
            return ()
        template = self._template(tokenizer)
        if self.train_on == "assistant":
            template.check()
        if tokenizer.chat_template is None:
            return (
                "this model has no chat template of its own: turns are written as User: ... and Assistant: ...",
                *template.notes,
            )
        return template.notes

    def encode(self, examples: Sequence[TextExample], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        limit = self.limit(tokenizer)
        documents = [example.document for example in examples if example.document is not None]
        tokens = iter(tokenizer.tokenize(documents)) if documents else iter(())
        encoded = []
        for example in examples:
            if example.document is not None:
                document = next(tokens)
                encoded.append(_documents(example.document, document, tokenizer, limit, gold=gold))
            else:
                encoded.append([self._dialogue(example, tokenizer, limit, gold=gold)])
        return encoded

    def _template(self, tokenizer: Tokenizer) -> ChatTemplate:
        return tokenizer.chat_template or ChatTemplate(DEFAULT_TEMPLATE, tokenizer.special_tokens)

    def _dialogue(self, example: TextExample, tokenizer: Tokenizer, limit: int, *, gold: bool) -> Feature:
        template = self._template(tokenizer)
        assert example.dialogue is not None
        answered = example.dialogue[-1].role == "assistant"
        asked = example.dialogue[:-1] if answered else example.dialogue
        (prompt,) = tokenizer.ids_of([template.prompt(asked)])
        if not gold or not answered:
            # The end of a prompt is what is asked: its beginning goes where it is too long.
            return Feature({"input_ids": prompt[-limit:]}, cut=max(0, len(prompt) - limit))
        text = template.render(example.dialogue)
        (tokens,) = tokenizer.tokenize([text])
        if self.train_on == "assistant":
            spans = template.spans(example.dialogue)
            learned_ = trained_tokens(tokens.starts, tokens.ends, spans)
        else:
            spans, learned_ = [(0, len(text))], np.arange(len(tokens)) > 0
        labels = np.where(learned_, tokens.ids, IGNORED).astype(np.int32)[:limit]
        inside = learned_[:limit]
        last = int(tokens.ends[:limit][inside].max()) if inside.any() else 0
        size = sum(len(text[start : min(end, last)].encode()) for start, end in spans if start < last)
        facts = {"bytes": _fact(size), "prompt_ids": prompt[-limit:]}
        return Feature({"input_ids": tokens.ids[:limit], "labels": labels}, facts, max(0, len(tokens) - limit))

    def decode(self, example: TextExample, outputs: list[Output]) -> Prediction:
        said = outputs[0].written if outputs else None
        prediction: Prediction = dict(_NOT_WRITTEN)
        if said is not None:
            prediction = {"text": said.text, "finish_reason": said.finish_reason}
        scored = [output for output in outputs if output.loss is not None]
        if scored:
            prediction["loss"] = sum(output.loss[0] for output in scored if output.loss)
            prediction["targets"] = sum(output.loss[1] for output in scored if output.loss)
            prediction["bytes"] = sum(int(output.feature.facts["bytes"][0]) for output in scored)
        return prediction

    def measure(self, example: TextExample, prediction: Prediction) -> Counts:
        counts: dict[str, float] = {key: float(prediction[key]) for key in ("loss", "targets", "bytes") if key in prediction}
        text = prediction["text"]
        if text is None:
            return counts
        counts |= {"written": 1.0, **written.counts(text)}
        if example.answer is not None:
            counts["rouge_l"] = rouge.counts(text, [example.answer])["rouge_l"]
            counts["exact_match"] = float(written.exact_match(text, example.answer))
        return counts

    def summarize(self, total: Counts) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if "loss" in total or not total:
            metrics["bits_per_byte"] = ratio(total.get("loss", 0.0), total.get("bytes", 0.0)) / math.log(2)
        if "targets" in total or not total:
            # An n-gram model's tokens are characters: a loss per token would compare with nothing.
            metrics["loss"] = ratio(total.get("loss", 0.0), total.get("targets", 0.0))
            metrics["perplexity"] = math.exp(min(metrics["loss"], 50.0))
        if "rouge_l" in total:
            metrics["rouge_l"] = ratio(total["rouge_l"], total["written"])
            metrics["exact_match"] = ratio(total["exact_match"], total["written"])
        return {**metrics, **written.summarize(total)} if "written" in total else metrics

    def gold(self, example: TextExample) -> Any:
        text = example.document if example.dialogue is None else example.answer
        return None if text is None else {"text": text}

    def identity(self, example: TextExample) -> tuple[str, str]:
        if example.dialogue is None:
            return example.document or "", ""
        turns = example.dialogue if example.answer is None else example.dialogue[:-1]
        return "\n".join(f"{turn.role}: {turn.content}" for turn in turns), example.answer or ""

    def excerpt(self, example: TextExample, prediction: Prediction) -> Excerpt:
        asked, answer = self.identity(example)
        severity = ratio(prediction.get("loss", 0.0), prediction.get("targets", 0.0))
        note = f"loss {severity:.3f} a token" if "loss" in prediction else ""
        text = prediction["text"]
        said = "(not written)" if text is None else text
        return Excerpt(asked, answer, said, severity if text is not None or example.dialogue is None else 0.0, note=note)

    def question(self, text: str) -> Row:
        return Row({"text" if self.form == "document" else "prompt": text}, file="<input>", line=1)

    def tables(self, total: Counts) -> Sequence[Table]:
        return ()

    def baselines(self) -> Sequence[Baseline]:
        if self.form != "document":
            return ()
        from luthier.baselines.text_generation import NgramModel

        return (NgramModel(),)


def _fact(value: int) -> np.ndarray:
    return np.asarray([value], dtype=np.int32)


def _documents(text: str, tokens: Tokens, tokenizer: Tokenizer, limit: int, *, gold: bool) -> list[Feature]:
    """Return a document whole, or where it exceeds ``limit`` as pieces of about equal length."""
    before, after = tokenizer.document_affixes
    if not gold:
        room = limit - len(before)
        ids = np.concatenate([before, tokens.ids[-room:]]).astype(np.int32)
        return [Feature({"input_ids": ids}, cut=max(0, len(tokens) - room))]
    count = max(1, math.ceil((len(tokens) + len(after)) / (limit - len(before))))
    cuts = np.linspace(0, len(tokens), count + 1).round().astype(int).tolist()
    features = []
    for start, end in itertools.pairwise(cuts):
        last = after if end == len(tokens) else after[:0]
        ids = np.concatenate([before, tokens.ids[start:end], last]).astype(np.int32)
        labels = ids.copy()
        labels[: max(1, len(before))] = IGNORED
        # From the end of the piece before: what a tokenizer passes over, such as blanks, counts too.
        begin = int(tokens.ends[start - 1]) if start else 0
        stop = int(tokens.ends[end - 1]) if end < len(tokens) else len(text)
        facts = {"bytes": _fact(len(text[begin:stop].encode())), "prompt_ids": ids[: min(_PROMPT, max(1, len(ids) // 2))]}
        features.append(Feature({"input_ids": ids, "labels": labels}, facts))
    return features
