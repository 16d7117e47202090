"""The health of upstreams, learned from real traffic alone: one circuit breaker each."""

from typing import Final

from farthing.routing.retrying import Judgement
from farthing.schema import Fallback
from farthing.schema.pacing import Pacing

HALF_WINDOW: Final = 15 * 10**9
"""Failures are weighed over the last 15 to 30 seconds: two halves, each forgotten whole."""
ENOUGH: Final = 20
"""Calls in the window from which on the share of failures says something."""
QUOTA_REST: Final = 300 * 10**9
"""How long, in ns, an upstream rests whose credit ran out."""


class Breaker:
    """One upstream's: it trips when the upstream fails too often, lets it rest, then lets one call through to see.

    Instants are in Unix ns. It trips after `failures` in a row, or when half of 20 or more calls in the last half
    minute failed. Each rest is twice the one before, until a call is answered.
    """

    def __init__(self, fallback: Fallback) -> None:
        self._fallback = fallback
        self._failures = 0
        self._trips = 0
        self._rests_until = 0
        self._probing = False
        self._paused_until = 0
        self._pacing: Pacing | None = None
        self._has_room_at = 0
        self._half = 0
        self._calls = [0, 0]
        self._failed = [0, 0]

    def opens_at(self, tokens: int = 0) -> int:
        """From when on it may be asked for a call of so many tokens; 0 when that was never in question."""
        room = self._pacing.fits_at(tokens) if tokens and self._pacing is not None else self._has_room_at
        return max(self._rests_until, self._paused_until, room)

    @property
    def well(self) -> bool:
        """Whether it never tripped since its last good answer, and was told of no limit."""
        return not (self._trips or self._paused_until or self._pacing)

    def rests(self, now: int) -> bool:
        """Whether it tripped, and has not rested long enough."""
        return now < self._rests_until

    def acquire(self, now: int) -> bool:
        """Whether it may be asked now. After a rest only one call may, until more is known or as long again passed."""
        if now < self.opens_at():
            return False
        if self._trips:
            self._probing = True
            self._rests_until = now + self._rest()
        return True

    def rest_until(self, at: int) -> None:
        """Let it rest at least until an instant."""
        self._paused_until = max(self._paused_until, at)

    def heed(self, pacing: Pacing) -> None:
        """Take note of what its answer says of when it has room."""
        if pacing.retry_at is not None:
            self.rest_until(pacing.retry_at)
        if pacing.rooms:
            self._pacing = Pacing(None, pacing.rooms)
            self._has_room_at = self._pacing.fits_at(0)

    def answered(self, now: int) -> None:
        """Take note of a good answer: after a rest, it is well again."""
        if self._trips:
            if now < self._rests_until and not self._probing:
                return  # asked before the rest began
            self._trips, self._rests_until, self._probing = 0, 0, False
            self._calls, self._failed = [0, 0], [0, 0]
        self._failures = 0
        self._count(now, 0)

    def failed(self, now: int) -> None:
        """Take note of a failure, and trip if it is one too many."""
        if self._trips:
            if now >= self._rests_until or self._probing:
                self._trip(now)
            return
        self._failures += 1
        self._count(now, 1)
        calls, failed = sum(self._calls), sum(self._failed)
        if self._failures >= self._fallback.failures or (calls >= ENOUGH and 2 * failed >= calls):
            self._trip(now)

    def _trip(self, now: int) -> None:
        self._trips += 1
        self._failures, self._probing = 0, False
        self._rests_until = now + self._rest()

    def _rest(self) -> int:
        return min(self._fallback.rest << min(self._trips - 1, 62), self._fallback.longest_rest)

    def _count(self, now: int, failures: int) -> None:
        half = now // HALF_WINDOW
        if half != self._half:
            follows = half == self._half + 1
            self._calls = [0, self._calls[0] if follows else 0]
            self._failed = [0, self._failed[0] if follows else 0]
            self._half = half
        self._calls[0] += 1
        self._failed[0] += failures


class Health:
    """A breaker for every upstream, by name."""

    def __init__(self, fallback: Fallback) -> None:
        self._fallback = fallback
        self._breakers: dict[str, Breaker] = {}

    def resting(self, now: int) -> set[str]:
        """The upstreams that are not to be asked at present (Unix ns)."""
        return {name for name, breaker in self._breakers.items() if breaker.opens_at() > now}

    def opens_at(self, upstream: str, now: int, tokens: int = 0) -> int:
        """The first instant from `now` on (Unix ns) at which an upstream may be asked for a call of so many tokens."""
        breaker = self._breakers.get(upstream)
        return now if breaker is None else max(now, breaker.opens_at(tokens))

    def is_well(self, upstream: str) -> bool:
        """Whether there is nothing to heed about an upstream: no rest, no pause, no limit of its own."""
        breaker = self._breakers.get(upstream)
        return breaker is None or breaker.well

    def rests(self, upstream: str, now: int) -> bool:
        """Whether an upstream is left alone at present (Unix ns) because it failed too often."""
        breaker = self._breakers.get(upstream)
        return breaker is not None and breaker.rests(now)

    def acquire(self, upstream: str, now: int) -> bool:
        """Whether an upstream may be asked now (Unix ns); of those it failed, one call at a time sees if it is well."""
        breaker = self._breakers.get(upstream)
        return breaker is None or breaker.acquire(now)

    def note(self, upstream: str, judgement: Judgement, now: int, pacing: Pacing | None = None) -> None:
        """Learn from an attempt that ended at an instant (Unix ns), and from what its headers said."""
        breaker = self._breakers.get(upstream)
        if breaker is None:
            breaker = self._breakers[upstream] = Breaker(self._fallback)
        if pacing is not None:
            breaker.heed(pacing)
        if judgement in ("answered", "declined"):
            breaker.answered(now)
        elif judgement == "quota":
            breaker.rest_until(now + QUOTA_REST)
        elif judgement == "retry" or (judgement == "rate_limited" and (pacing is None or pacing.retry_at is None)):
            breaker.failed(now)  # a limit that says when to come back is no failure, only a pause
