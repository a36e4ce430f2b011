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

_SUFFIXES = (".jsonl", ".csv")


def write_predictions(predictions: Iterable[tuple[Row, Prediction]], output: Path | None) -> int:
    """Write predictions to a file by its suffix, or as JSON lines to standard output; return how many.

    The file appears whole or not at all. CSV holds the row's own columns beside the prediction's; what is no
    plain value is written as JSON.

    Raises:
        InputError: a suffix that is neither .jsonl nor .csv; or a row that cannot be read.
    """
    if output is None:
        return _json_lines(predictions, sys.stdout)
    if output.suffix not in _SUFFIXES:
        raise InputError(f'found the suffix "{output.suffix}"', where=str(output), fix="Write .jsonl or .csv.")
    aside = output.with_name(output.name + ".writing")
    try:
        with aside.open("w", encoding="utf-8", newline="") as stream:
            count = (_json_lines if output.suffix == ".jsonl" else _csv)(predictions, stream)
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


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
