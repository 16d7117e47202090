"""Tariff: the unit prices of one model at one tier, laid out for fast look-up."""

from collections.abc import Iterator
from typing import NamedTuple

from farthing.pricing.edition import STANDARD, Band, Edition, MeterRule, Row, TierRule, Window, scaled
from farthing.pricing.layers import layered
from farthing.pricing.names import Found, matches
from farthing.schema import CACHE_WRITE_METERS, METERS

Units = tuple[int | None, ...]
"""Pico-dollars per unit, by meter in the order of METERS; `None` is unknown."""

_CACHE_METERS = frozenset(("cache_read", *CACHE_WRITE_METERS))
FOREVER = 2**63 - 1
"""The last instant (Unix ns) of a term that has no end."""
_TEXT_METERS = ("input", "cache_read", "output", "reasoning")


class Sheet(NamedTuple):
    """Unit prices for more than `above` input tokens; `uncached` prices provider cache tokens as plain input.

    `text` has the prices of input, cache reads, output and reasoning once more, when all of them are known.
    """

    above: int
    units: Units
    uncached: Units
    text: tuple[int, int, int, int] | None = None


class Term(NamedTuple):
    """Sheets, from the longest requests down, valid in [start, until) (Unix ns) and within the windows."""

    start: int
    until: int
    windows: tuple[Window, ...]
    sheets: tuple[Sheet, ...]
    source: str


class Tariff(NamedTuple):
    """Terms, the first that is valid wins; and the standard tier's tariff, when this is another tier's."""

    terms: tuple[Term, ...]
    standard: "Tariff | None" = None

    def sheet(self, input_tokens: int, at: int) -> Sheet | None:
        """The unit prices of a request of so many input tokens at an instant, `None` when none was valid then."""
        for start, until, windows, sheets, _ in self.terms:
            if start <= at < until and (not windows or any(window.holds(at) for window in windows)):
                for sheet in sheets:
                    if input_tokens > sheet.above:
                        return sheet
                return sheets[-1]
        return None


def tariff_of(edition: Edition, found: Found, tier: str) -> Tariff:
    """The tariff of a model at a tier; without terms when nothing is known of that tier."""
    rules = tuple(rule for rule in edition.meter_rules if _applies(rule, found.owner.id, found))
    terms = tuple(_term(row, rules) for row in reversed(_rows(edition, found, tier)))
    return Tariff(terms, None if tier == STANDARD else tariff_of(edition, found, STANDARD))


def tiers_of(edition: Edition, found: Found) -> list[str]:
    """Every tier that has a price, the standard one first."""
    own = set() if found.borrowed else set(found.model.tiers)
    ruled = {rule.tier for rule in edition.tier_rules if _applies(rule, _seller(found), found)}
    return [STANDARD, *sorted((own | ruled) - {STANDARD})]


def _rows(edition: Edition, found: Found, tier: str) -> tuple[Row, ...]:
    rows = found.model.tiers.get(STANDARD, ())
    if found.borrowed:
        rows = tuple(row for row in rows if not row.own)
    if tier != STANDARD:
        rows = tuple(_ruled(edition, found, tier, rows))
        for row in () if found.borrowed else found.model.tiers.get(tier, ()):
            rows = layered(rows, row)
    return tuple(_scaled(row, found) for row in rows)


def _ruled(edition: Edition, found: Found, tier: str, standard: tuple[Row, ...]) -> Iterator[Row]:
    for rule in edition.tier_rules:
        if rule.tier == tier and _applies(rule, _seller(found), found):
            for row in standard:
                yield Row(scaled(row.bands, rule.factor), row.start, row.until, row.windows, rule.source)
            return


def _scaled(row: Row, found: Found) -> Row:
    return Row(scaled(row.bands, found.factor), row.start, row.until, row.windows, row.source)


def _seller(found: Found) -> str:
    return found.asked.id if found.borrowed else found.owner.id


def _applies(rule: TierRule | MeterRule, provider: str, found: Found) -> bool:
    if rule.provider not in (provider, "*"):
        return False
    name = found.model.id.lower()
    return any(matches(pattern, name) for pattern in rule.models)


def _term(row: Row, rules: tuple[MeterRule, ...]) -> Term:
    sheets = tuple(_sheet(band, rules) for band in reversed(row.bands))
    return Term(row.start or 0, FOREVER if row.until is None else row.until, row.windows, sheets, row.source)


def _sheet(band: Band, rules: tuple[MeterRule, ...]) -> Sheet:
    prices = dict(band.prices)
    for rule in rules:
        if rule.meter not in prices and rule.of in prices:
            price = rule.factor.times(prices[rule.of])
            if price is not None:
                prices[rule.meter] = price
    units = tuple(prices.get(meter) for meter in METERS)
    plain = prices.get("input")
    uncached = tuple(plain if meter in _CACHE_METERS else unit for meter, unit in zip(METERS, units, strict=True))
    text = tuple(prices[meter] for meter in _TEXT_METERS if meter in prices)
    return Sheet(band.above, units, uncached, text if len(text) == 4 else None)
