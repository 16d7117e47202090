"""Offers: what prices of the catalogue come to for a fleet rented in a given way."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from farthing.economics.facts.catalogue import Catalogue, HardwarePrice
from farthing.economics.hardware import Hardware
from farthing.economics.searching.options import Offer
from farthing.errors import PriceError

COMMITMENTS = ("on-demand", "1y", "3y")


class Renting(msgspec.Struct, frozen=True):
    """How hardware is rented: only where a provider or region contains `region`, with a commitment, partly on spot.

    A spot device is taken away `interruptions_per_h` times per hour, and paid for `restart_s` before it serves again.
    """

    region: str | None = None
    commitment: str = "on-demand"
    spot_share: float = 0.0
    interruptions_per_h: float = 0.1
    restart_s: float = 300.0


def offers_of(
    catalogue: Catalogue, names: Sequence[str], renting: Renting, own_usd_per_h: Mapping[str, float]
) -> tuple[tuple[Offer, ...], tuple[str, ...]]:
    """Every offer of the hardware of some names, or of all there is, and the hardware that nobody has a price of.

    `own_usd_per_h` holds prices of one's own, which take the place of the catalogue's. Where a spot price is known,
    each offer comes both without spot instances and with the share of them. Raises PriceError when hardware that was
    named has no price, and RequestError for hardware that is not known.
    """
    own = {catalogue.hardware_named(name).name: usd for name, usd in own_usd_per_h.items()}
    chosen = [catalogue.hardware_named(name) for name in names] or list(catalogue.hardware)
    offers: list[Offer] = []
    unpriced: list[str] = []
    for hardware in {hardware.name: hardware for hardware in chosen}.values():
        if hardware.name in own:
            found = [Offer(hardware, own[hardware.name], "as given", source="as given")]
        else:
            rows = [row for row in catalogue.prices_of(hardware.name) if _is_in(row, renting.region)]
            found = [offer for row in rows for offer in _of_row(hardware, row, renting)]
        if found:
            offers += found
        elif names:
            raise _no_price(hardware.name, renting)
        else:
            unpriced.append(hardware.name)
    if not offers:
        raise _no_price("any hardware", renting)
    return tuple(offers), tuple(unpriced)


def _is_in(row: HardwarePrice, region: str | None) -> bool:
    return region is None or region.lower() in f"{row.provider} {row.region}".lower()


def _of_row(hardware: Hardware, row: HardwarePrice, renting: Renting) -> Iterator[Offer]:
    usd = {
        "on-demand": row.on_demand_usd_per_h,
        "1y": row.reserved_1y_usd_per_h,
        "3y": row.reserved_3y_usd_per_h,
    }[renting.commitment]
    where = " ".join(word for word in (row.provider, row.region) if word)
    words = "on demand" if renting.commitment == "on-demand" else f"reserved {renting.commitment}"
    if usd is not None:
        yield Offer(hardware, usd, f"{words}, {where}", row.devices, 0.0, row.source, row.date)
    share = renting.spot_share
    spot = [price for price in (row.spot_low_usd_per_h, row.spot_high_usd_per_h) if price is not None]
    if not share or not spot or (usd is None and share < 1):
        return
    serving = sum(spot) / len(spot) * (1 + renting.interruptions_per_h * renting.restart_s / 3600)
    mean = share * serving + (1 - share) * (usd or 0.0)
    yield Offer(hardware, mean, f"{share:.0%} spot, {where}", row.devices, share, row.source, row.date)


def _no_price(hardware: str, renting: Renting) -> PriceError:
    where = f" in {renting.region}" if renting.region else ""
    return PriceError(
        f"no {renting.commitment} price of {hardware}{where} is known.",
        hint=f"Give one with --price '{hardware}=USD', or add a [[price]] row in TOML and name it with --facts.",
    )
