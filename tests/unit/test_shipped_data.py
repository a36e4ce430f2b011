"""The data sets that were written for Luthier and come with it."""

import csv
import json
import re
from collections import Counter

import pytest

from luthier.samples import SAMPLES, folder_of, resolve_data

MEDICAL = {split: resolve_data(f"sample:medical-questions/{split}") for split in ("train", "validation", "test")}


def questions(split: str):
    for article in json.loads(MEDICAL[split].read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield article["title"], paragraph["context"], question


def test_the_medical_set_is_as_large_as_it_says():
    rows = [row for split in MEDICAL for row in questions(split)]
    assert len({title for title, _, _ in rows}) >= 60
    assert len(rows) >= 240
    assert 0.2 <= sum(question["is_impossible"] for _, _, question in rows) / len(rows) <= 0.25
    readme = (MEDICAL["train"].parent / "README.md").read_text(encoding="utf-8")
    for split in MEDICAL:
        found = list(questions(split))
        impossible = sum(question["is_impossible"] for _, _, question in found)
        assert f"| {split} | {len({t for t, _, _ in found})} | {len(found)} | {impossible} |" in readme


def test_every_medical_answer_stands_at_its_offset_and_is_short():
    for split in MEDICAL:
        for _, context, question in questions(split):
            assert bool(question["answers"]) != question["is_impossible"]
            for answer in question["answers"]:
                start = answer["answer_start"]
                assert context[start : start + len(answer["text"])] == answer["text"]
                assert len(answer["text"].split()) <= 14


def test_no_passage_or_question_stands_twice():
    rows = [(split, *row) for split in MEDICAL for row in questions(split)]
    splits: dict[str, set[str]] = {}
    for split, _, context, _ in rows:
        splits.setdefault(context, set()).add(split)
    assert all(len(where) == 1 for where in splits.values())
    assert len({(context, question["question"]) for _, _, context, question in rows}) == len(rows)
    assert len({question["id"] for *_, question in rows}) == len(rows)


@pytest.mark.parametrize(("split", "each"), [("train", 20), ("test", 8)])
def test_support_tickets_are_balanced_and_different(split: str, each: int):
    with resolve_data(f"sample:support-tickets/{split}").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert Counter(row["label"] for row in rows) == {"billing": each, "technical": each, "account": each}
    assert len({row["text"] for row in rows}) == len(rows)


@pytest.mark.parametrize(("split", "sentences", "documents"), [("train", 60, 15), ("test", 20, 5)])
def test_people_and_places_is_sound_iob2_in_documents(split: str, sentences: int, documents: int):
    from luthier.data.sources import open_source

    rows = list(open_source(str(resolve_data(f"sample:people-and-places/{split}"))).rows())
    assert len(rows) == sentences
    assert len({row.document for row in rows}) == documents
    assert {tag[2:] for row in rows for tag in row["tags"]} == {"", "PER", "LOC", "ORG"}
    for row in rows:
        for before, tag in zip(["O", *row["tags"]], row["tags"], strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def dialogues(split: str) -> list[list[dict[str, str]]]:
    path = resolve_data(f"sample:assistant-dialogues/{split}")
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def contents(split: str, role: str) -> list[str]:
    return [turn["content"] for turns in dialogues(split) for turn in turns if turn["role"] == role]


@pytest.mark.parametrize(("split", "number"), [("train", 240), ("validation", 30), ("test", 40)])
def test_the_dialogues_are_read_as_dialogues(split: str, number: int):
    from luthier.data.sources import open_source
    from luthier.tasks import TASKS

    task = TASKS.get("text-generation")()
    found = [task.parse(row) for row in open_source(str(resolve_data(f"sample:assistant-dialogues/{split}"))).rows()]
    assert len(found) == number
    assert all(example.dialogue and example.answer for example in found)
    roles = Counter("-".join(turn.role[0] for turn in example.dialogue) for example in found)
    assert set(roles) == {"u-a", "u-a-u-a", "s-u-a"}
    assert all(count >= number // 12 for count in roles.values())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_answer_of_the_assistant_keeps_the_house_style(split: str):
    for content in contents(split, "assistant"):
        answer, step = content.split("\nNext step: ")
        for text, most in ((answer, 2), (step, 1)):
            assert text == text.strip()
            assert text[-1] in ".?"
            assert 1 <= len(re.findall(r"[.?!](?=\s|$)", text)) <= most
        assert "!" not in content


def test_no_dialogue_and_no_answer_stands_twice():
    splits = ("train", "validation", "test")
    asked = [
        next(turn["content"] for turn in turns if turn["role"] == "user") for split in splits for turns in dialogues(split)
    ]
    answers = [content for split in splits for content in contents(split, "assistant")]
    for texts in (asked, answers):
        assert len({" ".join(re.findall(r"\w+", text.casefold())) for text in texts}) == len(texts)


def test_shipped_samples_need_no_download():
    for name in ("medical-questions", "support-tickets", "people-and-places", "assistant-dialogues"):
        sample = SAMPLES.get(name)
        assert sample.package is None
        assert folder_of(sample).is_dir()
        assert sample.to_json()["download_bytes"] == 0
