"""Data that was prepared before: found again where nothing has changed, and never where something has."""

import csv
import json
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import luthier.assembly
from luthier.assembly import Assembly, assemble
from luthier.config import load_config
from luthier.data.preparation import Prepared
from luthier.data.prepared_cache import CODE, PreparedCache
from luthier.errors import InputError
from tiny_tokenizer import write_tokenizer

FROM_CACHE = "data as prepared before (cache)"
WORDS = ["the", "old", "works", "for", "who", "and", "not", "at", "red", "blue", "green", "paris", "rome", "town"]


def write_rows(path: Path, count: int = 40, *, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "sort"])
        for number in range(count):
            text = " ".join(rng.choice(WORDS, size=rng.integers(3, 30)))
            writer.writerow([text, ["good", "bad"][number % 2], ["x", "y", "z"][number % 3]])
        writer.writerow(["", "good", "x"])  # rejected
        writer.writerow([text, "good", "x"])  # a repetition with another answer


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model's tokenizer and data, and an empty cache."""
    write_tokenizer(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(
        json.dumps({"model_type": "bert", "max_position_embeddings": 128}), encoding="utf-8"
    )
    write_rows(tmp_path / "train.csv")
    write_rows(tmp_path / "test.csv", 12, seed=1)
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def values(place: Path) -> dict:
    data = {"train": str(place / "train.csv"), "test": str(place / "test.csv"), "validation": "20%", "max_rejected": "20%"}
    task = {"name": "text-classification", "max_tokens": 16}
    return {"task": task, "model": str(place / "model"), "data": data, "train": {"learning_rate": 1e-3}}


def assembled(given: dict) -> Assembly:
    return assemble(load_config(None, values=given))


def prepared(given: dict, place: Path) -> tuple[Prepared, list[str]]:
    """Prepare as a new process would; return what was said, too."""
    said: list[str] = []
    work = place / f"work-{time.monotonic_ns()}"
    return assembled(given).prepare(work, say=said.append), said


def entries(place: Path) -> list[Path]:
    root = place / "cache" / "prepared"
    return sorted(root.iterdir()) if root.is_dir() else []


def assert_same(left: Prepared, right: Prepared) -> None:
    assert left.task == right.task
    assert (left.entries, left.findings, left.notes, left.digests) == (
        right.entries, right.findings, right.notes, right.digests,
    )  # fmt: skip
    assert list(left.splits) == list(right.splits)
    for name, split in left.splits.items():
        other = right.splits[name]
        assert (split.name, split.task) == (other.name, other.task)
        assert [split.row(at) for at in range(len(split))] == [other.row(at) for at in range(len(other))]
        assert [split.place(at) for at in range(len(split))] == [other.place(at) for at in range(len(other))]
        ours, theirs = split.features, other.features
        assert ours is not None
        assert theirs is not None
        for attribute in ("lengths", "groups", "num_targets", "weights", "cut", "used_ids"):
            np.testing.assert_array_equal(getattr(ours, attribute), getattr(theirs, attribute))
        assert len(ours) == len(theirs) > 0
        for one, two in zip(ours, theirs, strict=True):
            for mine, yours in ((one.arrays, two.arrays), (one.facts, two.facts)):
                assert mine.keys() == yours.keys()
                for key in mine:
                    np.testing.assert_array_equal(mine[key], yours[key])


CONLL = "ada B-PER\nlives O\nin O\nrome B-LOC\n. O\n\nbob B-PER\nsings O\n\n" * 8
SQUAD = [
    {"question": "who lives in rome ?", "context": "ada lives in rome and bob lives in paris .",
     "answers": {"text": ["ada"], "answer_start": [0]}},
    {"question": "where is bob ?", "context": "ada lives in rome .", "answers": {"text": [], "answer_start": []}},
] * 6  # fmt: skip


def of_task(name: str, place: Path) -> dict:
    given = values(place)
    if name == "token-classification":
        (place / "t.conll").write_text(CONLL, encoding="utf-8")
        given["data"] = {"train": str(place / "t.conll"), "validation": "25%"}
    elif name == "question-answering":
        (place / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SQUAD), encoding="utf-8")
        given["data"] = {"train": str(place / "q.jsonl"), "test": str(place / "q.jsonl")}
    if name == "question-answering":
        given["task"] = {"name": name, "max_tokens": 20, "stride": 2}
    else:
        given["task"]["name"] = name
    return given


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering"])
def test_the_second_run_finds_all_that_the_first_prepared(place: Path, task: str, monkeypatch: pytest.MonkeyPatch):
    given = of_task(task, place)
    first, said = prepared(given, place)
    assert said == []
    monkeypatch.setattr(luthier.assembly, "prepare", lambda *args, **options: pytest.fail("prepared again"))
    second, said = prepared(given, place)
    assert said == [FROM_CACHE]
    assert_same(first, second)
    if task == "text-classification":
        assert any(entry.outcome == "rejected" for entry in second.entries)
        assert any("another answer" in finding.title for finding in second.findings)


