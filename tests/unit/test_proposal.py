"""What `luthier init` proposes for files of all kinds, and that a run would take it."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from luthier.cli import app
from luthier.config import load_config
from luthier.engines.engine import Choice
from luthier.errors import InputError
from luthier.proposal import Proposal, propose
from luthier.proposal_pairs import named

WORDS = ("a", "customer", "wrote", "that", "parcel", "came", "late", "box", "was", "open", "when", "it", "arrived", "door")


def text(number: int) -> str:
    return " ".join(random.Random(number).choices(WORDS, k=8)) + f" {number}"


def table(path: Path, names: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([names, *rows] if names else rows)
    return path


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def proposed(path: Path, **options: Any) -> Proposal:
    """Propose, and check that the YAML says the same as the values and is a config."""
    proposal = propose(path, **options)
    assert yaml.safe_load(proposal.yaml) == proposal.config
    written = path.with_name("proposed.yaml")
    written.write_text(proposal.yaml, encoding="utf-8")
    config = load_config(written)
    name = proposal.config["task"]
    assert config.task.name == (name if isinstance(name, str) else name["name"])
    assert all("\n" not in line for line in proposal.explanation)
    return proposal


def tickets(path: Path, count: int = 60) -> Path:
    return table(
        path, ["text", "label"], [[text(number), ["billing", "delivery", "login"][number % 3]] for number in range(count)]
    )


# Tasks


def test_text_with_few_labels_is_classification(tmp_path: Path):
    proposal = proposed(tickets(tmp_path / "my.csv"))
    assert proposal.config == {
        "task": "text-classification",
        "model": "minilm",
        "data": {"train": str(tmp_path / "my.csv"), "validation": "10%"},
        "train": {"duration": "10 epochs", "batch": "32 examples"},
    }
    assert proposal.explanation[0] == 'Text in "text", 3 labels in "label" (billing, delivery, login): text classification.'


def test_columns_of_other_names_are_mapped_and_the_rest_is_named(tmp_path: Path):
    rows = [[number, number % 50, text(number), "spam" if number % 4 else "fine"] for number in range(60)]
    proposal = proposed(table(tmp_path / "my.csv", ["id", "score", "Mail", "Verdict"], rows))
    assert proposal.config["data"]["columns"] == {"text": "Mail", "label": "score"}
    rows = [[number, row[2], row[3]] for number, row in enumerate(rows)]
    proposal = proposed(table(tmp_path / "my.csv", ["id", "Mail", "Verdict"], rows))
    assert proposal.config["data"]["columns"] == {"text": "Mail", "label": "Verdict"}
    assert "Not used: id." in proposal.explanation


def test_the_better_name_wins_wherever_it_stands(tmp_path: Path):
    rows = [[number % 5, text(number), "ab"[number % 2]] for number in range(60)]
    proposal = proposed(table(tmp_path / "my.csv", ["stars", "text", "sentiment"], rows))
    assert proposal.config["data"]["columns"] == {"label": "sentiment"}


@pytest.mark.parametrize("values", [[0.5, 3.25, 4.0], ["0.5", "2", "7.5"]])
def test_fractions_are_regression(values: list[Any], tmp_path: Path):
    rows = [{"text": text(number), "label": values[number % 3]} for number in range(30)]
    proposal = proposed(lines(tmp_path / "my.jsonl", rows))
    assert proposal.config["task"] == "text-classification"
    assert "regression" in proposal.explanation[0]


def test_stars_are_labels_and_many_whole_numbers_an_amount(tmp_path: Path):
    stars = proposed(table(tmp_path / "s.csv", ["review", "stars"], [[text(n), n % 5 + 1] for n in range(300)]))
    assert stars.config["task"] == "text-classification"
    assert "5 labels" in stars.explanation[0]
    prices = proposed(table(tmp_path / "p.csv", ["text", "label"], [[text(n), n * 10] for n in range(300)]))
    assert prices.config["task"] == {"name": "text-classification", "objective": "squared_error"}


def test_lists_are_several_labels(tmp_path: Path):
    rows = [{"text": text(number), "labels": ["joy", "fear"][: number % 3]} for number in range(30)]
    proposal = proposed(lines(tmp_path / "my.jsonl", rows))
    assert proposal.config["task"] == "text-classification"
    assert "several labels" in proposal.explanation[0]


def test_labels_joined_in_a_cell_are_several_but_a_comma_in_a_name_is_not(tmp_path: Path):
    joined = ["joy|fear", "joy", "fear", "joy|anger", "anger", "fear|anger"]
    proposal = proposed(table(tmp_path / "a.csv", ["text", "label"], [[text(n), joined[n % 6]] for n in range(60)]))
    assert proposal.config["task"] == {
        "name": "text-classification",
        "objective": "binary_cross_entropy",
        "separator": "|",
    }
    places = ["Paris, France", "Lyon, France", "Rome, Italy"]
    proposal = proposed(table(tmp_path / "b.csv", ["text", "label"], [[text(n), places[n % 3]] for n in range(60)]))
    assert proposal.config["task"] == "text-classification"


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("question1", "question2"), ("sentence_a", "sentence_b")])
def test_two_columns_of_a_kind_are_a_pair(names: tuple[str, str], tmp_path: Path):
    rows = [[text(number), text(number + 1000), number % 2] for number in range(60)]
    proposal = proposed(table(tmp_path / "my.csv", [*names, "label"], rows))
    assert proposal.config["data"]["columns"] == {"text": names[0], "text_pair": names[1]}


def test_conll_is_tagging(tmp_path: Path):
    path = tmp_path / "my.conll"
    path.write_text("Anna\tB-PER\nlives\tO\nin\tO\nRome\tB-LOC\n\nShe\tO\nleft\tO\n", encoding="utf-8")
    proposal = proposed(path)
    assert proposal.config["task"] == "token-classification"
    assert proposal.explanation[0] == "Words with tags (PER, LOC): tagging."
    assert "columns" not in proposal.config["data"]


def test_conll_whose_last_column_holds_no_tags_is_refused(tmp_path: Path):
    path = tmp_path / "my.conll"
    path.write_text("".join(f"w{number}\tO\tlemma{number}\n" for number in range(80)), encoding="utf-8")
    with pytest.raises(InputError, match=r"80 different tags.*tag_column"):
        propose(path)
    path.write_text("only\nwords\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="no tags"):
        propose(path)


def test_spans_are_tagging_and_chinese_asks_for_many_languages(tmp_path: Path):
    row = {"text": "张三去了北京。", "spans": [{"start": 0, "end": 2, "label": "PER"}]}
    proposal = proposed(lines(tmp_path / "my.jsonl", [row, {"text": "没有名字。", "spans": []}]))
    assert proposal.config["task"] == "token-classification"
    assert proposal.config["model"] == "e5-multilingual"


def test_squad_and_flat_questions_are_question_answering(tmp_path: Path):
    answers = [{"text": "Rome", "answer_start": 9}]
    paragraph = {"context": "He is in Rome.", "qas": [{"id": "1", "question": "Where?", "answers": answers}]}
    squad = tmp_path / "squad.json"
    squad.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]}), encoding="utf-8")
    assert proposed(squad).config["task"] == "question-answering"
    flat = [{"query": "Where?", "passage": "He is in Rome.", "answer": "Rome"}]
    proposal = proposed(lines(tmp_path / "flat.jsonl", flat))
    assert proposal.config["task"] == "question-answering"
    assert proposal.config["data"]["columns"] == {"question": "query", "context": "passage"}
    with pytest.raises(InputError, match="no answers"):
        propose(lines(tmp_path / "none.jsonl", [{"question": "Where?", "context": "He is in Rome."}]))


# Texts with their translations


def sentences(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("".join(f"{text(number)}\n" for number in range(20)), encoding="utf-8")


@pytest.mark.parametrize("data", ["train.{en,fr}", "train.en", "train.en train.fr"])
def test_two_files_of_parallel_text_are_a_translation(data: str, tmp_path: Path):
    sentences(tmp_path, "train.en", "train.fr", "test.en", "test.fr", "valid.en", "train.md5", "train.csv")
    proposal = proposed(Path(named([str(tmp_path / name) for name in data.split()])))
    assert proposal.config == {
        "task": {"name": "translation", "source_language": "en", "target_language": "fr"},
        "model": {"name": "new", "architecture": "marian"},
        "data": {"train": f"{tmp_path}/train.{{en,fr}}", "validation": "10%", "test": f"{tmp_path}/test.{{en,fr}}"},
        "train": {"duration": "30 epochs", "batch": "2048 tokens", "learning_rate": 0.001},
    }
    assert "20 rows." in proposal.explanation


def test_the_command_takes_both_files_as_a_shell_writes_braces_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    sentences(tmp_path, "train.en", "train.fr")
    assert CliRunner().invoke(app, ["init", "train.en", "train.fr"]).exit_code == 0
    assert yaml.safe_load(Path("train.yaml").read_text(encoding="utf-8"))["data"]["train"] == "train.{en,fr}"


def test_the_file_that_is_named_is_the_source(tmp_path: Path):
    sentences(tmp_path, "train.bpe.en", "train.bpe.pt", "test.bpe.en", "train.tok.pt")
    proposal = proposed(Path(named([str(tmp_path / "train.bpe.pt")])))
    assert proposal.config["data"]["train"] == f"{tmp_path}/train.bpe.{{pt,en}}"
    assert proposal.config["model"] == "marian-pt-en"


def test_files_whose_names_tell_no_languages_are_a_translation_too(tmp_path: Path):
    sentences(tmp_path, "a.src", "b.tgt", "train.tgt", "train.src")
    for names in (("a.src", "b.tgt"), ("train.src", "train.tgt")):
        proposal = proposed(Path(named([str(tmp_path / name) for name in names])))
        assert proposal.config["task"] == "translation"
        assert "Name the languages in task" in proposal.explanation[0]
        assert "20 rows." in proposal.explanation


def test_messages_of_programs_are_a_translation(tmp_path: Path):
    (tmp_path / "app.po").write_text('msgid "Open"\nmsgstr "Ouvrir"\n\nmsgid "Close"\nmsgstr "Fermer"\n', encoding="utf-8")
    assert proposed(tmp_path / "app.po").config["task"] == "translation"


def test_which_files_belong_together_is_not_guessed(tmp_path: Path):
    sentences(tmp_path, "train.en", "train.fr", "train.de")
    with pytest.raises(InputError, match=r"beside it lie train.de, train.fr. Give both files, .*train.en .*train.de"):
        named([str(tmp_path / "train.en")])
    with pytest.raises(InputError, match="found 3 files"):
        named([str(tmp_path / f"train.{language}") for language in ("en", "fr", "de")])
    sentences(tmp_path, "alone.en")
    with pytest.raises(InputError, match="tells no format"):
        propose(Path(named([str(tmp_path / "alone.en")])))
    (tmp_path / "train.fr").write_text("une ligne\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"train.en has 20 lines, .*train.fr 1"):
        propose(tmp_path / "train.{en,fr}")


# Languages, splits, formats


@pytest.mark.parametrize(
    ("sentence", "model"),
    [
        ("The naïve waiter was late again, and " + "the soup was cold when it came to our table. " * 3, "minilm"),
        ("Das Päckchen kam zu spät, die Schachtel war geöffnet, und niemand hörte zu.", "e5-multilingual"),
        ("Посылка пришла слишком поздно, коробка была открыта.", "e5-multilingual"),
    ],
)
def test_the_letters_choose_the_model(sentence: str, model: str, tmp_path: Path):
    rows = [[f"{sentence} {number}", "ab"[number % 2]] for number in range(20)]
    assert proposed(table(tmp_path / "my.csv", ["text", "label"], rows)).config["model"] == model


@pytest.mark.parametrize(
    ("train", "beside"),
    [
        ("train.csv", {"test": "test.csv", "validation": "dev.csv"}),
        ("my-Train-v1.csv", {"test": "my-Test-v1.csv", "validation": "my-Valid-v1.csv"}),
        ("training.csv", {"test": "testing.csv"}),
        ("news.csv", {"test": "news_test.csv", "validation": "news-dev.csv"}),
    ],
)
def test_the_other_splits_are_found_beside_it(train: str, beside: dict[str, str], tmp_path: Path):
    for name in (train, *beside.values()):
        tickets(tmp_path / name)
    data = proposed(tmp_path / train).config["data"]
    expected = {split: str(tmp_path / name) for split, name in beside.items()}
    assert data == {"train": str(tmp_path / train), "validation": "10%"} | expected


def test_without_a_test_file_it_says_so(tmp_path: Path):
    assert any(line.startswith("No test file") for line in proposed(tickets(tmp_path / "my.csv")).explanation)


def test_a_table_without_a_header_is_seen(tmp_path: Path):
    rows = [[text(number), number % 4] for number in range(60)]
    data = proposed(table(tmp_path / "my.csv", [], rows)).config["data"]
    assert data["format"] == {"name": "csv", "header": False}
    assert data["columns"] == {"text": "1", "label": "2"}


def test_a_header_stays_a_header_where_a_label_is_called_like_its_column(tmp_path: Path):
    rows = [[text(number), ["spam", "fine"][number % 2]] for number in range(60)]
    assert "format" not in proposed(table(tmp_path / "my.csv", ["text", "spam"], rows)).config["data"]


def test_a_format_that_is_given_goes_into_the_config(tmp_path: Path):
    path = tickets(tmp_path / "my.csv").rename(tmp_path / "my.data")
    with pytest.raises(InputError, match="tells no format"):
        propose(path)
    assert proposed(path, format=Choice("csv")).config["data"]["format"] == "csv"


def test_a_file_sorted_by_label_shows_all_its_labels(tmp_path: Path):
    rows = [[text(number), "first" if number < 4000 else "second"] for number in range(5000)]
    proposal = proposed(table(tmp_path / "my.csv", ["text", "label"], rows))
    assert "2 labels" in proposal.explanation[0]
    assert proposal.config["train"]["duration"] == "3 epochs"


def test_bad_rows_are_counted(tmp_path: Path):
    path = tickets(tmp_path / "my.csv")
    path.write_text(path.read_text(encoding="utf-8") + "one,two,three\n", encoding="utf-8")
    assert any(line.startswith("1 rows cannot be used") for line in proposed(path).explanation)


def test_a_line_break_in_a_label_breaks_no_comment(tmp_path: Path):
    rows = [[text(number), ["a\nmodel: evil", "b\x85c", "d\u2028e"][number % 3]] for number in range(60)]
    assert proposed(table(tmp_path / "my.csv", ["text", "label"], rows)).config["model"] == "minilm"


# Refusals


@pytest.mark.parametrize(
    ("names", "row", "message"),
    [
        (["text", "label"], lambda n: [text(n), "same"], 'every label in "label" is "same"'),
        (["text", "label"], lambda n: [text(n), text(n + 500)], "300 different values.*are no labels"),
        (["text", "place", "shop"], lambda n: [text(n), n % 3, n % 4], r"several .*place \(3 values\), shop \(4 values\)"),
        (["text", "id"], lambda n: [text(n), n], "no column looks like a label"),
        (["year", "count"], lambda n: [2000 + n, n % 7], "no column holds text"),
    ],
)
def test_what_is_unclear_is_refused_with_what_was_seen(names: list[str], row: Any, message: str, tmp_path: Path):
    path = table(tmp_path / "my.csv", names, [row(number) for number in range(300)])
    with pytest.raises(InputError, match=message) as caught:
        propose(path)
    assert str(path) in str(caught.value)
    assert ", ".join(names) in str(caught.value)
    assert caught.value.fix


def test_plain_text_has_no_label(tmp_path: Path):
    (tmp_path / "my.txt").write_text("A line of text that says nothing.\nAnother one of them.\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column looks like a label"):
        propose(tmp_path / "my.txt")


def test_a_file_without_a_sound_row_is_refused(tmp_path: Path):
    (tmp_path / "my.jsonl").write_text("no json\n", encoding="utf-8")
    with pytest.raises(InputError, match="no row that can be used; the first"):
        propose(tmp_path / "my.jsonl")
    with pytest.raises(InputError, match="no such file"):
        propose(tmp_path / "none.csv")
