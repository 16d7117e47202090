"""The demonstration: a gateway over a simulated upstream, a stream of real HTTP calls, and what became of them."""

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

import msgspec

from farthing.cli.driving import drive
from farthing.cli.listening import cannot_serve
from farthing.cli.past import simulated_day
from farthing.config import Ledger, Server, Settings, Upstream
from farthing.ledger.report import Figures
from farthing.pricing import Line, lines
from farthing.schema import Entry
from farthing.simulation.generator import Workload, generate
from farthing.wiring.serving import Running, running

CONNECTIONS = 2
"""The callers share a process with the gateway: more would only measure how they wait for one another."""

PORTS = 20
"""How many ports to try, the first included, before any free one will do."""

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
    """What the demonstration did: `live` calls over HTTP in so many `seconds`, and the `day` replayed before them."""

    url: str
    seconds: float
    tenants: int
    live: Figures
    day: Figures
    receipt: Receipt | None
    simulated: bool = True


@asynccontextmanager
async def stage(directory: Path, port: int) -> AsyncIterator[Running]:
    """A gateway over a simulated upstream, on `port` or the next that is free; raises ConfigError if it may not be."""
    async with AsyncExitStack() as stack:
        for candidate in (*range(port, min(port + PORTS, 65536)), 0):
            try:
                gateway = await stack.enter_async_context(running(_settings(directory, candidate), {}))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise cannot_serve(f"port {candidate}", error) from error
        yield gateway


def recall(directory: Path, seed: int) -> Figures:
    """Enter a simulated day in the ledger that the gateway will serve from; what it came to."""
    return simulated_day(_settings(directory, 0), random.Random(seed))  # noqa: S311 (equal seeds, equal days)


async def demonstrate(gateway: Running, day: Figures, calls: int, seed: int, done: Callable[[int], None]) -> Summary:
    """Send `calls` generated calls through a gateway, after a `day`; equal seeds send equal calls."""
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    traffic = list(generate(Workload(calls=calls), random.Random(seed)))  # noqa: S311 (equal seeds must send equal calls)
    started = monotonic()
    await drive(host, int(port), traffic, connections=CONNECTIONS, done=done)
    seconds = monotonic() - started
    gateway.journal.commit()
    await asyncio.to_thread(gateway.journal.flush, SETTLING)
    return Summary(
        url=gateway.url,
        seconds=round(seconds, 3),
        tenants=len({rollup.tenant for rollup in gateway.totals.rollups()}),
        live=Figures.of(gateway.totals.totals()),
        day=day,
        receipt=_receipt(gateway),
    )


def _settings(directory: Path, port: int) -> Settings:
    return Settings(
        server=Server(port=port),
        ledger=Ledger(path=str(directory)),
        upstreams={"simulated": Upstream(kind="stub", models=("*",))},
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
