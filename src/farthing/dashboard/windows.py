"""The stretches of time that the dashboard shows, and how each is cut into steps."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

from farthing.schema import HOUR

Range = Literal["1h", "24h", "7d", "30d"]
RANGES: tuple[Range, ...] = get_args(Range)

SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 24 * HOUR
WEEK = 7 * DAY


class _Shape(msgspec.Struct, frozen=True):
    steps: int
    step: int
    keep: int


_SHAPES: dict[Range, _Shape] = {
    "1h": _Shape(steps=12, step=5 * MINUTE, keep=2 * SECOND),
    "24h": _Shape(steps=24, step=HOUR, keep=2 * SECOND),
    "7d": _Shape(steps=28, step=6 * HOUR, keep=15 * SECOND),
    "30d": _Shape(steps=30, step=DAY, keep=60 * SECOND),
}


class Window(msgspec.Struct, frozen=True):
    """[since, until) in Unix ns, cut into steps of `step` ns that start on whole multiples of it (UTC)."""

    range: Range
    since: int
    until: int
    step: int

    @property
    def starts(self) -> Sequence[int]:
        """When each step begins, Unix ns."""
        return range(self.since, self.until, self.step)

    @property
    def hourly(self) -> bool:
        """Whether its steps are made of whole hours, as roll-ups are."""
        return self.step % HOUR == 0

    def step_of(self, instant: int) -> int:
        """When the step begins that an instant falls in."""
        return instant - (instant - self.since) % self.step

    def a_week_before(self) -> "Window":
        """The same stretch, seven days earlier."""
        return msgspec.structs.replace(self, since=self.since - WEEK, until=self.until - WEEK)


def window(span: Range, now: int) -> Window:
    """The window that ends with the step in progress at `now` (Unix ns).

    >>> day = window("24h", 1_700_000_000 * 10**9)
    >>> len(day.starts), iso(day.since), iso(day.until)
    (24, '2023-11-13T23:00:00Z', '2023-11-14T23:00:00Z')
    """
    shape = _SHAPES[span]
    until = (now // shape.step + 1) * shape.step
    return Window(span, until - shape.steps * shape.step, until, shape.step)


def keep(span: Range) -> int:
    """How long a reading of a range stays good enough to show again, in nanoseconds."""
    return _SHAPES[span].keep


def iso(instant: int) -> str:
    """RFC 3339 in UTC: whole seconds where they are whole, milliseconds otherwise.

    >>> iso(1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123Z'
    """
    seconds, rest = divmod(instant, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 10**6:03d}Z" if rest else f"{text}Z"
