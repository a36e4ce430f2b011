import pytest

from luthier.metrics import written


def summarized(*texts: str) -> dict[str, float]:
    total: dict[str, float] = {}
    for text in texts:
        for key, value in written.counts(text).items():
            total[key] = total.get(key, 0.0) + value
    return written.summarize(total)


def test_a_text_without_repetition_is_all_distinct():
    assert summarized("one two three four five") == {"repetition": 0.0, "distinct_1": 1.0, "distinct_2": 1.0}


def test_repetition_is_the_share_of_four_word_sequences_that_stood_before():
    # Nine words have six sequences of four: the last three are the first three again.
    assert summarized("a b c a b c a b c")["repetition"] == pytest.approx(3 / 6)
    assert summarized("no " * 13)["repetition"] == pytest.approx(9 / 10)


def test_distinct_is_the_share_of_different_words_and_pairs():
    scores = summarized("a b a b a")
    assert scores["distinct_1"] == pytest.approx(2 / 5)
    assert scores["distinct_2"] == pytest.approx(2 / 4)


def test_chinese_counts_by_characters():
    assert summarized("好好好好好好")["repetition"] == pytest.approx(2 / 3)
    assert summarized("今天很好")["distinct_1"] == 1.0


def test_punctuation_that_goes_on_and_on_is_repetition():
    assert summarized("... ... ... ... ... ...")["repetition"] == pytest.approx(2 / 3)


def test_what_two_texts_share_is_no_repetition_and_sums_weigh_by_length():
    assert summarized("a b c d e", "a b c d e")["repetition"] == 0.0
    assert summarized("a b c d e", "a b c d e")["distinct_1"] == 1.0
    assert summarized("a a", "b c d e f g h i")["distinct_1"] == pytest.approx(9 / 10)


@pytest.mark.parametrize("texts", [(), ("",), (" \n", "")])
def test_nothing_written_gives_zeros(texts):
    assert summarized(*texts) == {"repetition": 0.0, "distinct_1": 0.0, "distinct_2": 0.0}


def test_an_exact_match_ignores_case_and_white_space_alone():
    assert written.exact_match("  The\nanswer ", "the  ANSWER")
    assert written.exact_match("STRASSE", "straße")
    assert not written.exact_match("the answer.", "the answer")
    assert not written.exact_match("theanswer", "the answer")
