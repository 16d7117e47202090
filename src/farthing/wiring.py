"""The composition root: the only file that knows who is who. The order of the stages is written here."""

import asyncio
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import msgspec

from farthing import __version__, importers
from farthing.config import Settings, Upstream, resolve_secret
from farthing.dashboard.app import create_app
from farthing.dashboard.panel import Panel
from farthing.errors import ConfigError, PriceError
from farthing.gateway import Ask, Catalogue, Keyring, LookUp, Pipeline, ReplyCache, Settlement, Source
from farthing.ledger.tally import Tally
from farthing.ports import Clock, Journal, LedgerStore, ReplyStore
from farthing.pricing import PriceBook
from farthing.providers.catalogue import provider
from farthing.routing import RouteTable
from farthing.schema import PICO_PER_USD, Caller, Endpoint, Entry, Policy, Route, SharingRules, dialect_of
from farthing.server.asgi import ControlPlane
from farthing.server.service import Limits, Service
from farthing.stores.journal import FileJournal
from farthing.stores.price_files import PriceArchive, current_book
from farthing.stores.reply_cache import MemoryReplies, SqliteReplies
from farthing.stores.sqlite_ledger import SqliteLedger

ENDPOINTS: tuple[Endpoint, ...] = ("chat", "responses", "embeddings", "completions", "messages", "count_tokens")


EDITIONS = 8
"""Price editions kept decoded for receipts, about 3 MB each."""


class SystemClock:
    """The machine's time."""

    now = staticmethod(time.time_ns)


def upstreams_of(settings: Settings) -> dict[str, Upstream]:
    """The configured upstreams, or OpenAI and Anthropic when none is: the callers bring their own keys."""
    return dict(settings.upstreams) or {
        "openai": Upstream(provider="openai", models=("*",)),
        "anthropic": Upstream(provider="anthropic", models=("*",)),
    }


def policy_of(settings: Settings) -> Policy:
    """The levers and limits that the settings put in force."""
    upstreams = upstreams_of(settings)
    cache = settings.cache
    sharing = SharingRules(
        enabled=cache.enabled,
        ttl=int(cache.ttl * 1e9),
        scope=cache.scope,
        max_temperature=cache.max_temperature,
        tools=cache.tools,
        truncated=cache.truncated,
    )
    routes = [
        Route(route.model, route.upstream, _endpoints(upstreams[route.upstream]), route.served_as, route.cache)
        for route in settings.routes
    ]
    routes += [
        Route(model, name, _endpoints(upstream)) for name, upstream in upstreams.items() for model in upstream.models
    ]
    return Policy(sharing, tuple(routes))


def _endpoints(upstream: Upstream) -> tuple[str, ...]:
    dialects = provider(upstream.provider).dialects if upstream.provider else ("openai", "anthropic")
    return tuple(endpoint for endpoint in ENDPOINTS if dialect_of(endpoint) in dialects)


def sources_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, Source]:
    """An adapter for every upstream, with the terms it sells on."""
    return {name: _source(name, upstream, environ) for name, upstream in upstreams_of(settings).items()}


def _source(name: str, upstream: Upstream, environ: Mapping[str, str]) -> Source:
    hourly = int(Decimal(upstream.hourly_usd) * PICO_PER_USD) if upstream.hourly_usd else None
    if upstream.kind == "stub":
        from farthing.providers.stub import StubUpstream

        return Source(StubUpstream(name), hourly=hourly, concurrency=upstream.concurrency)
    if upstream.kind == "recorded":
        from farthing.providers.recorded import RecordedUpstream

        return Source(RecordedUpstream.of(name, importers.read(Path(upstream.recording))))
    from farthing.providers.http import HttpSettings, HttpUpstream

    row = provider(upstream.provider or "openai")
    key = resolve_secret(upstream.api_key, environ) if upstream.api_key else environ.get(row.key_env, "")
    adapter = HttpUpstream(
        HttpSettings(
            name=name,
            provider=upstream.provider,
            base_url=upstream.base_url or row.base_url,
            auth="authorization" if row.auth == "bearer" else row.auth,
            api_key=key,
            on_disconnect=upstream.on_disconnect or row.on_disconnect,
            connections=upstream.connections,
            connect_timeout=upstream.connect_timeout,
            stall_timeout=upstream.stall_timeout,
            deadline=upstream.deadline,
        )
    )
    return Source(
        adapter,
        prices=(upstream.provider and row.prices) or upstream.provider or name,  # who has no list prices gets none
        hourly=hourly,
        concurrency=upstream.concurrency,
        running_usage=row.running_usage and bool(upstream.provider),
    )


