"""`farthing plan scaling`: how fast a model can be served at what cost when devices may be added without end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import POSITIVE, known, model_of, with_facts, with_model, written
from farthing.cli.render import answer, say, strong, table
from farthing.dashboard.plan_figures import dollars, rounded, seconds
from farthing.dashboard.plan_frontier import frontier_svg
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.precision import precision_named
from farthing.economics.scaling_laws import (
    FrontierPoint,
    cost_speed_frontier,
    fastest_devices,
    fastest_token_s,
    scaled_model,
)
from farthing.errors import PriceError

MOST_SHOWN = 24


class Scaling(msgspec.Struct, frozen=True):
    """The frontier, the fastest first, and the limit of speed by the simple form of the law."""

    model: str
    hardware: str
    weights: str
    usd_per_device_h: float
    context_tokens: float
    frontier: tuple[FrontierPoint, ...]
    limit_devices: float
    limit_token_s: float


@click.command()
@with_model
@click.option("--hardware", required=True, metavar="NAME", help="What it runs on.")
@click.option("--weights", metavar="P", help="Precision of the weights; else the one the maker publishes.")
@click.option("--kv", default="bf16", show_default=True, metavar="P", help="Precision of the KV cache.")
@click.option(
    "--context", "context_tokens", type=POSITIVE, default="2048", show_default=True, metavar="N", help="Tokens."
)
@click.option("--usd-per-device-h", type=POSITIVE, metavar="X", help="Else the lowest price on demand that is known.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw it.")
@with_facts
@verb
def command(asked: Asked, **given: Any) -> None:
    """Draw the frontier of cost and speed that scaling a model out allows, after arXiv 2506.04645.

    This is how far physics and NCCL go, without an engine's host time: what an engine does, `plan predict` says.
    """
    catalogue = known(given["facts"])
    architecture, device = model_of(given["model"], catalogue), catalogue.hardware_named(given["hardware"])
    usd = given["usd_per_device_h"] or _lowest_usd_per_h(catalogue, device.name)
    precision = precision_named(given["weights"] or architecture.native, architecture).name
    scaled = scaled_model(architecture, device, precision, given["kv"])
    law = (np.array([float(scaled.layers)]), np.array([scaled.weights_bytes]), np.array([scaled.memory_bytes_per_s]))
    found = Scaling(
        model=architecture.name,
        hardware=device.name,
        weights=precision,
        usd_per_device_h=usd,
        context_tokens=given["context_tokens"],
        frontier=cost_speed_frontier(scaled, usd, given["context_tokens"]),
        limit_devices=fastest_devices(*law)[0].item(),
        limit_token_s=fastest_token_s(*law)[0].item(),
    )
    if given["svg"]:
        written(given["svg"], frontier_svg({f"{found.model} on {found.hardware}": found.frontier}))
        say(asked, f"Wrote {given['svg']}.")
    answer(asked, "farthing.plan.scaling/1", found, lambda found: "\n".join(_words(found)))


def _lowest_usd_per_h(catalogue: Catalogue, hardware: str) -> float:
    known_usd = [row.on_demand_usd_per_h for row in catalogue.prices_of(hardware) if row.on_demand_usd_per_h]
    if not known_usd:
        raise PriceError(f"no on-demand price of {hardware} is known.", hint="Give --usd-per-device-h.")
    return min(known_usd)


def _words(found: Scaling) -> Iterator[str]:
    rate = f"{dollars(found.usd_per_device_h)} per device and hour"
    yield strong(
        f"{found.model} in {found.weights} on {found.hardware}, {rate}, {found.context_tokens:,.0f} tokens of context"
    )
    limit = f"{seconds(found.limit_token_s)} on {rounded(found.limit_devices)} devices"
    yield f"The simple law's limit for one sequence: {limit} a token."
    yield ""
    step = max(1, -(-len(found.frontier) // MOST_SHOWN))
    rows = [
        (
            rounded(one.tokens_per_s_per_user),
            dollars(one.usd_per_million_tokens),
            f"{one.devices:,}",
            f"{one.batch:,}",
            f"{one.tensor_dimensions}-D",
            str(one.pipeline),
        )
        for one in found.frontier[::step]
    ]
    yield table(("tokens/s each", "per 1M", "devices", "batch", "tensor", "pipeline"), rows, labels=0)
