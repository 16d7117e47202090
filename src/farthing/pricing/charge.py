"""Charge: usage times the price book, exact."""

from itertools import compress

import msgspec

from farthing.pricing.book import PriceBook
from farthing.pricing.tariff import Sheet, Tariff, Units
from farthing.schema import METERS, Charge, Usage

_UNPRICED: Units = (None,) * len(METERS)
_UNKNOWN = Sheet(0, _UNPRICED, _UNPRICED)

_Used = list[tuple[int, int]]
"""The meters that were used: place in METERS, quantity."""


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
    tariff = book.tariff(provider, model, tier)
    if tariff.standard is None and _is_text(usage):
        sheet = tariff.sheet(usage.input + usage.cache_read, at)
        if sheet is not None and sheet.text is not None:
            return _text_charge(sheet.text, usage, book.version)
    return any_charge(tariff, usage, at, book.version)


def _is_text(usage: Usage) -> bool:
    """Whether nothing but text was used, and nothing written to a cache: so it is with most calls."""
    return not (
        usage.cache_write_5m
        or usage.cache_write_30m
        or usage.cache_write_1h
        or usage.cache_write_12h
        or usage.input_audio
        or usage.input_image
        or usage.input_video
        or usage.output_audio
        or usage.output_image
        or usage.rejected_prediction
        or usage.web_search
        or usage.web_fetch
    )


def _text_charge(prices: tuple[int, int, int, int], usage: Usage, version: str) -> Charge:
    """`any_charge` in four products, for text at the standard tier; it takes less than half the time."""
    plain, cached, spoken, thought = prices
    saved = usage.cache_read * (plain - cached)
    listed = (usage.input + usage.cache_read) * plain + usage.output * spoken + usage.reasoning * thought
    return Charge(listed - saved, listed, version, (("provider_cache", saved),) if saved else ())


def any_charge(tariff: Tariff, usage: Usage, at: int, version: str) -> Charge:
    """The charge of any usage by any tariff; see `charge`."""
    used = _used(usage)
    tokens = usage.input_tokens
    sheet = usual = tariff.sheet(tokens, at) or _UNKNOWN
    if tariff.standard is not None:
        usual = tariff.standard.sheet(tokens, at) or _UNKNOWN
    amount = _total(used, sheet.units)
    listed = _total(used, usual.uncached)
    if amount is None:
        return Charge(None, listed, version, (), _missing(used, sheet))
    if listed is None:
        return Charge(amount, None, version)
    untiered = amount if usual is sheet else _total(used, usual.units)
    return Charge(amount, listed, version, _saved(listed, listed if untiered is None else untiered, amount))


def lines(book: PriceBook, *, provider: str, model: str, tier: str | None, usage: Usage, at: int) -> tuple[Line, ...]:
    """The receipt of a charge: one line for each meter used; their amounts sum to the charge's."""
    sheet = book.tariff(provider, model, tier).sheet(usage.input_tokens, at) or _UNKNOWN
    return tuple(_line(METERS[place], quantity, sheet.units[place]) for place, quantity in _used(usage))


def _line(meter: str, quantity: int, unit: int | None) -> Line:
    return Line(meter, quantity, unit, None if unit is None else quantity * unit)


def _used(usage: Usage) -> _Used:
    quantities = msgspec.structs.astuple(usage)
    return list(compress(enumerate(quantities), quantities))


def _total(used: _Used, units: Units) -> int | None:
    total = 0
    for place, quantity in used:
        unit = units[place]
        if unit is None:
            return None
        total += quantity * unit
    return total


def _missing(used: _Used, sheet: Sheet) -> tuple[str, ...]:
    return tuple(METERS[place] for place, _ in used if sheet.units[place] is None)


def _saved(listed: int, untiered: int, amount: int) -> tuple[tuple[str, int], ...]:
    cache, tier = listed - untiered, untiered - amount
    if not tier:
        return (("provider_cache", cache),) if cache else ()
    return (("provider_cache", cache), ("tier", tier)) if cache else (("tier", tier),)
