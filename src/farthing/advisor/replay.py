"""Replay: recorded calls through a gateway pipeline, each at its own instant of virtual time."""

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from operator import attrgetter
from typing import Final

import msgspec

from farthing import dialects
from farthing.advisor.virtual_time import NANOSECONDS, TICK, VirtualClock, VirtualLoop
from farthing.errors import RequestError, TrafficError
from farthing.ports import Outlet, Question
from farthing.schema import OFFSETS_END, Call, Caller, Endpoint, Exchange, Recorded, Usage

Handle = Callable[[Exchange, Outlet | None], Awaitable[Exchange]]
"""Answers one call and enters it in a ledger: a pipeline's `handle`."""

RECORD_HEADER: Final = b"x-farthing-record"
"""Tells the recorded upstream which record a question is from; seen by no provider."""

LOOK_AHEAD: Final = 1_000
"""Records read before the first is replayed, so that neighbours may be out of order."""

MOST_OPEN: Final = 10_000
"""Calls open at once; more wait, in virtual time, for one to be answered."""

_WEEK: Final = 7 * 24 * 3600 * NANOSECONDS

_at: Final = attrgetter("at")

_LIVES: Final = ("5m", "30m", "1h", "12h")

_PATHS: Final[dict[Endpoint, str]] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "classify": "/v1/classify",
    "rerank": "/v1/rerank",
}


class OpenRecords:
    """The records whose calls are under way: what the recorded upstream answers them from."""

    def __init__(self) -> None:
        self._records: dict[bytes, Recorded] = {}

    def __len__(self) -> int:
        return len(self._records)

    def open(self, name: bytes, recorded: Recorded) -> None:
        self._records[name] = recorded

    def close(self, name: bytes) -> None:
        del self._records[name]

    def find(self, question: Question) -> Recorded | None:
        """The record that a question is from."""
        for name, value in question.headers:
            if name == RECORD_HEADER:
                return self._records.get(value)
        return None


class Replayed(msgspec.Struct, frozen=True):
    """What was replayed: how many calls, from when to when (Unix ns, as replayed), and what they cost when recorded.

    `late` counts calls that waited because too many were open. `recorded_cost` is in pico-dollars, over the
    `recorded_priced` calls of which the recording says what was paid.
    """

    calls: int
    began: int
    ended: int
    late: int
    recorded_cost: int
    recorded_priced: int


async def replay(
    traffic: Iterable[Recorded],
    handle: Handle,
    records: OpenRecords,
    clock: VirtualClock,
    *,
    most_open: int = MOST_OPEN,
) -> Replayed:
    """Send every recorded call through `handle`; the first is sent at once, the others as long after it as recorded.

    Runs on the VirtualLoop that `clock` reads. The traffic is read as it is needed, never all at once. Raises
    TrafficError when a record is more than `LOOK_AHEAD` places out of order, and whatever `handle` raises.
    """
    return await _Driver(in_time_order(traffic), handle, records, clock, most_open).run()


def in_time_order(traffic: Iterable[Recorded], ahead: int = LOOK_AHEAD) -> Iterator[Recorded]:
    """The records by time, when none is more than `ahead` places out of order; equal times keep their order."""
    waiting: deque[Recorded] = deque()
    earliest = latest = -1
    for number, recorded in enumerate(traffic, 1):
        at = recorded.at
        if at >= latest:
            latest = at
            waiting.append(recorded)
        elif at >= earliest:
            insort(waiting, recorded, key=_at)
        else:
            raise TrafficError(
                f"Record {number} was asked {(earliest - at) / NANOSECONDS:.6f} s before one that comes "
                f"{ahead} places earlier.",
                hint="Sort the file by time.",
            )
        if number > ahead:
            first = waiting.popleft()
            earliest = first.at
            yield first
    yield from waiting


def moved_to(first: int, present: int) -> int:
    """When to start a recording whose first call was at `first`, so that prices of the `present` apply (Unix ns).

    A recording of offsets starts now; one of dates keeps its hour and weekday, and moves by whole weeks.
    """
    if first < OFFSETS_END:
        return present
    return first + (present - first) // _WEEK * _WEEK


