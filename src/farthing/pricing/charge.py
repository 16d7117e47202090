"""Charge: usage times the price book, exact."""

from collections.abc import Iterator

import msgspec

from farthing.pricing.book import PriceBook
from farthing.pricing.tariff import Sheet, Units
from farthing.schema import METERS, Charge, Usage

_NOTHING_KNOWN: Units = (None,) * len(METERS)
_INPUTS = METERS.index("output")
"""Input meters come before output ones."""
_quantities = msgspec.structs.astuple


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a receipt: a quantity of a meter, its unit price and its amount in pico-dollars, `None` unknown."""

    meter: str
    quantity: int
    unit_price: int | None
    amount: int | None


def charge(book: PriceBook, *, provider: str, model: str, tier: str | None, usage: Usage, at: int) -> Charge:
    """What `usage` cost at `at` (Unix ns), priced by the model and tier that the provider says it served.

    `saved` tells what the provider's cache saved at standard prices ("provider_cache", negative when writing to it
    cost more than reading it gave back), and what the tier then saved ("tier", negative for a faster, dearer one).
    """
    quantities = _quantities(usage)
    tokens = sum(quantities[:_INPUTS])
    tariff = book.tariff(provider, model, tier)
    sheet = usual = tariff.sheet(tokens, at)
    if tariff.standard is not None:
        usual = tariff.standard.sheet(tokens, at)
    amount = _total(quantities, sheet.units) if sheet else _unpriced(quantities)
    listed = _total(quantities, usual.uncached) if usual else _unpriced(quantities)
    if amount is None:
        return Charge(None, listed, book.version, (), tuple(_missing(quantities, sheet)))
    if listed is None or usual is None or amount == listed:
        return Charge(amount, listed, book.version)
    untiered = amount if usual is sheet else _total(quantities, usual.units)
    return Charge(amount, listed, book.version, _saved(listed, listed if untiered is None else untiered, amount))


def lines(
    book: PriceBook, *, provider: str, model: str, tier: str | None, usage: Usage, at: int
) -> tuple[Line, ...]:
    """The receipt of a charge: one line for each meter used; their amounts sum to the charge's."""
    sheet = book.tariff(provider, model, tier).sheet(usage.input_tokens, at)
    units = sheet.units if sheet else _NOTHING_KNOWN
    return tuple(
        Line(meter, quantity, unit, None if unit is None else quantity * unit)
        for meter, quantity, unit in zip(METERS, _quantities(usage), units, strict=True)
        if quantity
    )


def _total(quantities: tuple[int, ...], units: Units) -> int | None:
    total = 0
    for quantity, unit in zip(quantities, units, strict=True):
        if quantity:
            if unit is None:
                return None
            total += quantity * unit
    return total


def _missing(quantities: tuple[int, ...], sheet: Sheet | None) -> Iterator[str]:
    units = sheet.units if sheet else _NOTHING_KNOWN
    return (meter for meter, quantity, unit in zip(METERS, quantities, units, strict=True) if quantity and unit is None)


def _unpriced(quantities: tuple[int, ...]) -> int | None:
    return None if any(quantities) else 0


def _saved(listed: int, untiered: int, amount: int) -> tuple[tuple[str, int], ...]:
    savings = (("provider_cache", listed - untiered), ("tier", untiered - amount))
    return tuple([saving for saving in savings if saving[1]])
