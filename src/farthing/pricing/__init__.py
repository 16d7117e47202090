"""Usage x dated price book -> Charge. Prices are data; what no row answers is unknown, never zero."""

from farthing.pricing.book import PriceBook, PriceRow, price_at, tier_name
from farthing.pricing.charge import Line, charge, lines
from farthing.pricing.hosting import hosted_charge, hosted_cost, price_per_token

__all__ = [
    "Line",
    "PriceBook",
    "PriceRow",
    "charge",
    "hosted_charge",
    "hosted_cost",
    "lines",
    "price_at",
    "price_per_token",
    "tier_name",
]
