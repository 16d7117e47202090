"""Reserved, on demand and spot: the newsvendor's answer, and never dearer than any other way of buying."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.purchase import Market, Spot, buying
from farthing.errors import RequestError

demands = st.lists(st.integers(0, 30), min_size=1, max_size=48).filter(any)
SPOT = Spot(1.2, interruptions_per_h=0.05, restart_s=300.0)


@given(demands, st.floats(0.5, 10), st.floats(0.1, 1.2))
def test_the_kth_device_is_reserved_if_enough_hours_use_it(demand, on_demand, ratio):
    plan = buying(demand, Market(on_demand, reserved_usd_per_device_h=on_demand * ratio))
    for k in range(1, max(demand) + 2):
        using = sum(asked >= k for asked in demand) / len(demand)
        if k <= plan.reserved:
            assert using >= ratio - 1e-9
        else:
            assert using <= ratio + 1e-9


@given(demands, st.floats(0.5, 10), st.floats(0.1, 1.2))
def test_no_other_reservation_is_cheaper(demand, on_demand, ratio):
    plan = buying(demand, Market(on_demand, reserved_usd_per_device_h=on_demand * ratio))
    for level in range(max(demand) + 3):
        beyond = sum(max(asked - level, 0) for asked in demand) / len(demand)
        assert plan.usd_per_h <= level * on_demand * ratio + beyond * on_demand + 1e-9
    assert plan.usd_per_h <= plan.all_on_demand_usd_per_h + 1e-9
    assert plan.worst_usd_per_h == pytest.approx(plan.usd_per_h)
    assert plan.usd_per_month == pytest.approx(730 * plan.usd_per_h)


spots = st.builds(
    Spot,
    usd_per_device_h=st.floats(0.2, 4),
    interruptions_per_h=st.floats(0, 1),
    restart_s=st.floats(0, 1200),
    availability=st.floats(0.3, 1),
    zones=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    over_provisioning=st.sampled_from([0.0, 0.5, 1.0]),
    usd_per_interruption=st.floats(0, 1),
)


def expected_usd(needed, relying, bought, spot, on_demand):
    """By every way in which zones may serve or not."""
    zones = min(spot.zones, bought)
    sizes = [bought // zones + (zone < bought % zones) for zone in range(zones)] if bought else []
    up = spot.availability / (1 + spot.interruptions_per_h * spot.restart_s / 3600)
    missing = 0.0
    for serve in itertools.product((0, 1), repeat=len(sizes)):
        chance = math.prod(up if on else 1 - up for on in serve)
        missing += chance * max(relying - sum(size for size, on in zip(sizes, serve, strict=True) if on), 0)
    lost = up * spot.interruptions_per_h * spot.usd_per_interruption
    each = spot.availability * spot.usd_per_device_h + lost
    return bought * each + (needed - relying + missing) * on_demand


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any), spots, st.one_of(st.none(), st.floats(0.5, 4)))
def test_no_number_of_spot_devices_is_cheaper(demand, spot, reserved_usd):
    plan = buying(demand, Market(4.0, reserved_usd, spot))
    cheapest = math.inf
    for reserved in range(max(demand) + 1) if reserved_usd else [0]:
        usd = reserved * (reserved_usd or 0.0)
        for asked in demand:
            needed = max(asked - reserved, 0)
            relying = math.floor(needed * spot.share)
            most = math.ceil(relying * (1 + spot.over_provisioning))
            usd += min(expected_usd(needed, relying, bought, spot, 4.0) for bought in range(most + 1)) / len(demand)
        cheapest = min(cheapest, usd)
    assert plan.usd_per_h == pytest.approx(cheapest)
    assert plan.usd_per_h <= plan.all_on_demand_usd_per_h + 1e-9
    assert plan.usd_per_h <= plan.worst_usd_per_h + 1e-9
    for level in plan.levels:
        relied = level.demand - min(plan.reserved, level.demand) - level.on_demand
        assert 0 <= level.fallback <= relied + 1e-9
        assert level.spot >= relied


def test_expected_cost_and_deviation_are_what_the_dice_say():
    spot = Spot(1.0, 0.5, 1800.0, availability=0.8, zones=3, over_provisioning=0.5)
    plan = buying([6], Market(4.0, spot=spot))
    (level,) = plan.levels
    dice = random.Random(3)
    sizes = [level.spot // 3 + (zone < level.spot % 3) for zone in range(3)]
    up = 0.8 / 1.25
    hours = [max(6 - sum(size for size in sizes if dice.random() < up), 0) for _ in range(100_000)]
    mean = sum(hours) / len(hours)
    assert level.fallback == pytest.approx(mean, rel=0.02)
    assert level.short_share == pytest.approx(sum(short > 0 for short in hours) / len(hours), rel=0.02)
    spread = math.sqrt(sum((short - mean) ** 2 for short in hours) / len(hours))
    assert plan.deviation_usd_per_h == pytest.approx(4.0 * spread, rel=0.02)
    assert plan.usd_per_h == pytest.approx(level.spot * 0.8 + 4.0 * mean, rel=0.02)


@given(st.floats(0, 2), st.floats(0, 3000))
def test_without_over_provisioning_spot_costs_the_textbook_sum(rate, restart_s):
    spot = Spot(1.0, rate, restart_s)
    plan = buying([10] * 24, Market(4.0, spot=spot))
    serving = 1 / (1 + rate * restart_s / 3600)
    assert plan.usd_per_h == pytest.approx(min(10 * (1.0 + 4.0 * (1 - serving)), 40.0))


def test_more_interruptions_never_make_it_cheaper():
    usd = [
        buying([4, 8, 12], Market(4.0, 2.0, replace(SPOT, interruptions_per_h=rate))).usd_per_h
        for rate in (0, 0.1, 1, 10, 100)
    ]
    assert usd == sorted(usd)
    assert usd[0] < usd[-1]


def test_independent_zones_spread_the_risk():
    spot = replace(SPOT, interruptions_per_h=2.0, over_provisioning=1.0)
    one, many = (buying([12] * 24, Market(4.0, spot=replace(spot, zones=zones))) for zones in (1, 12))
    assert many.deviation_usd_per_h < one.deviation_usd_per_h
    assert many.usd_per_h < one.usd_per_h


def test_a_thousand_devices_take_no_time():
    plan = buying([1000, 400, 700] * 8, Market(4.0, 2.4, replace(SPOT, zones=6, over_provisioning=0.2)))
    assert plan.usd_per_h < plan.all_on_demand_usd_per_h


@pytest.mark.parametrize("demand", [[], [0, 0], [1.5], [-1], [math.nan], [5000], [None]])
def test_a_demand_that_is_none_is_refused(demand):
    with pytest.raises(RequestError) as refused:
        buying(demand, Market(4.0))
    assert refused.value.hint


@pytest.mark.parametrize(
    "market",
    [
        Market(None), Market(0.0), Market(-1.0), Market(4.0, -1.0), Market(4.0, math.nan),
        Market(4.0, spot=replace(SPOT, usd_per_device_h=None)), Market(4.0, spot=replace(SPOT, availability=1.5)),
        Market(4.0, spot=replace(SPOT, zones=0)), Market(4.0, spot=replace(SPOT, zones=65)),
        Market(4.0, spot=replace(SPOT, restart_s=-1)), Market(4.0, spot=replace(SPOT, share=2)),
    ],
)  # fmt: skip
def test_a_market_that_makes_no_sense_is_refused(market):
    with pytest.raises(RequestError):
        buying([1, 2], market)
