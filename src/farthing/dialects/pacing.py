"""The headers in which providers say how soon, and for how much more, they may be asked."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from farthing.schema import HOUR, Headers
from farthing.schema.pacing import Pacing, Room

LONGEST: Final = HOUR
"""The longest pause, in ns, that is believed."""

_REFUSED: Final = 400
_NUMBER: Final = re.compile(rb"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_COUNT: Final = re.compile(rb"[0-9]{1,15}")
_PART: Final = re.compile(rb"([0-9]{1,9}(?:\.[0-9]{1,12})?)(ms|d|h|m|s)")
_DURATION: Final = re.compile(rb"(?:[0-9]{1,9}(?:\.[0-9]{1,12})?(?:ms|d|h|m|s))+")
_UNITS: Final = {b"ms": 1e6, b"s": 1e9, b"m": 60e9, b"h": 3600e9, b"d": 86400e9}

Until = Callable[[bytes, int], int | None]
"""Reads how long from now (Unix ns) it is to an instant: ns, or `None` when the value makes no sense."""


def _duration(value: bytes, _: int = 0) -> int | None:
    """A duration in ns: "6m0s", "2m59.56s", "120ms", or a plain number of seconds.

    >>> _duration(b"6m0s"), _duration(b"120ms"), _duration(b"1.5"), _duration(b"soon")
    (360000000000, 120000000, 1500000000, None)
    """
    if _NUMBER.fullmatch(value):
        return round(float(value) * 1e9)
    if _DURATION.fullmatch(value):
        return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    return None


def _milliseconds(value: bytes, _: int) -> int | None:
    return round(float(value) * 1e6) if _NUMBER.fullmatch(value) else None


def _until_timestamp(value: bytes, now: int) -> int | None:
    """RFC 3339, as Anthropic writes its resets."""
    try:
        return _until(datetime.fromisoformat(value.decode("ascii")), now)
    except (ValueError, OverflowError):
        return None


def _until_date(value: bytes, now: int) -> int | None:
    """Seconds, or a date as HTTP writes it."""
    seconds = _duration(value)
    if seconds is not None:
        return seconds
    try:
        return _until(parsedate_to_datetime(value.decode("ascii")), now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _until(instant: datetime, now: int) -> int:
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return int(instant.timestamp() * 1e9) - now


_PAUSES: Final[tuple[tuple[bytes, Until], ...]] = ((b"retry-after-ms", _milliseconds), (b"retry-after", _until_date))


def _limit(begin: str, end: str, until: Until, *, of_tokens: bool = False) -> tuple[bytes, bytes, bytes, Until, bool]:
    """The three headers of a limit, how its reset is written, and whether calls take their tokens of it."""
    remaining, limit, reset = (
        f"{begin}-{field}-{end}" if begin == "x-ratelimit" else f"{begin}-{end}-{field}"
        for field in ("remaining", "limit", "reset")
    )
    return remaining.encode(), limit.encode(), reset.encode(), until, of_tokens


_LIMITS: Final = (
    _limit("x-ratelimit", "requests", _duration),
    _limit("x-ratelimit", "tokens", _duration, of_tokens=True),
    _limit("anthropic-ratelimit", "requests", _until_timestamp),
    _limit("anthropic-ratelimit", "tokens", _until_timestamp, of_tokens=True),
    _limit("anthropic-ratelimit", "input-tokens", _until_timestamp),
    _limit("anthropic-ratelimit", "output-tokens", _until_timestamp),
)
_READ: Final = frozenset([name for name, _ in _PAUSES] + [name for limit in _LIMITS for name in limit[:3]])


def read_pacing(status: int, headers: Headers, now: int) -> Pacing | None:
    """What the headers of an answer say of when to ask again; `None` when they say nothing. `now` is in Unix ns.

    What makes no sense is ignored, and no pause is longer than an hour. A pause is asked for only by a refusal.
    """
    said = dict([header for header in headers if header[0] in _READ])
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


def wait_for(pacing: Pacing, tokens: int, now: int) -> int:
    """How long from now (Unix ns) until there is room for a call of so many tokens, in ns."""
    return max(pacing.fits_at(tokens) - now, 0)


def _count(value: bytes) -> int | None:
    return int(value) if _COUNT.fullmatch(value) else None


def _bounded(wait: int) -> int:
    return min(max(wait, 0), LONGEST)
