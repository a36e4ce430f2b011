"""Translation and summarization: one text in, another one out, by an encoder-decoder.

A raw record, and the feature that it becomes for a Marian model; the labels are the target's tokens:

    {"source": "Open file", "target": "Abrir ficheiro"}
    Feature(arrays={"input_ids": [2371, 1021, 0], "labels": [8120, 14, 3307, 0]}, facts={"max_new_tokens": [24]})

The two tasks differ in their metrics alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.generation import GenerationOptions
from luthier.heads import CrossEntropy, Seq2SeqHead
from luthier.metrics import rouge
from luthier.metrics.classification import ratio
from luthier.metrics.translation import TranslationScorer, copied
from luthier.tasks.task import Baseline, Column, Counts, Excerpt, Output, Prediction, Table, Task
from luthier.tokenizer import Tokenizer

CleaningRule = Literal["empty", "equal", "length_ratio", "script", "duplicates"]
_LOOKED_AT = 100
"""Rows that are looked at to see what script they are written in."""
_LENGTH_FACTOR, _LENGTH_ROOM = 3, 16
"""A translation is cut off at so many times the source's tokens and some: a model that does not end would go on for long."""


@dataclass(frozen=True, slots=True)
class PairExample:
    """A source and, with gold, its target."""

    source: str
    target: str | None


