"""`farthing plan simulate`: recorded requests through a simulated engine, iteration by iteration."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import (
    DURATION,
    SHARE,
    deployment_of,
    fitted,
    known,
    with_calibration,
    with_facts,
    with_layout,
)
from farthing.cli.planning_records import listed
from farthing.cli.planning_runs import Run, engine_of, run_of
from farthing.cli.render import answer, say, strong, table
from farthing.cli.traffic import AUTO, importer_of, records
from farthing.dashboard.plan_figures import percent, plural, rounded, seconds
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.deployment import Deployment
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.searching.space import in_words
from farthing.economics.step import StepCosts
from farthing.economics.terms import demand, step_costs
from farthing.importers import Reading
from farthing.simulation.fleet.comparing import Comparison, Percentile, compare
from farthing.simulation.fleet.fitting import Corrections, corrected, fit_corrections
from farthing.simulation.fleet.fleet import ROUTES, Autoscaler, Engine, Fleet, Router, Spot
from farthing.simulation.fleet.outcome import Outcome
from farthing.simulation.fleet.readers import recorded_arrivals
from farthing.simulation.fleet.simulate import simulate


class Simulated(msgspec.Struct, frozen=True):
    """What a simulated fleet did with a trace; `comparison` is with what was measured, where the trace says it."""

    hardware: str
    model: str
    layout: str
    replicas: int
    outcome: Outcome
    comparison: Comparison | None
    corrections: Corrections | None
    took_s: float
    iterations_per_s: float


@click.command()
@click.option(
    "--trace", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Requests that were served."
)
@click.option(
    "--meta", type=click.Path(path_type=Path), metavar="FILE", help="Engine settings; else meta.json beside it."
)
@click.option(
    "--engine-config", "config_", type=click.Path(path_type=Path), metavar="FILE", help="What names the hardware."
)
@click.option("--hardware", metavar="NAME", help="What it runs on, where no file says.")
@click.option("--model", metavar="ID|FILE", help="Simulate recorded traffic of any format on this model instead.")
@with_layout
@click.option(
    "--calibrate", type=click.Path(path_type=Path), metavar="DIR", help="A measured run on the same hardware."
)
@click.option("--replicas", type=click.IntRange(1), metavar="N", help="Of the deployment; else as many as were run.")
@click.option(
    "--router", type=click.Choice(ROUTES), default="least_loaded", show_default=True, help="Who gets a request."
)
@click.option("--autoscale", type=float, metavar="X", help="Requests per replica to scale to, up to --most.")
@click.option("--most", type=click.IntRange(1), default=64, show_default=True, help="Replicas an autoscaler may start.")
@click.option("--cold-start", type=DURATION, default="120s", show_default=True, metavar="S", help="Of a new replica.")
@click.option("--spot-share", type=SHARE, default=0.0, metavar="X", help="Of the replicas are spot instances.")
@click.option("--interruptions-per-h", type=float, default=0.1, show_default=True, help="Of a spot instance.")
@click.option("--seed", type=int, default=7, show_default=True, help="For interruptions.")
@with_facts
@with_calibration
@verb
def command(asked: Asked, **given: Any) -> None:
    """Run recorded requests through a simulated engine, iteration by iteration, and compare with what was measured.

    A trace has a line of JSON per request, with vLLM's times; its meta.json has the engine's settings. With --model,
    any recorded traffic that `farthing import` reads is served by the deployment that the options describe.
    """
    catalogue, calibration = known(given["facts"]), fitted(given["calibration"])
    if given["model"] is None:
        run = run_of(given["trace"], given["meta"], given["config_"], given["hardware"], catalogue)
        deployment, engine = run.deployment, run.engine
        arrivals: Any = run.measured.arrivals()
    else:
        if given["hardware"] is None:
            raise click.UsageError("say what the model runs on: --hardware")
        run, deployment = None, deployment_of(given, catalogue)
        engine = engine_of(deployment)
        reading = Reading(None)
        arrivals = recorded_arrivals(records(importer_of(given["trace"], AUTO), given["trace"], reading, None))
    costs, corrections = _costs(deployment, calibration, given["calibrate"] is not None), None
    if given["calibrate"] is not None:
        corrections = _corrections(asked, given["calibrate"], given["hardware"], catalogue, calibration)
        costs = corrected(costs, corrections, deployment.architecture.layers)
    fleet = _fleet(given, deployment, engine, costs)
    began = time.perf_counter()
    found = simulate(fleet, arrivals, np.random.default_rng(given["seed"]))
    took = time.perf_counter() - began
    same = run is not None and found.unfinished == 0
    document = Simulated(
        hardware=deployment.hardware.name,
        model=deployment.architecture.name,
        layout=in_words(deployment),
        replicas=fleet.replicas,
        outcome=msgspec.structs.replace(found, served=None),
        comparison=compare(found.served, run.measured) if run is not None and same else None,
        corrections=corrections,
        took_s=took,
        iterations_per_s=found.iterations / took,
    )
    answer(asked, "farthing.plan.simulate/1", document, lambda document: "\n".join(_words(document)))


def _costs(deployment: Deployment, calibration: Calibration, corrected_after: bool) -> StepCosts:
    """The costs of a step. What is corrected by a run of one model for use on another must not be scaled by class."""
    factors = calibration.factors(deployment)
    if corrected_after:
        factors = factors._replace(scale=1.0, load_scale=1.0, token_scale=1.0)
    found = step_costs(demand(deployment), factors)
    return StepCosts(*(float(cost) for cost in found))


def _corrections(
    asked: Asked, folder: Path, hardware: str | None, catalogue: Catalogue, calibration: Calibration
) -> Corrections:
    run: Run = run_of(folder / "requests.jsonl", folder / "meta.json", None, hardware, catalogue)
    deployment = run.deployment
    say(asked, f"Fitting the steps of {deployment.hardware.name} to the run in {folder} ...")
    layers = deployment.architecture.layers
    return fit_corrections(run.measured, run.engine, _costs(deployment, calibration, True), layers, deployment.data)


def _fleet(given: dict[str, Any], deployment: Deployment, engine: Engine, costs: StepCosts) -> Fleet:
    replicas = (given["replicas"] or 1) * deployment.data
    scaler = None
    if given["autoscale"] is not None:
        most = max(given["most"] * deployment.data, replicas)
        scaler = Autoscaler("requests", given["autoscale"], minimum=1, maximum=most)
    spot = Spot(given["spot_share"], given["interruptions_per_h"]) if given["spot_share"] else None
    return Fleet(
        engine=engine,
        costs=costs,
        replicas=replicas,
        router=Router(given["router"]),
        autoscaler=scaler,
        spot=spot,
        cold_start_s=given["cold_start"],
    )


def _words(document: Simulated) -> Iterator[str]:
    found = document.outcome
    copies = plural(document.replicas, "copy" if document.replicas == 1 else "copie")
    yield strong(f"SIMULATED: {document.model} on {copies} of {document.hardware} ({document.layout})")
    done = f"{found.finished:,} of {found.requests:,} requests in {seconds(found.span_s)}"
    yield f"{done}; {found.iterations:,} iterations, {document.iterations_per_s:,.0f} of them a second"
    yield ""
    rows = [
        (name, *(seconds(getattr(times, field)) for field in ("mean_s", "p50_s", "p90_s", "p99_s")))
        for name, times in (
            ("in queue", found.queue),
            ("first token", found.ttft),
            ("each after", found.tpot),
            ("in all", found.e2e),
        )
    ]
    yield table(("simulated", "mean", "p50", "p90", "p99"), rows)
    if document.comparison is not None:
        yield ""
        yield table(("against measured", "p50", "p90", "p99"), list(_compared(document.comparison)))
    yield ""
    yield listed(
        [
            ("output tokens per second", rounded(found.output_tokens_per_s)),
            ("mean batch", rounded(found.mean_batch)),
            ("busy", percent(found.busy_share)),
            ("of it prompts", percent(found.prompt_share)),
            ("prefix cache hits", percent(found.prefix_hit_share)),
            ("preempted, interrupted", f"{found.preemptions:,}, {found.interrupted:,}"),
            ("most replicas, cold starts", f"{found.most_replicas:,}, {found.cold_starts:,}"),
            ("paid hours on demand, on spot", f"{found.on_demand_s / 3600:,.2f}, {found.spot_s / 3600:,.2f}"),
        ]
    )


def _compared(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for name, parts in (("first token", comparison.ttft), ("each after", comparison.tpot), ("in all", comparison.e2e)):
        if parts:
            yield (name, *map(_off, parts))


def _off(one: Percentile) -> str:
    return f"{seconds(one.measured_s)} {100 * one.error:+.1f} %"
