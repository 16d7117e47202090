"""Hardware paid by the hour: the cost of a request, and of a token."""

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import PriceError
from farthing.pricing import hosted_charge, hosted_cost, price_per_token
from farthing.schema import usd

DOLLAR = 10**12
hourlies = st.integers(min_value=0, max_value=1000 * DOLLAR)


def test_three_dollars_an_hour_three_tenths_of_a_second_eight_at_once() -> None:
    cost = hosted_cost(3 * DOLLAR, 300_000_000, 8)
    assert cost == 31_250_000
    assert usd(cost) == "$0.00003125"


@given(hourlies, st.integers(min_value=0, max_value=10**13), st.integers(min_value=1, max_value=4096))
def test_cost_is_the_formula_rounded_half_even(hourly: int, latency: int, concurrency: int) -> None:
    exact = Decimal(hourly) * latency / (Decimal(3600) * 10**9 * concurrency)
    cost = hosted_cost(hourly, latency, concurrency)
    assert type(cost) is int
    assert abs(cost - exact) <= Decimal("0.5")


@pytest.mark.parametrize(("latency", "cost"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_half_a_pico_dollar_goes_to_the_even_side(latency: int, cost: int) -> None:
    hourly = 3600 * 10**9 // 2
    assert Decimal(latency).__truediv__(2).quantize(Decimal(1), ROUND_HALF_EVEN) == cost
    assert hosted_cost(hourly, latency, 1) == cost


def test_a_whole_hour_of_every_place_costs_the_hour() -> None:
    assert 8 * hosted_cost(3 * DOLLAR, 3600 * 10**9, 8) == 3 * DOLLAR


@given(hourlies, st.integers(min_value=1, max_value=10**12))
def test_a_price_per_token_gives_the_hour_back(hourly: int, tokens: int) -> None:
    assert abs(price_per_token(hourly, tokens) * tokens - hourly) <= tokens / 2


def test_a_charge_has_no_list_price_to_save_on() -> None:
    charge = hosted_charge(hourly=3 * DOLLAR, latency=300_000_000, concurrency=8)
    assert (charge.amount, charge.list_amount, charge.saved) == (31_250_000, 31_250_000, ())


@pytest.mark.parametrize(("hourly", "latency", "concurrency"), [(-1, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_what_has_no_cost_is_refused(hourly: int, latency: int, concurrency: int) -> None:
    with pytest.raises(PriceError):
        hosted_cost(hourly, latency, concurrency)


@pytest.mark.parametrize(("hourly", "tokens"), [(-1, 1), (1, 0)])
def test_what_has_no_price_is_refused(hourly: int, tokens: int) -> None:
    with pytest.raises(PriceError):
        price_per_token(hourly, tokens)
