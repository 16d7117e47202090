"""From settings to parts: policy, sources, keys, and the pipeline with its stages in their order."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from farthing import importers
from farthing.config import Settings, Upstream, resolve_secret
from farthing.config.agreement import is_loopback
from farthing.gateway import (
    Ask,
    Audits,
    Buyer,
    Catalogue,
    Holds,
    Keyring,
    LookUp,
    Market,
    Pipeline,
    Repeats,
    ReplyCache,
    Reserve,
    Settlement,
    Source,
    Watcher,
)
from farthing.gateway.keyring import digest_of
from farthing.gateway.pipeline import Stage
from farthing.gateway.repeats import lasting
from farthing.gateway.scopes import Admit, Scope
from farthing.ports import Clock, Journal, KeyStore
from farthing.pricing import PriceBook
from farthing.prompts import Calibration
from farthing.providers.catalogue import provider
from farthing.routing import Health, RouteTable
from farthing.schema import (
    Endpoint,
    Entry,
    Exchange,
    Fallback,
    GatewayKey,
    Policy,
    Route,
    SharingRules,
    dialect_of,
)
from farthing.stores.pepper import kept_pepper
from farthing.wiring.embedding import EMBEDDED_ENDPOINTS, embedded_source, models_of
from farthing.wiring.limiting import limits_of, pico

ENDPOINTS: tuple[Endpoint, ...] = (
    "chat",
    "responses",
    "embeddings",
    "completions",
    "messages",
    "count_tokens",
    "classify",
    "rerank",
)


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
    tries = settings.fallback
    sharing = SharingRules(
        enabled=cache.enabled,
        ttl=_ns(cache.ttl),
        scope=cache.scope,
        max_temperature=cache.max_temperature,
        tools=cache.tools,
        truncated=cache.truncated,
    )
    routes = [
        Route(
            route.model,
            route.upstream,
            _endpoints(upstreams[route.upstream]),
            route.served_as,
            route.cache,
            route.rank,
            route.weight,
            upstreams[route.upstream].max_output,
            route.accept,
            route.audit,
            route.gate,
        )
        for route in settings.routes
    ]
    routes += [
        Route(model, name, _endpoints(upstream), rank=0, max_output=upstream.max_output)
        for name, upstream in upstreams.items()
        for model in models_of(upstream)
    ]
    fallback = Fallback(
        attempts=tries.attempts,
        backoff=_ns(tries.backoff),
        longest_backoff=_ns(tries.longest_backoff),
        deadline=_ns(tries.deadline),
        max_cost=pico(tries.max_usd) if tries.max_usd else None,
        failures=tries.failures,
        rest=_ns(tries.rest),
        longest_rest=_ns(tries.longest_rest),
    )
    return Policy(sharing, tuple(routes), limits_of(settings), fallback)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _endpoints(upstream: Upstream) -> tuple[str, ...]:
    if upstream.kind == "embedded":
        return EMBEDDED_ENDPOINTS
    dialects = provider(upstream.provider).dialects if upstream.provider else ("openai", "anthropic")
    return tuple(endpoint for endpoint in ENDPOINTS if dialect_of(endpoint) in dialects)


def sources_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, Source]:
    """An adapter for every upstream, with the terms it sells on."""
    keys = environ if settings.upstreams else {}  # where none is configured, the callers bring their own
    return {name: _source(name, upstream, keys) for name, upstream in upstreams_of(settings).items()}


def _source(name: str, upstream: Upstream, environ: Mapping[str, str]) -> Source:
    hourly = pico(upstream.hourly_usd) if upstream.hourly_usd else None
    if upstream.kind == "stub":
        from farthing.providers.stub import MODELS, StubUpstream

        return Source(StubUpstream(name), hourly=hourly, concurrency=upstream.concurrency, models=MODELS)
    if upstream.kind == "recorded":
        from farthing.providers.recorded import RecordedUpstream

        return Source(RecordedUpstream.of(name, importers.read(Path(upstream.recording))))
    if upstream.kind == "embedded":
        return embedded_source(name, upstream, hourly)
    from farthing.providers.http import HttpSettings, HttpUpstream

    row = provider(upstream.provider or "openai")
    key = resolve_secret(upstream.api_key, environ)
    if not key and upstream.provider:  # a key from the environment goes to the provider it is named after, only
        key = environ.get(row.key_env, "")
    on_disconnect = upstream.on_disconnect or row.on_disconnect
    adapter = HttpUpstream(
        HttpSettings(
            name=name,
            provider=upstream.provider,
            base_url=upstream.base_url or row.base_url,
            auth="authorization" if row.auth == "bearer" else row.auth,
            api_key=key,
            on_disconnect=on_disconnect,
            drain_seconds=upstream.drain_seconds,
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
        deadline=_ns(upstream.deadline),
        own_key=bool(key),
        running_usage=row.running_usage and bool(upstream.provider),
        drain_cost=pico(upstream.drain_usd) if upstream.drain_usd and on_disconnect != "abort" else None,
        retrieves=on_disconnect == "retrieve",
    )


def key_store_of(settings: Settings, environ: Mapping[str, str]) -> KeyStore:
    """Where keys made by `farthing key new` are kept: PostgreSQL, else a file beside the ledger."""
    if postgres := resolve_secret(settings.shared.postgres, environ):
        from farthing.stores.postgres_keys import PostgresKeys

        return PostgresKeys(postgres)
    from farthing.stores.sqlite_keys import SqliteKeys

    return SqliteKeys(Path(settings.ledger.path) / "keys.sqlite")


def pepper_of(settings: Settings, environ: Mapping[str, str]) -> bytes:
    """The pepper that keys are digested under."""
    given = resolve_secret(settings.key_store.pepper, environ)
    return given.encode() if given else kept_pepper(Path(settings.ledger.path) / "pepper")


def keyring_of(settings: Settings, environ: Mapping[str, str], store: KeyStore, clock: Clock) -> Keyring:
    """The gateway keys of the configuration, their secrets read from where they are kept, and those of the store."""
    pepper = pepper_of(settings, environ)
    configured = [
        GatewayKey(
            name,
            digest_of(pepper, resolve_secret(key.secret, environ).encode()),
            tenant=key.tenant,
            team=key.team,
            models=key.models,
            endpoints=key.endpoints,
        )
        for name, key in settings.keys.items()
    ]
    return Keyring(configured, pepper, store, clock, required=not is_loopback(settings.server.host))


class Parts(msgspec.Struct, frozen=True):
    """What a pipeline is made of.

    `draw` gives random numbers in [0, 1); `authenticated` says whether callers bring keys, and `scope_of` what a key
    may do (none: all are let in); `repeats` asks once for each Idempotency-Key; `watchers` see every settled call, and
    `audit_watchers` every audit (`None`: none is made).
    """

    policy: Policy
    sources: Mapping[str, Source]
    book: PriceBook
    journal: Journal
    clock: Clock
    cache: ReplyCache
    holds: Holds
    draw: Callable[[], float]
    authenticated: Callable[[], bool]
    scope_of: Callable[[str], Scope] | None = None
    repeats: Repeats | None = None
    watchers: Sequence[Watcher] = ()
    audit_watchers: Sequence[Watcher] | None = None


def pipeline_of(parts: Parts) -> Pipeline:
    """The stages in their order: admit, repeat, list models, look up, ask (holding what each attempt may cost)."""
    policy, sources, book, clock = parts.policy, parts.sources, parts.book, parts.clock
    routes = RouteTable(policy.routes)
    calibration = Calibration()
    reserve = Reserve(parts.holds, book, calibration, policy.version)
    market = Market(sources, routes, Buyer(book, clock), reserve, Health(policy.fallback))
    audits = _audits(parts, market)
    origins = {name: _origin(source) for name, source in sources.items()}
    look_up = LookUp(policy.sharing, routes, parts.cache, clock, origins=origins, authenticated=parts.authenticated)
    ask: Stage = Ask(market, policy.fallback, clock, parts.draw, _may_ask(parts.scope_of), audits)
    stages: list[Stage] = [Catalogue(_models(policy, book, sources), clock.now() // 10**9), look_up, ask]
    watchers = list(parts.watchers)
    if policy.limits:
        watchers += [_resolver(parts.holds, parts.journal), _learner(calibration)]
    if parts.repeats is not None:
        stages = [parts.repeats, *stages[:-1], lasting(ask)]
        watchers.append(parts.repeats.settled)
    if parts.scope_of is not None:
        stages.insert(0, Admit(parts.scope_of))
    if audits is not None:
        watchers.append(audits.settled)  # after what resolves the call's holds: an audit takes one of its own
    settlement = Settlement(parts.journal, clock, policy.version, keep=look_up.keep, watchers=watchers)
    return Pipeline(stages, settlement, parts.repeats.recorded if parts.repeats is not None else None, audits)


def _audits(parts: Parts, market: Market) -> Audits | None:
    """What audits the answers of small models, where the policy asks for it."""
    policy, journal = parts.policy, parts.journal
    if parts.audit_watchers is None or not any(route.audit for route in policy.routes):
        return None
    watchers = [*parts.audit_watchers]
    if policy.limits:
        watchers.append(_resolver(parts.holds, journal))
    settlement = Settlement(journal, parts.clock, policy.version, keep=lambda _: None, watchers=watchers)
    return Audits(market, settlement, journal, parts.clock, parts.draw)


def _may_ask(scope_of: Callable[[str], Scope] | None) -> Callable[[Exchange, str], bool]:
    """Whether a caller may use a model that it did not ask for by itself."""

    def may_ask(exchange: Exchange, model: str) -> bool:
        return scope_of is None or scope_of(exchange.caller.key).allows(exchange.call.endpoint, model)

    return may_ask


def _resolver(holds: Holds, journal: Journal) -> Watcher:
    """What resolves the holds of a settled call, once its entries are written."""

    def resolve(exchange: Exchange, entries: Sequence[Entry]) -> None:
        journal.after_commit(lambda: holds.settled(exchange, entries))

    return resolve


def _learner(calibration: Calibration) -> Watcher:
    """What learns from settled calls how long they are."""

    def learn(exchange: Exchange, entries: Sequence[Entry]) -> None:
        usage = entries[-1].usage
        if usage is not None and entries[-1].usage_source == "provider":
            calibration.note(exchange.call.model, len(exchange.call.body), usage.input_tokens, usage.output_tokens)

    return learn


def _origin(source: Source) -> str:
    """Whose answers a source gives: a provider's are not a simulation's, nor another provider's."""
    upstream = source.upstream
    return f"{upstream.name} {upstream.provider} {upstream.simulated}"


def _models(policy: Policy, book: PriceBook, sources: Mapping[str, Source]) -> list[tuple[str, str]]:
    """Models served by name, and for a whole provider those that it says it has, or the price book knows."""
    named = [(route.model, route.upstream) for route in policy.routes if "*" not in route.model]
    known = [
        (model, route.upstream)
        for route in policy.routes
        if route.model == "*"
        for source in [sources[route.upstream]]
        for model in source.models or book.models(source.prices)
    ]
    return sorted(set(named + known))
