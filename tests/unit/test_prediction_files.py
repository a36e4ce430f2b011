import csv
import json
from pathlib import Path

import pytest

from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.prediction_files import write_predictions

PREDICTIONS = [
    {"label": "good, really", "score": 0.9, "scores": {"good, really": 0.9}},
    {"labels": ["a", "b"], "scores": {}},
    {"value": 2.5},
    {"entities": [{"start": 0, "end": 3, "label": "PER", "text": "Ada", "score": 1.0}]},
    {"answer": "in\nParis", "start": 3, "end": 8},
]


def pairs(predictions):
    for number, prediction in enumerate(predictions, 1):
        yield Row({"text": f"text {number}", "label": "old"}, file="a.csv", line=number), prediction


def test_json_lines_are_the_predictions(tmp_path: Path):
    assert write_predictions(pairs(PREDICTIONS), tmp_path / "out.jsonl") == 5
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == PREDICTIONS


def test_csv_holds_the_row_and_the_prediction_under_names_that_do_not_clash(tmp_path: Path):
    write_predictions(pairs(PREDICTIONS[:1]), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row == {"text": "text 1", "label": "old", "predicted_label": "good, really", "score": "0.9",
                   "scores": '{"good, really": 0.9}'}  # fmt: skip


def test_text_holds_the_answers_alone(tmp_path: Path):
    write_predictions(pairs(PREDICTIONS), tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "good, really\na; b\n2.5\nPER Ada\nin Paris\n"


def test_another_suffix_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"Write one of: \.jsonl, \.csv, \.txt"):
        write_predictions(pairs(PREDICTIONS), tmp_path / "out.xlsx")


def test_a_row_that_fails_leaves_no_half_file(tmp_path: Path):
    def failing():
        yield from pairs(PREDICTIONS[:1])
        raise InputError("bad row")

    with pytest.raises(InputError):
        write_predictions(failing(), tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())
