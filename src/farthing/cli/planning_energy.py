"""`farthing plan energy`: what serving draws."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import (
    Load,
    deployment_of,
    fitted,
    known,
    with_calibration,
    with_facts,
    with_layout,
    with_load,
    with_model,
    workload_of,
)
from farthing.cli.planning_records import listed
from farthing.cli.render import answer, strong
from farthing.dashboard.plan_figures import dollars, rounded
from farthing.economics.deployment import Workload
from farthing.economics.energy.power import Energy, Site, predicted_energy
from farthing.economics.predicting import predict
from farthing.economics.prediction import Estimate
from farthing.economics.searching.space import in_words
from farthing.wiring.power import power_model


class Drawn(msgspec.Struct, frozen=True):
    """What one replica draws under a load, and where."""

    hardware: str
    model: str
    layout: str
    workload: Workload
    site: Site
    energy: Energy


@click.command()
@with_model
@click.option("--hardware", required=True, metavar="NAME", help="What it runs on.")
@with_layout
@with_load
@click.option("--pue", type=float, metavar="X", help="What the building draws over what computers draw; 1 unless told.")
@click.option("--operator", metavar="NAME", help="Take the PUE that this operator publishes.")
@click.option("--host-w-per-device", type=float, default=0.0, show_default=True, help="Rest of the server, per device.")
@click.option("--grid", metavar="NAME", help="Country or cloud region, for its carbon.")
@click.option("--usd-per-kwh", type=float, metavar="X", help="Price of electricity.")
@with_facts
@with_calibration
@verb
def command(asked: Asked, **given: Any) -> None:
    """Say what one replica draws under a load: watts, joules per token, kWh and gCO2e per 1k requests."""
    if given["pue"] is not None and given["operator"] is not None:
        raise click.UsageError("--pue and --operator contradict one another; give one of them")
    facts: tuple[Path, ...] = given["facts"]
    catalogue = known(facts)
    deployment = deployment_of(given, catalogue)
    workload = workload_of(Load(*(given[field] for field in Load.__struct_fields__)))
    operator = given["operator"]
    site = Site(
        pue=catalogue.facility_named(operator).pue if operator else given["pue"] or 1.0,
        host_w_per_device=given["host_w_per_device"],
        g_per_kwh=catalogue.grid_named(given["grid"]).g_per_kwh if given["grid"] else None,
        usd_per_kwh=given["usd_per_kwh"],
    )
    prediction = predict(deployment, workload, fitted(given["calibration"]))
    found = predicted_energy(deployment, workload, prediction, power_model(), site)
    extrapolated = (*prediction.extrapolated, *found.extrapolated)
    found = msgspec.structs.replace(found, extrapolated=extrapolated)
    names = (deployment.hardware.name, deployment.architecture.name, in_words(deployment))
    answer(
        asked, "farthing.plan.energy/1", Drawn(*names, workload, site, found), lambda drawn: "\n".join(_words(drawn))
    )


def _words(drawn: Drawn) -> Iterator[str]:
    found = drawn.energy
    yield strong(f"{drawn.model} on {drawn.hardware} ({drawn.layout}), PUE {drawn.site.pue:g}")
    rows = [
        ("devices draw", _with(found.device_w, "W")),
        ("per output token", _with(found.joule_per_output_token, "J")),
        ("per 1k requests", _with(found.kwh_per_1k_requests, "kWh")),
    ]
    if found.g_co2e_per_1k_requests is not None:
        rows.append(("", _with(found.g_co2e_per_1k_requests, "gCO2e")))
    if found.usd_per_1k_requests is not None:
        rows.append(("", f"{dollars(found.usd_per_1k_requests.value)} of electricity"))
    yield listed(rows)
    if found.extrapolated:
        yield f"Outside of what was measured: {', '.join(found.extrapolated)}."


def _with(estimate: Estimate, unit: str) -> str:
    return f"{rounded(estimate.value)} {unit} ({rounded(estimate.low)} to {rounded(estimate.high)})"