@dataclass(frozen=True)
class SequenceToSequence(Task[PairExample]):
    """What translation and summarization share. A prediction is {text, finish_reason}; where the gold target was
    scored, {loss, targets} too: the sum of the loss in nats, and the tokens.

    Attributes:
        max_target_tokens: tokens of a target at most, special tokens included; None: as ``max_tokens``.
        label_smoothing: from 0 to 1: how much of each target's probability is spread over all tokens.
        prefix: written before every source, for models that expect one (T5: ``summarize: ``).
        clean: rules by which training rows are left out; each is counted in the ledger.
        max_length_ratio: of the rule length_ratio: how many times longer one side may be than the other.
    """

    criterion: ClassVar[str] = "loss"

    max_target_tokens: int | None = None
    label_smoothing: float = 0.0
    prefix: str = ""
    clean: tuple[CleaningRule, ...] = ()
    max_length_ratio: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be from 0 to below 1")
        if self.max_length_ratio <= 1:
            raise ValueError(f"max_length_ratio is {self.max_length_ratio}; it must be above 1")

    @property
    def head(self) -> Seq2SeqHead:
        return Seq2SeqHead(CrossEntropy(label_smoothing=self.label_smoothing))

    def cleaner(self) -> Callable[[PairExample], str | None] | None:
        if not self.clean:
            return None
        from luthier.data.cleaning import Cleaning

        rules = set(self.clean)
        cleaning = Cleaning(
            empty="empty" in rules,
            equal="equal" in rules,
            length_ratio=self.max_length_ratio if "length_ratio" in rules else None,
            script="script" in rules,
            duplicates="duplicates" in rules,
        ).start(*self.languages)
        return lambda example: cleaning.reason(example.source, example.target or "")

    def parse(self, row: Row) -> PairExample:
        empty = "empty" in self.clean
        source = str(row.get("source") or "") if empty else row.text("source")
        if row.get("target") is None:
            return PairExample(source.strip(), None)
        target = str(row["target"]) if empty else row.text("target")
        return PairExample(source.strip(), target.strip())

    def fit(self, examples: Iterable[PairExample]) -> Self:
        return self

    def encode(self, examples: Sequence[PairExample], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        limit = self.limit(tokenizer)
        target_limit = self.max_target_tokens or limit
        room = limit - tokenizer.num_special()
        sources = tokenizer.ids_of([self.prefix + example.source for example in examples])
        targets = tokenizer.ids_of([example.target or "" for example in examples], target=True) if gold else sources
        before, after = tokenizer.target_affixes
        encoded = []
        for source, target in zip(sources, targets, strict=True):
            arrays = {"input_ids": tokenizer.join(source[:room]).arrays["input_ids"]}
            cut = max(0, len(source) - room)
            if len(before):
                arrays["decoder_prefix"] = before
            if gold:
                target_room = target_limit - len(before) - len(after)
                arrays["labels"] = np.concatenate([before, target[:target_room], after]).astype(np.int32)
                cut += max(0, len(target) - target_room)
            longest = self._longest(len(arrays["input_ids"]))
            facts = {} if longest is None else {"max_new_tokens": np.asarray([longest], dtype=np.int32)}
            encoded.append([Feature(arrays, facts, cut)])
        return encoded

    def _longest(self, source_tokens: int) -> int | None:
        """Return how many tokens may be written for a source; None: as the options say."""
        return None

    def decode(self, example: PairExample, outputs: list[Output]) -> Prediction:
        (output,) = outputs
        said = output.written
        prediction: Prediction = {
            "text": None if said is None else said.text,
            "finish_reason": None if said is None else said.finish_reason,
        }
        if output.loss is not None:
            prediction["loss"], prediction["targets"] = output.loss
        return prediction

    def measure(self, example: PairExample, prediction: Prediction) -> Counts:
        counts: dict[str, float] = {key: float(prediction[key]) for key in ("loss", "targets") if key in prediction}
        if prediction["text"] is not None:
            counts |= {"written": 1.0, **self._score(example, prediction["text"])}
        return counts

    def _score(self, example: PairExample, text: str) -> dict[str, float]:
        raise NotImplementedError

    def summarize(self, total: Counts) -> dict[str, float]:
        metrics = self._scores(total) if "written" in total or not total else {}
        return {**metrics, "loss": ratio(total["loss"], total["targets"])} if "loss" in total else metrics

    def _scores(self, total: Counts) -> dict[str, float]:
        raise NotImplementedError

    def gold(self, example: PairExample) -> Any:
        return None if example.target is None else {"text": example.target}

    def identity(self, example: PairExample) -> tuple[str, str]:
        return example.source, example.target or ""

    def excerpt(self, example: PairExample, prediction: Prediction) -> Excerpt:
        severity = ratio(prediction.get("loss", 0.0), prediction.get("targets", 0.0))
        note = f"loss {severity:.3f} a token" if severity else ""
        text = prediction["text"]
        if text is None:
            return Excerpt(example.source, example.target or "", "(not written)", 0.0)
        return Excerpt(example.source, example.target or "", text, 0.0 if text == example.target else 1.0 + severity, note=note)

    def question(self, text: str) -> Row:
        return Row({"source": text}, file="<input>", line=1)


@dataclass(frozen=True)
class Translation(SequenceToSequence):
    """A sentence into another language.

    Attributes:
        source_language, target_language: codes such as ``en`` and ``pt``; models of many languages take their own
            codes (``eng_Latn``). The target's chooses how BLEU splits words.
    """

    name: ClassVar[str] = "translation"
    headline: ClassVar[str] = "bleu"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("source", False, "the text to translate", ("src",)),
        Column("target", False, "its translation", ("tgt",), gold=True),
        Column("translation", False, "both sides by language, as the hub writes them: {en: ..., fr: ...}"),
    )

    source_language: str | None = None
    target_language: str | None = None

    def parse(self, row: Row) -> PairExample:
        both = row.get("translation")
        if isinstance(both, Mapping):
            missing = [role for role, code in self._codes.items() if code not in both]
            if missing:
                found = ", ".join(str(code) for code in both)
                raise row.error(f"it holds {found}", column="translation", fix=f"Say which is which: task.{missing[0]}=...")
            row = row.renamed({role: both[code] for role, code in zip(("source", "target"), self.languages, strict=True)})
        return super().parse(row)

    @property
    def _codes(self) -> Mapping[str, str | None]:
        return {"source_language": self.source_language, "target_language": self.target_language}

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return self.source_language, self.target_language

    @property
    def generation(self) -> GenerationOptions:
        return GenerationOptions(max_new_tokens=512, num_beams=4)

    @property
    def _scorer(self) -> TranslationScorer:
        return _scorer_for(self.target_language)

    def _longest(self, source_tokens: int) -> int:
        return _LENGTH_FACTOR * source_tokens + _LENGTH_ROOM

    def _score(self, example: PairExample, text: str) -> dict[str, float]:
        counts = self._scorer.counts(text, [example.target or ""])
        return {**counts, "copied": float(copied(example.source, text))}

    def _scores(self, total: Counts) -> dict[str, float]:
        return {
            "bleu": self._scorer.bleu(total),
            "chrf": self._scorer.chrf(total),
            "length_ratio": ratio(total.get("bleu_hyp_len", 0.0), total.get("bleu_ref_len", 0.0)),
            "copy_rate": ratio(total.get("copied", 0.0), total.get("written", 0.0)),
        }

    def signatures(self) -> Mapping[str, str]:
        return self._scorer.signatures()

    def notes(self, examples: Iterable[PairExample], split: str) -> Sequence[str]:
        if self.target_language is not None:
            return ()
        text = "".join(example.target or "" for example, _ in zip(examples, range(_LOOKED_AT), strict=False))
        without_blanks = sum(not char.isspace() and "\u3040" <= char <= "\u9fff" for char in text)
        if without_blanks * 4 < len(text):
            return ()
        said = f"the targets of {split} look Chinese or Japanese, and BLEU splits words at blanks here."
        return (f"{said} task.target_language=zh (or ja) would count characters.",)

    def tables(self, total: Counts) -> Sequence[Table]:
        if not total.get("bleu_total_1"):
            return ()
        rows = tuple(
            (f"{n} words" if n > 1 else "1 word", ratio(total[f"bleu_correct_{n}"], total[f"bleu_total_{n}"]))
            for n in range(1, 5)
        )
        return (Table("Precision of word sequences", ("sequences of", "share that the reference has"), rows, kind="bars"),)

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.sequence_to_sequence import Copy

        return (Copy(),)


