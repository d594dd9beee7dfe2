"""Learning-rate schedules."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from loop.learning_rate import LR_SCHEDULERS, learning_rate_factor


def test_learning_rate_warms_up_and_ends_at_zero():
    assert learning_rate_factor("constant", 4, 10, 0.9) == 1
    assert learning_rate_factor("constant_with_warmup", 4, 10, 0.9) == 0.5
    assert learning_rate_factor("linear", 100, 10, 0.25) == 0.75
    assert learning_rate_factor("cosine", 100, 10, 0.5) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 100, 10, 1.0) == 0
    assert learning_rate_factor("cosine_with_restarts", 100, 10, 1.0, num_cycles=2) == 0


@pytest.mark.parametrize("scheduler", LR_SCHEDULERS)
def test_learning_rates_equal_those_of_diffusers(scheduler):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(scheduler, optimizer, num_warmup_steps=0, num_training_steps=20, num_cycles=2, power=2.0)
    for step in range(20):
        factor = learning_rate_factor(scheduler, step, 0, step / 20, num_cycles=2, power=2.0)
        assert factor == pytest.approx(schedule.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        schedule.step()
