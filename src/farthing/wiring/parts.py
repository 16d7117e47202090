"""From settings to parts: policy, sources, keys, and the pipeline with its stages in their order."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from farthing import importers
from farthing.config import Settings, Upstream, resolve_secret
from farthing.gateway import Ask, Catalogue, Keyring, LookUp, Pipeline, ReplyCache, Settlement, Source, Watcher
from farthing.ports import Clock, Journal, ReplyStore
from farthing.pricing import PriceBook
from farthing.providers.catalogue import provider
from farthing.routing import RouteTable
from farthing.schema import (
    PICO_PER_USD,
    Caller,
    Endpoint,
    Policy,
    Route,
    SharingRules,
    dialect_of,
)

ENDPOINTS: tuple[Endpoint, ...] = ("chat", "responses", "embeddings", "completions", "messages", "count_tokens")


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
    keys = environ if settings.upstreams else {}  # where none is configured, the callers bring their own
    return {name: _source(name, upstream, keys) for name, upstream in upstreams_of(settings).items()}


def _source(name: str, upstream: Upstream, environ: Mapping[str, str]) -> Source:
    hourly = int(Decimal(upstream.hourly_usd) * PICO_PER_USD) if upstream.hourly_usd else None
    if upstream.kind == "stub":
        from farthing.providers.stub import MODELS, StubUpstream

        return Source(StubUpstream(name), hourly=hourly, concurrency=upstream.concurrency, models=MODELS)
    if upstream.kind == "recorded":
        from farthing.providers.recorded import RecordedUpstream

        return Source(RecordedUpstream.of(name, importers.read(Path(upstream.recording))))
    from farthing.providers.http import HttpSettings, HttpUpstream

    row = provider(upstream.provider or "openai")
    key = resolve_secret(upstream.api_key, environ)
    if not key and upstream.provider:  # a key from the environment goes to the provider it is named after, only
        key = environ.get(row.key_env, "")
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


def ledger_path(settings: Settings) -> Path:
    """Where the ledger's own file is."""
    return Path(settings.ledger.path) / "ledger.sqlite"


def keyring_of(settings: Settings, environ: Mapping[str, str]) -> Keyring:
    """The gateway keys, their secrets read from where they are kept."""
    return Keyring(
        {
            name: (resolve_secret(key.secret, environ), Caller(tenant=key.tenant, team=key.team, key=name))
            for name, key in settings.keys.items()
        }
    )


def pipeline_of(
    policy: Policy,
    sources: Mapping[str, Source],
    book: PriceBook,
    journal: Journal,
    clock: Clock,
    levels: Sequence[ReplyStore],
    *,
    authenticated: bool,
    watchers: Sequence[Watcher] = (),
) -> Pipeline:
    """The stages in their order: list models, look up, ask."""
    routes = RouteTable(policy.routes)
    cache = ReplyCache(levels, clock)
    origins = {name: _origin(source) for name, source in sources.items()}
    look_up = LookUp(policy.sharing, routes, cache, clock, origins=origins, authenticated=authenticated)
    stages = (
        Catalogue(_models(policy, book, sources), clock.now() // 10**9),
        look_up,
        Ask(sources, routes, book, clock),
    )
    return Pipeline(stages, Settlement(journal, clock, policy.version, keep=look_up.keep, watchers=watchers))


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
