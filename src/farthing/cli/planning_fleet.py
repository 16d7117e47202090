"""`farthing plan fleet`: a mix of hardware over sizes of requests."""

from collections.abc import Iterator
from typing import Any

import click

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import (
    fitted,
    known,
    limits_of,
    model_of,
    names,
    with_calibration,
    with_facts,
    with_limits,
    with_model,
    with_rent,
)
from farthing.cli.planning_records import made
from farthing.cli.render import answer, strong, table
from farthing.dashboard.plan_figures import dollars, percent, plural
from farthing.economics.deployment import Workload
from farthing.economics.money.fleet_mix import Bucket, FleetMix, fleet_mix
from farthing.economics.searching.fleet_kinds import replica_kinds
from farthing.economics.searching.offers import Renting, offers_of
from farthing.economics.searching.options import Question
from farthing.economics.searching.space import Space, usual_precisions

_BUCKET_FIELDS = 3


def _buckets(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[Bucket, ...]:
    found = []
    for text in value:
        parts = text.split(":")
        try:
            figures = [float(part) for part in parts]
        except ValueError:
            figures = []
        if len(figures) != _BUCKET_FIELDS:
            raise click.BadParameter(f"{text!r} is no bucket; write INPUT:OUTPUT:REQUESTS_PER_S, as in 1000:200:5")
        found.append(Bucket(*figures))
    return tuple(found)


def _stock(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in value:
        name, equals, count = text.rpartition("=")
        if not equals or not count.isdigit():
            raise click.BadParameter(f"{text!r} is no stock; write NAME=DEVICES, as in 'L4=16'")
        found[name.strip()] = int(count)
    return found


@click.command()
@with_model
@click.option(
    "--bucket", "buckets", callback=_buckets, multiple=True, required=True, metavar="I:O:R",
    help="Prompt tokens, answer tokens, requests per second at the peak. May be repeated.",
)  # fmt: skip
@with_limits
@with_rent
@click.option("--precision", callback=names, metavar="A,B", help="Of the weights.")
@click.option("--available", callback=_stock, multiple=True, metavar="NAME=N", help="Devices there are of one kind.")
@click.option("--max-devices", type=click.IntRange(1, 1024), default=8, show_default=True, help="Of one replica.")
@click.option("--target-utilisation", type=float, default=0.9, show_default=True, metavar="X", help="Of each replica.")
@with_facts
@with_calibration
@verb
def command(asked: Asked, buckets: tuple[Bucket, ...], **given: Any) -> None:
    """Mix kinds of hardware over sizes of requests at the least cost, each request within the limits of time."""
    catalogue, calibration = known(given["facts"]), fitted(given["calibration"])
    architecture = model_of(given["model"], catalogue)
    offers, _ = offers_of(catalogue, given["hardware"], made(Renting, given), given["price"])
    question = Question(
        architecture=architecture,
        offers=offers,
        workload=Workload(1.0, 1.0, requests_per_s=1.0),
        slo=limits_of(given["ttft_s"], given["tpot_s"], given["e2e_s"], given["percentile"]),
        space=Space(weights=given["precision"] or usual_precisions(architecture), max_devices=given["max_devices"]),
    )
    kinds = replica_kinds(question, buckets, calibration.factors)
    available = {catalogue.hardware_named(name).name: count for name, count in given["available"].items()}
    mix = fleet_mix(buckets, kinds, available, target_utilisation=given["target_utilisation"])
    answer(asked, "farthing.plan.fleet/1", mix, lambda mix: "\n".join(_words(mix, buckets)))


def _words(mix: FleetMix, buckets: tuple[Bucket, ...]) -> Iterator[str]:
    kinds = plural(len(mix.counts), "kind")
    yield strong(f"{dollars(mix.usd_per_h)} an hour with {kinds} of replicas")
    heads = ("replica", "replicas", "devices", "per hour", "load", *(bucket.name for bucket in buckets))
    rows = [
        (
            count.replica,
            str(count.replicas),
            str(count.devices),
            dollars(count.usd_per_h),
            percent(count.load),
            *(percent(share) if share else "" for share in count.shares),
        )
        for count in mix.counts
    ]
    yield table(heads, rows)
    if mix.best_single is None:
        yield "No single kind serves every size."
    elif mix.saved_share:
        single = f"{mix.best_single.replicas} x {mix.best_single.replica} at {dollars(mix.best_single.usd_per_h)}"
        yield f"The best single kind is {single} an hour: the mix saves {percent(mix.saved_share)}."
    if mix.gap:
        yield f"A fleet up to {percent(mix.gap)} cheaper may exist: the search was cut off."
