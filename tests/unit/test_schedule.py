import itertools

import pytest
import torch
import transformers

from luthier.schedule import SCHEDULES, learning_rate

ORACLES = {
    "linear": transformers.get_linear_schedule_with_warmup,
    "cosine": transformers.get_cosine_schedule_with_warmup,
    "inverse_sqrt": lambda optimizer, num_warmup_steps, num_training_steps: transformers.get_inverse_sqrt_schedule(
        optimizer, num_warmup_steps
    ),
}


@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (10, 3), (7, 7), (1, 0)])
def test_the_rate_of_every_step_is_that_of_transformers(name, total, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    oracle = ORACLES[name](optimizer, num_warmup_steps=warmup, num_training_steps=total)
    for step in range(total):
        rate = learning_rate(step, peak=0.3, total=total, warmup=warmup, decay=SCHEDULES.get(name))
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()


def test_every_schedule_begins_at_the_peak_after_warmup_and_never_rises():
    for name in SCHEDULES:
        rates = [learning_rate(step, peak=1.0, total=40, warmup=5, decay=SCHEDULES.get(name)) for step in range(41)]
        assert rates[5] == 1.0
        assert all(later <= earlier for earlier, later in itertools.pairwise(rates[5:]))


def test_the_inverse_root_is_half_the_peak_after_four_times_the_warmup():
    assert learning_rate(20, peak=1.0, total=100, warmup=5, decay=SCHEDULES.get("inverse_sqrt")) == pytest.approx(0.5)


def test_constant_stays_at_the_peak_after_warmup():
    rates = [learning_rate(step, peak=1.0, total=6, warmup=2, decay=SCHEDULES.get("constant")) for step in range(6)]
    assert rates == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
