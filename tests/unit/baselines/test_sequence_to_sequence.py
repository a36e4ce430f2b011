from dataclasses import dataclass

import pytest

from luthier.baselines.sequence_to_sequence import Copy, Lead


@dataclass(frozen=True)
class Pair:
    source: str
    target: str | None = None


def lead(source: str, targets: list[str | None]) -> str:
    baseline = Lead()
    baseline.fit([Pair("unread", target) for target in targets])
    prediction = baseline.predict(Pair(source))
    assert prediction["finish_reason"] == "stop"
    return prediction["text"]


def test_a_copy_is_the_source_to_the_letter():
    baseline = Copy()
    baseline.fit([])
    assert baseline.predict(Pair(" Open  file\n", "Abrir")) == {"text": " Open  file\n", "finish_reason": "stop"}


STORY = "Rates rose again on Monday. Shares fell by 2.5 percent! Why? Nobody knows."


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (1, "Rates rose again on Monday."),
        (7, "Rates rose again on Monday."),
        (9, "Rates rose again on Monday. Shares fell by 2.5 percent!"),
        (12, "Rates rose again on Monday. Shares fell by 2.5 percent! Why?"),
        (99, STORY),
    ],
)
def test_the_lead_has_the_sentences_that_come_closest_to_the_usual_length(words, expected):
    assert lead(STORY, ["word " * words]) == expected


def test_the_usual_length_is_the_mean_over_rows_with_a_target():
    assert lead("One two. Three four. Five six. Seven.", ["a b", "a b c d e f", None]) == "One two. Three four."


def test_without_targets_the_lead_is_the_first_sentence():
    assert lead(STORY, [None]) == "Rates rose again on Monday."


def test_chinese_sentences_end_without_a_blank_and_count_by_characters():
    assert lead("今天下雨。我们在家。明天晴天！", ["八个字的一个摘要"]) == "今天下雨。我们在家。"


def test_a_line_ends_a_sentence_and_what_lies_between_stays_as_it_is():
    assert lead("\n Headline here\n\n  “He said so.”  Then left.", ["a b c d e"]) == "Headline here\n\n  “He said so.”"


def test_nothing_gives_nothing():
    assert lead("", ["a b"]) == ""
