"""The stretches of time that the dashboard shows, and how each is cut into steps."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

from farthing.schema import HOUR

Range = Literal["1h", "24h", "7d", "30d"]
RANGES: tuple[Range, ...] = get_args(Range)

MINUTE = HOUR // 60
WEEK = 7 * 24 * HOUR

_SHAPES: dict[Range, tuple[int, int]] = {
    "1h": (12, 5 * MINUTE),
    "24h": (24, HOUR),
    "7d": (28, 6 * HOUR),
    "30d": (30, 24 * HOUR),
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

    def a_week_before(self) -> "Window":
        """The same stretch, seven days earlier."""
        return msgspec.structs.replace(self, since=self.since - WEEK, until=self.until - WEEK)


def window(span: Range, now: int) -> Window:
    """The window that ends with the step in progress at `now` (Unix ns).

    >>> day = window("24h", 1_700_000_000 * 10**9)
    >>> len(day.starts), iso(day.since), iso(day.until)
    (24, '2023-11-13T23:00:00Z', '2023-11-14T23:00:00Z')
    """
    steps, step = _SHAPES[span]
    until = (now // step + 1) * step
    return Window(span, until - steps * step, until, step)


def iso(instant: int) -> str:
    """RFC 3339 in UTC; whole seconds where they are whole, milliseconds otherwise.

    >>> iso(1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123Z'
    """
    seconds, rest = divmod(instant, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 10**6:03d}Z" if rest else f"{text}Z"
