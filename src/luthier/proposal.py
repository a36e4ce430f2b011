"""What ``luthier init`` proposes: a task, columns and a config, from a look at a data file."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from luthier.data.readers import READERS, DataFile
from luthier.data.readers.parallel import sides
from luthier.data.rows import Row
from luthier.data.sources import open_source
from luthier.engines.engine import Choice
from luthier.errors import InputError, RowError
from luthier.proposal_pairs import pairs_in
from luthier.tasks import TASKS

_LOOK = 50_000
"""Rows looked at: enough for a file that is sorted by label."""
_FEW = 1000
_MANY = 50
"""More different values than this, in more than half of the rows, are no labels. The task says the same."""
_AMOUNTS = 100
"""More different whole numbers than this are an amount to predict, not labels."""
_TEXT_NAMES = (
    "text", "sentence", "review", "content", "body", "message", "comment", "utterance", "document", "tweet", "post",
    "description", "abstract", "question", "title",
)  # fmt: skip
_LABEL_NAMES = (
    "label", "labels", "class", "category", "categories", "target", "intent", "topic", "topics", "sentiment", "emotion",
    "tags", "stars", "rating", "score",
)  # fmt: skip
_SPLITS = {"validation": ("validation", "valid", "val", "dev"), "test": ("test", "testing")}
_PAIRS = (("1", "2"), ("a", "b"))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A config, as values and as commented YAML, and what led to it, in sentences."""

    config: dict[str, Any]
    yaml: str
    explanation: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """The first rows of a file."""

    where: str
    rows: Sequence[Row]
    names: tuple[str, ...]

    def values(self, name: str) -> list[Any]:
        """Return the values of a column, without the empty ones."""
        values = (row.get(name) for row in self.rows)
        return [value for value in values if value is not None and value != "" and value != []]

    def role(self, task: str, role: str) -> str | None:
        """Return the column that plays a task's role by its own name or an alias."""
        folded = {name.strip().casefold(): name for name in reversed(self.names)}
        for column in TASKS.get(task).columns:
            if column.name == role:
                return next((folded[name] for name in (column.name, *column.aliases) if name in folded), None)
        return None

    def refused(self, what: str, fix: str) -> InputError:
        return InputError(f"{what} (columns: {', '.join(self.names)})", where=self.where, fix=fix)


@dataclass(frozen=True, slots=True)
class _Guess:
    """A task with the column of each role; ``why`` is the first line of the explanation."""

    task: Any
    columns: Mapping[str, str]
    why: str


def propose(path: Path, *, format: Choice | None = None) -> Proposal:
    """Look at the first rows of a file and propose a config for it.

    Args:
        path: the file, or ``train.{en,fr}``, two files of parallel text.
        format: a reader with its options; default by suffix and content.

    Raises:
        InputError: the file cannot be read, or its columns fit no task, or fit in more ways than one.
    """
    look, bad = _look(path, format)
    headless = None if format else _headless(look, path)
    if headless is not None:
        format = headless
        look, bad = _look(path, format)
    pairs = pairs_in(str(path), format, whole=len(look.rows) < _LOOK)
    guess = (
        _Guess(pairs.task, {role: role for role in ("source", "target")}, pairs.why)
        if pairs
        else _tagging(look) or _answering(look) or _classification(look)
    )
    notes = {"task": [guess.why], "data": [f"{len(look.rows)}{'+' if len(look.rows) == _LOOK else ''} rows."]}
    if headless is not None:
        notes["data"].append("The first row looks like data, so the columns have no names but numbers.")
    if bad:
        notes["data"].append(f"{len(bad)} rows cannot be used. The first: {bad[0]}")
    data: dict[str, Any] = {"train": str(path)}
    for split in _SPLITS:
        beside = _beside(path, split)
        if beside is not None:
            data[split] = str(beside)
            notes["data"].append(f"{beside.name} lies beside it: the {split} split.")
    if "validation" not in data:
        data = {"train": data.pop("train"), "validation": "10%", **data}
        notes["data"].append("A tenth of the rows is held out for validation.")
    if "test" not in data:
        notes["data"].append("No test file lies beside it. Name one as data.test for a score on rows never seen in training.")
    if format is not None:
        data["format"] = {"name": format.name, **format.options} if format.options else format.name
    columns = {role: column for role, column in guess.columns.items() if role != column}
    if columns:
        data["columns"] = columns
    unused = [name for name in look.names if name not in guess.columns.values()]
    if unused:
        notes["data"].append(f"Not used: {', '.join(unused)}.")
    model, because = (pairs.model, pairs.because) if pairs else _model(look, guess.columns.values())
    notes["model"] = [because]
    few = len(look.rows) < _FEW and not pairs
    if few:
        notes["train"] = ["Few rows, so more passes over them."]
    train = pairs.train if pairs else {"duration": "10 epochs" if few else "3 epochs", "batch": "32 examples"}
    config = {"task": guess.task, "model": model, "data": data, "train": train}
    flat = [_one_line(note) for key in config for note in notes.get(key, ())]
    return Proposal(config, _yaml(config, notes), tuple(flat))


