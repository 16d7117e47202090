"""Dynamic batching: texts that wait are run together, and a lone one waits for nobody."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from farthing.errors import RateLimited, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

SMOOTHING: Final = 0.2
"""How much of the newest batch is in the average time that an item takes."""

LEAST_WAIT: Final = 0.01
"""Seconds; whoever is refused is told to come back no sooner."""


class Rules(msgspec.Struct, frozen=True):
    """How to batch: at most `max_batch` items at once, by `workers` threads; `queue` items wait at most.

    A batch that is not full waits for more until its first item is `max_wait` seconds old; at 0 nothing waits while a
    worker is idle. Whoever would wait longer than `patience` seconds is refused.
    """

    max_batch: int = 64
    max_wait: float = 0.0
    queue: int = 1024
    workers: int = 1
    patience: float = 10.0


class _Asked(Generic[Item, Result]):
    """One request: its items, how many of them were taken to be run, and the answers that are there."""

    __slots__ = ("arrived", "future", "items", "left", "results", "taken")

    def __init__(self, items: Sequence[Item], future: "asyncio.Future[list[Result]]", arrived: float) -> None:
        self.items = items
        self.future = future
        self.arrived = arrived
        self.taken = 0
        self.left = len(items)
        self.results: list[Result] = [None] * len(items)  # type: ignore[list-item]  # all are filled in before anyone looks


_Share = tuple[_Asked[Item, Result], int, int]
"""Items of one request that are in a batch: from, up to."""


class Batcher(Generic[Item, Result]):
    """Runs the items of many requests together; for the event loop it was made on.

    `run` takes a batch and gives a result for each item, in order, in a worker's thread; a result that is an exception
    fails its own request alone, and an exception that is raised fails all that are in the batch.
    """

    def __init__(self, run: Callable[[list[Item]], Sequence[Result | Exception]], rules: Rules, name: str) -> None:
        self._run = run
        self._rules = rules
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._turn = threading.Condition()
        self._waiting: deque[_Asked[Item, Result]] = deque()
        self._items = 0
        self._under_way = 0
        self._per_item = 0.0
        self.closed = False
        self.batches = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"farthing {name} {number}", daemon=True)
            for number in range(rules.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Items that wait to be run."""
        return self._items

    @property
    def expected_wait(self) -> float:
        """In about how many seconds an item that comes now would be answered, from how long the last ones took."""
        return (self._items + self._under_way) * self._per_item / self._rules.workers

    async def ask(self, items: Sequence[Item]) -> list[Result]:
        """The results of some items, in order; cancelled, none of those not yet taken is run.

        Raises RateLimited when too many wait, Unavailable once closed, and whatever `run` raised.
        """
        if not items:
            return []
        self._admit(len(items))
        asked: _Asked[Item, Result] = _Asked(items, self._loop.create_future(), time.monotonic())
        with self._turn:
            self._waiting.append(asked)
            self._items += len(items)
            self._turn.notify()
        try:
            return await asked.future
        except asyncio.CancelledError:
            self._forget(asked)
            raise

    async def close(self) -> None:
        """Take no more, run what waits, and end the threads."""
        with self._turn:
            self.closed = True
            self._turn.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _admit(self, count: int) -> None:
        if self.closed:
            raise Unavailable(f"The model {self._name} is being unloaded.", hint="Ask again.", retry_after=1.0)
        rules, wait = self._rules, self.expected_wait
        if self._items and self._items + count > rules.queue:
            pause = rules.max_batch * self._per_item
        elif wait > rules.patience:
            pause = wait - rules.patience
        else:
            return
        pause = max(pause, LEAST_WAIT)
        raise RateLimited(
            f"{self._items} texts wait for the model {self._name}, about {wait:.2g} s of work; {rules.queue} may wait, "
            f"and for {rules.patience:g} s.",
            hint=f"Ask again in {pause:.2g} s; a longer `queue`, or more cores, would take more at once.",
            retry_after=pause,
        )

    def _forget(self, asked: _Asked[Item, Result]) -> None:
        """Run no more of a request."""
        with self._turn:
            if asked.taken < len(asked.items):
                self._items -= len(asked.items) - asked.taken
                asked.taken = len(asked.items)
                self._waiting.remove(asked)

    # -- in a worker's thread

    def _work(self) -> None:
        while shares := self._next():
            batch = [item for asked, start, end in shares for item in asked.items[start:end]]
            began = time.perf_counter()
            results: Sequence[Result | Exception]
            try:
                results = self._run(batch)
                if len(results) != len(batch):
                    raise RuntimeError(f"{len(batch)} texts were run, and {len(results)} results came of it")
            except Exception as error:  # noqa: BLE001 (whoever asked is told)
                results = [error] * len(batch)
            took = (time.perf_counter() - began) / len(batch)
            try:
                self._loop.call_soon_threadsafe(self._deliver, shares, results, took)
            except RuntimeError:  # the loop is closed, and nobody waits any more
                return

    def _next(self) -> list[_Share[Item, Result]]:
        """The next batch, once there is one; none when closed and all is done."""
        with self._turn:
            while True:
                if self._waiting:
                    pause = self._pause()
                    if pause <= 0:
                        return self._take()
                    self._turn.wait(pause)
                elif self.closed:
                    return []
                else:
                    self._turn.wait()

    def _pause(self) -> float:
        """How much longer a batch waits to be filled, in seconds."""
        if not self._rules.max_wait or self._items >= self._rules.max_batch or self.closed:
            return 0.0
        return self._waiting[0].arrived + self._rules.max_wait - time.monotonic()

    def _take(self) -> list[_Share[Item, Result]]:
        """The next batch. What is left of a large request goes behind the others, so that none waits for all of it."""
        room = self._rules.max_batch
        shares: list[_Share[Item, Result]] = []
        while room and self._waiting:
            asked = self._waiting.popleft()
            start = asked.taken
            asked.taken = end = min(len(asked.items), start + room)
            room -= end - start
            shares.append((asked, start, end))
            if end < len(asked.items):
                self._waiting.append(asked)
        taken = self._rules.max_batch - room
        self._items -= taken
        self._under_way += taken
        return shares

    # -- back on the loop

    def _deliver(
        self, shares: Sequence[_Share[Item, Result]], results: Sequence[Result | Exception], took: float
    ) -> None:
        """Hand out the results of one batch: one wake-up of the loop, however many requests are in it."""
        self.batches += 1
        place = 0
        for asked, start, end in shares:
            own = results[place : place + end - start]
            place += end - start
            if asked.future.done():
                continue
            wrong = next((result for result in own if isinstance(result, Exception)), None)
            if wrong is not None:
                asked.future.set_exception(wrong)
                self._forget(asked)
                continue
            asked.results[start:end] = own  # type: ignore[assignment]  # none is an exception
            asked.left -= end - start
            if not asked.left:
                asked.future.set_result(asked.results)
        self._per_item = took if not self._per_item else self._per_item + SMOOTHING * (took - self._per_item)
        with self._turn:
            self._under_way -= place


