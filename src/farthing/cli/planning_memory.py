"""`farthing plan memory`: what fits on which hardware."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import known, model_of, names, with_facts, with_layout, with_model
from farthing.cli.render import answer, strong, table
from farthing.dashboard.plan_figures import quantity
from farthing.economics.deployment import Deployment
from farthing.economics.memory import capacity, kv_bytes_per_token, parameters, sequences_that_fit, weights_bytes
from farthing.economics.precision import precision_named
from farthing.economics.searching.space import usual_batched_tokens
from farthing.errors import RequestError

CONTEXTS = (1024, 4096, 16384, 32768, 131072)
GIB = 2**30


class Room(msgspec.Struct, frozen=True):
    """How many sequences of a context one copy holds at once."""

    context_tokens: int
    sequences: int


class Fit(msgspec.Struct, frozen=True):
    """What one device of a layout holds, in bytes; `problem` says what is missing where it does not fit."""

    hardware: str
    devices: int
    weights_bytes: float | None
    runtime_bytes: float | None
    kv_pool_bytes: float | None
    kv_tokens: float | None
    room: tuple[Room, ...]
    problem: str = ""


class Memory(msgspec.Struct, frozen=True):
    """What a model takes: parameters, bytes of all weights, bytes of KV cache, and what fits where."""

    model: str
    parameters: float
    active_parameters: float
    weights: str
    weights_bytes: float
    kv: str
    kv_bytes_per_token: float
    kv_window_bytes_per_token: float
    state_bytes_per_sequence: float
    fits: tuple[Fit, ...]


@click.command()
@with_model
@click.option("--hardware", callback=names, metavar="A,B", help="Where; else only the model's own figures.")
@with_layout
@with_facts
@verb
def command(asked: Asked, model: str, hardware: tuple[str, ...], facts: tuple[Path, ...], **layout: Any) -> None:
    """Say what a model takes, and what fits: weights, KV cache per token, batch and context.

    Exits with 2 when it fits on none of the hardware that is named.
    """
    catalogue = known(facts)
    architecture = model_of(model, catalogue)
    weights = precision_named(layout["weights"] or architecture.native, architecture).name
    kv = precision_named(layout["kv"], architecture).name
    count, cache = parameters(architecture), kv_bytes_per_token(architecture, kv)
    layout |= {"weights": weights, "kv": kv}
    fits = []
    for name in hardware:
        device = catalogue.hardware_named(name)
        tokens = layout["max_batched_tokens"] or usual_batched_tokens(device)
        fits.append(_fit(Deployment(device, architecture, **{**layout, "max_batched_tokens": tokens})))
    if fits and all(fit.problem for fit in fits):
        raise RequestError(fits[0].problem, hint="Split it over more devices with --tensor, or quantise it.")
    document = Memory(
        model=architecture.name,
        parameters=count.total,
        active_parameters=count.active,
        weights=weights,
        weights_bytes=weights_bytes(architecture, weights).total,
        kv=kv,
        kv_bytes_per_token=cache.full_per_token,
        kv_window_bytes_per_token=cache.window_per_token,
        state_bytes_per_sequence=cache.state_per_sequence,
        fits=tuple(fits),
    )
    answer(asked, "farthing.plan.memory/1", document, lambda document: "\n".join(_words(document)))


def _fit(deployment: Deployment) -> Fit:
    try:
        held = capacity(deployment)
    except RequestError as error:
        return Fit(deployment.hardware.name, deployment.devices, None, None, None, None, (), error.message)
    room = tuple(Room(context, sequences_that_fit(held, context)) for context in CONTEXTS)
    return Fit(
        deployment.hardware.name,
        deployment.devices,
        held.weights_bytes,
        held.runtime_bytes,
        held.kv_pool_bytes,
        held.kv_tokens,
        room,
    )


def _words(document: Memory) -> Iterator[str]:
    yield strong(
        f"{document.model}: {quantity(document.parameters)} parameters, {quantity(document.active_parameters)} active"
    )
    held = document.weights_bytes
    yield f"Weights in {document.weights}: {quantity(held)}B ({held / GIB:,.1f} GiB)."
    cache = f"KV cache in {document.kv}: {quantity(document.kv_bytes_per_token)}B per token"
    if document.kv_window_bytes_per_token:
        cache += f", and {quantity(document.kv_window_bytes_per_token)}B per token within the window"
    if document.state_bytes_per_sequence:
        cache += f", and {quantity(document.state_bytes_per_sequence)}B of state per sequence"
    yield f"{cache}."
    fitting = [fit for fit in document.fits if not fit.problem]
    if fitting:
        yield ""
        heads = (
            "per device",
            "devices",
            "weights",
            "engine",
            "KV cache",
            "KV tokens",
            *(f"{_k(one)} ctx" for one in CONTEXTS),
        )
        yield table(heads, [_row(fit) for fit in fitting])
        yield "The last columns: sequences of that context that one copy holds at once."
    for fit in document.fits:
        if fit.problem:
            yield fit.problem


def _row(fit: Fit) -> tuple[str, ...]:
    sizes = (fit.weights_bytes or 0.0, fit.runtime_bytes or 0.0, fit.kv_pool_bytes or 0.0)
    return (
        fit.hardware,
        str(fit.devices),
        *(f"{size / GIB:,.1f} GiB" for size in sizes),
        f"{fit.kv_tokens or 0:,.0f}",
        *(f"{room.sequences:,}" for room in fit.room),
    )


def _k(context: int) -> str:
    return f"{context // 1024}k"
