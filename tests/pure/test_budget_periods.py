"""Periods begin and end where calendars say, and nothing that counts is ever left out."""

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.budgets import resets_at, slices, starts_at
from farthing.schema import Limit

SECOND = 10**9
LENGTHS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
ZONES = [
    "UTC", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut",
    "Pacific/Apia", "Pacific/Chatham", "America/Santiago", "Africa/Cairo", "Pacific/Kiritimati",
]  # fmt: skip
instants = st.integers(1_325_376_000 * SECOND, 2_500_000_000 * SECOND)
periods = st.sampled_from(sorted(LENGTHS))


def limit(period: str, time_zone: str = "UTC", rolling: bool = False, meter: str = "usd") -> Limit:
    return Limit("b", meter, 1, period=period, time_zone=time_zone, rolling=rolling)


def at(text: str, time_zone: str) -> int:
    """The instant (Unix ns) of a local time; of two, the first."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(time_zone)).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("minute", "UTC", "2026-07-09T10:11:12", "2026-07-09T10:11:00", "2026-07-09T10:12:00"),
        ("hour", "UTC", "2026-07-09T10:59:59", "2026-07-09T10:00:00", "2026-07-09T11:00:00"),
        ("hour", "Asia/Kathmandu", "2026-07-09T10:20:00", "2026-07-09T10:00:00", "2026-07-09T11:00:00"),
        ("day", "Asia/Kathmandu", "2026-07-09T00:00:00", "2026-07-09T00:00:00", "2026-07-10T00:00:00"),
        ("day", "America/New_York", "2026-03-08T12:00:00", "2026-03-08T00:00:00", "2026-03-09T00:00:00"),
        ("week", "UTC", "2026-07-05T23:59:59", "2026-06-29T00:00:00", "2026-07-06T00:00:00"),
        ("week", "Europe/Berlin", "2027-01-01T00:00:00", "2026-12-28T00:00:00", "2027-01-04T00:00:00"),
        ("month", "UTC", "2028-02-29T23:59:59", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("month", "Europe/Berlin", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("month", "Pacific/Kiritimati", "2026-10-01T00:00:00", "2026-10-01T00:00:00", "2026-11-01T00:00:00"),
    ],
)
def test_calendar_periods(period, zone, now, start, end):
    one = limit(period, zone)
    assert slices(one, at(now, zone)) == (at(start, zone) // SECOND,) * 2
    assert starts_at(one, at(now, zone)) == at(start, zone)
    assert resets_at(one, at(now, zone)) == at(end, zone)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/Havana", "2026-03-08", 23),  # clocks go from 00:00 to 01:00
        ("America/Havana", "2026-11-01", 25),  # and from 01:00 back to 00:00
        ("Asia/Beirut", "2026-10-24", 25),  # from 24:00 back to 23:00
        ("Pacific/Apia", "2011-12-29", 24),  # the 30th never was
    ],
)
def test_days_on_which_clocks_change_are_as_long_as_they_are(zone, day, hours):
    noon = at(f"{day}T12:00:00", zone)
    one = limit("day", zone)
    assert (resets_at(one, noon) - starts_at(one, noon)) / SECOND == hours * 3600
    for other in (starts_at(one, noon), resets_at(one, noon) - 1):
        assert slices(one, other) == slices(one, noon)


def test_an_hour_that_comes_twice_counts_twice():
    first = at("2026-11-01T01:30:00", "America/New_York")
    one = limit("hour", "America/New_York")
    assert slices(one, first + 3600 * SECOND)[0] - slices(one, first)[0] == 3600


@given(period=periods.filter(lambda period: period != "hour"), zone=st.sampled_from(ZONES), now=instants)
def test_calendar_periods_follow_one_another_without_gap(period, zone, now):
    one = limit(period, zone)
    start, end = starts_at(one, now), resets_at(one, now)
    assert start <= now < end
    assert starts_at(one, start) == starts_at(one, end - 1) == start
    assert starts_at(one, end) == end
    assert resets_at(one, start - 1) == start


@given(period=st.sampled_from(["day", "week", "month"]), zone=st.sampled_from(ZONES), now=instants)
def test_calendar_periods_are_those_of_the_wall_calendar(period, zone, now):
    one = limit(period, zone)

    def label(instant: int) -> object:
        day = datetime.fromtimestamp(instant // SECOND, ZoneInfo(zone)).date()
        return {"day": day, "week": day - timedelta(days=day.weekday()), "month": (day.year, day.month)}[period]

    start, end = starts_at(one, now), resets_at(one, now)
    assert label(start) == label(now) == label(end - 1)
    assert label(start - 1) != label(now) != label(end)


@given(period=periods, now=instants, ago=st.floats(0, 1, exclude_max=True))
def test_a_rolling_period_counts_all_of_itself_and_at_most_a_twelfth_more(period, now, ago):
    one = limit(period, rolling=True)
    length = LENGTHS[period]
    newest, oldest = slices(one, now)
    earlier = now - int(ago * length * SECOND)
    assert oldest <= slices(one, earlier)[0] <= newest
    assert starts_at(one, now) == oldest * SECOND > now - length * 13 * SECOND // 12 - SECOND
    assert slices(one, (oldest - 1) * SECOND)[0] < oldest


@given(period=periods, now=instants)
def test_a_rolling_period_has_more_room_only_when_its_oldest_part_falls_out(period, now):
    one = limit(period, rolling=True)
    change = resets_at(one, now)
    assert change is not None
    assert now < change
    assert slices(one, change - 1) == slices(one, now)
    assert slices(one, change)[1] > slices(one, now)[1]


def test_rolling_slices_are_as_wide_as_documented():
    for period, width in {"minute": 5, "hour": 300, "day": 7200, "week": 50_400, "month": 216_000}.items():
        starts = {slices(limit(period, rolling=True), second * SECOND)[0] for second in range(0, 4 * width, width // 5)}
        assert {later - earlier for earlier, later in pairwise(sorted(starts))} == {width}
        assert slices(limit(period, rolling=True), width * 99 * SECOND) == (99 * width, 87 * width)


@pytest.mark.parametrize(
    "one", [limit("lifetime"), limit("lifetime", rolling=True), limit("minute", meter="concurrent")]
)
def test_what_has_no_period_never_resets(one):
    assert slices(one, 1_790_000_000 * SECOND) == (0, 0)
    assert starts_at(one, 1_790_000_000 * SECOND) == 0
    assert resets_at(one, 1_790_000_000 * SECOND) is None