def runs(lengths: Sequence[int], *, setup: int, most: int) -> list[list[int]]:
    """Cut a batch into runs of texts of like lengths, so that all of it takes the least time: places in `lengths`.

    A run costs its padded size, the number of its texts times the longest of them, and a `setup`, in tokens too. The
    cheapest cut of the texts in order of length is found by dynamic programming over their different lengths. No run is
    larger than `most` tokens, unless one text is.

    >>> runs([9, 2, 8, 2, 2], setup=12, most=100), runs([5, 5, 5], setup=12, most=10)
    ([[0, 2], [1, 3, 4]], [[0, 1], [2]])
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    found: list[list[int]] = []
    start = 0
    for end in _cuts([lengths[place] for place in order], setup):
        room = max(1, most // max(lengths[order[start]], 1))
        found += [order[at : min(at + room, end)] for at in range(start, end, room)]
        start = end
    return found


def _cuts(falling: Sequence[int], setup: int) -> list[int]:
    """Where the runs of texts end whose lengths are given, the longest first, in the cheapest cut."""
    if not falling:
        return []
    bounds = [at for at in range(1, len(falling)) if falling[at] != falling[at - 1]]
    starts, ends = [0, *bounds], [*bounds, len(falling)]
    costs, cut_at = [0], [0]  # of the first so many groups of equal lengths; before which group their last run begins
    for group, end in enumerate(ends):
        cheapest, begin = min(
            [(costs[first] + falling[starts[first]] * (end - starts[first]), first) for first in range(group + 1)]
        )
        costs.append(cheapest + setup)
        cut_at.append(begin)
    found: list[int] = []
    group = len(ends)
    while group:
        found.append(ends[group - 1])
        group = cut_at[group]
    return found[::-1]
