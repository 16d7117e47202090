"""`farthing plan predict`: one deployment under one load."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import (
    SHARE,
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
from farthing.cli.planning_speculation import NGRAMS, OWN_HEAD, Speculation, speculation_of
from farthing.cli.render import answer, strong
from farthing.dashboard.plan_figures import percent, rounded, seconds, seconds_between
from farthing.economics.deployment import Workload
from farthing.economics.predicting import predict
from farthing.economics.prediction import Prediction
from farthing.economics.searching.space import in_words


class Predicted(msgspec.Struct, frozen=True):
    """A prediction for one replica, and what it is of. Times are means; `speculation` is on top, where asked for."""

    hardware: str
    model: str
    layout: str
    devices: int
    workload: Workload
    prediction: Prediction
    speculation: Speculation | None


@click.command()
@with_model
@click.option("--hardware", required=True, metavar="NAME", help="What it runs on.")
@with_layout
@with_load
@click.option("--speculate", metavar="HOW", help=f"Draft tokens ahead: {OWN_HEAD}, {NGRAMS}, or a smaller model.")
@click.option("--acceptance", type=SHARE, metavar="X", help="Chance that a draft is accepted.")
@click.option("--drafts", type=click.IntRange(1), metavar="N", help="Per cycle; else the best number.")
@click.option("--head-share", type=float, default=0.03, show_default=True, help="Of the weights that a head reads.")
@with_facts
@with_calibration
@verb
def command(asked: Asked, **given: Any) -> None:
    """Predict one replica of a model under one load: times, throughput, and what holds it back, with 90 % intervals."""
    catalogue, calibration = known(given["facts"]), fitted(given["calibration"])
    deployment = deployment_of(given, catalogue)
    workload = workload_of(Load(*(given[field] for field in Load.__struct_fields__)))
    found = predict(deployment, workload, calibration)
    document = Predicted(
        hardware=deployment.hardware.name,
        model=deployment.architecture.name,
        layout=in_words(deployment),
        devices=deployment.devices,
        workload=workload,
        prediction=found,
        speculation=speculation_of(given, deployment, workload, found, calibration, catalogue),
    )
    answer(asked, "farthing.plan.predict/1", document, lambda document: "\n".join(_words(document)))


def _words(document: Predicted) -> Iterator[str]:
    found = document.prediction
    yield strong(f"{document.model} on {document.devices} x {document.hardware} ({document.layout})")
    rate = found.output_tokens_per_s
    rows = [
        ("time to first token", f"{seconds(found.ttft_s.value)} ({seconds_between(found.ttft_s)})"),
        ("time per output token", f"{seconds(found.tpot_s.value)} ({seconds_between(found.tpot_s)})"),
        ("output tokens per second", f"{rounded(rate.value)} ({rounded(rate.low)} to {rounded(rate.high)})"),
        ("sequences at once", rounded(found.batch)),
        ("held back by", found.bound),
        ("of busy time for prompts", percent(found.prefill_share)),
        (
            "of memory bandwidth, of compute",
            f"{percent(found.utilisation_memory)}, {percent(found.utilisation_compute)}",
        ),
    ]
    yield listed(rows)
    if document.speculation is not None:
        yield from _speculated(document.speculation)
    if found.extrapolated:
        yield f"Outside of what was measured: {', '.join(found.extrapolated)}."


def _speculated(found: Speculation) -> Iterator[str]:
    if not found.drafts:
        yield f"Speculation ({found.drafter}, {percent(found.acceptance)} accepted) gains nothing at this load."
        return
    drafts = f"{found.drafts} drafts by {found.drafter}, {percent(found.acceptance)} accepted"
    yield (
        f"With {drafts}: {rounded(found.tokens_per_cycle)} tokens a cycle, {seconds(found.tpot_s)} per token, "
        f"{rounded(found.speed_up)} times as fast."
    )
    if found.gains_up_to is not None:
        yield f"It gains up to a batch of {found.gains_up_to:,}."
