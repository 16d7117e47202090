"""Virtual time: an event loop that jumps to the next timer instead of waiting for it, and the clock that reads it."""

import asyncio
import logging
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple, Unpack

NANOSECONDS = 10**9
TICK = 1_000
"""Virtual time moves in steps of a microsecond, given in nanoseconds."""

_TICKS = NANOSECONDS // TICK

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Due(asyncio.Handle):
    """A callback that waits for its turn: asyncio's handle without what it keeps for debugging, at half its cost."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: tuple[object, ...], context: Context | None = None
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<{'cancelled' if self._cancelled else 'due'} {self._callback!r}>"

    def cancel(self) -> None:
        """It stays where it is, and is passed over when its turn comes."""
        self._cancelled = True


class _DueAt(_Due, asyncio.TimerHandle):
    """A callback that waits for its time."""

    __slots__ = ()
    _when: float


class VirtualLoop(asyncio.AbstractEventLoop):
    """An asyncio loop whose time passes only when every task waits for it, and then at once.

    Equal programs run in equal order: callbacks in the order they were asked for, timers by time and then by order.
    An exception in a callback ends the run. There is no network, no file, no signal and no thread in virtual time:
    asking for them raises NotImplementedError, and waiting for anything that no timer will bring raises RuntimeError.
    """

    def __init__(self) -> None:
        self.elapsed = 0
        """Nanoseconds since the loop was made."""
        self._ready: deque[_Due] = deque()
        self._timers: list[tuple[int, int, _DueAt]] = []
        self._asked = 0
        self._closed = False

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.elapsed / NANOSECONDS

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        due = _Due(callback, args, context)
        self._ready.append(due)
        return due

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._at(self.elapsed / NANOSECONDS + delay, _DueAt(callback, args, context))

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._at(when, _DueAt(callback, args, context))

    def _at(self, when: float, due: _DueAt) -> _DueAt:
        due._when = when
        self._asked += 1
        heappush(self._timers, (round(when * _TICKS), self._asked, due))
        return due

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any) -> "asyncio.Task[T]":
        return asyncio.Task(coro, loop=self, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody asked a task for is logged, as on any loop."""
        logging.getLogger(__name__).error(context.get("message"), exc_info=context.get("exception"))

    def get_debug(self) -> bool:
        return False

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until `future` is done, and return its result."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        ready = self._ready
        try:
            task = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]  # it takes generators too
            while not task.done():
                if not ready:
                    self._skip()
                for _ in range(len(ready)):
                    due = ready.popleft()
                    if not due._cancelled:
                        due._context.run(due._callback, *due._args)
            return task.result()
        finally:
            events._set_running_loop(before)

    def _skip(self) -> None:
        """Let time pass until the next timer is due, and make ready all that are due then."""
        timers = self._timers
        if not timers:
            raise RuntimeError("Virtual time stands still: every task waits for something that no timer will bring.")
        tick = timers[0][0]
        self.elapsed = max(self.elapsed, tick * TICK)
        while timers and timers[0][0] == tick:
            self._ready.append(heappop(timers)[2])

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        """Generators that are left open are closed by the interpreter."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 (asyncio's own)
        """There are no threads."""


class VirtualClock:
    """Implements `farthing.ports.Clock` on a virtual loop: the time at which the loop was made is `start`, Unix ns."""

    def __init__(self, loop: VirtualLoop, start: int) -> None:
        self._loop = loop
        self.start = start

    def now(self) -> int:
        """Unix time in nanoseconds."""
        return self.start + self._loop.elapsed
