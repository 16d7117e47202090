"""The catalogue: facts about hardware, models, prices, grids and ownership, looked up by the names people use."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import TypeVar

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.facts.names import device_name, inner_keys, model_key, plain_key
from farthing.economics.hardware import Hardware
from farthing.errors import RequestError

Fact = TypeVar("Fact", "Architecture", "Hardware")

MEMORY_TOLERANCE = 0.15
"""How far the gigabytes in a name may be from what a device of that name gives a process."""


class HardwarePrice(msgspec.Struct, frozen=True):
    """What one device costs at one provider, in USD per hour; `None` is what was not found. Spot prices are a range."""

    hardware: str
    provider: str
    region: str
    sku: str
    devices: int
    """How many devices the smallest unit of rent has; prices are of one of them."""
    on_demand_usd_per_h: float | None
    reserved_1y_usd_per_h: float | None
    reserved_3y_usd_per_h: float | None
    spot_low_usd_per_h: float | None
    spot_high_usd_per_h: float | None
    source: str
    date: str


class Grid(msgspec.Struct, frozen=True):
    """How much carbon the electricity of a region carries, in grams of CO2 equivalent per kWh."""

    name: str
    g_per_kwh: float
    source: str
    date: str
    aliases: tuple[str, ...] = ()


class Facility(msgspec.Struct, frozen=True):
    """Power usage effectiveness of an operator's data centres: what they draw over what their computers draw."""

    name: str
    pue: float
    source: str
    date: str


class Ownership(msgspec.Struct, frozen=True):
    """What owning one device takes: watts at the wall with its share of the server, and USD; `None` is not known."""

    hardware: str
    power_w: float | None
    """Of the device with its share of host, network and cooling."""
    own_hyperscaler_usd_per_h: float | None
    own_neocloud_usd_per_h: float | None
    rental_3y_usd_per_h: float | None
    capex_usd: float | None
    """Price of the device with its share of server and network."""
    source: str
    date: str


