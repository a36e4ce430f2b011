"""Predictions as text, JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.tasks.task import Prediction


def write_predictions(predictions: Iterable[tuple[Row, Prediction]], output: Path | None) -> int:
    """Write predictions to a file by its suffix, or as JSON lines to standard output; return how many.

    The file appears whole or not at all. CSV holds the row's own columns beside the prediction's, and what is no
    plain value is written as JSON. Text holds the answer alone, a line a row.

    Raises:
        InputError: a suffix that is none of .jsonl, .csv and .txt; or a row that cannot be read.
    """
    if output is None:
        return _json_lines(predictions, sys.stdout)
    writers = {".jsonl": _json_lines, ".csv": _csv, ".txt": _text}
    if output.suffix not in writers:
        raise InputError(f'found the suffix "{output.suffix}"', where=str(output), fix=f"Write one of: {', '.join(writers)}.")
    aside = output.with_name(output.name + ".writing")
    try:
        with aside.open("w", encoding="utf-8", newline="") as stream:
            count = writers[output.suffix](predictions, stream)
        os.replace(aside, output)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _json_lines(predictions: Iterable[tuple[Row, Prediction]], stream: IO[str]) -> int:
    count = 0
    for _, prediction in predictions:
        stream.write(json.dumps(prediction, ensure_ascii=False) + "\n")
        count += 1
    return count


def _csv(predictions: Iterable[tuple[Row, Prediction]], stream: IO[str]) -> int:
    writer = csv.writer(stream)
    count = 0
    for row, prediction in predictions:
        if count == 0:
            writer.writerow([*row, *(f"predicted_{name}" if name in row else name for name in prediction)])
        writer.writerow([*map(_cell, row.values()), *map(_cell, prediction.values())])
        count += 1
    return count


def _text(predictions: Iterable[tuple[Row, Prediction]], stream: IO[str]) -> int:
    count = 0
    for _, prediction in predictions:
        answer = next(iter(prediction.values()))
        parts = answer if isinstance(answer, list) else [answer]
        words = [f"{part['label']} {part['text']}" if isinstance(part, dict) else str(part) for part in parts]
        stream.write("; ".join(words).replace("\n", " ") + "\n")
        count += 1
    return count


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