def keyring_of(settings: Settings, environ: Mapping[str, str]) -> Keyring:
    """The gateway keys, their secrets read from where they are kept."""
    return Keyring(
        {
            name: (resolve_secret(key.secret, environ), Caller(tenant=key.tenant, team=key.team, key=name))
            for name, key in settings.keys.items()
        }
    )


def pipeline_of(
    policy: Policy, sources: Mapping[str, Source], book: PriceBook, journal: Journal, clock: Clock,
    levels: Sequence[ReplyStore], *, authenticated: bool, observe: Callable[[Entry], None],
) -> Pipeline:  # fmt: skip
    """The stages in their order: list models, look up, ask."""
    routes = RouteTable(policy.routes)
    cache = ReplyCache(levels, clock)
    look_up = LookUp(policy.sharing, routes, cache, authenticated=authenticated)
    stages = (
        Catalogue(_models(policy, book, sources), clock.now() // 10**9),
        look_up,
        Ask(sources, routes, book, clock),
    )
    return Pipeline(stages, Settlement(journal, clock, policy.version, keep=look_up.keep, observe=observe))


def _models(policy: Policy, book: PriceBook, sources: Mapping[str, Source]) -> list[tuple[str, str]]:
    """Models served by name, and for a whole provider those that the price book knows."""
    named = [(route.model, route.upstream) for route in policy.routes if "*" not in route.model]
    priced = [
        (model, route.upstream)
        for route in policy.routes
        if route.model == "*" and sources[route.upstream].prices
        for model in book.models(sources[route.upstream].prices)
    ]
    return sorted(set(named + priced))


def ledger_path(settings: Settings) -> Path:
    """Where the ledger's own file is."""
    return Path(settings.ledger.path) / "ledger.sqlite"


class Running(msgspec.Struct):
    """A gateway that serves: where it listens, and the parts that others may read."""

    url: str
    service: Service
    ledger: LedgerStore
    journal: FileJournal
    book: PriceBook
    tally: Tally


@asynccontextmanager
async def running(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """Serve until the block ends; then finish the calls in flight and settle everything.

    Raises ConfigError, LedgerError, or OSError when the address is taken.
    """
    clock = SystemClock()
    path = Path(settings.ledger.path)
    book = current_book(settings.prices.overrides)
    policy = policy_of(settings)
    keyring = keyring_of(settings, environ)
    archive = PriceArchive(path / "prices")
    tally = Tally()
    async with AsyncExitStack() as stack:
        ledger = SqliteLedger(ledger_path(settings))
        stack.callback(ledger.close)
        journal = FileJournal(path / "journal", ledger, sync=settings.ledger.sync)
        stack.callback(journal.close)
        archive.keep(book)
        levels = _levels(settings)
        for level in levels:
            stack.callback(level.close)
        sources = sources_of(settings, environ)
        for source in sources.values():
            stack.push_async_callback(source.upstream.close)
        pipeline = pipeline_of(
            policy, sources, book, journal, clock, levels, authenticated=keyring.authenticates, observe=tally.add
        )
        panel = Panel(
            ledger=ledger,
            edition=lru_cache(EDITIONS)(lambda version: _edition(archive, version)),
            tally=tally.rollups,
            in_flight=lambda: list(pipeline.in_flight.values()),
            journal_lag=lambda: journal.backlog,
            not_ready=lambda: [failure for failure in (journal.failure, journal.store_failure) if failure],
            clock=clock,
            version=__version__,
            policy=policy.version,
            allowed_hosts=settings.server.allowed_hosts,
        )
        address = (settings.server.host, settings.server.port)
        limits = Limits(settings.server.max_body, settings.server.max_header, settings.server.idle_timeout)
        service = Service(pipeline, keyring, journal, clock, ControlPlane(create_app(panel), address), limits)
        port = await service.start(*address)
        stack.push_async_callback(service.stop)
        _spare_the_collector()
        yield Running(f"http://{settings.server.host}:{port}", service, ledger, journal, book, tally)


def _edition(archive: PriceArchive, version: str) -> PriceBook | None:
    try:
        return archive.edition(version)
    except (PriceError, ConfigError):
        return None


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


async def serve(settings: Settings, environ: Mapping[str, str], announce: Callable[[Running], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once calls are answered."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with running(settings, environ) as gateway:
        announce(gateway)
        await stop.wait()
