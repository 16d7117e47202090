"""Which slices of time count towards a limit, and when they no longer do."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from farthing.schema import Limit, Period

_SECOND = 10**9
_QUARTER = 900
"""Seconds. Every time zone is a whole number of quarters of an hour off, so that no period longer begins within one."""
_PARTS = 12
"""Slices of a rolling period."""
_LENGTHS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}


def slices(limit: Limit, at: int) -> tuple[int, int]:
    """The slice that an instant (Unix ns) falls into, and the oldest that counts with it; both in Unix seconds.

    A rolling period is counted in twelfths: the one that `at` is in and the twelve before it. So all of the last period
    counts, and up to a twelfth of a period more.
    """
    if limit.meter == "concurrent" or limit.period == "lifetime":
        return 0, 0
    seconds = at // _SECOND
    if limit.rolling:
        width = _LENGTHS[limit.period] // _PARTS
        slice_ = seconds - seconds % width
        return slice_, slice_ - _PARTS * width
    start = _calendar(limit.period, limit.time_zone, seconds)[0]
    return start, start


def starts_at(limit: Limit, at: int) -> int:
    """The instant (Unix ns) from which what was spent counts at `at`."""
    return slices(limit, at)[1] * _SECOND


def resets_at(limit: Limit, at: int) -> int | None:
    """When a calendar period ends, or the oldest part of a rolling one stops to count: Unix ns, `None` for never.

    With a rolling period this is the earliest that there can be more room; it may take longer.
    """
    if limit.meter == "concurrent" or limit.period == "lifetime":
        return None
    if limit.rolling:
        return (slices(limit, at)[0] + _LENGTHS[limit.period] // _PARTS) * _SECOND
    return _calendar(limit.period, limit.time_zone, at // _SECOND)[1] * _SECOND


def _calendar(period: Period, time_zone: str, seconds: int) -> tuple[int, int]:
    """When the calendar period that an instant falls into begins and ends, all in Unix seconds."""
    if period == "minute":
        start = seconds - seconds % 60
        return start, start + 60
    return _period_of(period, time_zone, seconds - seconds % _QUARTER)


@lru_cache(maxsize=4096)
def _period_of(period: Period, time_zone: str, quarter: int) -> tuple[int, int]:
    zone = UTC if time_zone == "UTC" else ZoneInfo(time_zone)  # UTC needs no time zone database
    local = datetime.fromtimestamp(quarter, zone)
    if period == "hour":
        start = quarter - local.minute * 60
        return start, start + 3600
    first = local.date()
    if period == "day":
        following = first + timedelta(days=1)
    elif period == "week":
        first -= timedelta(days=first.weekday())
        following = first + timedelta(days=7)
    else:
        first = first.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
    return _midnight(first, zone), _midnight(following, zone)


def _midnight(day: date, zone: tzinfo) -> int:
    """When a day begins: at midnight, or where clocks are put forward then, at once after."""
    return int(datetime.combine(day, time(), zone).timestamp())
