"""Upstreams that are models inside the gateway: what they serve, and what serves them."""

from collections.abc import Mapping
from pathlib import Path

from farthing.config import Settings, Upstream
from farthing.engines.artefacts import read_artefact, read_manifest
from farthing.errors import ConfigError
from farthing.gateway import Source
from farthing.schema import Endpoint

EMBEDDED_ENDPOINTS: tuple[Endpoint, ...] = ("chat", "embeddings", "classify", "rerank")
"""Where embedded models are asked; which of them answers depends on what each is for, and the engine says so."""

EMBEDDED = "embedded"
LIBRARIES = ("numpy", "onnxruntime", "tokenizers")


def models_of(upstream: Upstream) -> tuple[str, ...]:
    """The models an upstream serves: those configured, or else what the artefacts of an embedded one are named.

    Raises ConfigError when an artefact's manifest cannot be read.
    """
    if upstream.models or upstream.kind != EMBEDDED:
        return upstream.models
    return tuple(read_manifest(folder).name for folder in _folders(upstream))


def embedded_source(name: str, upstream: Upstream, hourly: int | None) -> Source:
    """The engine of an embedded upstream with its models loaded, at `hourly` pico-dollars, if that is known.

    Raises ConfigError when a model cannot be served, or what runs it is not installed.
    """
    _require_libraries(name)
    from farthing.engines.batching import Rules
    from farthing.engines.embedded import EmbeddedUpstream
    from farthing.engines.models import Keeping

    rules = Rules(
        max_batch=upstream.max_batch,
        max_wait=upstream.max_wait_ms / 1000,
        queue=upstream.queue,
        workers=upstream.threads,
        patience=upstream.deadline,
    )
    engine = EmbeddedUpstream(name, _folders(upstream), Keeping(upstream.memory_mb, upstream.pinned), rules)
    return Source(
        engine,
        prices=name,  # nobody lists a price for it
        hourly=hourly,
        concurrency=upstream.concurrency,
        deadline=int(upstream.deadline * 1e9),
        models=tuple(engine.models.names()),
    )


def stale_models(sources: Mapping[str, Source]) -> tuple[str, ...]:
    """Why embedded models are not as new as their folders, in a sentence for each."""
    engines = [source.upstream for source in sources.values() if source.upstream.provider == EMBEDDED]
    if not engines:
        return ()
    from farthing.engines.embedded import EmbeddedUpstream

    return tuple(
        f"A newer version of {model} was not loaded: {why}"
        for engine in engines
        if isinstance(engine, EmbeddedUpstream)
        for model, why in engine.models.problems.items()
    )


def check_embedded(settings: Settings) -> None:
    """Raises ConfigError when an embedded upstream could not be served: a file is missing or damaged, or a library."""
    for name, upstream in settings.upstreams.items():
        if upstream.kind == EMBEDDED:
            _require_libraries(name)
            for folder in _folders(upstream):
                read_artefact(folder)


def _folders(upstream: Upstream) -> list[Path]:
    return [Path(folder).expanduser() for folder in (upstream.folder, *upstream.folders) if folder]


def _require_libraries(name: str) -> None:
    from importlib.util import find_spec

    if missing := [library for library in LIBRARIES if find_spec(library) is None]:
        raise ConfigError(
            f"[upstreams.{name}] is embedded, and what runs it is not installed: {', '.join(missing)}.",
            hint="Run: pip install 'farthing[engine]'",
        )
