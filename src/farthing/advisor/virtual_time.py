"""Virtual time: an event loop that jumps to the next timer instead of waiting for it, and the clock that reads it."""

import asyncio

NANOSECONDS = 10**9
TICK = 1_000
"""Virtual time moves in steps of a microsecond, given in nanoseconds."""

_TICKS = NANOSECONDS // TICK


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop whose time passes only when every task waits for it, and then at once.

    There is no network, no signal and no thread in virtual time: a task that waits for anything but a timer or another
    task makes the loop raise RuntimeError. Equal programs run in equal order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self.elapsed = 0
        """Nanoseconds since the loop was made."""
        self._selector = _Skip(self)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._seconds

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds
        self.elapsed = round(self._seconds * _TICKS) * TICK

    def _process_events(self, event_list: object) -> None:
        """No file is watched, so none has events."""

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing needs waking."""


class _Skip:
    """What the loop asks to wait until the next timer is due: time passes instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise RuntimeError("Virtual time stands still: every task waits for something that no timer will bring.")
        if timeout > 0:
            self._loop.skip(timeout)
        return ()

    def close(self) -> None:
        """There is nothing to close."""


class VirtualClock:
    """Implements `farthing.ports.Clock` on a virtual loop: the time at which the loop was made is `start`, Unix ns."""

    def __init__(self, loop: VirtualLoop, start: int) -> None:
        self._loop = loop
        self.start = start

    def now(self) -> int:
        """Unix time in nanoseconds."""
        return self.start + self._loop.elapsed
