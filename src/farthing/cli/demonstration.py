"""The demonstration: a gateway over a simulated upstream, a stream of real HTTP calls, and what became of them."""

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import takewhile
from pathlib import Path
from time import monotonic, time_ns

import msgspec

from farthing.cli.driving import drive
from farthing.config import Ledger, Server, Settings, Upstream
from farthing.pricing import Line, lines
from farthing.schema import Entry, Sums
from farthing.simulation.generator import Workload, generate
from farthing.wiring.replaying import replay_into_ledger
from farthing.wiring.serving import Running, running

PAST_SECONDS = 24 * 3600

CONNECTIONS = 2
"""The callers share a process with the gateway: more would only measure how they wait for one another."""

SETTLING = 10.0
"""Seconds that the ledger may take to add up the last calls."""


class Receipt(msgspec.Struct, frozen=True):
    """One call, line by line. Money is in pico-dollars."""

    id: str
    tenant: str
    feature: str
    model: str
    lines: tuple[Line, ...]
    cost: int | None
    list_cost: int | None


class Summary(msgspec.Struct, frozen=True):
    """What the demonstration did. Money is in pico-dollars, durations are in microseconds."""

    url: str
    calls: int
    errors: int
    seconds: float
    tenants: int
    list_cost: int
    paid: int
    saved: dict[str, int]
    hit_ratio: float | None
    overhead_p50: float | None
    overhead_p99: float | None
    receipt: Receipt | None
    simulated: bool = True


@asynccontextmanager
async def stage(directory: Path, port: int) -> AsyncIterator[Running]:
    """A gateway over a simulated upstream, on `port` or any free one when it is taken."""
    async with AsyncExitStack() as stack:
        try:
            gateway = await stack.enter_async_context(running(_settings(directory, port), {}))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            gateway = await stack.enter_async_context(running(_settings(directory, 0), {}))
        yield gateway


def recall(directory: Path, calls: int, seed: int) -> int:
    """Enter about `calls` calls of a simulated day, replayed in virtual time, so that there is a past; how many."""
    day = generate(Workload(calls=calls, rate=calls / PAST_SECONDS), random.Random(seed))  # noqa: S311
    past = takewhile(lambda recorded: recorded.at < PAST_SECONDS * 10**9, day)
    return replay_into_ledger(_settings(directory, 0), past, time_ns() - (PAST_SECONDS + 60) * 10**9).calls


async def demonstrate(gateway: Running, calls: int, seed: int, done: Callable[[int], None]) -> Summary:
    """Send `calls` generated calls through a gateway; equal seeds send equal calls."""
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    traffic = list(generate(Workload(calls=calls), random.Random(seed)))  # noqa: S311 (equal seeds must send equal calls)
    started = monotonic()
    await drive(host, int(port), traffic, connections=CONNECTIONS, done=done)
    seconds = monotonic() - started
    gateway.journal.commit()
    await asyncio.to_thread(gateway.journal.flush, SETTLING)
    tenants = {rollup.tenant for rollup in gateway.totals.rollups()}
    return _summary(gateway, gateway.totals.totals(), seconds, len(tenants))


def _settings(directory: Path, port: int) -> Settings:
    return Settings(
        server=Server(port=port),
        ledger=Ledger(path=str(directory)),
        upstreams={"simulated": Upstream(kind="stub", models=("*",))},
    )


def _summary(gateway: Running, sums: Sums, seconds: float, tenants: int) -> Summary:
    return Summary(
        url=gateway.url,
        calls=sums.calls,
        errors=sums.errors,
        seconds=round(seconds, 3),
        tenants=tenants,
        list_cost=sums.list_cost,
        paid=sums.cost,
        saved=dict(sorted(sums.saved.items(), key=lambda item: -item[1])),
        hit_ratio=sums.hit_ratio,
        overhead_p50=sums.overhead.quantile(0.50),
        overhead_p99=sums.overhead.quantile(0.99),
        receipt=_receipt(gateway),
    )


def _receipt(gateway: Running) -> Receipt | None:
    """The last call that used the most meters."""
    gateway.journal.flush(timeout=5)
    latest = gateway.ledger.entries(limit=200, newest_first=True)
    entry = max(latest, key=lambda entry: len(_lines(gateway, entry)), default=None)
    if entry is None:
        return None
    return Receipt(
        id=entry.id,
        tenant=entry.tenant,
        feature=entry.feature,
        model=entry.served or entry.model,
        lines=_lines(gateway, entry),
        cost=entry.cost,
        list_cost=entry.list_cost,
    )


def _lines(gateway: Running, entry: Entry) -> tuple[Line, ...]:
    if entry.usage is None:
        return ()
    model = entry.served or entry.model
    return lines(gateway.book, provider=entry.provider, model=model, tier=entry.tier, usage=entry.usage, at=entry.at)
