"""A gateway that serves: every part made, joined, and closed again in the right order."""

import asyncio
import gc
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path

import msgspec

from farthing import __version__
from farthing.config import Settings, resolve_secret
from farthing.dashboard.app import create_app
from farthing.dashboard.panel import Panel
from farthing.errors import ConfigError, PriceError
from farthing.gateway import Holds, Pipeline, Repeats, ReplyCache, Watcher
from farthing.ports import LedgerStore, ReplyStore
from farthing.pricing import PriceBook
from farthing.routing import Standing
from farthing.schema import Entry, Exchange
from farthing.server.asgi import ControlPlane
from farthing.server.intake import Intakes
from farthing.server.service import Limits, Service
from farthing.stores.bodies import Bodies, Body
from farthing.stores.journal import FileJournal
from farthing.stores.live_totals import LiveTotals
from farthing.stores.price_files import PriceArchive, current_book
from farthing.stores.reply_cache import MemoryReplies, SqliteReplies
from farthing.stores.retention import Retention
from farthing.stores.worker_totals import Totals, WorkerTotals
from farthing.wiring.embedding import stale_models
from farthing.wiring.limiting import start_holds
from farthing.wiring.parts import Parts, key_store_of, keyring_of, pipeline_of, policy_of, sources_of
from farthing.wiring.shared import (
    hand_over_abandoned,
    journal_place,
    ledger_store_of,
    owner_of,
    repeats_store_of,
    shared_replies_of,
)

SETTLE_SECONDS = 5.0
"""How long calls that a stop cut off may take to be entered."""

TELL_SECONDS = 1.0
"""How often workers tell one another what they have added up."""

EDITIONS = 8
"""Price editions kept decoded for receipts, about 3 MB each."""


class SystemClock:
    """The machine's time."""

    now = staticmethod(time.time_ns)


class Running(msgspec.Struct):
    """A gateway that serves: where it listens, and the parts that others may read."""

    url: str
    service: Service
    ledger: LedgerStore
    journal: FileJournal
    book: PriceBook
    totals: LiveTotals
    holds: Holds


@asynccontextmanager
async def running(settings: Settings, environ: Mapping[str, str], worker: int | None = None) -> AsyncIterator[Running]:
    """Serve until the block ends; then finish the calls in flight and settle everything.

    `worker` is its number where several processes serve on one port. Raises ConfigError, LedgerError, or OSError when
    the address is taken.
    """
    clock = SystemClock()
    path = Path(settings.ledger.path)
    book = current_book(settings.prices.overrides)
    policy = policy_of(settings)
    archive = PriceArchive(path / "prices")
    totals = LiveTotals()
    async with AsyncExitStack() as stack:
        keys = key_store_of(settings, environ)
        stack.callback(keys.close)
        keyring = keyring_of(settings, environ, keys, clock)
        ledger = ledger_store_of(settings, environ)
        stack.callback(ledger.close)
        journal, owner = _journal(settings, ledger, clock, totals, worker or 0)
        stack.callback(journal.close)
        archive.keep(book)
        levels = _levels(settings)
        for level in levels:
            stack.callback(level.close)
        shared_replies = shared_replies_of(settings, environ)
        if shared_replies is not None:
            stack.push_async_callback(shared_replies.close)
        watchers, audit_watchers = _recorders(settings, clock, stack)
        holds = start_holds(settings, environ, owner, journal, ledger, stack)
        repeats = Repeats(repeats_store_of(settings, environ), journal, clock, policy.fallback.deadline)
        stack.push_async_callback(repeats.close)
        sources = sources_of(settings, environ)
        pipeline = pipeline_of(
            Parts(
                policy,
                sources,
                book,
                journal,
                clock,
                ReplyCache(levels, clock, shared_replies),
                holds,
                random.random,
                lambda: keyring.authenticates,
                keyring.scope_of,
                repeats,
                watchers,
                audit_watchers,
            )
        )
        stack.push_async_callback(_settled, pipeline)  # with its upstreams closed, what is left in flight ends at once
        for source in sources.values():
            stack.push_async_callback(source.upstream.close)
        if pipeline.audits is not None:
            stack.push_async_callback(pipeline.audits.finish)

        def rungs() -> tuple[Standing, ...]:
            return pipeline.audits.standings() if pipeline.audits is not None else ()

        def own_totals() -> Totals:
            return Totals(totals.rollups(), len(pipeline.in_flight), journal.backlog, service.shed, rungs())

        panel = Panel(
            ledger=ledger,
            edition=lru_cache(EDITIONS)(lambda version: _edition(archive, version)),
            tally=totals.rollups,
            in_flight=lambda: list(pipeline.in_flight.values()),
            journal_lag=lambda: journal.backlog,
            accounts=holds.accounts,
            shed=lambda: service.shed,
            elsewhere=_tell_others(settings, own_totals, stack) if worker is not None else Totals,
            not_ready=lambda: [journal.failure] if journal.failure else [],
            clock=clock,
            version=__version__,
            policy=policy.version,
            allowed_hosts=settings.server.allowed_hosts,
            rungs=rungs,
            stale=lambda: stale_models(sources),
        )
        admin_token = resolve_secret(settings.server.admin_token, environ)
        address = (settings.server.host, settings.server.port)
        server = settings.server
        limits = Limits(server.max_body, server.max_header, server.idle_timeout, server.max_in_flight)
        intakes = Intakes(keyring, settings.server.allowed_hosts)
        control = ControlPlane(create_app(panel, admin_token), address)
        service = Service(pipeline, intakes, journal, clock, control, limits)
        port = await service.start(*address, shared=worker is not None)
        stack.push_async_callback(service.stop)
        watching = asyncio.get_running_loop().create_task(keyring.watch())
        stack.callback(watching.cancel)
        _spare_the_collector()
        yield Running(f"http://{settings.server.host}:{port}", service, ledger, journal, book, totals, holds)


