"""Paying by the second and following the demand: held against a simulation, and against the plain ratio of prices."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.duty import Burst, Scaling, Serverless, scaled, serverless_against_dedicated
from farthing.errors import RequestError

bursts = st.builds(lambda duty, busy: Burst(duty / busy, busy), st.floats(0.001, 0.95), st.floats(0.1, 60))
serverless = st.builds(
    Serverless,
    usd_per_s=st.floats(1e-4, 0.01),
    cold_start_s=st.floats(0, 300),
    keep_warm_s=st.floats(0, 900),
    cold_start_billed=st.booleans(),
)


def simulated(burst, offer, requests, seed):
    """Billed share, starts per request and share of requests that wait for a start, request by request."""
    dice = random.Random(seed)
    at = free = billed = 0.0
    ready, starts, cold = -1.0, 0, 0
    for _ in range(requests):
        at += dice.expovariate(burst.requests_per_s)
        if at > free:
            billed += min(at - free, offer.keep_warm_s)
            if at - free > offer.keep_warm_s:
                starts += 1
                ready = at + offer.cold_start_s
                billed += offer.cold_start_s * offer.cold_start_billed
                free = ready
            else:
                free = at
        cold += at < ready
        free += burst.busy_s_per_request
        billed += burst.busy_s_per_request
    return billed / free, starts / requests, cold / requests


@pytest.mark.parametrize("billed", [True, False])
@pytest.mark.parametrize(
    ("rate", "busy", "start", "warm"), [(0.05, 2.0, 20.0, 10.0), (0.2, 3.0, 5.0, 0.0), (0.01, 10.0, 60.0, 120.0)]
)
def test_the_closed_form_is_what_a_simulation_finds(rate, busy, start, warm, billed):
    burst, offer = Burst(rate, busy), Serverless(0.001, start, warm, billed)
    share, starts, cold = simulated(burst, offer, 200_000, seed=7)
    duty = serverless_against_dedicated(burst, offer, 1.0)
    assert duty.billed_share == pytest.approx(share, rel=0.02)
    assert duty.cold_starts_per_day == pytest.approx(86_400 * rate * starts, rel=0.02)
    assert duty.cold_share == pytest.approx(cold, rel=0.02)


@given(bursts, st.floats(0.1, 20))
def test_without_starts_the_break_even_is_the_ratio_of_prices(burst, hourly):
    duty = serverless_against_dedicated(burst, Serverless(0.001, 0.0), hourly)
    assert duty.billed_share == pytest.approx(duty.duty)
    assert duty.cold_share == 0
    ratio = hourly / 3.6
    if ratio >= 1:
        assert duty.break_even_duty is None
        assert duty.serverless_wins
    else:
        assert duty.break_even_duty == pytest.approx(ratio)
        assert duty.break_even_duty_without_starts == pytest.approx(ratio)


@given(bursts, serverless, st.floats(0.05, 30))
def test_both_cost_the_same_at_the_break_even(burst, offer, hourly):
    duty = serverless_against_dedicated(burst, offer, hourly)
    assert duty.duty - 1e-9 <= duty.billed_share <= 1
    assert 0 <= duty.cold_share <= 1
    if duty.break_even_requests_per_s is None:
        assert duty.serverless_wins
        return
    assert duty.break_even_duty <= duty.break_even_duty_without_starts * (1 + 1e-9)
    if not 1e-9 < duty.break_even_duty < 1 - 1e-9:
        return
    rate = duty.break_even_requests_per_s
    same = serverless_against_dedicated(replace(burst, requests_per_s=rate), offer, hourly)
    assert same.serverless_usd_per_day == pytest.approx(same.dedicated_usd_per_day, rel=1e-6)
    rarer = serverless_against_dedicated(replace(burst, requests_per_s=rate * 0.9), offer, hourly)
    assert rarer.serverless_wins


@pytest.mark.parametrize(
    ("burst", "offer", "hourly"),
    [
        (Burst(0, 1), Serverless(0.001, 0), 1), (Burst(1, 1), Serverless(0.001, 0), 1),
        (Burst(0.1, 1), Serverless(None, 0), 1), (Burst(0.1, 1), Serverless(0.001, -1), 1),
        (Burst(0.1, 1), Serverless(0.001, 0), None), (Burst(0.1, 1), Serverless(0.001, 0), 0),
        (Burst(0.1, math.nan), Serverless(0.001, 0), 1), (Burst(0.1, 1), Serverless(0.001, 0, -5), 1),
    ],
)  # fmt: skip
def test_what_cannot_be_weighed_is_refused(burst, offer, hourly):
    with pytest.raises(RequestError) as refused:
        serverless_against_dedicated(burst, offer, hourly)
    assert refused.value.hint


demands = st.lists(st.floats(0, 500), min_size=1, max_size=48)
scalings = st.builds(
    Scaling,
    requests_per_s_per_replica=st.floats(0.5, 20),
    usd_per_replica_h=st.floats(0.1, 50),
    cold_start_s=st.floats(0, 900),
    target_utilisation=st.floats(0.3, 1),
    minimum_replicas=st.integers(0, 3),
)


@given(demands, scalings)
def test_replicas_carry_the_demand_and_every_dollar_is_counted(demand, scaling):
    plan = scaled(demand, scaling)
    for rate, replicas in zip(demand, plan.replicas, strict=True):
        assert rate <= replicas * scaling.requests_per_s_per_replica * scaling.target_utilisation + 1e-6
        assert replicas >= scaling.minimum_replicas
        if replicas > scaling.minimum_replicas:
            assert rate > (replicas - 1) * scaling.requests_per_s_per_replica * scaling.target_utilisation - 1e-6
    assert plan.usd == pytest.approx(sum(plan.replicas) * scaling.usd_per_replica_h + plan.cold_start_usd)
    assert plan.usd - plan.cold_start_usd <= plan.static_usd + 1e-9
    assert 0 <= plan.utilisation <= scaling.target_utilisation + 1e-6


@given(demands, scalings)
def test_a_cycle_starts_as_many_replicas_as_it_stops(demand, scaling):
    plan = scaled(demand, scaling)
    steps = list(zip(plan.replicas, plan.replicas[1:] + plan.replicas[:1], strict=True))
    assert plan.cold_starts == sum(max(then - now, 0) for then, now in steps)


def test_what_comes_before_the_new_replicas_serve_has_to_wait():
    plan = scaled([2.0, 9.0, 9.0, 4.0], Scaling(2.0, 1.0, 120.0, target_utilisation=1.0))
    assert plan.replicas == (1, 5, 5, 2)
    assert plan.waiting == (0.0, (9.0 - 2.0) * 120, 0.0, 0.0)
    assert plan.cold_start_usd == pytest.approx(4 * 120 / 3600)


def test_a_flat_demand_starts_nothing():
    plan = scaled([10.0] * 24, Scaling(1.0, 2.0, 300.0))
    assert (plan.cold_starts, plan.cold_start_usd, plan.usd) == (0, 0.0, plan.static_usd)
    assert set(plan.waiting) == {0.0}


@pytest.mark.parametrize("demand", [[], [-1.0], [math.nan], [None]])
def test_a_demand_that_is_none_is_refused(demand):
    with pytest.raises(RequestError):
        scaled(demand, Scaling(1.0, 2.0, 60.0))


@pytest.mark.parametrize(
    "change",
    [{"usd_per_replica_h": None}, {"target_utilisation": 0}, {"target_utilisation": 1.2}, {"cold_start_s": 4000.0},
     {"minimum_replicas": 0.5}, {"requests_per_s_per_replica": 0}],
)  # fmt: skip
def test_scaling_that_makes_no_sense_is_refused(change):
    with pytest.raises(RequestError):
        scaled([1.0], replace(Scaling(1.0, 2.0, 60.0), **change))
