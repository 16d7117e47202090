"""Break-even: both bills are equal where they are said to cross, and the cheaper side changes there."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.api_price import ApiPrice
from farthing.economics.money.break_even import (
    DAY_S,
    MOST_CROSSINGS,
    SelfHosting,
    Traffic,
    api_usd_per_request,
    break_even,
    replicas_for,
    self_hosting_usd_per_day,
)
from farthing.errors import RequestError

PRICE = ApiPrice(2.5, 10.0, 0.25)
TRAFFIC = Traffic(2000, 400)
HOSTING = SelfHosting(4.0, 1.5, staff_usd_per_month=5000.0)

hostings = st.builds(
    SelfHosting,
    usd_per_replica_h=st.floats(0.5, 60),
    requests_per_s_per_replica=st.floats(0.05, 20),
    staff_usd_per_month=st.floats(0, 40_000),
    hardware_share_of_bill=st.floats(0.4, 1),
    spare_replicas=st.integers(0, 3),
    usd_per_request=st.floats(0, 0.001),
)
traffics = st.builds(
    Traffic,
    input_tokens=st.floats(50, 20_000),
    output_tokens=st.floats(1, 4000),
    cached_share=st.floats(0, 0.9),
    peak_to_mean=st.floats(1, 6),
)


def saved(hosting, traffic, requests):
    """What self-hosting saves a day; negative where the API is cheaper."""
    return requests * api_usd_per_request(PRICE, traffic) - self_hosting_usd_per_day(hosting, traffic, requests)


@settings(max_examples=300)
@given(hostings, traffics)
def test_the_cheaper_side_changes_at_every_crossing(hosting, traffic):
    found = break_even(PRICE, traffic, hosting)
    for before, one in zip((None, *found.crossings), found.crossings, strict=False):
        between = ((before.requests_per_day if before else 0.0) + one.requests_per_day) / 2
        bill = self_hosting_usd_per_day(hosting, traffic, one.requests_per_day)
        if one.self_hosting_wins:
            assert saved(hosting, traffic, one.requests_per_day) == pytest.approx(0, abs=1e-6 * bill)
            assert saved(hosting, traffic, between) <= 1e-9 * bill
        else:
            assert saved(hosting, traffic, between) >= -1e-9 * bill
            assert saved(hosting, traffic, one.requests_per_day * (1 + 1e-7)) < 1e-6 * bill
        assert one.tokens_per_day == pytest.approx(
            one.requests_per_day * (traffic.input_tokens + traffic.output_tokens)
        )


@settings(max_examples=200)
@given(hostings, traffics, st.lists(st.floats(0.0, 1.0), min_size=20, max_size=20))
def test_between_crossings_the_side_said_to_be_cheaper_is(hosting, traffic, places):
    found = break_even(PRICE, traffic, hosting)
    end = 3 * found.always.requests_per_day if found.always else 1e9
    inside = found.crossings_in_all == len(found.crossings)
    for place in places:
        requests = place * end
        before = [one for one in found.crossings if one.requests_per_day < requests]
        if any(abs(one.requests_per_day - requests) < 1e-6 * requests for one in found.crossings) or not inside:
            continue
        wins = bool(before) and before[-1].self_hosting_wins
        assert (saved(hosting, traffic, requests) >= 0) == wins


@settings(max_examples=200)
@given(hostings, traffics, st.floats(1.0, 100.0))
def test_from_always_on_it_always_wins_and_never_means_never(hosting, traffic, times):
    found = break_even(PRICE, traffic, hosting)
    if found.always is None:
        assert found.why_never
        assert not found.crossings
        for replicas in (1, 2, 10, 1000):
            full = replicas * DAY_S * hosting.requests_per_s_per_replica / traffic.peak_to_mean
            assert saved(hosting, traffic, full) <= 1e-6 * full
    else:
        assert not found.why_never
        requests = times * found.always.requests_per_day * (1 + 1e-9)
        bill = self_hosting_usd_per_day(hosting, traffic, requests)
        assert saved(hosting, traffic, requests) >= -1e-6 * bill
        for replicas in (found.always.replicas, found.always.replicas + 1, 2 * found.always.replicas):
            step = replicas * DAY_S * hosting.requests_per_s_per_replica / traffic.peak_to_mean * (1 + 1e-7)
            assert saved(hosting, traffic, step) >= -1e-5 * self_hosting_usd_per_day(hosting, traffic, step)


def test_a_stair_crosses_a_line_more_than_once():
    hosting = SelfHosting(4.0, 1.0, staff_usd_per_month=0.0, hardware_share_of_bill=1.0)
    found = break_even(ApiPrice(0.5, 1.0), Traffic(1000, 1000), hosting)
    assert [one.self_hosting_wins for one in found.crossings] == [True, False, True, False, True]
    assert [one.replicas for one in found.crossings] == [1, 1, 2, 2, 3]
    assert found.crossings[0].requests_per_day == pytest.approx(64_000)
    assert found.crossings[1].requests_per_day == pytest.approx(86_400)
    assert found.always == found.crossings[-1]


def test_staff_and_overhead_move_the_break_even():
    plain = break_even(PRICE, TRAFFIC, replace(HOSTING, staff_usd_per_month=0.0, hardware_share_of_bill=1.0))
    assert plain.crossings[0].requests_per_day == pytest.approx(96 / api_usd_per_request(PRICE, TRAFFIC))
    real = break_even(PRICE, TRAFFIC, HOSTING)
    each, staff = 96 / 0.65, 5000 * 12 / 365
    assert real.crossings[0].requests_per_day == pytest.approx((each + staff) / api_usd_per_request(PRICE, TRAFFIC))


def test_a_spare_costs_what_a_replica_does_and_serves_nothing():
    spared = replace(HOSTING, spare_replicas=2)
    for requests in (0, 1000, 1e6):
        more = self_hosting_usd_per_day(spared, TRAFFIC, requests) - self_hosting_usd_per_day(
            HOSTING, TRAFFIC, requests
        )
        assert more == pytest.approx(2 * 96 / 0.65)
        assert replicas_for(spared, TRAFFIC, requests) == replicas_for(HOSTING, TRAFFIC, requests)


def test_an_api_that_costs_less_than_a_full_replica_is_never_beaten():
    found = break_even(ApiPrice(0.01, 0.04), TRAFFIC, HOSTING)
    assert found.always is None
    assert "never idle costs" in found.why_never
    assert found.full_replica_usd_per_request > found.api_usd_per_request
    assert break_even(ApiPrice(0.0, 0.0), TRAFFIC, HOSTING).always is None


def test_cached_prompts_make_the_api_cheaper_and_the_break_even_later():
    cached = break_even(PRICE, replace(TRAFFIC, cached_share=0.8), HOSTING)
    assert cached.always.requests_per_day > break_even(PRICE, TRAFFIC, HOSTING).always.requests_per_day
    with pytest.raises(RequestError, match="cache_read"):
        break_even(ApiPrice(2.5, 10.0), replace(TRAFFIC, cached_share=0.8), HOSTING)


def test_of_very_many_crossings_the_first_are_listed():
    full = 24 * 4.0 / 0.65 / (DAY_S * 1.5)
    found = break_even(ApiPrice(0.0, full * 1.0002 / 400 * 1e6), TRAFFIC, replace(HOSTING, staff_usd_per_month=0.0))
    assert found.crossings_in_all == pytest.approx(2 * 5000, rel=0.01)
    assert len(found.crossings) == MOST_CROSSINGS
    assert found.always.requests_per_day > found.crossings[-1].requests_per_day


def test_replicas_are_whole_and_there_for_the_busiest_hour():
    traffic = replace(TRAFFIC, peak_to_mean=2.0)
    assert [replicas_for(HOSTING, traffic, n) for n in (0, 64_800, 64_801, 129_600)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"usd_per_replica_h": None}, {"usd_per_replica_h": -4.0}, {"requests_per_s_per_replica": 0},
        {"requests_per_s_per_replica": math.nan}, {"staff_usd_per_month": -1}, {"hardware_share_of_bill": 0},
        {"hardware_share_of_bill": 1.5}, {"spare_replicas": -1}, {"spare_replicas": 0.5}, {"usd_per_request": None},
    ],
)  # fmt: skip
def test_hosting_that_makes_no_sense_is_refused(change):
    with pytest.raises(RequestError) as refused:
        break_even(PRICE, TRAFFIC, replace(HOSTING, **change))
    assert refused.value.hint


@pytest.mark.parametrize(
    "change",
    [{"input_tokens": -1}, {"cached_share": 2}, {"peak_to_mean": 0.5}, {"input_tokens": 0, "output_tokens": 0}],
)
def test_traffic_that_makes_no_sense_is_refused(change):
    with pytest.raises(RequestError):
        break_even(PRICE, replace(TRAFFIC, **change), HOSTING)


@pytest.mark.parametrize("price", [ApiPrice(None, 10.0), ApiPrice(2.5, None), ApiPrice(0.0025, 10.0)])
def test_an_unknown_price_is_refused(price):
    with pytest.raises(RequestError):
        break_even(price, TRAFFIC, HOSTING)


@pytest.mark.parametrize("requests", [-1, math.nan, None])
def test_so_many_requests_have_no_bill(requests):
    with pytest.raises(RequestError):
        self_hosting_usd_per_day(HOSTING, TRAFFIC, requests)