class _Driver:
    """Feeds calls into the loop: one timer for the next arrival, one task per open call."""

    def __init__(
        self, traffic: Iterator[Recorded], handle: Handle, records: OpenRecords, clock: VirtualClock, most_open: int
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop), "replay runs in virtual time"
        self._loop = loop
        self._traffic = traffic
        self._handle = handle
        self._records = records
        self._clock = clock
        self._most_open = most_open
        self._next = next(traffic, None)
        self._base = (self._next.at if self._next else 0) // TICK * TICK - loop.elapsed
        self._calls = self._late = self._cost = self._priced = 0
        self._open: dict[bytes, asyncio.Task[None]] = {}
        self._full = False
        self._end: asyncio.Future[None] = loop.create_future()

    async def run(self) -> Replayed:
        began = self._clock.now()
        self._feed()
        try:
            await self._end
        finally:
            left = list(self._open.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        return Replayed(self._calls, began, self._clock.now(), self._late, self._cost, self._priced)

    def _feed(self) -> None:
        """Start every call that is due, and come back when the next one is."""
        try:
            while (recorded := self._next) is not None:
                due = (recorded.at - self._base) // TICK * TICK
                if due > self._loop.elapsed:
                    self._loop.call_at(due / NANOSECONDS, self._feed)
                    return
                if len(self._open) >= self._most_open:
                    self._late += 1
                    self._full = True
                    return
                self._start(recorded)
                self._next = next(self._traffic, None)
        except (TrafficError, OSError) as error:
            self._fail(error)
            return
        self._end_if_done()

    def _start(self, recorded: Recorded) -> None:
        self._calls += 1
        if recorded.cost is not None:
            self._cost += recorded.cost
            self._priced += 1
        name = b"%d" % self._calls
        self._records.open(name, recorded)
        self._open[name] = self._loop.create_task(self._one(name, recorded))

    async def _one(self, name: bytes, recorded: Recorded) -> None:
        try:
            await self._handle(exchange_of(recorded, name, self._clock.now()), None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)
            raise  # to `run`, which waits for every task that is still in `_open`
        finally:
            self._records.close(name)
        del self._open[name]
        if self._next is None:
            self._end_if_done()
        elif self._full:
            self._full = False
            self._feed()

    def _end_if_done(self) -> None:
        if not self._open and not self._end.done():
            self._end.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._next = None
        if not self._end.done():
            self._end.set_exception(error)


def exchange_of(recorded: Recorded, name: bytes, arrived: int) -> Exchange:
    """The exchange of a recorded call, named `replay-<name>`, arriving at an instant (Unix ns)."""
    caller = Caller(recorded.tenant, recorded.team, recorded.key, recorded.feature, recorded.tags)
    return Exchange(f"replay-{name.decode()}", _call(recorded, name), caller, arrived)


def _call(recorded: Recorded, name: bytes) -> Call:
    headers = ((RECORD_HEADER, name),)
    path = _PATHS[recorded.endpoint]
    body = bytes(recorded.request)
    if body:
        try:
            return dialects.decode(recorded.endpoint, body, method="POST", path=path, headers=headers)
        except RequestError as error:
            place = f"Record {name.decode()} ({recorded.note})" if recorded.note else f"Record {name.decode()}"
            raise TrafficError(f"{place} has a request that cannot be replayed: {error.message}") from error
    prompt = f"prompt {recorded.prompt}" if recorded.prompt else f"record {name.decode()}"
    return Call(
        recorded.endpoint,
        recorded.model,
        stand_in(recorded.endpoint, recorded.model, prompt, recorded.stream),
        path=path,
        headers=headers,
        stream=recorded.stream,
        tier=recorded.tier,
        cache_ttl=_cache_ttl(recorded.usage),
    )


def _cache_ttl(usage: Usage | None) -> str | None:
    """The time to live that the caller must have asked for, as a chat's reply does not tell it."""
    if usage is None:
        return None
    return next((ttl for ttl in _LIVES if getattr(usage, f"cache_write_{ttl}")), None)


def stand_in(endpoint: Endpoint, model: str, prompt: str, stream: bool) -> bytes:
    """A small request body in the place of one that was not recorded: equal prompts, equal bodies."""
    body: dict[str, object] = {"model": model}
    match endpoint:
        case "chat" | "messages" | "count_tokens":
            body["messages"] = [{"role": "user", "content": prompt}]
        case "completions":
            body["prompt"] = prompt
        case "rerank":
            body |= {"query": prompt, "documents": [prompt]}
        case _:
            body["input"] = prompt
    if endpoint == "messages":
        body["max_tokens"] = 4096
    if stream:
        body["stream"] = True
    return msgspec.json.encode(body)
