"""Compared with rouge_score's own tokenizer where that one can read the text."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from luthier.metrics import rouge

KINDS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def ascii_text(rng: np.random.Generator) -> str:
    words = ["The", "the", "cat", "CAT's", "sat_on", "mat.", "3.14", "e-mail", "--", "\t", "(no)", "a\nb", "\x1f"]
    return " ".join(rng.choice(words, size=rng.integers(0, 12)))


def test_ascii_text_scores_as_rouge_score_scores_it():
    rng = np.random.default_rng(0)
    scorer = RougeScorer(list(KINDS.values()), use_stemmer=False)
    different = set()
    for _ in range(300):
        prediction, references = ascii_text(rng), [ascii_text(rng) for _ in range(rng.integers(1, 4))]
        expected = scorer.score_multi(references, prediction)
        found = rouge.counts(prediction, references)
        assert found == {name: expected[kind].fmeasure for name, kind in KINDS.items()}
        different.add(found["rouge_l"])
    assert len(different) > 50


def test_every_ascii_character_is_read_as_rouge_score_reads_it():
    every = "".join(f"x{chr(point)}y " for point in range(128))
    scorer = RougeScorer(["rouge1"], use_stemmer=False)
    for point in range(128):
        text = f"x{chr(point)}y"
        assert rouge.counts(text, [every])["rouge_1"] == scorer.score(every, text)["rouge1"].fmeasure


@pytest.mark.parametrize("text", ["今天天气很好", "今日は晴れ", "вот и всё", "คนไทย", "हिन्दी भाषा है"])
def test_a_text_of_any_script_equals_itself(text):
    assert rouge.counts(text, [text]) == {"rouge_1": 1.0, "rouge_2": 1.0, "rouge_l": 1.0}


def test_chinese_counts_by_characters():
    # Four characters against six: four, two pairs, and a common sequence of three stand in both.
    scores = rouge.counts("天气今好", ["今天天气很好"])
    assert scores["rouge_1"] == pytest.approx(2 * 4 / (4 + 6))
    assert scores["rouge_2"] == pytest.approx(2 * 1 / (3 + 5))
    assert scores["rouge_l"] == pytest.approx(2 * 3 / (4 + 6))


def test_each_measure_takes_the_reference_that_is_best_for_it():
    scores = rouge.counts("a b c d", ["d c b a", "a b x y z"])
    assert scores["rouge_1"] == 1.0
    assert scores["rouge_2"] == pytest.approx(2 * 1 / (3 + 4))
    assert scores["rouge_l"] == pytest.approx(2 * 2 / (4 + 5))


@pytest.mark.parametrize(("prediction", "reference"), [("", "a"), ("a", ""), ("", ""), ("!", "?")])
def test_without_words_the_score_is_zero(prediction, reference):
    assert rouge.counts(prediction, [reference]) == {"rouge_1": 0.0, "rouge_2": 0.0, "rouge_l": 0.0}