def _journal(
    settings: Settings, ledger: LedgerStore, clock: SystemClock, totals: LiveTotals, worker: int
) -> tuple[FileJournal, str]:
    """A worker's journal, and who it is to the store that keeps what limits count."""
    if worker == 0:
        hand_over_abandoned(settings, ledger)
    directory, name = journal_place(settings, worker)
    journal = FileJournal(
        directory,
        ledger,
        name=name,
        sync=settings.ledger.sync,
        retention=Retention(settings.ledger.retention_days, clock),
        observe=totals.observe,
    )
    return journal, owner_of(settings, directory, name)


def totals_path(settings: Settings) -> Path:
    """Where workers tell one another what they have added up."""
    return Path(settings.ledger.path) / "workers"


def _tell_others(settings: Settings, own: Callable[[], Totals], stack: AsyncExitStack) -> Callable[[], Totals]:
    """Tell the other workers every second what this one has added up; what they told is returned when asked for."""
    told = WorkerTotals(totals_path(settings))

    async def tell() -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            with suppress(OSError):  # metrics fail open
                await asyncio.to_thread(told.tell, own())

    stack.callback(asyncio.get_running_loop().create_task(tell()).cancel)
    return told.others


async def _settled(pipeline: Pipeline) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await pipeline.emptied()


def _edition(archive: PriceArchive, version: str) -> PriceBook | None:
    try:
        return archive.edition(version)
    except (PriceError, ConfigError):
        return None


def _recorders(settings: Settings, clock: SystemClock, stack: AsyncExitStack) -> tuple[list[Watcher], list[Watcher]]:
    """What keeps the bodies of calls, and of audits, if they are to be kept."""
    if not settings.ledger.bodies:
        return [], []
    place = Path(settings.ledger.path) / "bodies.sqlite"
    bodies = Bodies(place, Retention(settings.ledger.bodies_days, clock))
    stack.callback(bodies.close)
    return [_recorder(bodies)], [_audit_recorder(bodies)]


def _recorder(bodies: Bodies) -> Watcher:
    def record(exchange: Exchange, entries: Sequence[Entry]) -> None:
        if exchange.reply is not None:
            bodies.put(exchange.id, Body(exchange.arrived, exchange.call.body, exchange.reply.body))

    return record


def _audit_recorder(bodies: Bodies) -> Watcher:
    """An audit's answer is kept beside that of its call, under the name of its own entry."""

    def record(exchange: Exchange, entries: Sequence[Entry]) -> None:
        if exchange.reply is not None:
            bodies.put(entries[-1].id, Body(exchange.arrived, exchange.call.body, exchange.reply.body))

    return record


def _levels(settings: Settings) -> list[ReplyStore]:
    """The levels of the exact cache, fastest first; a level without room is left out."""
    levels: list[ReplyStore] = []
    if settings.cache.memory:
        levels.append(MemoryReplies(settings.cache.memory))
    if settings.cache.disk:
        levels.append(SqliteReplies(Path(settings.ledger.path) / "cache.sqlite", settings.cache.disk))
    return levels


def _spare_the_collector() -> None:
    """What was built to serve stays, and serving makes almost no cycles: let the collector look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def serve(
    settings: Settings, environ: Mapping[str, str], announce: Callable[[Running], None], worker: int | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once calls are answered."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with running(settings, environ, worker) as gateway:
        announce(gateway)
        await stop.wait()
