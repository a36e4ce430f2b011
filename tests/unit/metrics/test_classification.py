import time
import warnings
from collections import Counter

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn import metrics as oracle

from luthier.metrics import classification as ours

LABELS = ["a", "b", "c", "d", "e/f"]


def summed(rows) -> Counter:
    total: Counter = Counter()
    for row in rows:
        total.update(row)
    return total


@pytest.mark.parametrize("seed", range(20))
def test_single_label_scores_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    used = LABELS[: rng.integers(1, 6)]
    gold, found = (rng.choice(used, size=int(rng.integers(1, 40))).tolist() for _ in range(2))
    found = (found * 40)[: len(gold)]
    total = summed(ours.label_counts([g], [f]) for g, f in zip(gold, found, strict=True))
    scores = ours.single_label(total)
    assert scores["accuracy"] == pytest.approx(oracle.accuracy_score(gold, found))
    assert scores["macro_f1"] == pytest.approx(oracle.f1_score(gold, found, average="macro", zero_division=0))
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(gold, found, labels=used, zero_division=0)
    for place, label in enumerate(used):
        tp, fp, fn = ours.by_label(total).get(label, (0, 0, 0))
        assert ours.ratio(tp, tp + fp) == pytest.approx(precision[place])
        assert ours.ratio(tp, tp + fn) == pytest.approx(recall[place])
        assert ours.f1(tp, fp, fn) == pytest.approx(f1[place])


@pytest.mark.parametrize("seed", range(20))
def test_multi_label_scores_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    gold, found = (rng.random((30, 5)) < rng.choice([0.0, 0.2, 0.5]) for _ in range(2))
    rows = []
    for g, f in zip(gold, found, strict=True):
        wanted, got = ([label for label, on in zip(LABELS, row, strict=True) if on] for row in (g, f))
        rows.append(ours.label_counts(wanted, got))
    scores = ours.multi_label(summed(rows))
    seen = gold.any(axis=0) | found.any(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = oracle.f1_score(gold[:, seen], found[:, seen], average="macro", zero_division=0) if seen.any() else 0.0
        micro = oracle.precision_recall_fscore_support(gold, found, average="micro", zero_division=0)[:3]
    assert scores["macro_f1"] == pytest.approx(macro)
    assert (scores["precision"], scores["recall"], scores["f1"]) == pytest.approx(micro)
    assert scores["accuracy"] == pytest.approx((gold == found).all(axis=1).mean())


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (50.0, 10.0), (2000.0, 3.0), (0.0, 1e-7), (1e6, 1e-3)])
@pytest.mark.parametrize("seed", range(4))
def test_regression_scores_are_those_of_scikit_learn_and_scipy(seed, offset, scale):
    rng = np.random.default_rng(seed)
    gold = offset + scale * rng.normal(size=30)
    found = gold + 0.3 * scale * rng.normal(size=30)
    rows = zip(gold.tolist(), found.tolist(), strict=True)
    scores = ours.regression(summed(ours.regression_counts(g, f, offset=offset, scale=scale) for g, f in rows))
    assert scores["pearson"] == pytest.approx(pearsonr(gold, found).statistic, rel=1e-6)
    assert scores["r2"] == pytest.approx(oracle.r2_score(gold, found), rel=1e-6)
    assert scores["mean_absolute_error"] == pytest.approx(oracle.mean_absolute_error(gold, found))
    assert scores["rmse"] == pytest.approx(oracle.mean_squared_error(gold, found) ** 0.5)


@pytest.mark.parametrize("value", [0.1, 3.3, 1e5 / 3])
def test_numbers_that_do_not_vary_have_no_correlation(value):
    scores = ours.regression(summed(ours.regression_counts(g, value) for g in (0.1, 0.7, 1e5 / 7)))
    assert scores["pearson"] == 0
    scores = ours.regression(summed(ours.regression_counts(value, f) for f in (0.1, 0.7, 1e5 / 7)))
    assert (scores["pearson"], scores["r2"]) == (0, 0)


def test_a_perfect_line_correlates_by_one_at_most():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.normal(size=5)
        for sign in (1, -1):
            total = summed(ours.regression_counts(value, sign * value / 3) for value in values.tolist())
            assert ours.regression(total)["pearson"] == pytest.approx(sign)
            assert abs(ours.regression(total)["pearson"]) <= 1


@pytest.mark.parametrize("summarize", [ours.single_label, ours.multi_label, ours.regression])
def test_no_rows_give_zeros(summarize):
    assert set(summarize({}).values()) == {0.0}


def test_a_thousand_summaries_of_77_labels_take_half_a_second_at_most():
    total = {f"{kind}/label {n}": float(n) for n in range(77) for kind in ("tp", "fp", "fn")} | {"n": 77.0, "hits": 3.0}
    began = time.process_time()
    for _ in range(1000):
        ours.single_label(total)
    assert time.process_time() - began < 0.5
