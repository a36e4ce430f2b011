"""What ``luthier init`` proposes: a task, columns and a config, from a look at a data file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from luthier.data.rows import Row
from luthier.data.sources import open_source
from luthier.errors import InputError

_LOOK = 2000
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent", "topic", "sentiment", "stars", "rating", "score")
_TEXT_NAMES = ("text", "sentence", "review", "content", "body", "message", "title", "comment", "question", "utterance")
_SPLITS = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A config, as values and as commented YAML, and what led to it, in sentences."""

    config: dict[str, Any]
    yaml: str
    explanation: tuple[str, ...]


def propose(path: Path) -> Proposal:
    """Look at the first rows of a file and propose a config for it.

    Raises:
        InputError: the file cannot be read, or its columns fit no task.
    """
    found = [row for row in islice(open_source(str(path)).rows(), _LOOK) if isinstance(row, Row)]
    if not found:
        raise InputError("there is no sound row", where=str(path))
    task, columns, why = _task(found, str(path))
    explanation = [f"{path}: {len(found)}{'+' if len(found) == _LOOK else ''} rows with {', '.join(found[0])}.", why]
    data: dict[str, Any] = {"train": str(path)}
    for split in _SPLITS:
        beside = _beside(path, split)
        if beside is not None:
            data[split] = str(beside)
            explanation.append(f"{beside} lies beside it: the {split} split.")
    if "validation" not in data:
        data["validation"] = "10%"
        explanation.append("A tenth of the rows is held out for validation.")
    if columns:
        data["columns"] = columns
    foreign = _foreign(found)
    model = "e5-multilingual" if foreign else "minilm"
    reason = (
        "Chinese, Japanese or Korean text"
        if foreign
        else "text in the Latin alphabet; for languages but English try e5-multilingual"
    )
    explanation.append(f"Model {model}: {reason}.")
    config = {"task": task, "model": model, "data": data, "train": {"duration": "3 epochs", "batch": "32 examples"}}
    return Proposal(config, _yaml(config, explanation), tuple(explanation))


def _yaml(config: Mapping[str, Any], explanation: Sequence[str]) -> str:
    comments = "\n".join(f"# {line}" for line in explanation)
    return f"{comments}\n{yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)}"


def _task(rows: Sequence[Row], where: str) -> tuple[Any, dict[str, str], str]:
    columns = {name.strip().casefold(): name for name in rows[0]}
    if "tokens" in columns or "words" in columns:
        return "token-classification", {}, "It holds words with tags: token classification."
    if "text" in columns and ("spans" in columns or "entities" in columns):
        return "token-classification", {}, "It holds texts with spans: token classification."
    if "question" in columns and "context" in columns:
        return "question-answering", {}, "It holds questions with contexts: question answering."
    texts = _text_columns(rows)
    label = _label_column(rows, texts)
    if texts and label:
        return _classification(rows, texts[0], label)
    seen = ", ".join(rows[0])
    raise InputError(
        f"these columns fit no task: {seen}",
        where=where,
        fix="Write a config, with data.columns={text: ..., label: ...}. If there is no header, see data.format.",
    )


def _classification(rows: Sequence[Row], text: str, label: str) -> tuple[Any, dict[str, str], str]:
    columns = {role: column for role, column in (("text", text), ("label", label)) if role != column}
    values = [row.get(label) for row in rows]
    if any(isinstance(value, list) for value in values):
        return "text-classification", columns, f'Text in "{text}", lists of labels in "{label}": several labels a text.'
    different = len(Counter(map(str, values)))
    if any(_fraction(value) for value in values):
        return "text-classification", columns, f'Text in "{text}", numbers in "{label}": regression.'
    return "text-classification", columns, f'Text in "{text}", {different} labels in "{label}": text classification.'


def _fraction(value: Any) -> bool:
    try:
        return float(value) != int(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _text_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of text, the most likely first: by name, then by length."""
    lengths = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        if all(isinstance(value, str) for value in values) and not all(_number(value) for value in values):
            lengths[name] = sum(len(str(value)) for value in values) / len(values)
    named = [name for name in lengths if name.strip().casefold() in _TEXT_NAMES]
    rest = [name for name in sorted(lengths, key=lambda name: -lengths[name]) if name not in named and lengths[name] >= 15]
    return sorted(named, key=lambda name: -lengths[name]) + rest


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _label_column(rows: Sequence[Row], texts: Sequence[str]) -> str | None:
    others = [name for name in rows[0] if name not in texts[:1]]
    for name in others:
        if name.strip().casefold() in _LABEL_NAMES:
            return name
    few = []
    for name in others:
        different = len({str(row.get(name)) for row in rows})
        if 2 <= different <= max(2, len(rows) // 2):
            few.append((different, name))
    return min(few)[1] if few else None


def _foreign(rows: Sequence[Row]) -> bool:
    text = "".join(str(value) for row in rows[:200] for value in row.values())
    return len(_CJK.findall(text)) > 0.1 * max(1, len(text))


def _beside(path: Path, split: str) -> Path | None:
    """Return the file of another split whose name differs from a training file's by the split alone."""
    if "train" not in path.name:
        return None
    for word in _SPLITS[split]:
        other = path.with_name(path.name.replace("train", word))
        if other.is_file():
            return other
    return None