def _look(path: Path, format: Choice | None) -> tuple[_Look, list[RowError]]:
    rows: list[Row] = []
    bad: list[RowError] = []
    for row in islice(open_source(str(path), format=format).rows(), _LOOK):
        if isinstance(row, RowError):
            bad.append(row)
        else:
            rows.append(row)
    if not rows:
        first = f"; the first: {bad[0]}" if bad else ""
        raise InputError(f"there is no row that can be used{first}", where=str(path))
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return _Look(str(path), rows, names), bad


def _headless(look: _Look, path: Path) -> Choice | None:
    """Return how to read a table whose first row is no header: a name is a number, a whole text, or one of its values."""
    if sides(str(path)):
        return None
    file = DataFile(path.expanduser(), name=str(path))
    reader = READERS.for_file(file)
    if "header" not in inspect.signature(READERS.get(reader)).parameters:
        return None
    if any(name.strip().casefold() in (*_TEXT_NAMES, *_LABEL_NAMES) for name in look.names):
        return None
    signs = (_number(name) is not None or len(name) > 80 or name in look.values(name) for name in look.names)
    return Choice(reader, {"header": False}) if any(signs) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _yaml(config: Mapping[str, Any], notes: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for key, value in config.items():
        comments = "".join(f"# {_one_line(note)}\n" for note in notes.get(key, ()))
        parts.append(comments + yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000))
    return "\n".join(["# Proposed by luthier init; look it over. luthier check says what training would do.\n", *parts])


def _tagging(look: _Look) -> _Guess | None:
    task = "token-classification"
    tokens, tags = look.role(task, "tokens"), look.role(task, "tags")
    if tokens and any(isinstance(value, list) for value in look.values(tokens)):
        if not tags:
            raise look.refused("there are words, but no tags", "Tagging needs a tag for each word.")
        kinds = Counter(_kind(tag) for cell in look.values(tags) for tag in cell)
        del kinds["O"]
        if len(kinds) > _MANY:
            what = f"{len(kinds)} different tags, such as {_examples(kinds)}: is this the column of tags?"
            raise look.refused(what, "Say which one in a config: data.format={name: conll, tag_column: 1}, counted from 0.")
        return _Guess(task, {"tokens": tokens, "tags": tags}, f"Words with tags ({_examples(kinds)}): tagging.")
    text, spans = look.role(task, "text"), look.role(task, "spans")
    if text and spans and any(isinstance(value, list) for value in look.values(spans)):
        kinds = Counter(str(span.get("label")) for cell in look.values(spans) for span in cell if isinstance(span, Mapping))
        return _Guess(task, {"text": text, "spans": spans}, f"Texts with marked spans ({_examples(kinds)}): tagging.")
    return None


def _kind(tag: Any) -> str:
    """Return the label of a tag without its position: ``B-PER`` is a PER."""
    match = re.fullmatch(r"[BIESLU]-(.+)", str(tag))
    return match[1] if match else str(tag)


def _answering(look: _Look) -> _Guess | None:
    task = "question-answering"
    question, context = look.role(task, "question"), look.role(task, "context")
    if not question or not context:
        return None
    roles = ("answers", "answer", "answer_start", "is_impossible")
    gold = {role: column for role in roles if (column := look.role(task, role))}
    if not {"answers", "answer"} & set(gold):
        fix = "Question answering needs a column answers, as in SQuAD, or answer with the text."
        raise look.refused("there are questions and contexts, but no answers", fix)
    return _Guess(task, {"question": question, "context": context, **gold}, "Questions with contexts: question answering.")


def _classification(look: _Look) -> _Guess:
    texts = _texts(look)
    if not texts:
        fix = "Give a column of text and one of labels. If the first row is data: data.format={name: csv, header: false}."
        raise look.refused("no column holds text", fix)
    first, second = _pair(look, texts) or (texts[0], None)
    label = _label(look, [name for name in look.names if name not in (first, second)])
    columns = {"text": first, **({"text_pair": second} if second else {}), "label": label}
    given = f'Pairs of texts in "{first}" and "{second}"' if second else f'Text in "{first}"'
    task, why = _kind_of_labels(look, label)
    return _Guess(task, columns, f"{given}, {why}")


def _texts(look: _Look) -> list[str]:
    """Return the columns of text, the most likely first: by name, then by length."""
    lengths: dict[str, float] = {}
    for name in look.names:
        values = look.values(name)
        if (
            values
            and all(isinstance(value, str) for value in values)
            and not all(_number(value) is not None for value in values)
        ):
            lengths[name] = sum(map(len, values)) / len(values)
    named = [name for name in lengths if name.strip().casefold() in _TEXT_NAMES]
    rest = [name for name in lengths if name not in named and lengths[name] >= 15 and not _is_label_name(name)]
    return sorted(named, key=lambda name: -lengths[name]) + sorted(rest, key=lambda name: -lengths[name])


def _pair(look: _Look, texts: Sequence[str]) -> tuple[str, str] | None:
    first, second = look.role("text-classification", "text"), look.role("text-classification", "text_pair")
    if first in texts and second in texts and first and second:
        return first, second
    for name in texts:
        for one, two in _PAIRS:
            other = next((item for item in texts if item[:-1] == name[:-1] and item[-1:].casefold() == two), None)
            if name[-1:].casefold() == one and len(name) > 1 and other:
                return name, other
    return None


