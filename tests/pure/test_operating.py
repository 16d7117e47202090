"""Random arrivals at a continuous batch: the product form against plain enumeration and against known queues."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.economics.operating import (
    Bounds,
    Curves,
    capacity_per_s,
    closed_loop_at,
    highest_rate,
    met,
    most_held,
    open_loop,
)

GRID = np.unique(np.round(np.geomspace(1, 1024, 40)))


def curves(step_s: float, sequence_s: float, slots: float, output_tokens: float = 100, grid=GRID) -> Curves:
    """Iterations of `step_s + sequence_s * n`, a prompt answered after one of them."""
    tpot = (step_s + sequence_s * grid)[None, :]
    served = grid / (output_tokens * tpot)
    return Curves(grid, served, tpot, tpot, np.array([slots]))


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("slots", [8, 45, 300])
def test_the_grid_agrees_with_counting_every_number_inside(slots, load):
    dense = np.arange(1.0, 1025.0)
    coarse, fine = curves(0.01, 2e-4, slots), curves(0.01, 2e-4, slots, grid=dense)
    rate = load * capacity_per_s(fine)
    weights = np.concatenate([[1.0], np.cumprod(rate / fine.requests_per_s[0, :slots])])
    beyond = weights[-1] * load ** np.arange(1, 4000)
    chance = np.concatenate([weights, beyond]) / (weights.sum() + beyond.sum())
    held = (chance * np.arange(len(chance))).sum()
    tenth = min(int(np.searchsorted(np.cumsum(chance), 0.9)), slots)
    for table, tolerance in ((fine, 0.02), (coarse, 0.06)):
        seen = open_loop(table, rate, 100, 0.9)
        assert seen.held[0] == pytest.approx(held, rel=tolerance, abs=0.1)
        assert seen.tpot_s[0] == pytest.approx(0.01 + 2e-4 * tenth, rel=tolerance)


def test_one_slot_is_the_textbook_queue():
    one = curves(0.01, 0.0, 1)
    rate = 0.8 * capacity_per_s(one)
    seen = open_loop(one, rate, 100, 0.9)
    assert seen.held[0] == pytest.approx(0.8 / 0.2, rel=1e-6)  # M/M/1
    wait = math.log(0.8 / 0.1) / (capacity_per_s(one)[0] - rate[0])
    assert seen.ttft_s[0] == pytest.approx(0.01 + wait, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(
    step_s=st.floats(1e-3, 0.1),
    sequence_s=st.floats(0, 1e-3),
    slots=st.integers(1, 1000),
    first=st.floats(0.01, 0.97),
    second=st.floats(0.01, 0.97),
)
def test_more_requests_are_never_served_faster(step_s, sequence_s, slots, first, second):
    table = curves(step_s, sequence_s, slots)
    rates = sorted((first, second))
    low, high = (open_loop(table, rate * capacity_per_s(table), 100, 0.9) for rate in rates)
    for below, above in zip(low[:-1], high[:-1], strict=True):
        assert below[0] <= above[0] * (1 + 1e-9)
    assert low.idle[0] >= high.idle[0] * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(tpot=st.floats(0.005, 0.3), slots=st.integers(1, 1000))
def test_the_highest_rate_meets_the_bound_and_a_higher_one_does_not(tpot, slots):
    table, bounds = curves(0.01, 2e-4, slots), Bounds(math.inf, tpot, math.inf, 0.9)
    rate = highest_rate(table, 100, bounds)
    held = most_held(table, 100, bounds)
    if tpot < 0.01 + 2e-4:
        assert rate[0] < 1e-4
        assert held[0] == 0
        return
    assert met(open_loop(table, rate, 100, 0.9), bounds)[0]
    assert not met(open_loop(table, rate * 1.01 + 1e-4, 100, 0.9), bounds)[0] or rate[0] > 0.97 * capacity_per_s(table)
    assert met(closed_loop_at(table, held, 100), bounds)[0]


def test_too_high_a_rate_takes_for_ever():
    table = curves(0.01, 2e-4, 64)
    seen = open_loop(table, 1.2 * capacity_per_s(table), 100, 0.9)
    assert np.isinf([seen.held[0], seen.tpot_s[0], seen.ttft_s[0], seen.e2e_s[0]]).all()


def test_callers_beyond_the_slots_wait_for_one():
    table = curves(0.01, 0.0, 10)
    few, many = (closed_loop_at(table, np.array([held]), 100) for held in (10.0, 30.0))
    assert few.tpot_s[0] == many.tpot_s[0] == pytest.approx(0.01)
    assert many.ttft_s[0] - few.ttft_s[0] == pytest.approx(20 / capacity_per_s(table)[0])
