"""`farthing plan facts`: what is known, and where from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import known, with_facts
from farthing.cli.render import answer, table
from farthing.dashboard.plan_figures import quantity
from farthing.economics.architecture import Architecture
from farthing.economics.facts.catalogue import Catalogue, Facility, Grid, HardwarePrice, Ownership
from farthing.economics.hardware import Hardware
from farthing.economics.memory import parameters

Row = Hardware | Architecture | HardwarePrice | Grid | Facility | Ownership


class Facts(msgspec.Struct, frozen=True):
    """Rows of one kind."""

    kind: str
    rows: tuple[Row, ...]


@click.command()
@click.argument("kind", type=click.Choice(("hardware", "models", "prices", "grids", "facilities", "ownership")))
@click.option("--like", metavar="TEXT", default="", help="Only rows whose name contains this.")
@with_facts
@verb
def command(asked: Asked, kind: str, like: str, facts: tuple[Path, ...]) -> None:
    """List the facts of one KIND that are known, each with its source."""
    rows = tuple(row for row in _rows(known(facts), kind) if like.lower() in _name(row).lower())
    answer(asked, "farthing.plan.facts/1", Facts(kind, rows), lambda document: _in_words(document.rows, kind))


def _rows(catalogue: Catalogue, kind: str) -> Sequence[Row]:
    found: dict[str, Sequence[Row]] = {
        "hardware": catalogue.hardware,
        "models": catalogue.architectures,
        "prices": catalogue.prices,
        "grids": catalogue.grids,
        "facilities": catalogue.facilities,
        "ownership": catalogue.ownership,
    }
    return found[kind]


def _name(row: Row) -> str:
    return row.hardware if isinstance(row, HardwarePrice | Ownership) else row.name


def _in_words(rows: Sequence[Row], kind: str) -> str:
    heads, cells = _COLUMNS[kind]
    return table(heads, [cells(row) for row in rows], labels=len(heads)) if rows else "Nothing is known of that."


def _hardware(row: Hardware) -> tuple[str, ...]:
    peaks = " ".join(f"{name} {peak / 1e12:,.0f}" for name, peak in row.flop_per_s.items())
    memory = f"{row.memory_bytes / 2**30:,.1f} GiB"
    link = f"{row.link_bytes_per_s / 1e9:,.0f} GB/s x{row.link_devices}"
    return (
        row.name,
        memory,
        f"{row.memory_bytes_per_s / 1e9:,.0f} GB/s",
        link,
        f"{row.tdp_w:,.0f} W",
        peaks,
        row.source,
    )


def _model(row: Architecture) -> tuple[str, ...]:
    count = parameters(row)
    shape = f"{row.layers} x {row.hidden}"
    return (row.name, quantity(count.total), quantity(count.active), shape, row.native, row.source)


def _price(row: HardwarePrice) -> tuple[str, ...]:
    spot = "-".join(_usd(usd) for usd in (row.spot_low_usd_per_h, row.spot_high_usd_per_h) if usd is not None)
    reserved = (_usd(row.reserved_1y_usd_per_h), _usd(row.reserved_3y_usd_per_h))
    where = " ".join(word for word in (row.provider, row.region) if word)
    return (row.hardware, where, _usd(row.on_demand_usd_per_h), *reserved, spot, str(row.devices), row.date, row.source)


def _usd(usd: float | None) -> str:
    return "" if usd is None else f"{usd:.2f}"


def _grid(row: Grid) -> tuple[str, ...]:
    return (row.name, f"{row.g_per_kwh:,.0f}", row.date, row.source)


def _facility(row: Facility) -> tuple[str, ...]:
    return (row.name, f"{row.pue:.2f}", row.date, row.source)


def _ownership(row: Ownership) -> tuple[str, ...]:
    power = "" if row.power_w is None else f"{row.power_w:,.0f}"
    capex = "" if row.capex_usd is None else f"{row.capex_usd:,.0f}"
    owned = (_usd(row.own_hyperscaler_usd_per_h), _usd(row.own_neocloud_usd_per_h), _usd(row.rental_3y_usd_per_h))
    return (row.hardware, power, capex, *owned, row.date, row.source)


_COLUMNS: dict[str, tuple[tuple[str, ...], Callable[..., tuple[str, ...]]]] = {
    "hardware": (("hardware", "memory", "reads", "link", "TDP", "TFLOP/s", "source"), _hardware),
    "models": (("model", "parameters", "active", "layers x width", "native", "source"), _model),
    "prices": (("hardware", "where", "on demand", "1 year", "3 years", "spot", "unit", "date", "source"), _price),
    "grids": (("grid", "gCO2e/kWh", "date", "source"), _grid),
    "facilities": (("operator", "PUE", "date", "source"), _facility),
    "ownership": (("hardware", "W", "capex", "own, large", "own, small", "3 years", "date", "source"), _ownership),
}
