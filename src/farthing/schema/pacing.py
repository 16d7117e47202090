"""Pacing: what an upstream said of how soon, and for how much more, it may be asked."""

import msgspec


class Room(msgspec.Struct, frozen=True, gc=False):
    """What is left of one rate limit at an instant, and when it is whole again (both Unix ns), filling up steadily.

    `limit` is the whole of it, `None` when that was not said; `of_tokens` says that a call takes its tokens of it, not
    just one.
    """

    remaining: int
    limit: int | None
    at: int
    whole_at: int
    of_tokens: bool = False

    def fits_at(self, tokens: int) -> int:
        """When (Unix ns) there is room for a call of so many tokens, or for as many as there is ever room for."""
        needed = max(tokens, 1) if self.of_tokens else 1
        if self.limit is None or self.limit <= self.remaining:
            return self.whole_at if self.remaining < needed else self.at
        missing = min(needed, self.limit) - self.remaining
        return self.at + max(missing, 0) * (self.whole_at - self.at) // (self.limit - self.remaining)


class Pacing(msgspec.Struct, frozen=True, gc=False):
    """What the headers of an answer say: not before `retry_at` (Unix ns; `None`: it asked for no pause), and the
    room left in each rate limit.
    """

    retry_at: int | None = None
    rooms: tuple[Room, ...] = ()

    def fits_at(self, tokens: int) -> int:
        """From when on (Unix ns; 0: at any time) there is room for a call of so many tokens."""
        soonest = self.retry_at or 0
        for room in self.rooms:
            soonest = max(soonest, room.fits_at(tokens))
        return soonest