class Catalogue(msgspec.Struct, frozen=True, dict=True):
    """Every fact that is known, each row with its source and date."""

    hardware: tuple[Hardware, ...] = ()
    architectures: tuple[Architecture, ...] = ()
    prices: tuple[HardwarePrice, ...] = ()
    grids: tuple[Grid, ...] = ()
    facilities: tuple[Facility, ...] = ()
    ownership: tuple[Ownership, ...] = ()

    def hardware_named(self, name: str) -> Hardware:
        """The hardware of a name, an alias, or what a driver prints; "2x" before a CPU stands for so many sockets.

        Raises RequestError with near names when there is none.
        """
        asked = device_name(name)
        for row, gigabytes in self._devices.get(asked.key, ()):
            if asked.gigabytes not in (0, gigabytes) and not _is_about(asked.gigabytes, row.memory_bytes / 2**30):
                continue
            if asked.times == 1:
                return row
            if row.kind == "cpu":
                return _joined_sockets(row, asked.times)
            raise RequestError(
                f"'{name}' names {asked.times} devices.", hint=f"Name one, '{row.name}', and say the count apart."
            )
        rows = {key: tuple(row for row, _ in found) for key, found in self._devices.items()}
        raise _unknown("hardware", name, asked.key, rows)

    def architecture_named(self, name: str) -> Architecture:
        """The architecture of a name, a Hugging Face id, or a variant of one of the same size.

        Raises RequestError with near names when there is none.
        """
        exact, plain = self._models
        for found in (exact.get(model_key(name)), exact.get(plain_key(name)), plain.get(plain_key(name))):
            if found:
                return found
        for key in inner_keys(name):
            if found := exact.get(key) or plain.get(key):
                return found
        raise _unknown("model", name, model_key(name), {key: (row,) for key, row in exact.items()})

    def prices_of(self, hardware_name: str) -> tuple[HardwarePrice, ...]:
        """Prices of one device of a kind, the lowest on demand first; raises RequestError for unknown hardware."""
        name = self.hardware_named(hardware_name).name
        rows = [price for price in self.prices if price.hardware == name]
        return tuple(sorted(rows, key=lambda price: price.on_demand_usd_per_h or float("inf")))

    def ownership_of(self, hardware_name: str) -> Ownership | None:
        """What owning a device takes, or None when nothing is known; raises RequestError for unknown hardware."""
        name = self.hardware_named(hardware_name).name
        return next((row for row in self.ownership if row.hardware == name), None)

    def grid_named(self, name: str) -> Grid:
        """The grid of a country or cloud region; raises RequestError with near names when there is none."""
        key = _region_key(name)
        for grid in self.grids:
            if any(_region_key(known) == key for known in (grid.name, *grid.aliases)):
                return grid
        known = {_region_key(known): grid.name for grid in self.grids for known in (grid.name, *grid.aliases)}
        near = [known[match] for match in get_close_matches(key, known, n=3)]
        raise RequestError(
            f"The carbon of the grid '{name}' is not known.",
            hint=f"Did you mean {_listed(near)}?" if near else "Name a country or cloud region, or add a [[grid]] row.",
        )

    def facility_named(self, name: str) -> Facility:
        """The data centres of an operator; raises RequestError when nothing is known of them."""
        for facility in self.facilities:
            if _region_key(facility.name) == _region_key(name):
                return facility
        known = ", ".join(facility.name for facility in self.facilities)
        raise RequestError(f"The PUE of '{name}' is not known.", hint=f"Known: {known}; or add a [[facility]] row.")

    @cached_property
    def _devices(self) -> Mapping[str, list[tuple[Hardware, int]]]:
        """Hardware by the key of each of its names, with the gigabytes that name says."""
        found: dict[str, list[tuple[Hardware, int]]] = {}
        for row in self.hardware:
            for name in (row.name, *row.aliases):
                known = device_name(name)
                found.setdefault(known.key, []).append((row, known.gigabytes))
        return found

    @cached_property
    def _models(self) -> tuple[Mapping[str, Architecture], Mapping[str, Architecture]]:
        """Models by their full keys, and by plain ones where only one model has that."""
        exact: dict[str, Architecture] = {}
        plain: dict[str, Architecture] = {}
        shared: set[str] = set()
        for row in self.architectures:
            for name in (row.name, *row.aliases):
                exact.setdefault(model_key(name), row)
                key = plain_key(name)
                if plain.setdefault(key, row) is not row:
                    shared.add(key)
        return exact, {key: row for key, row in plain.items() if key not in shared}


def _joined_sockets(row: Hardware, count: int) -> Hardware:
    """So many sockets as one device: they compute and read side by side."""
    return msgspec.structs.replace(
        row,
        name=f"{count}x {row.name}",
        flop_per_s={kind: count * peak for kind, peak in row.flop_per_s.items()},
        memory_bytes=count * row.memory_bytes,
        memory_bytes_per_s=count * row.memory_bytes_per_s,
        tdp_w=count * row.tdp_w,
        idle_w=None if row.idle_w is None else count * row.idle_w,
    )


def _is_about(asked: float, has: float) -> bool:
    return abs(asked - has) <= MEMORY_TOLERANCE * has


def _region_key(name: str) -> str:
    return "-".join(name.lower().replace("_", " ").split())


def _unknown(what: str, name: str, key: str, known: Mapping[str, Iterable[Fact]]) -> RequestError:
    near = list(dict.fromkeys(row.name for match in get_close_matches(key, known, n=5) for row in known[match]))[:3]
    if not near:
        rows = sorted({row.name for rows in known.values() for row in rows})
        near = [row for row in rows if key and key[:3] in row.lower()][:3]
    hint = f"Did you mean {_listed(near)}?" if near else f"Add a [[{what}]] row of it in TOML."
    return RequestError(f"The {what} '{name}' is not in the catalogue.", hint=hint)


def _listed(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
