"""Compared with the official evaluation scripts of SQuAD 1.1 and 2.0, written out here as they are published."""

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


def f1_score_v1(prediction, ground_truth):
    prediction_tokens = normalize_answer(prediction).split()
    ground_truth_tokens = normalize_answer(ground_truth).split()
    common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def exact_match_score_v1(prediction, ground_truth):
    return normalize_answer(prediction) == normalize_answer(ground_truth)


def metric_max_over_ground_truths(metric_fn, prediction, ground_truths):
    scores_for_ground_truths = []
    for ground_truth in ground_truths:
        score = metric_fn(prediction, ground_truth)
        scores_for_ground_truths.append(score)
    return max(scores_for_ground_truths)


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


@pytest.mark.parametrize("seed", range(100))
def test_scores_are_those_of_the_official_scripts(seed):
    rng = np.random.default_rng(seed)

    def text():
        return " ".join(rng.choice(PIECES, size=int(rng.integers(0, 5))).tolist())

    for _ in range(20):
        references, predicted = [text() for _ in range(int(rng.integers(0, 4)))], text()
        assert squad.score(predicted, references, no_answer=True) == get_raw_scores(references, predicted)
        if references:  # v1.1 knows no question without an answer
            exact = metric_max_over_ground_truths(exact_match_score_v1, predicted, references)
            f1 = metric_max_over_ground_truths(f1_score_v1, predicted, references)
            assert squad.score(predicted, references, no_answer=False) == (exact, f1)


@pytest.mark.parametrize(
    ("predicted", "references", "first", "second"),
    [
        ("The cat!", ["cat", "dog"], (1, 1), (1, 1)),
        ("the", ["a"], (1, 0), (1, 1)),  # both normalise to nothing
        ("the", ["a", "b c"], (1, 0), (0, 0)),
        ("", [], (1, 1), (1, 1)),
        ("x", [], (0, 0), (0, 0)),
    ],
)
def test_the_versions_differ_only_where_a_text_normalises_to_nothing(predicted, references, first, second):
    assert squad.score(predicted, references, no_answer=False) == first
    assert squad.score(predicted, references, no_answer=True) == second


def attained(threshold, difference, score, answerable):
    """The total score when no answer is given above the threshold."""
    answered = difference <= threshold
    return float(np.where(answerable, score, 0.0)[answered].sum() + np.sum(~answerable & ~answered))


@pytest.mark.parametrize("seed", range(100))
def test_the_best_threshold_is_that_of_the_official_script(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    difference = rng.normal(size=count)
    answerable = rng.random(count) < 0.6
    score = np.where(answerable, rng.random(count), 0.0)
    names = range(count)
    best, threshold = find_best_thresh(
        dict.fromkeys(names, "some answer"), dict(zip(names, score, strict=True)),
        dict(zip(names, difference, strict=True)), dict(zip(names, answerable, strict=True)),
    )  # fmt: skip
    found = squad.best_threshold(zip(difference.tolist(), score.tolist(), answerable.tolist(), strict=True))
    assert 100 * attained(found, difference, score, answerable) / count == pytest.approx(best)
    if 100 * attained(threshold, difference, score, answerable) / count == pytest.approx(best):
        assert found == threshold or found < difference.min() > threshold


@pytest.mark.parametrize("seed", range(50))
def test_no_threshold_is_better_also_where_differences_are_equal(seed):
    rng = np.random.default_rng(seed)
    difference, answerable = rng.integers(-3, 4, 12).astype(float), rng.random(12) < 0.5
    score = rng.random(12) * answerable
    found = squad.best_threshold(zip(difference.tolist(), score.tolist(), answerable.tolist(), strict=True))
    every = [attained(threshold, difference, score, answerable) for threshold in np.arange(-4.5, 5)]
    assert attained(found, difference, score, answerable) == pytest.approx(max(every))


def test_nothing_to_tune_on_leaves_the_threshold_at_0():
    assert squad.best_threshold([]) == 0.0
