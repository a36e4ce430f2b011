import pytest

from luthier.metrics import Score
from luthier.report.formats import (
    bytes_text,
    metric_name,
    metric_value,
    number,
    plural,
    rate,
    score_text,
    seconds_text,
    visible,
)


def test_scores_have_three_digits_and_bleu_one():
    assert metric_value("accuracy", 0.96249) == "0.962"
    assert metric_value("bleu", 31.449) == "31.4"
    assert metric_value("loss", 0.1) == "0.100"
    assert score_text("f1", Score(0.5, 0.25, 0.75, 9)) == "0.500 (0.250 to 0.750)"
    assert score_text("f1", Score(0.5, None, None, 0)) == "0.500"


def test_zero_has_no_sign_and_infinity_is_said():
    assert number(-0.0001) == "0.000"
    assert number(-0.0006) == "-0.001"
    assert number(float("nan")) == "not finite"


@pytest.mark.parametrize(
    ("value", "text"), [(3e-4, "3e-4"), (2.713e-5, "2.71e-5"), (1.0, "1e0"), (0.0, "0"), (2.996e-4, "3e-4")]
)
def test_learning_rates_are_short(value: float, text: str):
    assert rate(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.04, "4.0 s"),
        (9.96, "10 s"),
        (48.4, "48 s"),
        (59.7, "1 min 00 s"),
        (134, "2 min 14 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_times_are_for_people(seconds: float, text: str):
    assert seconds_text(seconds) == text


def test_names_and_counts_are_for_people():
    assert metric_name("macro_f1") == "macro F1"
    assert metric_name("some_new_metric") == "some new metric"
    assert plural(1, "row") == "1 row"
    assert plural(12345, "row") == "12,345 rows"
    assert bytes_text(1_912_000_000) == "1.9 GB"
    assert bytes_text(83_000_000) == "83 MB"


def test_controls_are_written_out_and_languages_are_left_alone():
    assert visible("a\u202eb\x1b[0m\u2066\ud800") == "a[U+202E]b[U+001B][0m[U+2066][U+D800]"
    kept = "שלום\u200f عربي 中文 e\u0301 \U0001f469\u200d\U0001f52c\ttab\nline"
    assert visible(kept) == kept
    assert visible("a\r\nb") == "a\nb"