@dataclass(frozen=True)
class Summarization(SequenceToSequence):
    """A document into its summary."""

    name: ClassVar[str] = "summarization"
    headline: ClassVar[str] = "rouge_l"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("source", True, "the text to summarize", ("document", "article", "text", "dialogue")),
        Column("target", True, "its summary", ("summary", "highlights", "abstract", "title"), gold=True),
    )

    language: str | None = None

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return self.language, self.language

    @property
    def generation(self) -> GenerationOptions:
        return GenerationOptions(max_new_tokens=142, num_beams=4)

    def _score(self, example: PairExample, text: str) -> dict[str, float]:
        counts = rouge.counts(text, [example.target or ""])
        words = {"~words": float(len(text.split())), "~gold_words": float(len((example.target or "").split()))}
        return {**counts, "length": float(len(text)), "gold_length": float(len(example.target or "")), **words}

    def _scores(self, total: Counts) -> dict[str, float]:
        count = total.get("written", 0.0)
        return {
            **{name: ratio(total.get(name, 0.0), count) for name in ("rouge_l", "rouge_1", "rouge_2")},
            "length_ratio": ratio(total.get("length", 0.0), total.get("gold_length", 0.0)),
        }

    def signatures(self) -> Mapping[str, str]:
        return {"rouge": "F-measure a row, mean over rows, no stemming, one token a character where words have no blanks"}

    def tables(self, total: Counts) -> Sequence[Table]:
        count = total.get("written", 0.0)
        if not count:
            return ()
        rows: tuple[tuple[str, float], ...] = (("written", total["~words"] / count), ("gold", total["~gold_words"] / count))
        return (Table("Words of a summary on average", ("", "words"), rows, kind="bars"),)

    def baselines(self) -> Sequence[Baseline]:
        from luthier.baselines.sequence_to_sequence import Lead

        return (Lead(),)


@functools.lru_cache(maxsize=8)
def _scorer_for(language: str | None) -> TranslationScorer:
    """Return the scorer of a language; making one reads tables."""
    return TranslationScorer(language)
