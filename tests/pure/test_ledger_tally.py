"""Tally: sums are exact, whatever the order, the grouping and the way through JSON."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.ledger.tally import OTHER, Tally
from farthing.schema import HOUR, METERS, Decision, Entry, Histogram, Rollup, Usage

NAMES = st.sampled_from(["", "acme", "beta", "=cmd", "naïve"])
MONEY = st.integers(0, 10**24)
DURATION = st.integers(0, 10**10)

entries = st.builds(
    Entry,
    id=st.uuids().map(str),
    group=st.uuids().map(str),
    attempt=st.integers(0, 3),
    at=st.integers(0, 5 * HOUR),
    endpoint=st.sampled_from(["chat", "messages"]),
    model=NAMES,
    served=st.none() | NAMES,
    upstream=NAMES,
    tenant=NAMES,
    feature=NAMES,
    usage=st.none() | st.builds(Usage, **{meter: st.integers(0, 10**9) for meter in METERS}),
    usage_source=st.sampled_from(["provider", "counted", "estimated", "none"]),
    cost=st.none() | MONEY,
    list_cost=st.none() | MONEY,
    saved=st.lists(st.tuples(st.sampled_from(["exact_cache", "tier"]), st.integers(-(10**15), 10**15)), max_size=3).map(
        tuple
    ),
    cache=st.sampled_from(["off", "miss", "hit", "coalesced"]),
    status=st.sampled_from([0, 200, 404, 429, 503]),
    error=st.sampled_from(["", "upstream_reset"]),
    ttft=st.none() | DURATION,
    latency=DURATION,
    overhead=DURATION,
    simulated=st.booleans(),
    superseded=st.booleans(),
)


def tally(some):
    total = Tally()
    for entry in some:
        total.add(entry)
    return total


def entry(**changes) -> Entry:
    return Entry(**{"id": "a.1", "group": "a", "attempt": 1, "at": 0, "endpoint": "chat", "model": "m", **changes})


def sums(*some):
    return tally(some).totals()


@given(st.lists(entries, max_size=12))
def test_money_and_meters_add_up_exactly(some):
    total = tally(some).totals()
    assert total.cost == sum(entry.cost or 0 for entry in some)
    assert total.list_cost == sum(entry.list_cost or 0 for entry in some)
    assert total.unpriced == sum(entry.cost is None for entry in some)
    assert sum(total.saved.values()) == sum(amount for entry in some for _, amount in entry.saved)
    for meter in METERS:
        bought = [entry.usage for entry in some if entry.usage and entry.attempt]
        assert getattr(total.usage, meter) == sum(getattr(usage, meter) for usage in bought)


@given(st.lists(entries, max_size=12))
def test_calls_attempts_and_errors_are_counted_once(some):
    total = tally(some).totals()
    answers = [entry for entry in some if not entry.superseded]
    assert total.calls == len(answers)
    assert total.attempts == sum(entry.attempt > 0 for entry in some)
    assert total.errors == sum(bool(entry.error) or entry.status >= 400 for entry in answers)
    assert total.hits == sum(entry.cache in ("hit", "coalesced") for entry in answers)
    assert total.misses == sum(entry.cache == "miss" for entry in answers)
    assert total.latency.count == total.calls
    assert total.overhead.count == sum(entry.overhead > 0 for entry in answers)
    assert total.latency.total == sum(entry.latency for entry in answers)
    assert total.ttft.count == sum(entry.ttft is not None for entry in answers)


@given(st.lists(entries, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter(some, dice):
    shuffled = dice.sample(some, len(some))
    assert tally(shuffled).rollups() == tally(some).rollups()


@given(st.lists(entries, max_size=12), st.integers(0, 12))
def test_parts_merged_are_the_whole_even_through_json(some, cut):
    merged = Tally()
    for part in (some[:cut], some[cut:]):
        stored = msgspec.json.encode(tally(part).rollups())
        merged.merge(msgspec.json.decode(stored, type=list[Rollup]))
    assert merged.rollups() == tally(some).rollups()


@given(st.lists(entries, max_size=12))
def test_a_rollup_holds_one_hour_and_one_value_of_each_dimension(some):
    rollups = tally(some).rollups()
    assert len({rollup.cell for rollup in rollups}) == len(rollups)
    assert [rollup.hour for rollup in rollups] == sorted(rollup.hour for rollup in rollups)
    for rollup in rollups:
        assert rollup.hour % HOUR == 0
        inside = [e for e in some if tally([e]).rollups()[0].cell == rollup.cell]
        assert all(rollup.hour <= e.at < rollup.hour + HOUR for e in inside)
        assert rollup.sums == tally(inside).totals()


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_within_a_tenth(durations, share):
    total = sums(*(entry(latency=duration) for duration in durations))
    rank = max(1, -(-int(share * len(durations) * 10**6) // 10**6))
    true = sorted(durations)[rank - 1]
    found = total.latency.quantile(share)
    assert found is not None
    assert abs(found - true) <= 0.091 * true + 0.2


def test_nothing_has_no_quantile_and_no_ratio():
    assert Histogram().quantile(0.5) is None
    assert sums().hit_ratio is None
    assert sums().cost_per_1k is None


def test_a_negative_duration_from_a_clock_set_back_is_counted_as_none():
    total = sums(entry(latency=-5, overhead=-1))
    assert total.latency.counts == {0: 1}


def test_a_retried_call_is_one_call_and_two_attempts():
    total = sums(
        entry(status=503, error="upstream_error", superseded=True, cost=3),
        entry(id="a.2", attempt=2, status=200, cost=5),
    )
    assert (total.calls, total.attempts, total.errors, total.failures, total.cost) == (1, 2, 0, 1, 8)


def test_a_hit_adds_no_usage_because_nothing_was_bought():
    hit = entry(
        id="a.0", attempt=0, cache="hit", usage=Usage(input=7), cost=0, list_cost=9, saved=(("exact_cache", 9),)
    )
    total = sums(hit, entry(id="b.1", group="b", cache="miss", cost=9, list_cost=9, usage=Usage(input=7)))
    assert total.usage.input == 7
    assert total.hit_ratio == 0.5
    assert (total.cost, total.list_cost, total.saved) == (9, 18, {"exact_cache": 9})
    assert total.cost_per_1k == 4500


@pytest.mark.parametrize(("before", "unpriced"), [(None, 0), (4, 1)])
def test_a_correction_adds_amounts_and_counts_nothing(before, unpriced):
    original = entry(cost=None)
    correction = entry(
        id="a.1~1", cost=6, corrects="a.1", decisions=(Decision("rerate", "priced", {"before": before, "after": 6}),)
    )
    total = sums(original, correction)
    assert (total.calls, total.attempts, total.cost, total.unpriced) == (1, 1, 6, unpriced)


def test_a_tally_that_is_not_hourly_sums_over_all_time():
    total = Tally(hourly=False)
    for hour in range(50):
        total.add(entry(at=hour * HOUR, cost=1))
    assert [(rollup.hour, rollup.sums.cost) for rollup in total.rollups()] == [(0, 50)]


@given(st.lists(entries, max_size=30))
def test_a_tally_with_little_room_stays_small_and_loses_nothing(some):
    small = Tally(hourly=False, cells=3)
    for one in some:
        small.add(one)
    named = [rollup for rollup in small.rollups() if rollup.tenant != OTHER]
    assert len(named) <= 3
    assert small.totals() == tally(some).totals()