def test_what_does_not_touch_the_data_does_not_matter(place: Path):
    prepared(values(place), place)
    given = values(place) | {"train": {"learning_rate": 5e-5, "duration": "7 steps", "seed": 4}, "method": "head"}
    (place / "model" / "model.safetensors").write_bytes(b"other weights")
    assert prepared(given, place)[1] == [FROM_CACHE]


def other_line(place: Path, given: dict) -> None:
    path = place / "train.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("paris", "acme", 1), encoding="utf-8")


def other_tokenizer(place: Path, given: dict) -> None:
    path = place / "model" / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(described), encoding="utf-8")


def other_settings_of_the_tokenizer(place: Path, given: dict) -> None:
    path = place / "model" / "tokenizer_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("128", "64"), encoding="utf-8")


def moved_file(place: Path, given: dict) -> None:
    (place / "train.csv").rename(place / "moved.csv")
    given["data"]["train"] = str(place / "moved.csv")


CHANGES = {
    "a line of the training file": other_line,
    "the tokenizer": other_tokenizer,
    "the tokenizer's settings": other_settings_of_the_tokenizer,
    "the file's name, which the ledger tells": moved_file,
    "a task option": lambda place, given: given["task"].update(max_tokens=12),
    "another task option": lambda place, given: given["task"].update(class_weights="balanced"),
    "the columns": lambda place, given: given["data"].update(columns={"label": "sort"}),
    "the share held out": lambda place, given: given["data"].update(validation="30%"),
    "what is borne": lambda place, given: given["data"].update(max_rejected="30%"),
    "the encoding": lambda place, given: given["data"].update(encoding="latin-1"),
    "the format": lambda place, given: given["data"].update(format="csv"),
    "the splits": lambda place, given: given["data"].pop("test"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_data_prepares_it_anew(place: Path, change: str):
    prepared(values(place), place)
    given = values(place)
    CHANGES[change](place, given)
    _, said = prepared(given, place)
    assert said == []
    assert len(entries(place)) == 2


def test_a_line_that_moves_from_one_file_to_the_next_prepares_anew(place: Path):
    files = [place / "a.jsonl", place / "b.jsonl"]
    lines = [json.dumps({"text": word, "label": word[:1]}) + "\n" for word in ("red", "blue", "red blue", "blue red", "acme")]
    given = values(place)
    given["data"] = {"train": [str(path) for path in files]}
    for cut in (2, 3):
        for path, part in zip(files, (lines[:cut], lines[cut:]), strict=True):
            path.write_text("".join(part), encoding="utf-8")
        found, said = prepared(given, place)
        assert said == []
        assert [entry.line for entry in found.entries] == [*range(1, cut + 1), *range(1, 6 - cut)]


def test_code_that_changes_prepares_anew(place: Path, monkeypatch: pytest.MonkeyPatch):
    prepared(values(place), place)
    monkeypatch.setattr("luthier.data.prepared_cache._code_digest", lambda: "of another version")
    assert prepared(values(place), place)[1] == []


def torn(path: Path, content: bytes) -> None:
    """Put other content in a file's place: the run that wrote it may still hold the old one under another name."""
    path.unlink()
    path.write_bytes(content)


def test_all_code_that_prepares_counts_as_such():
    """A new import in that code must either count too, or decide nothing about rows and features."""
    decide_nothing = {"baselines", "engines", "errors", "registry", "report"}
    root = Path(luthier.assembly.__file__).parent
    used: set[str] = set()
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] in CODE:
            used |= set(re.findall(r"^\s*from luthier\.(\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert used - decide_nothing == {name.removesuffix(".py") for name in CODE}


def cut_short(path: Path) -> None:
    torn(path, path.read_bytes()[:-9])


def zeros(path: Path) -> None:
    """What a power cut leaves: the right size, without content."""
    torn(path, bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    torn(path, bytes(content))


FILES = ["manifest.json", "prepared.json", "positions.npz", "entries.arrow", "train.rows.arrow", "train.features.arrow",
         "validation.features.npz"]  # fmt: skip


@pytest.mark.parametrize("damage", [cut_short, zeros, flipped, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_torn_entry_is_seen_and_made_anew(place: Path, name: str, damage):
    first, _ = prepared(values(place), place)
    (entry,) = entries(place)
    damage(entry / name)
    second, said = prepared(values(place), place)
    assert FROM_CACHE not in said
    assert "damaged" in said[0]
    assert_same(first, second)
    assert entries(place) == [entry]
    assert prepared(values(place), place)[1] == [FROM_CACHE]


def test_two_processes_at_once_leave_one_whole_entry(place: Path):
    """Both prepare, and both find the entry missing; threads stand for the processes."""
    start = threading.Barrier(2)
    results: list[Prepared] = []

    def work(number: int) -> None:
        assembly = assembled(values(place))
        start.wait()
        results.append(assembly.prepare(place / f"work-{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries(place)) == 1
    third, said = prepared(values(place), place)
    assert said == [FROM_CACHE]
    for result in results:
        assert_same(result, third)


def test_the_entry_of_the_faster_process_stays(place: Path):
    made, _ = prepared(values(place), place)
    (entry,) = entries(place)
    before = (entry / "manifest.json").stat().st_ino
    folder = made.splits["train"].store.path.parent
    PreparedCache(entry.parent).keep(entry.name, made, folder)
    assert entries(place) == [entry]
    assert (entry / "manifest.json").stat().st_ino == before


def kept(place: Path, key: str, cache: PreparedCache, made: Prepared, *, age: float) -> Path:
    cache.keep(key, made, made.splits["train"].store.path.parent)
    folder = place / "small" / key
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def test_above_the_limit_the_ones_unused_for_longest_go(place: Path):
    made, _ = prepared(values(place), place)
    size = sum(path.stat().st_size for path in entries(place)[0].iterdir())
    cache = PreparedCache(place / "small", limit=3 * size + size // 2)
    folders = [kept(place, key, cache, made, age=age) for key, age in (("a", 300), ("b", 200), ("c", 100))]
    assert cache.read("a", assembled(values(place)).task) is not None, "which counts as use"
    newest = kept(place, "d", cache, made, age=0)
    assert [folder.is_dir() for folder in (*folders, newest)] == [True, False, True, True]
    assert sorted(path.name for path in newest.parent.iterdir()) == ["a", "c", "d"], "nothing is left aside"


def test_an_entry_above_the_limit_is_not_kept(place: Path):
    made, _ = prepared(values(place), place)
    cache = PreparedCache(place / "small", limit=1000)
    cache.keep("a", made, made.splits["train"].store.path.parent)
    assert list((place / "small").iterdir()) == []


def test_an_entry_that_is_removed_while_it_is_read_stays_whole_for_its_reader(place: Path):
    first, _ = prepared(values(place), place)
    second, said = prepared(values(place), place)
    assert said == [FROM_CACHE]
    (entry,) = entries(place)
    PreparedCache(entry.parent)._remove(entry)
    assert entries(place) == []
    assert_same(first, second)


def test_what_a_dead_process_left_aside_is_removed_after_a_day(place: Path):
    made, _ = prepared(values(place), place)
    root = entries(place)[0].parent
    for name, age in ((".aside-old", 2 * 86400), (".aside-new", 60)):
        (root / name).mkdir()
        os.utime(root / name, (time.time() - age,) * 2)
    PreparedCache(root).keep("other", made, made.splits["train"].store.path.parent)
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == [".aside-new"]


def test_the_cache_is_for_its_owner_alone(place: Path):
    prepared(values(place), place)
    assert (place / "cache" / "prepared").stat().st_mode & 0o077 == 0


def test_a_file_that_changes_while_it_is_read_is_not_kept(place: Path, monkeypatch: pytest.MonkeyPatch):
    real = luthier.assembly.prepare

    def meddled(*args, **options):
        other_line(place, {})
        return real(*args, **options)

    monkeypatch.setattr(luthier.assembly, "prepare", meddled)
    prepared(values(place), place)
    assert entries(place) == []


def test_rows_from_python_are_not_kept(place: Path):
    given = values(place)
    given["data"] = {"train": [{"text": word, "label": word[0]} for word in WORDS]}
    for _ in range(2):
        assert prepared(given, place)[1] == []
    assert entries(place) == []


def test_a_new_model_s_data_is_not_kept(place: Path):
    given = values(place)
    given["model"] = {"name": "new", "architecture": "bert", "layers": 1, "hidden_size": 16, "heads": 2, "vocabulary": 100,
                      "max_positions": 32}  # fmt: skip
    prepared(given, place)
    assert entries(place) == []


def test_a_cache_that_cannot_be_written_is_said_and_hurts_nothing(place: Path):
    (place / "cache").write_text("a file", encoding="utf-8")
    found, _ = prepared(values(place), place)
    assert any(note.startswith("the prepared data cannot be kept in the cache") for note in found.notes)


def test_bad_data_is_refused_each_time(place: Path):
    (place / "train.csv").write_text("text,label\nred,\nblue,\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InputError, match="rejected"):
            prepared(values(place), place)
    assert entries(place) == []
