"""Compared with the official evaluation script of SQuAD 2.0, written out here as it is published."""

import collections
import re
import string

import numpy as np
import pytest

from luthier.metrics import squad


def normalize_answer(s):
    def remove_articles(text):
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    def lower(text):
        return text.lower()

    return white_space_fix(remove_articles(remove_punc(lower(s))))


def get_tokens(s):
    if not s:
        return []
    return normalize_answer(s).split()


def compute_exact(a_gold, a_pred):
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold, a_pred):
    gold_toks = get_tokens(a_gold)
    pred_toks = get_tokens(a_pred)
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def get_raw_scores(answers, prediction):
    gold_answers = [a for a in answers if normalize_answer(a)]
    if not gold_answers:
        gold_answers = [""]
    return max(compute_exact(a, prediction) for a in gold_answers), max(compute_f1(a, prediction) for a in gold_answers)


def find_best_thresh(preds, scores, na_probs, qid_to_has_ans):
    num_no_ans = sum(1 for k in qid_to_has_ans if not qid_to_has_ans[k])
    cur_score = num_no_ans
    best_score = cur_score
    best_thresh = 0.0
    qid_list = sorted(na_probs, key=lambda k: na_probs[k])
    for qid in qid_list:
        if qid not in scores:
            continue
        if qid_to_has_ans[qid]:
            diff = scores[qid]
        elif preds[qid]:
            diff = -1
        else:
            diff = 0
        cur_score += diff
        if cur_score > best_score:
            best_score = cur_score
            best_thresh = na_probs[qid]
    return 100.0 * best_score / len(scores), best_thresh


PIECES = [
    "The",
    "a",
    "an",
    "cat",
    "Cat's",
    "42",
    "U.S.",
    "—",
    "...",
    "",
    " ",
    "\t",
    "naïve",
    "北京",
    "大学",
    "the,cat",
    "AN",
    "é",
    "(b)",
]


@pytest.mark.parametrize("seed", range(200))
def test_scores_are_those_of_the_official_script(seed):
    rng = np.random.default_rng(seed)

    def text():
        return " ".join(rng.choice(PIECES, size=int(rng.integers(0, 5))).tolist())

    for _ in range(20):
        references, predicted = [text() for _ in range(int(rng.integers(0, 4)))], text()
        exact, f1 = get_raw_scores(references, predicted)
        assert squad.exact_match(predicted, references) == exact
        assert squad.f1(predicted, references) == pytest.approx(f1)


@pytest.mark.parametrize("seed", range(100))
def test_the_best_threshold_is_that_of_the_official_script(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    difference = rng.normal(size=count).round(6)
    answerable = rng.random(count) < 0.6
    score = np.where(answerable, rng.random(count).round(2), 0.0)
    names = range(count)
    best, threshold = find_best_thresh(
        dict.fromkeys(names, "some answer"), dict(zip(names, score, strict=True)),
        dict(zip(names, difference, strict=True)), dict(zip(names, answerable, strict=True)),
    )  # fmt: skip
    found, total = squad.best_threshold(zip(difference.tolist(), score.tolist(), answerable.tolist(), strict=True))
    assert found == pytest.approx(threshold)
    assert 100 * total / count == pytest.approx(best)
