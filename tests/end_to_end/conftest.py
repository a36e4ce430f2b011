"""A tiny model and a small table, made once for the end-to-end tests."""

import csv
import random
from pathlib import Path

import pytest

from tiny_tokenizer import write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_model(folder)
    return folder


def write_table(path: Path, rows: int, *, seed: int) -> Path:
    """Write texts whose label is told by one of their words."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            label = rng.choice(["colour", "place"])
            own = rng.choice(["red", "blue", "green"] if label == "colour" else ["paris", "rome", "town"])
            other = rng.choices(["the", "old", "works", "for", "who", "and", "not", "at"], k=rng.randint(2, 8))
            words = [*other, own, *(rng.choice("abcdefgh") for _ in range(4))]
            rng.shuffle(words)
            writer.writerow([" ".join(words), label])
    return path


@pytest.fixture(scope="session")
def tables(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "train.csv", 120, seed=1)
    write_table(folder / "test.csv", 60, seed=2)
    return folder


@pytest.fixture
def settings(tiny_model: Path, tables: Path) -> list[str]:
    """The command-line values of a short run."""
    return [
        "task=text-classification",
        f"model={tiny_model}",
        f"data.train={tables / 'train.csv'}",
        f"data.test={tables / 'test.csv'}",
        "data.validation=20%",
        "train.duration=2 epochs",
        "train.batch=16 examples",
        "train.learning_rate=3e-3",
        "train.precision=float32",
    ]
