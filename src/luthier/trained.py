"""A model in use: loaded with its task, asked for predictions and scored on other files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.assembly import open_split
from luthier.config import generation_options
from luthier.data.ledger import summarize_splits
from luthier.data.preparation import Prepared, encode, prepare, read_rows
from luthier.data.rows import Row
from luthier.engines import ENGINES
from luthier.engines.engine import Choice, as_generator
from luthier.errors import InputError, RowError
from luthier.evaluation import Evaluation, evaluate
from luthier.generation import Writer
from luthier.heads import writes
from luthier.inference import predict
from luthier.model_source import model_config, model_limit, resolve_model
from luthier.report import SplitSummary
from luthier.runs import task_of
from luthier.tasks.task import Prediction, Task
from luthier.tokenizer import HubTokenizer
from luthier.units import Share


class TrainedModel:
    """A model with its task, ready to predict.

    Args:
        name: a run folder, a model folder, or whatever else a config's ``model`` may name.
        task: for a model that Luthier has not tuned but that has a head: the task to use it for.
        generation: how text is written, as the config's section of this name; over what the model was trained with.
    """

    def __init__(
        self,
        name: str,
        *,
        task: Task[Any] | None = None,
        engine: str = "torch",
        device: str = "auto",
        precision: str = "auto",
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        toolchain = ENGINES.get(engine)  # first: it says how torch is to be set up
        self.source = resolve_model(name)
        if task is None:
            if self.source.task is None:
                fix = "Say what it is for: task=..., as in a config."
                raise InputError("Luthier has not tuned this model, so its task is unknown", where=name, fix=fix)
            task = task_of(self.source.task, where=str(self.source.folder / "luthier.json"))
        else:
            task = task.adopt(model_config(self.source.folder))
        self.tokenizer = HubTokenizer(self.source.folder, model_limit=model_limit(self.source.folder), languages=task.languages)
        self.task = task
        self.columns: dict[str, str] = dict((self.source.task or {}).get("columns", {}))
        self.model = toolchain.load(self.source.folder, task.head, device=device, precision=precision)
        saved: Mapping[str, Any] = (self.source.task or {}).get("generation", {})
        self.generation = generation_options(task.generation, saved, generation or {})

    @property
    def writer(self) -> Writer | None:
        """What makes the model write, by ``generation``; None under a head that does not."""
        if not writes(self.task.head):
            return None
        return Writer(as_generator(self.model), self.tokenizer, self.generation, self.task.end_ids(self.tokenizer))

    def predict(self, items: Sequence[str | dict[str, Any]]) -> list[Prediction]:
        """Return one prediction an item: a text, or a dict with the task's columns.

        For question answering a text is ``question<TAB>context``.

        Raises:
            RowError: an item cannot be read; it names the item's number.
        """
        if isinstance(items, str):
            raise InputError("found one text; give a list of texts", fix="Write predict([text]).")
        examples = (self._example(item, n) for n, item in enumerate(items, 1))
        return list(predict(self.model, self.task, self.tokenizer, examples, writer=self.writer))

    def stream(self, item: str | dict[str, Any]) -> Iterator[str]:
        """Yield the text for one item piece by piece, as it is written; closing the iterator stops computing.

        Raises:
            InputError: this task does not write.
        """
        writer = self.writer
        if writer is None:
            raise InputError(f"{self.task.name} does not write text, so there is nothing to stream")
        (features,) = self.task.encode([self._example(item, 1)], self.tokenizer, gold=False)
        yield from writer.stream(features[0])

    def predict_rows(self, rows: Iterable[Row | RowError]) -> Iterator[tuple[Row, Prediction]]:
        """Yield each row with its prediction, in order.

        Raises:
            RowError: at the first bad row; predictions before it have been yielded.
        """
        waiting: list[Row] = []

        def examples() -> Iterator[Any]:
            for row in rows:
                if isinstance(row, RowError):
                    raise row
                example = self.task.parse(row)
                waiting.append(row)
                yield example

        for prediction in predict(self.model, self.task, self.tokenizer, examples(), writer=self.writer):
            yield waiting.pop(0), prediction

    def _example(self, item: str | dict[str, Any], number: int) -> Any:
        row = self.task.question(item) if isinstance(item, str) else Row(item, file="<input>", line=number)
        row.file, row.line = "<input>", number
        return self.task.parse(row)

    def rows_of(self, spec: Any, *, format: Choice | None = None, encoding: str | None = None) -> Iterator[Row | RowError]:
        """Read a file for prediction, under the columns that the model was trained with where they are there."""
        source = open_split(spec, name="input", format=format, encoding=encoding)
        return read_rows(source, self.task, self.columns, gold=False)

    def evaluate(
        self,
        spec: Any,
        *,
        columns: dict[str, str] | None = None,
        format: Choice | None = None,
        encoding: str | None = None,
        max_rejected: Share | None = None,
        predictions: Path | None = None,
    ) -> tuple[Evaluation, SplitSummary, Prepared]:
        """Score the model on a file that has gold answers."""
        source = open_split(spec, name="data", format=format, encoding=encoding)
        with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
            prepared = prepare(
                self.task,
                {"test": source},
                columns={**self.columns, **(columns or {})},
                validation=None,
                max_rejected=max_rejected or Share(1, "%"),
                folder=Path(folder),
            )
            encode(prepared, self.tokenizer, Path(folder))
            result = evaluate(self.model, prepared.splits["test"], writer=self.writer, predictions=predictions)
        return result, summarize_splits(prepared.entries)[0], prepared


def load(
    name: str | Path,
    *,
    task: Task[Any] | None = None,
    engine: str = "torch",
    device: str = "auto",
    precision: str = "auto",
    generation: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Load a run or a model folder for use: ``luthier.load("runs/news").predict([...])``. See TrainedModel."""
    return TrainedModel(str(name), task=task, engine=engine, device=device, precision=precision, generation=generation)
