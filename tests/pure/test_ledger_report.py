"""Report: its parts sum to its whole, and it says what is not known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.ledger.report import WEEK, Question, report
from farthing.ledger.tally import Tally
from farthing.schema import DIMENSIONS, HOUR, Entry, Usage

DAY = 24 * HOUR

entries = st.builds(
    Entry,
    id=st.just("a.1"),
    group=st.just("a"),
    attempt=st.integers(0, 2),
    at=st.integers(WEEK, WEEK + 3 * DAY),
    endpoint=st.sampled_from(["chat", "messages"]),
    model=st.sampled_from(["m", "n"]),
    tenant=st.sampled_from(["", "acme"]),
    cost=st.none() | st.integers(0, 10**15),
    list_cost=st.integers(0, 10**15),
    saved=st.integers(-(10**9), 10**9).map(lambda amount: (("tier", amount),)),
    usage=st.none() | st.builds(Usage, input=st.integers(0, 10**6), cache_read=st.integers(0, 9)),
    cache=st.sampled_from(["off", "hit", "miss"]),
    status=st.sampled_from([200, 500]),
    latency=st.integers(0, 10**8),
    simulated=st.booleans(),
)


def rollups(some):
    tally = Tally()
    for entry in some:
        tally.add(entry)
    return tally.rollups()


@given(st.lists(entries, max_size=15), st.sampled_from(DIMENSIONS), st.sampled_from([HOUR, DAY]))
def test_every_breakdown_and_the_series_sum_to_the_totals(some, dimension, step):
    found = report(Question(WEEK, WEEK + 4 * DAY, by=(dimension,), step=step), rollups(some))
    for parts in ([share.figures for share in found.by[dimension]], [point.figures for point in found.series]):
        for name in ("calls", "attempts", "errors", "paid", "list", "saved", "unpriced", "hits", "input_tokens"):
            assert sum(getattr(part, name) for part in parts) == getattr(found.totals, name)
    assert found.totals.calls == len(some)
    assert found.totals.paid == sum(entry.cost or 0 for entry in some)
    assert found.totals.saved == sum(found.totals.saved_by_lever.values())
    assert found.simulated == sum(entry.simulated for entry in some)
    assert [point.start for point in found.series] == sorted({point.start for point in found.series})
    assert all((point.start - WEEK) % step == 0 for point in found.series)


@given(st.lists(entries, max_size=15))
def test_the_dearest_comes_first(some):
    found = report(Question(0, 9, by=("model",)), rollups(some))
    paid = [share.figures.paid for share in found.by["model"]]
    assert paid == sorted(paid, reverse=True)


def entry(**changes) -> Entry:
    return Entry(**{"id": "a.1", "group": "a", "attempt": 1, "at": WEEK, "endpoint": "chat", "model": "m", **changes})


def test_change_compares_with_the_week_before():
    now = rollups([entry(cost=30), entry(cost=30), entry(cost=30)])
    before = rollups([entry(cost=20), entry(cost=20)])
    change = report(Question(WEEK, WEEK + DAY), now, before).change
    assert (change.calls, change.paid, change.cost_per_1k) == (0.5, 1.25, 0.5)
    assert change.saved is None


def test_nothing_to_compare_with_is_unknown_not_zero():
    change = report(Question(WEEK, WEEK + DAY), rollups([entry(cost=30)])).change
    assert (change.calls, change.paid, change.cost_per_1k) == (None, None, None)


def test_an_empty_period_has_no_ratios():
    totals = report(Question(0, HOUR), []).totals
    assert (totals.calls, totals.paid, totals.cost_per_1k, totals.hit_ratio, totals.latency.p99) == (
        0,
        0,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("share", ["p50", "p95", "p99"])
def test_quantiles_are_of_calls(share):
    totals = report(Question(0, HOUR), rollups([entry(latency=1000, overhead=100, ttft=500)] * 9)).totals
    assert getattr(totals.latency, share) == pytest.approx(1000, rel=0.1)
    assert getattr(totals.overhead, share) == pytest.approx(100, rel=0.1)
    assert getattr(totals.ttft, share) == pytest.approx(500, rel=0.1)
