"""`farthing plan tco`: what owning hardware costs per hour, and after how many months it beats renting."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_records import asks, listed, made
from farthing.cli.render import answer, strong, table
from farthing.dashboard.plan_figures import dollars
from farthing.economics.money.ownership import Cluster, Crossover, OwnedCost, crossover, owned_cost


class Owned(msgspec.Struct, frozen=True):
    """What a device costs per hour, for every hour and for used ones, and when owning has beaten renting."""

    usd_per_device_h: float
    usd_per_used_device_h: float
    usd_per_1m_tokens: float | None
    parts: OwnedCost
    crossover: Crossover | None


@click.command()
@asks(
    Cluster,
    {
        "devices": "How many are bought.",
        "capex_usd_per_device": "Price of one with its share of the server.",
        "life_years": "Until they are written off.",
        "kw_per_device": "Rated power of one with its share of the server.",
        "usd_per_kwh": "Price of electricity.",
        "network_storage_share": "Network and storage, as a share of the price.",
        "spare_share": "Devices bought to stand in for failed ones, as a share.",
        "residual_share": "What is left of the price at the end.",
        "cost_of_capital": "Interest per year, 0.08 for 8 %.",
        "power_share": "Share of rated power drawn on the mean.",
        "pue": "What the building draws over what computers draw.",
        "colocation_usd_per_kw_month": "Colocation per rated kW and month.",
        "staff_usd_per_year": "People who run it.",
        "support_share": "Maintenance per year, as a share of the price.",
        "utilisation": "Share of hours in which a device is used.",
    },
)
@click.option("--tokens-per-s-per-device", type=float, metavar="X", help="When used, to price a million tokens.")
@click.option("--rented-usd-per-device-h", type=float, metavar="X", help="What renting costs, to compare with.")
@click.option(
    "--rented-share", type=float, default=1.0, show_default=True, metavar="X", help="Of hours that are rented."
)
@verb
def command(
    asked: Asked,
    tokens_per_s_per_device: float | None,
    rented_usd_per_device_h: float | None,
    rented_share: float,
    **given: Any,
) -> None:
    """Work out what owning hardware costs per hour, all in, and after how many months it has beaten renting."""
    cluster = made(Cluster, given)
    cost = owned_cost(cluster)
    found = Owned(
        cost.usd_per_device_h,
        cost.usd_per_used_device_h,
        None if tokens_per_s_per_device is None else cost.usd_per_1m_tokens(tokens_per_s_per_device),
        cost,
        None if rented_usd_per_device_h is None else crossover(cluster, rented_usd_per_device_h, rented_share),
    )
    answer(asked, "farthing.plan.tco/1", found, lambda found: "\n".join(_words(found)))


def _words(found: Owned) -> Iterator[str]:
    parts = found.parts
    yield strong(
        f"{dollars(found.usd_per_device_h)} per device and hour; {dollars(found.usd_per_used_device_h)} per used one"
    )
    rows = [
        ("  capital", dollars(parts.capital_usd_per_h)),
        ("  energy", dollars(parts.energy_usd_per_h)),
        ("  colocation", dollars(parts.colocation_usd_per_h)),
        ("  staff", dollars(parts.staff_usd_per_h)),
        ("  support", dollars(parts.support_usd_per_h)),
    ]
    yield listed(rows)
    if found.usd_per_1m_tokens is not None:
        yield f"per 1M tokens {dollars(found.usd_per_1m_tokens)}"
    if found.crossover is not None:
        sums = f"{dollars(found.crossover.owned_usd)} owned, {dollars(found.crossover.rented_usd)} rented over the life"
        if found.crossover.month is None:
            yield f"Owning never beats renting: {found.crossover.why_never} ({sums})."
        else:
            yield f"Owning has beaten renting after {found.crossover.month} months ({sums})."
    yield ""
    heads = ("year", "capital", "running", "so far", "book value")
    lines = [
        (
            f"{year.year:g}",
            *map(dollars, (year.capital_usd, year.running_usd, year.cumulative_usd, year.book_value_usd)),
        )
        for year in parts.years
    ]
    yield table(heads, lines, labels=0)
