import numpy as np
import pytest

from luthier.data.batching import Plan, by_length
from luthier.units import BatchSize


def plan(batch: str, *, rows: int = 23, seed: int = 5) -> tuple[Plan, np.ndarray, np.ndarray]:
    """Rows 0, 3, 6 ... have two features, row 7 has none."""
    rng = np.random.default_rng(0)
    groups = np.asarray([row for row in range(rows) for _ in range(2 if row % 3 == 0 else 1) if row != 7])
    lengths = rng.integers(3, 40, size=len(groups))
    return Plan(groups, lengths, batch=BatchSize.parse(batch), seed=seed), groups, lengths


@pytest.mark.parametrize("batch", ["4 examples", "100 tokens", "1 examples", "1000 examples"])
def test_every_row_with_features_stands_in_exactly_one_step_of_an_epoch(batch):
    made, groups, _ = plan(batch)
    for epoch in range(3):
        seen = [int(groups[made.features(int(row))[0]]) for step in made.epoch(epoch) for row in step.rows]
        assert sorted(seen) == sorted(set(groups.tolist()))


def test_the_order_is_a_function_of_seed_and_epoch():
    first = [step.rows.tolist() for step in plan("4 examples")[0].epoch(1)]
    again = [step.rows.tolist() for step in plan("4 examples")[0].epoch(1)]
    other_epoch = [step.rows.tolist() for step in plan("4 examples")[0].epoch(2)]
    other_seed = [step.rows.tolist() for step in plan("4 examples", seed=6)[0].epoch(1)]
    assert first == again
    assert first != other_epoch
    assert first != other_seed


def test_a_step_of_tokens_holds_at_most_that_many_unless_one_row_is_longer():
    made, _, lengths = plan("60 tokens")
    for step in made.epoch(0):
        tokens = [int(lengths[list(made.features(int(row)))].sum()) for row in step.rows]
        assert sum(tokens) <= 60 or len(tokens) == 1


def test_the_cursor_counts_rows():
    made, _, _ = plan("4 examples")
    steps = made.epoch(0)
    assert [step.before for step in steps] == list(range(0, made.num_rows, 4))
    assert steps[-1].after == made.num_rows


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("max_tokens", [50, 100, 10_000])
def test_micro_batches_hold_each_feature_once_and_keep_rows_together(ranks, max_tokens):
    made, groups, lengths = plan("9 examples")
    for step in made.epoch(0):
        cut = made.micro_batches(step, max_tokens, ranks=ranks)
        assert len(cut) == ranks
        assert len({len(batches) for batches in cut}) == 1, "every rank gets equally many"
        flat = [index for batches in cut for members in batches for index in members]
        assert sorted(flat) == sorted(index for row in step.rows for index in made.features(int(row)))
        where = {}
        for number, members in enumerate(members for batches in cut for members in batches):
            rows = {int(groups[index]) for index in members}
            assert all(where.setdefault(row, number) == number for row in rows), "a row is never split"
            assert sum(int(lengths[index]) for index in members) <= max_tokens or len(rows) == 1


def test_inference_batches_hold_each_index_once_and_respect_the_limit():
    lengths = np.random.default_rng(1).integers(1, 50, size=101).tolist()
    batches = list(by_length(lengths, 128))
    assert sorted(index for batch in batches for index in batch) == list(range(101))
    assert all(sum(lengths[index] for index in batch) <= 128 for batch in batches)
