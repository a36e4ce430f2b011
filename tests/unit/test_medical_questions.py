"""The data that come with Luthier are what their README says."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.data.readers import READERS, DataFile
from luthier.data.rows import Row
from luthier.tasks.question_answering import QuestionAnswering

SHIPPED = Path(luthier.__file__).parent / "samples_data"
MEDICAL = SHIPPED / "medical_questions"
SPLITS = {"train": (50, 303, 60), "validation": (9, 49, 13), "test": (13, 85, 21)}
"""Passages, questions, unanswerable questions."""


def articles(split: str) -> list[Any]:
    return json.loads((MEDICAL / f"{split}.json").read_text(encoding="utf-8"))["data"]


def paragraphs(split: str) -> list[Any]:
    return [paragraph for article in articles(split) for paragraph in article["paragraphs"]]


def questions(split: str) -> list[Any]:
    return [question for paragraph in paragraphs(split) for question in paragraph["qas"]]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_the_counts_of_the_readme(split):
    impossible = [question for question in questions(split) if question["is_impossible"]]
    counts = (len(paragraphs(split)), len(questions(split)), len(impossible))
    assert counts == SPLITS[split]
    line = " | ".join(str(count) for count in counts)
    assert f"| {split} | {line} |" in (MEDICAL / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_stands_at_its_offset_and_is_whole_words(split):
    for paragraph in paragraphs(split):
        context = paragraph["context"]
        for question in paragraph["qas"]:
            for answer in question["answers"]:
                text, start = answer["text"], answer["answer_start"]
                assert context[start : start + len(text)] == text, question["id"]
                assert not context[start - 1 : start].isalnum(), question["id"]
                assert not context[start + len(text) : start + len(text) + 1].isalnum(), question["id"]
                assert 1 <= len(text.split()) <= 12, question["id"]


@pytest.mark.parametrize("split", SPLITS)
def test_exactly_the_unanswerable_questions_have_no_answers(split):
    for question in questions(split):
        assert question["is_impossible"] == (not question["answers"]), question["id"]


def test_a_fifth_of_the_questions_is_unanswerable_and_every_passage_has_both_kinds():
    kinds = [question["is_impossible"] for split in SPLITS for question in questions(split)]
    assert 0.20 <= sum(kinds) / len(kinds) <= 0.24
    for split in SPLITS:
        for paragraph in paragraphs(split):
            assert {question["is_impossible"] for question in paragraph["qas"]} == {True, False}
            assert sum(not question["is_impossible"] for question in paragraph["qas"]) >= 4


def test_no_passage_question_or_id_stands_twice():
    for values in (
        [article["title"] for split in SPLITS for article in articles(split)],
        [paragraph["context"] for split in SPLITS for paragraph in paragraphs(split)],
        [question["question"].casefold() for split in SPLITS for question in questions(split)],
        [question["id"] for split in SPLITS for question in questions(split)],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


def test_passages_have_70_to_140_words():
    lengths = [len(paragraph["context"].split()) for split in SPLITS for paragraph in paragraphs(split)]
    assert len(lengths) >= 66
    assert min(lengths) >= 70
    assert max(lengths) <= 140


def test_the_splits_follow_the_stated_rule():
    titles = {split: {article["title"] for article in articles(split)} for split in SPLITS}
    ordered = sorted(set().union(*titles.values()), key=lambda title: hashlib.sha256(title.encode()).hexdigest())
    assert titles == {"test": set(ordered[:13]), "validation": set(ordered[13:22]), "train": set(ordered[22:])}


@pytest.mark.parametrize("split", SPLITS)
def test_luthier_reads_every_question_without_a_repair(split):
    rows = list(READERS.get("json")(DataFile(MEDICAL / f"{split}.json")))
    assert len(rows) == SPLITS[split][1]
    for row in rows:
        assert isinstance(row, Row)
        example = QuestionAnswering().parse(row)
        assert example.remark == ""
        assert bool(example.answers) != row["is_impossible"]


@pytest.mark.parametrize(("split", "count"), [("train", 20), ("test", 8)])
def test_support_tickets_are_balanced_over_three_labels(split, count):
    with (SHIPPED / "support_tickets" / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
        labels = Counter(row["label"] for row in csv.DictReader(stream))
    assert labels == {"billing": count, "technical": count, "account": count}


def test_no_support_ticket_stands_twice():
    texts = []
    for split in ("train", "test"):
        with (SHIPPED / "support_tickets" / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            texts += [row["text"].casefold() for row in csv.DictReader(stream)]
    assert len(texts) == len(set(texts)) == 84


@pytest.mark.parametrize(("split", "sentences", "documents"), [("train", 60, 15), ("test", 20, 5)])
def test_people_and_places_has_sound_tags_in_short_documents(split, sentences, documents):
    rows = list(READERS.get("conll")(DataFile(SHIPPED / "people_and_places" / f"{split}.conll")))
    assert len(rows) == sentences
    assert set(Counter(row.document for row in rows).values()) == {4}
    assert len({row.document for row in rows}) == documents
    types = set()
    for row in rows:
        before = "O"
        for tag in row["tags"]:
            assert not tag.startswith("I-") or before[2:] == tag[2:], row["tokens"]
            types.add(tag.partition("-")[2])
            before = tag
    assert types == {"", "PER", "LOC", "ORG"}
