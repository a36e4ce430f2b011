"""The seam of tasks: a task is a value that transforms data.

    Row -parse-> Example -encode-> Feature -(engine)-> Output -decode-> Prediction -measure-> Counts -summarize-> Metrics

A task is a frozen dataclass that inherits from :class:`Task`. Its fields are its options and, marked
with ``learned()``, what it has learned from the training split (labels, thresholds). All of them are
plain JSON values, so that a saved model carries its task. Adding a task is one file here and one line
in ``luthier.tasks.TASKS``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import numpy as np

from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.generation import GenerationOptions, Written
from luthier.heads import Head
from luthier.tokenizer import Tokenizer

E = TypeVar("E")

Counts = Mapping[str, float]
"""One row's additive statistics: metrics are functions of their sums, so an interval resamples sums.

A key that begins with ``~`` is summed for tables but never resampled (confusion cells, errors by kind).
"""

Prediction = dict[str, Any]
"""One prediction is one JSON object; its keys are fixed by the task (see DESIGN: the run folder)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A role that a column of the data plays.

    ``required``: no row can do without it; a ``gold`` column may be absent all the same where rows are for prediction.
    ``aliases`` are names that mean the role without a mapping.
    """

    name: str
    required: bool
    meaning: str
    aliases: tuple[str, ...] = ()
    gold: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """What an engine computed for one feature.

    Attributes:
        logits: float32, unpadded, without the batch axis: [C] for a sequence head, [T, C] for a token head,
            [2, T] for a span head; empty for a head that writes.
        loss: of a head that writes: (sum over the targets in nats, their weight); None without labels.
        written: of a head that writes: the text; None where none was asked for.
    """

    feature: Feature
    logits: np.ndarray
    loss: tuple[float, float] | None = None
    written: Written | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report, made from sums alone. ``kind`` says how to draw it.

    ``table``: plain rows; ``confusion``: the first column names the gold label, the others the predicted
    ones, and the cells are counts; ``bars``: two columns, a name and a number.
    Numbers between 0 and 1 that are scores are floats; counts are ints.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    kind: Literal["table", "confusion", "bars"] = "table"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A marked stretch of a text, in code points, end exclusive."""

    start: int
    end: int
    label: str
    kind: Literal["gold", "predicted", "both"]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One example as a person sees it in the list of errors. ``severity`` 0 is right; larger is worse."""

    text: str
    gold: str
    predicted: str
    severity: float
    marks: tuple[Mark, ...] = ()
    note: str = ""


class Baseline(Protocol):
    """A simple method, trained on the same rows and scored by the same measure."""

    name: str

    def fit(self, examples: Iterable[Any]) -> None:
        """Learn from the training split; ``examples`` may be iterated more than once."""

    def predict(self, example: Any) -> Prediction: ...


def learned(default: Any = None) -> Any:
    """Mark a field of a task as learned from data: no option, but saved with the model."""
    return field(default=default, metadata={"learned": True})


@dataclass(frozen=True)
class Task(ABC, Generic[E]):
    """What a kind of problem is: how rows become features and outputs become scored predictions.

    Attributes:
        name: the hub's pipeline tag.
        headline: the metric that the report is about, and that selects checkpoints where ``criterion`` is empty.
        criterion: the metric that selects checkpoints, where the headline costs too much to know after every epoch.
        without_gold: what is wrong with a row that has no gold answer, where the names of its columns do not say it.
        without_targets: what the ledger says of a training row that has nothing to learn from.
        columns: the roles that it reads from rows.
        max_tokens: tokens of a feature at most, special tokens included; None: the least of the model's limit and 512.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    criterion: ClassVar[str] = ""
    without_gold: ClassVar[str] = ""
    without_targets: ClassVar[Literal["skipped", "rejected"]] = "skipped"

    max_tokens: int | None = None

    @property
    @abstractmethod
    def head(self) -> Head:
        """The head and its objective. After ``fit`` for heads with labels."""

    @abstractmethod
    def parse(self, row: Row) -> E:
        """Turn a row with this task's roles into an example; never needs ``fit``.

        A row for prediction may lack the gold columns: then the example has no gold.

        Raises:
            RowError: the row cannot be used; it names file, line and column.
        """

    @abstractmethod
    def fit(self, examples: Iterable[E]) -> Self:
        """Learn labels and the like in one pass over the training split; return the fitted task.

        Raises:
            InputError: nothing can be learned from these examples (all labels equal, none with an answer ...).
        """

    @abstractmethod
    def encode(self, examples: Sequence[E], tokenizer: Tokenizer, *, gold: bool) -> list[list[Feature]]:
        """Return each example's features (windows), with labels when ``gold``.

        With ``gold=False`` a feature holds exactly what prediction sees. Text that does not fit is cut
        or windowed here; ``Feature.cut`` says how many tokens were lost.
        """

    @abstractmethod
    def decode(self, example: E, outputs: list[Output]) -> Prediction:
        """Turn the outputs of all of one example's features into one prediction."""

    @abstractmethod
    def measure(self, example: E, prediction: Prediction) -> Counts:
        """Return one row's additive statistics; the example has gold."""

    @abstractmethod
    def summarize(self, total: Counts) -> dict[str, float]:
        """Return metrics from summed counts: a pure function, defined for all-zero sums too (0.0, never NaN)."""

    @abstractmethod
    def gold(self, example: E) -> Any:
        """Return the gold answer as JSON, in the form that a prediction has; None when there is none."""

    @abstractmethod
    def identity(self, example: E) -> tuple[str, str]:
        """Return (what goes in, what should come out) as strings: for duplicates, conflicts and overlap."""

    @abstractmethod
    def excerpt(self, example: E, prediction: Prediction) -> Excerpt:
        """Show one example with gold and predicted, for the report."""

    @abstractmethod
    def question(self, text: str) -> Row:
        """Turn one argument of ``luthier predict`` into a row (question answering: ``question [tab] context``)."""

    @property
    def generation(self) -> GenerationOptions:
        """How this task writes where the config says nothing; only for heads that write."""
        return GenerationOptions()

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """The codes of the source's and the target's language, for tokenizers that want to know."""
        return None, None

    def end_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Return the tokens that end a text of this task, beside those that the model's config names."""
        return ()

    def cleaner(self) -> Callable[[E], str | None] | None:
        """Return what says why a training row is left out, or None: called once a row, in order; it may remember."""
        return None

    def stratum(self, example: E) -> str:
        """Return the class that a split by share keeps in proportion; default: one class."""
        return ""

    def tables(self, total: Counts) -> Sequence[Table]:
        """Return the report's tables from summed counts."""
        return ()

    def calibrate(self, scored: Iterable[tuple[E, Prediction]]) -> Self:
        """Set thresholds from the validation split; default: nothing to set."""
        return self

    def baselines(self) -> Sequence[Baseline]:
        """Return unfitted simple methods to compare with."""
        return ()

    def signatures(self) -> Mapping[str, str]:
        """Return how metrics were computed, where that has a name (sacrebleu's signatures), for metrics.json."""
        return {}

    def remarks(self, tokenizer: Tokenizer) -> Sequence[str]:
        """Return sentences about this task with this model that a person should know, before the first step.

        Raises:
            InputError: they do not go together.
        """
        return ()

    def notes(self, examples: Iterable[E], split: str) -> Sequence[str]:
        """Return sentences about a held-out split that a person should know (labels unknown to training ...)."""
        return ()

    def adopt(self, config: Mapping[str, Any]) -> Self:
        """Take over what an untuned model's ``config.json`` says (its label names), to use the head that it has."""
        return self

    def limit(self, tokenizer: Tokenizer) -> int:
        """Return the most tokens of a feature for this model.

        Raises:
            InputError: ``max_tokens`` is more than the model can take.
        """
        return tokenizer.limit_for(self.max_tokens, default=512)

    def lessons(self) -> dict[str, str]:
        """Return what was learned from the training split, for people: long lists are cut."""
        said: dict[str, str] = {}
        for field_ in dataclasses.fields(self):
            value = getattr(self, field_.name)
            if field_.metadata.get("learned") and value != field_.default:
                values = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
                more = f" and {len(values) - 12} more" if len(values) > 12 else ""
                said[f"learned {field_.name}"] = ", ".join(values[:12]) + more
        return said

    def to_json(self) -> dict[str, Any]:
        """Return name, options and learned values as plain JSON."""
        return {"name": self.name, **{f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a task from :meth:`to_json` (of the same class)."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: _frozen(value) for name, value in values.items() if name in known})


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
