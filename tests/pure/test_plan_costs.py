"""Dollars per token and per request: conserved, linear in price, falling with use."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.costs import (
    Compute,
    Running,
    cost_of_compute,
    cost_of_request,
    cost_of_time,
    token_cost,
    usd_per_1m,
    utilisation_of,
)
from farthing.errors import RequestError

prices = st.floats(0.01, 1000)
rates = st.floats(0.1, 1e6)
shares = st.floats(0.01, 0.99)
running = st.builds(
    Running,
    usd_per_device_h=prices,
    devices=st.integers(1, 512),
    input_tokens_per_s=rates,
    output_tokens_per_s=rates,
    prefill_share=shares,
    utilisation=shares,
)


@given(running)
def test_prompts_and_answers_pay_the_whole_bill(one):
    cost = token_cost(one)
    served = 3600 * one.utilisation
    input_usd = cost.usd_per_1m_input * one.input_tokens_per_s * served / 1e6
    output_usd = cost.usd_per_1m_output * one.output_tokens_per_s * served / 1e6
    assert input_usd + output_usd == pytest.approx(cost.usd_per_h)
    assert input_usd / cost.usd_per_h == pytest.approx(one.prefill_share)
    both = one.input_tokens_per_s + one.output_tokens_per_s
    assert cost.usd_per_1m_tokens * both * served / 1e6 == pytest.approx(cost.usd_per_h)


@given(running, st.floats(1.1, 100))
def test_cost_is_linear_in_price_and_in_devices(one, factor):
    cost = token_cost(one)
    dearer = token_cost(replace(one, usd_per_device_h=one.usd_per_device_h * factor))
    assert dearer.usd_per_1m_output == pytest.approx(factor * cost.usd_per_1m_output)
    assert token_cost(replace(one, devices=3 * one.devices)).usd_per_1m_input == pytest.approx(
        3 * cost.usd_per_1m_input
    )


@given(running, st.floats(1.01, 50))
def test_cost_falls_as_devices_are_used_more(one, less):
    idler = replace(one, utilisation=one.utilisation / less)
    assert token_cost(idler).usd_per_1m_output == pytest.approx(less * token_cost(one).usd_per_1m_output)
    assert token_cost(idler).idle_usd_per_h > token_cost(one).idle_usd_per_h


@given(running)
def test_requests_of_the_mean_size_pay_the_bill_too(one):
    requests_per_s = 2.5
    each = cost_of_request(
        token_cost(one), one.input_tokens_per_s / requests_per_s, one.output_tokens_per_s / requests_per_s
    )
    assert each.usd * requests_per_s * 3600 * one.utilisation == pytest.approx(one.usd_per_device_h * one.devices)
    assert each.usd_per_1k_requests == pytest.approx(1000 * (each.input_usd + each.output_usd))


def test_tokens_are_not_what_the_bill_is_split_by():
    cost = token_cost(Running(2.0, 1, 9000.0, 1000.0, prefill_share=0.25))
    assert cost.usd_per_1m_output / cost.usd_per_1m_input == pytest.approx(27)


def test_a_service_without_answers_has_no_price_of_answers():
    cost = token_cost(Running(3.6, 1, 1000.0, 0.0, prefill_share=1.0))
    assert (cost.usd_per_1m_input, cost.usd_per_1m_output) == (pytest.approx(1.0), None)
    assert cost_of_request(cost, 1000, 0).usd == pytest.approx(0.001)
    with pytest.raises(RequestError, match="usd_per_1m_output"):
        cost_of_request(cost, 1000, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"usd_per_device_h": None}, {"usd_per_device_h": 0}, {"usd_per_device_h": -1}, {"usd_per_device_h": math.nan},
        {"devices": 0}, {"devices": 1.5}, {"utilisation": 0}, {"utilisation": 1.1}, {"prefill_share": -0.1},
        {"prefill_share": math.nan}, {"input_tokens_per_s": -1}, {"input_tokens_per_s": 0}, {"output_tokens_per_s": 0},
        {"output_tokens_per_s": math.inf},
    ],
)  # fmt: skip
def test_what_has_no_cost_is_refused(change):
    with pytest.raises(RequestError) as refused:
        token_cost(replace(Running(2.0, 1, 900.0, 100.0, prefill_share=0.3), **change))
    assert refused.value.hint


@pytest.mark.parametrize(("input_tokens", "output_tokens"), [(-1, 5), (0, 0), (math.nan, 1), (None, 1)])
def test_requests_of_no_size_are_refused(input_tokens, output_tokens):
    with pytest.raises(RequestError):
        cost_of_request(token_cost(Running(2.0, 1, 900.0, 100.0, prefill_share=0.3)), input_tokens, output_tokens)


@pytest.mark.parametrize("args", [(-1, 10, 1), (1, 0, 1), (1, 10, 0), (1, 10, 1.5), (None, 10, 1)])
def test_a_throughput_of_nothing_has_no_price(args):
    with pytest.raises(RequestError):
        usd_per_1m(*args)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=48))
def test_utilisation_is_the_mean_over_the_capacity(served):
    assert utilisation_of(served, 100.0) == pytest.approx(sum(served) / len(served) / 100)


@pytest.mark.parametrize(("served", "capacity"), [([], 1), ([1], 0), ([2.0], 1), ([-1.0], 1), ([math.nan], 1)])
def test_more_than_capacity_cannot_have_been_served(served, capacity):
    with pytest.raises(RequestError):
        utilisation_of(served, capacity)


def test_the_hour_of_too_much_is_named():
    with pytest.raises(RequestError, match="Hour 2 served 12 of a capacity of 10"):
        utilisation_of([1, 10, 12], 10)


@given(prices, st.floats(0.01, 600), st.integers(1, 512))
def test_both_equations_of_time_agree_by_littles_law(usd_per_h, latency_s, concurrency):
    requests_per_s = concurrency / latency_s
    usd = cost_of_time(usd_per_h, latency_s, concurrency)
    assert usd == pytest.approx(usd_per_h / 3600 / requests_per_s, rel=1e-5, abs=1e-12)


@given(st.floats(1, 1e6), st.floats(1e9, 1e15), shares, prices)
def test_compute_costs_what_its_time_on_the_device_costs(requests, flop, used, usd_per_h):
    seconds = requests * flop / (1e15 * used)
    assert cost_of_compute(Compute(requests, flop, 1e15, used, usd_per_h)) == pytest.approx(seconds / 3600 * usd_per_h)


@pytest.mark.parametrize("change", [{"flop_per_s": 0}, {"flop_per_s": math.nan}, {"used_share": 0}, {"used_share": 2}, {"usd_per_h": None}, {"requests": -1}])  # fmt: skip
def test_compute_that_is_none_is_refused(change):
    with pytest.raises(RequestError):
        cost_of_compute(replace(Compute(1.0, 1e12, 1e15, 0.5, 2.0), **change))


@pytest.mark.parametrize("args", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1.5), (None, 1, 1), (math.nan, 1, 1)])
def test_time_that_costs_nothing_is_refused(args):
    with pytest.raises(RequestError):
        cost_of_time(*args)
