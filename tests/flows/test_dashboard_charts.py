"""The drawings: nothing leaves its frame, and what is drawn adds up to what is said."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from farthing.dashboard.charts import HEIGHT, WIDTH, ceiling, chart, fall_of, timeline
from farthing.dashboard.views import CallLine, Money, Saving, Series, Track

LINE = CallLine(
    id="c", at="", endpoint="chat", model="m", served=None, upstream="", tenant="", feature="", status=200, error="",
    cache="miss", attempts=1, input_tokens=1, output_tokens=1, cost=Money.of(0), list_cost=Money.of(0), saved=Money.of(0),
    ttft_us=None, latency_us=0, overhead_us=0, stream=False, simulated=False,
)  # fmt: skip

pico = st.integers(min_value=0, max_value=10**20)


@given(st.integers(min_value=0, max_value=10**30))
def test_the_top_of_an_axis_is_the_least_round_number_above(amount: int) -> None:
    top = ceiling(amount)
    assert top >= amount
    assert top % 4 == 0
    assert top <= max(40, 2 * amount)


@given(st.lists(st.lists(pico, min_size=12, max_size=12), max_size=6))
def test_bars_stand_on_the_axis_within_the_frame_and_say_their_sums(costs: list[list[int]]) -> None:
    series = Series(
        range="1h",
        step_seconds=300,
        partial=False,
        starts=tuple(f"2026-01-01T00:{5 * step:02d}:00Z" for step in range(12)),
        tracks=tuple(
            Track(f"m{number}", tuple(map(Money.of, track)), tuple(0 for _ in track))
            for number, track in enumerate(costs)
        ),
    )
    drawn = chart(series)
    assert [bar.total.pico for bar in drawn.bars] == [sum(track[step] for track in costs) for step in range(12)]
    assert all(left.x + left.width <= right.x for left, right in pairwise(drawn.bars))
    top = drawn.ticks[-1].pico
    for bar in drawn.bars:
        assert 0 <= bar.x < bar.x + bar.width <= WIDTH
        floor = HEIGHT
        for block in bar.blocks:
            assert block.y + block.height == floor
            floor = block.y
        assert HEIGHT - floor == HEIGHT * bar.total.pico // top


@given(pico, st.lists(st.integers(min_value=-(10**20), max_value=10**20), max_size=4), pico)
def test_a_waterfall_falls_from_list_price_to_what_was_paid(listed: int, saved: list[int], paid: int) -> None:
    call = msgspec.structs.replace(LINE, cost=Money.of(paid), list_cost=Money.of(listed))
    first, *steps, last = fall_of(call, [Saving(f"lever {n}", Money.of(amount)) for n, amount in enumerate(saved)])
    assert first.amount.pico == listed
    assert last.amount.pico == paid
    assert listed + sum(step.amount.pico for step in steps) == paid
    assert sum(step.kind == "unexplained" for step in steps) == (listed - sum(saved) != paid)
    for row in (first, *steps, last):
        assert 0 <= row.x <= row.x + row.width <= WIDTH + 2


def test_a_call_without_a_price_has_no_waterfall() -> None:
    assert fall_of(msgspec.structs.replace(LINE, cost=None), []) == ()


times = st.integers(min_value=0, max_value=10**10)


@given(times, times, st.none() | times)
def test_a_timeline_covers_the_whole_call_whatever_was_measured(latency: int, overhead: int, ttft: int | None) -> None:
    parts = timeline(msgspec.structs.replace(LINE, latency_us=latency, overhead_us=overhead, ttft_us=ttft))
    assert sum(part.microseconds for part in parts) == latency
    assert all(part.microseconds > 0 for part in parts)
    assert all(left.x + left.width == right.x for left, right in pairwise(parts))
