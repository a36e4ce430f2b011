"""A tiny model and a small table, made once for the end-to-end tests."""

import csv
import random
from pathlib import Path

import pytest

from luthier.new_model import new
from tiny_tokenizer import write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_model(folder)
    return folder


SENTENCES = [f"the {size} {colour} {thing} is {place}"
             for size in ("big", "small") for colour in ("red", "blue", "green")
             for thing in ("house", "river", "town") for place in ("here", "far away")]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory) -> Path:
    """A Llama of one layer with random weights."""
    folder = tmp_path_factory.mktemp("decoder") / "tiny"
    new(architecture="llama", vocabulary=300, layers=1, hidden_size=32, heads=2, max_positions=256).make(folder, SENTENCES, 0)
    return folder


@pytest.fixture(scope="session")
def tiny_translator(tmp_path_factory) -> Path:
    """A Marian model of one layer a side with random weights."""
    folder = tmp_path_factory.mktemp("translator") / "tiny"
    new(architecture="marian", vocabulary=120, layers=1, hidden_size=32, heads=2, max_positions=128).make(folder, SENTENCES, 0)
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
