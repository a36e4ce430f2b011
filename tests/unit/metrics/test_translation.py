"""Compared with sacrebleu's own corpus scores, to the last digit."""

import importlib.util
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from luthier.metrics.translation import TranslationScorer, bleu_tokenizer, copied

ALPHABETS = {
    None: ["the", "The", "cat", "sat,", "on", "mat.", "3.5", "won't", "(it)", "&amp;", "l'été", " ."],
    "zh_CN": ["今天", "天气", "很", "好。", "GPU", "A股", "2024年", " ", "，"],
    "tha_Thai": ["ที่", "นี่", "ไทย", "คน", " "],
}


def corpus(rng: np.random.Generator, language: str | None, references: int) -> tuple[list[str], list[list[str]]]:
    glue = " " if language is None else ""
    pieces = ALPHABETS[language]

    def sentence() -> str:
        return glue.join(rng.choice(pieces, size=rng.integers(0, 9)))

    rows = int(rng.integers(1, 6))
    hypotheses = [sentence() for _ in range(rows)]
    # Some references are the hypothesis and a little more, so that long sequences agree too.
    return hypotheses, [
        [h + glue + sentence() if rng.random() < 0.5 else sentence() for h in hypotheses] for _ in range(references)
    ]


def summed(scorer: TranslationScorer, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for hypothesis, *row in zip(hypotheses, *references, strict=True):
        total.update(scorer.counts(hypothesis, row))
    return dict(total)


@pytest.mark.parametrize(("language", "tokenizer"), [(None, "13a"), ("zh_CN", "zh"), ("tha_Thai", "char")])
@pytest.mark.parametrize("references", [1, 3])
def test_scores_of_sums_are_sacrebleus_corpus_scores(language, tokenizer, references):
    rng = np.random.default_rng(references)
    scorer, bleu, chrf = TranslationScorer(language), BLEU(tokenize=tokenizer, force=True), CHRF()
    positive = 0
    for _ in range(100):
        hypotheses, streams = corpus(rng, language, references)
        total = summed(scorer, hypotheses, streams)
        assert scorer.bleu(total) == bleu.corpus_score(hypotheses, streams).score
        assert scorer.chrf(total) == chrf.corpus_score(hypotheses, streams).score
        positive += 0 < scorer.bleu(total) < 100
    assert positive > 50


def test_a_resampled_sum_is_the_score_of_the_resampled_corpus():
    hypotheses = ["the cat sat on the mat.", "a dog", "", "it won't sat on the"]
    references = ["The cat sat on the mat.", "two dogs", "nothing", "it won't sit on the mat"]
    scorer, draws = TranslationScorer("fr"), [2, 0, 1, 3]
    total: Counter[str] = Counter()
    for times, hypothesis, reference in zip(draws, hypotheses, references, strict=True):
        total.update({key: float(times * value) for key, value in scorer.counts(hypothesis, [reference]).items()})
    drawn = [np.repeat(texts, draws).tolist() for texts in (hypotheses, references)]
    assert scorer.bleu(total) == BLEU(force=True).corpus_score(drawn[0], [drawn[1]]).score > 0
    assert scorer.chrf(total) == CHRF().corpus_score(drawn[0], [drawn[1]]).score > 0


def test_the_counts_of_a_row_by_hand():
    counts = TranslationScorer().counts("a cat sat", ["a cat sat down"])
    lengths = {"bleu_hyp_len": 3, "bleu_ref_len": 4}
    correct = {f"bleu_correct_{n}": value for n, value in enumerate((3, 2, 1, 0), 1)}
    total = {f"bleu_total_{n}": value for n, value in enumerate((3, 2, 1, 0), 1)}
    chrf = {}
    for n in range(1, 7):  # "acatsat" and "acatsatdown", without blanks
        chrf |= {f"chrf_hyp_{n}": 8 - n, f"chrf_ref_{n}": 12 - n, f"chrf_match_{n}": 8 - n}
    assert counts == {**lengths, **correct, **total, **chrf}
    assert TranslationScorer().length_ratio(counts) == 0.75


@pytest.mark.parametrize("total", [{}, TranslationScorer().counts("", [""]), TranslationScorer().counts("", ["a cat"])])
def test_nothing_written_scores_zero(total):
    scorer = TranslationScorer()
    assert (scorer.bleu(total), scorer.chrf(total), scorer.length_ratio(total)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        *((code, "zh") for code in ("zh", "zho", "ZH", "zh_CN", "zh-Hant-TW", "zho_Hans", "cmn_Hant", "yue_Hant")),
        *((code, "char") for code in ("th", "tha_Thai", "lo", "km", "my")),
        *((code, "13a") for code in (None, "", "en", "fr_XX", "pt-BR", "eng_Latn", "za", "zhx", "hi")),
    ],
)
def test_the_language_chooses_the_tokenizer(language, expected):
    assert bleu_tokenizer(language) == expected


@pytest.mark.parametrize(("codes", "wanted"), [(("ja", "ja_XX", "jpn_Jpan"), "ja-mecab"), (("ko", "kor_Hang"), "ko-mecab")])
def test_japanese_and_korean_go_by_words_where_the_packages_are_there_else_by_characters(monkeypatch, codes, wanted):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert {bleu_tokenizer(code) for code in codes} == {wanted}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in {"MeCab", "mecab_ko"} else None)
    assert {bleu_tokenizer(code) for code in codes} == {"char"}


def test_the_signatures_are_sacrebleus_own():
    for language, tokenizer in ((None, "13a"), ("zh", "zh"), ("th", "char")):
        bleu, chrf = BLEU(tokenize=tokenizer), CHRF()
        for metric in (bleu, chrf):
            metric.corpus_score(["a cat"], [["a cat"]])
        expected = {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
        assert TranslationScorer(language).signatures() == expected
        assert f"tok:{tokenizer}|" in expected["bleu"]


def test_a_copy_is_the_source_but_for_case_and_white_space():
    assert copied("Open  File", "open file\n")
    assert not copied("Open file", "Open file.")
