import numpy as np
import pytest

from luthier.metrics.bootstrap import Bootstrap, paired_interval


def accuracy(total):
    return {"accuracy": total.get("hits", 0.0) / total["n"] if total.get("n") else 0.0}


def filled(hits, *, units=None) -> Bootstrap:
    bootstrap = Bootstrap()
    for row, hit in enumerate(hits):
        bootstrap.add(str(row if units is None else units[row]), {"n": 1, "hits": float(hit), "~kind": 1})
    return bootstrap


def test_the_interval_of_a_share_is_that_of_the_normal_approximation():
    hits = np.random.default_rng(0).random(2000) < 0.8
    score = filled(hits).scores(accuracy)["accuracy"]
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 2000)
    assert score.value == hits.mean()
    assert score.n == 2000
    assert score.low == pytest.approx(hits.mean() - half, abs=0.003)
    assert score.high == pytest.approx(hits.mean() + half, abs=0.003)


def test_rows_of_one_document_are_drawn_together():
    hits = np.repeat(np.random.default_rng(1).random(50) < 0.5, 20)
    alone = filled(hits).scores(accuracy)["accuracy"]
    together = filled(hits, units=np.repeat(np.arange(50), 20)).scores(accuracy)["accuracy"]
    assert together.n == 50
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_the_order_of_rows_does_not_matter():
    hits = np.random.default_rng(2).random(700) < 0.3
    order = np.random.default_rng(3).permutation(700)
    first, second = filled(hits), filled(hits[order], units=order)
    assert first.scores(accuracy)["accuracy"].low == pytest.approx(second.scores(accuracy)["accuracy"].low)


def test_a_paired_interval_is_narrower_than_two_apart_and_excludes_zero_for_a_true_gain():
    rng = np.random.default_rng(4)
    base = rng.random(1000) < 0.7
    better = base | (rng.random(1000) < 0.2)
    low, high = paired_interval(filled(better), filled(base), accuracy, "accuracy")
    assert 0 < low < better.mean() - base.mean() < high
    score = filled(better).scores(accuracy)["accuracy"]
    assert high - low < score.high - score.low


def test_a_system_against_itself_differs_by_nothing():
    hits = np.random.default_rng(5).random(300) < 0.5
    assert paired_interval(filled(hits), filled(hits), accuracy, "accuracy") == (0.0, 0.0)


def test_no_rows_give_no_interval():
    score = Bootstrap().scores(accuracy)["accuracy"]
    assert (score.value, score.low, score.high, score.n) == (0.0, None, None, 0)


def test_totals_keep_keys_that_are_never_resampled():
    bootstrap = filled([1, 0, 1])
    assert bootstrap.totals["~kind"] == 3
    seen = []
    bootstrap.replicates(lambda total: seen.append(set(total)) or accuracy(total))
    assert {"n", "hits"} in seen[:-1]
    assert all("~kind" not in keys for keys in seen[:-1])


def test_merged_sums_are_those_of_adding_each_row_twice():
    first, second = np.random.default_rng(6).random((2, 300)) < 0.5
    merged, added = Bootstrap(), Bootstrap()
    merged.merge([filled(first), filled(second)])
    for hits in (first, second):
        for row, hit in enumerate(hits):
            added.add(str(row), {"n": 1, "hits": float(hit), "~kind": 1})
    assert merged.totals == added.totals
    assert merged.num_units == added.num_units == 300
    np.testing.assert_allclose(merged.replicates(accuracy)["accuracy"], added.replicates(accuracy)["accuracy"])
