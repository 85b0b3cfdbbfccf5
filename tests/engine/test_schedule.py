"""Learning rates by hand, and seeds."""

import math

import pytest

from ssl_colorize.engine.optimizer import Schedule, regular_drops, step_seed


def test_a_cosine_after_a_linear_warm_up() -> None:
    factors = [Schedule(110, warmup=10)(step) for step in range(110)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == max(factors) == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[35] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert 0 < factors[-1] < 1e-3 and factors[10:] == sorted(factors[10:], reverse=True)


def test_drops_apply_after_the_warm_up_too() -> None:
    schedule = Schedule(10, warmup=3, drops=[(5, 0.1), (8, 0.01)])
    found = [schedule(step) for step in range(10)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_without_a_drop_the_rate_is_constant() -> None:
    assert [Schedule(3, drops=[])(step) for step in range(3)] == [1, 1, 1]


def test_regular_drops() -> None:
    schedule = Schedule(8, drops=regular_drops(3, 0.5, 8))
    assert [schedule(step) for step in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert regular_drops(9, 0.1, 9) == []


def test_a_training_shorter_than_its_warm_up() -> None:
    assert [Schedule(2, warmup=4)(step) for step in range(2)] == pytest.approx([0.2, 0.4])


def test_every_step_and_every_process_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(0, 3, 0), step_seed(1, 3, 0), step_seed(0, 4, 0), step_seed(0, 3, 1)}
    assert len(seeds) == 4 and step_seed(0, 3, 0) in seeds and all(0 <= seed < 2**63 for seed in seeds)
