"""Retention: when to forget, and what."""

import time

from farthing.ports import Clock

HOUR_SECONDS = 3600.0
DAY = 86_400_000_000_000
"""One day in nanoseconds."""


class Retention:
    """Keeps things for a number of days, and looks for older ones at the start and then hourly."""

    def __init__(self, days: int, clock: Clock) -> None:
        self._days = days
        self._clock = clock
        self._next = time.monotonic()

    def cutoff(self) -> int | None:
        """The instant (Unix ns) before which all is to be forgotten now; `None` until the next look is due."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + HOUR_SECONDS
        return self._clock.now() - self._days * DAY
