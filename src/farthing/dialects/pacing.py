"""The headers in which providers say how soon, and for how much more, they may be asked."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from farthing.schema import HOUR, Headers
from farthing.schema.pacing import Pacing, Room

LONGEST: Final = HOUR
"""The longest pause, in ns, that is believed."""

_REFUSED: Final = 400
_KNOWN: Final = 512
"""Values whose reading is remembered: the same come again and again."""
_LONGEST_VALUE: Final = 40
_NUMBER: Final = re.compile(rb"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_PART: Final = re.compile(rb"([0-9]{1,9}(?:\.[0-9]{1,12})?)(ms|d|h|m|s)")
_DURATION: Final = re.compile(rb"(?:[0-9]{1,9}(?:\.[0-9]{1,12})?(?:ms|d|h|m|s))+")
_UNITS: Final = {b"ms": 1e6, b"s": 1e9, b"m": 60e9, b"h": 3600e9, b"d": 86400e9}

Until = Callable[[bytes, int], int | None]
"""Reads how long from now (Unix ns) it is to an instant: ns, or `None` when the value makes no sense."""


@lru_cache(_KNOWN)
def _duration(value: bytes) -> int | None:
    """A duration in ns: "6m0s", "2m59.56s", "120ms", or a plain number of seconds.

    >>> _duration(b"6m0s"), _duration(b"120ms"), _duration(b"1.5"), _duration(b"soon")
    (360000000000, 120000000, 1500000000, None)
    """
    if _NUMBER.fullmatch(value):
        return round(float(value) * 1e9)
    if _DURATION.fullmatch(value):
        return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    return None


@lru_cache(_KNOWN)
def _instant(value: bytes) -> int | None:
    """An instant in Unix ns: RFC 3339, or a date as HTTP writes it."""
    try:
        text = value.decode("ascii")
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1e9)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _for(value: bytes, _: int) -> int | None:
    return _duration(value)


def _for_milliseconds(value: bytes, _: int) -> int | None:
    return round(float(value) * 1e6) if _NUMBER.fullmatch(value) else None


def _until(value: bytes, now: int) -> int | None:
    instant = _instant(value)
    return None if instant is None else instant - now


def _for_or_until(value: bytes, now: int) -> int | None:
    seconds = _duration(value)
    return _until(value, now) if seconds is None else seconds


_PAUSES: Final[tuple[tuple[bytes, Until], ...]] = (
    (b"retry-after-ms", _for_milliseconds),
    (b"retry-after", _for_or_until),
)


def _limit(begin: str, end: str, until: Until, *, of_tokens: bool = False) -> tuple[bytes, bytes, bytes, Until, bool]:
    """The three headers of a limit, how its reset is written, and whether calls take their tokens of it."""
    remaining, limit, reset = (
        f"{begin}-{field}-{end}" if begin == "x-ratelimit" else f"{begin}-{end}-{field}"
        for field in ("remaining", "limit", "reset")
    )
    return remaining.encode(), limit.encode(), reset.encode(), until, of_tokens


_LIMITS: Final = (
    _limit("x-ratelimit", "requests", _for),
    _limit("x-ratelimit", "tokens", _for, of_tokens=True),
    _limit("anthropic-ratelimit", "requests", _until),
    _limit("anthropic-ratelimit", "tokens", _until, of_tokens=True),
    _limit("anthropic-ratelimit", "input-tokens", _until),
    _limit("anthropic-ratelimit", "output-tokens", _until),
)
_READ: Final = frozenset([name for name, _ in _PAUSES] + [name for limit in _LIMITS for name in limit[:3]])


def read_pacing(status: int, headers: Headers, now: int) -> Pacing | None:
    """What the headers of an answer say of when to ask again; `None` when they say nothing. `now` is in Unix ns.

    What makes no sense is ignored, and no pause is longer than an hour. A pause is asked for only by a refusal.
    """
    said = dict([header for header in headers if header[0] in _READ and len(header[1]) <= _LONGEST_VALUE])
    if not said:
        return None
    retry_at = None
    for name, until in _PAUSES if status >= _REFUSED else ():
        wait = until(said[name], now) if name in said else None
        if wait is not None:
            retry_at = now + _bounded(wait)
            break
    rooms = []
    for remaining, limit, reset, until, of_tokens in _LIMITS:
        if remaining not in said or reset not in said:
            continue
        left, wait = _count(said[remaining]), until(said[reset], now)
        if left is not None and wait is not None:
            rooms.append(Room(left, _count(said.get(limit, b"")), now, now + _bounded(wait), of_tokens))
    return Pacing(retry_at, tuple(rooms)) if retry_at is not None or rooms else None


def _count(value: bytes) -> int | None:
    return int(value) if value.isdigit() else None


def _bounded(wait: int) -> int:
    return min(max(wait, 0), LONGEST)