def _is_label_name(name: str) -> bool:
    return name.strip().casefold() in _LABEL_NAMES


def _label(look: _Look, names: Sequence[str]) -> str:
    """Return the column of labels: by name, else the only one with few different values."""
    named = sorted(filter(_is_label_name, names), key=lambda name: _LABEL_NAMES.index(name.strip().casefold()))
    few = {}
    for name in names:
        values = Counter(map(str, look.values(name)))
        if 2 <= len(values) <= max(2, len(look.rows) // 3) and max(map(len, values)) <= _MANY:
            few[name] = len(values)
    if named:
        return named[0]
    if len(few) == 1:
        return next(iter(few))
    mapping = "data.columns={label: COLUMN}, in a config or behind luthier train"
    if few:
        seen = ", ".join(f"{name} ({number} values)" for name, number in few.items())
        raise look.refused(f"several columns may hold the label: {seen}", f"Say which: {mapping}.")
    raise look.refused("no column looks like a label", f"If there is one, say which: {mapping}.")


def _kind_of_labels(look: _Look, label: str) -> tuple[Any, str]:
    """Return the task with its options, and why."""
    task = "text-classification"
    values = look.values(label)
    if any(isinstance(value, list) for value in values):
        counts = Counter(str(item) for value in values for item in (value if isinstance(value, list) else [value]))
        return task, f'lists of labels in "{label}" ({_examples(counts)}): several labels a text.'
    counts = Counter(str(value).strip() for value in values)
    if len(counts) < 2:
        raise look.refused(f'every label in "{label}" is "{next(iter(counts), "")}"', "There is nothing to tell apart.")
    numbers = [_number(value) for value in counts]
    amounts = [number for number in numbers if number is not None]
    if len(amounts) == len(numbers):
        if any(number != int(number) for number in amounts):
            return task, f'numbers from {min(amounts):g} to {max(amounts):g} in "{label}": regression.'
        if len(counts) > _AMOUNTS:
            options = {"name": task, "objective": "squared_error"}
            return options, f'{len(counts)} different whole numbers in "{label}": regression.'
    separator = _separator(counts)
    if separator:
        parts = Counter(part.strip() for value in counts.elements() for part in value.split(separator))
        options = {"name": task, "objective": "binary_cross_entropy", "separator": separator}
        return options, f'labels apart by "{separator}" in "{label}" ({_examples(parts)}): several labels a text.'
    if len(counts) > _MANY and len(counts) > 0.5 * len(values):
        what = f'{len(counts)} different values in {len(values)} rows of "{label}" are no labels'
        raise look.refused(what, "If another column holds the label, say so: data.columns={label: COLUMN}.")
    return task, f'{len(counts)} labels in "{label}" ({_examples(counts)}): text classification.'


def _separator(counts: Mapping[str, int]) -> str | None:
    """Return what joins several labels in one cell: cut there, fewer different labels are left."""
    for separator in "|;,":
        cut = {part.strip() for value in counts for part in value.split(separator)}
        if any(separator in value for value in counts) and "" not in cut and len(cut) < len(counts):
            return separator
    return None


def _examples(counts: Counter[str]) -> str:
    shown = [_one_line(name)[:30] for name, _ in counts.most_common(3)]
    return ", ".join(shown) + (" ..." if len(counts) > 3 else "")


def _number(value: Any) -> float | None:
    """Return a finite number, also out of text."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _model(look: _Look, columns: Any) -> tuple[str, str]:
    """Return the sample model that knows the text's letters, and why."""
    sample = look.rows[:: len(look.rows) // 200 + 1]
    texts = (text for row in sample for text in _strings([row.get(name) for name in columns]))
    letters = [char for text in texts for char in text if char.isalpha()]
    beyond = sum(ord(char) > 0x24F for char in letters)
    accented = sum(0x7F < ord(char) <= 0x24F for char in letters)
    if beyond > 0.1 * len(letters):
        return "e5-multilingual", "Much of the text is not in Latin letters, so a model of many languages."
    if accented > 0.01 * len(letters):
        return "e5-multilingual", "The text has many accented letters, so a model of many languages."
    return "minilm", "For English. For other languages write e5-multilingual; a hub id or a folder fits as well."


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _beside(path: Path, split: str) -> Path | None:
    """Return the file of another split whose name differs by the split alone: train.csv, test.csv; my.csv, my_test.csv."""
    stem, dot, suffixes = path.name.partition(".")
    for word in _SPLITS[split]:
        names = [f"{stem}{mark}{word}{dot}{suffixes}" for mark in "_-."]
        match = re.search("train(ing)?", path.name, re.IGNORECASE)
        if match:
            cased = word.upper() if match[0].isupper() else word.capitalize() if match[0].istitle() else word
            names.insert(0, path.name[: match.start()] + cased + path.name[match.end() :])
        for name in names:
            found = path.with_name(name)
            if all(Path(side).is_file() for side in sides(str(found)) or [found]):
                return found
    return None
