"""Runs of an engine that somebody measured: a trace of requests, with the settings of the engine beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.hardware import Hardware
from farthing.economics.memory import capacity
from farthing.economics.precision import precision_named
from farthing.errors import ConfigError, FarthingError, RequestError, TrafficError
from farthing.simulation.fleet.fleet import Engine
from farthing.simulation.fleet.readers import Measured, engine_requests

Decoded = TypeVar("Decoded")

_BATCHED_TOKENS = 2048
_SEQUENCES = 256
_MEMORY_SHARE = 0.9


class Settings(msgspec.Struct):
    """The engine's settings, by vLLM's names. `None` and "auto" leave the engine its default."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    gpu_memory_utilization: float | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None


class Meta(msgspec.Struct):
    """What meta.json says of a run."""

    model: str
    engine_kwargs: Settings
    vllm_version: str = ""
    hardware: str = ""


class Run(msgspec.Struct, frozen=True):
    """One measured run: the deployment, how its engine batches, and what it did."""

    deployment: Deployment
    engine: Engine
    measured: Measured


def run_of(trace: Path, meta: Path | None, config: Path | None, hardware: str | None, catalogue: Catalogue) -> Run:
    """The run of a trace. Raises FarthingError for what is missing, cannot be read, or is not known.

    Settings are in `meta`, or in the meta.json beside the trace. The hardware is `hardware`, or what meta, a
    config.json beside it, or the name of its folder say.
    """
    place = meta or trace.with_name("meta.json")
    said = _decoded(place, Meta)
    found = _hardware(catalogue, hardware, said, config or place.with_name("config.json"), place.resolve().parent.name)
    deployment = _deployment(said, found, catalogue.architecture_named(said.model))
    return Run(deployment, engine_of(deployment, said.engine_kwargs), measured(trace))


def measured(trace: Path) -> Measured:
    """The requests of a trace; raises TrafficError."""
    try:
        with trace.open("rb") as lines:
            return engine_requests(lines)
    except OSError as error:
        raise TrafficError(f"{trace} cannot be read: {error.strerror}.", hint="Name a trace of requests.") from None
    except RequestError as error:
        raise TrafficError(f"{trace}: {error.message}", hint=error.hint) from None


def engine_of(deployment: Deployment, settings: Settings | None = None) -> Engine:
    """How one copy of a deployment batches; raises RequestError when it does not fit."""
    given = settings or Settings()
    held = capacity(deployment)
    return Engine(
        kv_tokens=int(held.kv_tokens),
        max_sequences=deployment.max_sequences,
        max_batched_tokens=max(deployment.max_batched_tokens, deployment.max_sequences),
        chunked_prefill=given.enable_chunked_prefill is not False,
        prefix_caching=given.enable_prefix_caching is not False,
        window=held.window,
    )


def _deployment(said: Meta, hardware: Hardware, architecture: Architecture) -> Deployment:
    given = said.engine_kwargs
    weights = given.quantization or (architecture.native if given.dtype == "auto" else given.dtype)
    named = precision_named(weights, architecture).name
    kv = "bf16" if given.kv_cache_dtype == "auto" else given.kv_cache_dtype
    ways = given.tensor_parallel_size * given.data_parallel_size
    return Deployment(
        hardware=hardware,
        architecture=architecture,
        weights=named,
        kv=precision_named(kv, architecture).name,
        tensor=given.tensor_parallel_size,
        pipeline=given.pipeline_parallel_size,
        data=given.data_parallel_size,
        expert=ways if given.enable_expert_parallel and architecture.experts else 1,
        engine=f"vllm {said.vllm_version}".strip(),
        max_sequences=given.max_num_seqs or _SEQUENCES,
        max_batched_tokens=given.max_num_batched_tokens or _BATCHED_TOKENS,
        memory_share=given.gpu_memory_utilization or _MEMORY_SHARE,
    )


def _hardware(catalogue: Catalogue, named: str | None, said: Meta, config: Path, folder: str) -> Hardware:
    for name in (named, said.hardware, *_named_in(config)):
        if name:
            return catalogue.hardware_named(name)
    for words in (folder, folder.partition("_")[0], folder.partition("-")[0]):
        try:
            return catalogue.hardware_named(words)
        except FarthingError:
            continue
    raise RequestError(
        f"nothing says on what hardware the run in {folder!r} was measured.",
        hint="Name it with --hardware, or in a config.json with --config.",
    )


def _named_in(config: Path) -> Iterator[str]:
    """The hardware that a config.json names, however deep."""
    if config.is_file():
        yield from _values(_decoded(config, dict[str, object]), "hardware")


def _values(value: object, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            else:
                yield from _values(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)


def _decoded(path: Path, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", hint="Name it, or put it beside the trace."
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{path} does not say how the engine was run: {error}.", hint="Give vLLM's settings."
        ) from None
