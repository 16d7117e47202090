"""Anthropic: pages of /v1/organizations/usage_report/messages grouped by model and of cost_report by description."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

import msgspec

from farthing.importers.billing.sheet import Sheet, Span, day_of
from farthing.ledger.reconcile import Amounts, Bill, Line, Measure

USAGE_NAMES = frozenset(("uncached_input_tokens", "starting_at"))
COST_NAMES = frozenset(("amount", "starting_at"))

Count = Annotated[int, msgspec.Meta(ge=0)]
PROVIDER = "anthropic"
TOKENS: tuple[Measure, ...] = ("tokens", "input", "output", "cache_read", "cache_write")
CENTS = 100
"""The cost report counts in cents: "123.45" is $1.2345."""


class _Times(msgspec.Struct):
    starting_at: str | None = None
    ending_at: str | None = None


class _Written(msgspec.Struct, frozen=True):
    ephemeral_5m_input_tokens: Count = 0
    ephemeral_1h_input_tokens: Count = 0


class _Usage(_Times):
    uncached_input_tokens: Count = 0
    cache_creation: _Written = _Written()
    cache_read_input_tokens: Count = 0
    output_tokens: Count = 0
    model: str = ""


class _Cost(_Times):
    amount: Decimal = Decimal(0)
    currency: str = "USD"
    model: str = ""
    description: str = ""
    cost_type: str = ""


def usage(sheet: Sheet) -> Bill:
    """Tokens; the report does not count requests. Raises TrafficError."""
    lines = []
    for place, row in sheet.rows:
        sold = sheet.shaped(place, row, _Usage)
        if not sold.model:
            raise sheet.unnamed(place, "group_by[]=model")
        written = sold.cache_creation.ephemeral_5m_input_tokens + sold.cache_creation.ephemeral_1h_input_tokens
        given = sold.uncached_input_tokens + sold.cache_read_input_tokens + written
        amounts: Amounts = {
            "tokens": given + sold.output_tokens,
            "input": given,
            "output": sold.output_tokens,
            "cache_read": sold.cache_read_input_tokens,
            "cache_write": written,
        }
        lines.append(Line(day_of(sheet.span(place, sold.starting_at, sold.ending_at)[0]), sold.model, amounts))
    return sheet.bill(PROVIDER, TOKENS, lines, _spans(sheet))


def costs(sheet: Sheet) -> Bill:
    """Dollars by model, and by description for what is not about one. Raises TrafficError."""
    lines = []
    for place, row in sheet.rows:
        sold = sheet.shaped(place, row, _Cost)
        cost = sheet.pico(place, sold.amount, sold.currency, CENTS)
        if not cost:
            continue
        name = sold.model or sold.description or sold.cost_type
        if not name:
            raise sheet.unnamed(place, "group_by[]=description")
        lines.append(Line(day_of(sheet.span(place, sold.starting_at, sold.ending_at)[0]), name, {"cost": cost}))
    return sheet.bill(PROVIDER, ("cost",), lines, _spans(sheet))


def _spans(sheet: Sheet) -> Iterator[Span]:
    for place, bucket in sheet.buckets:
        times = sheet.shaped(place, bucket, _Times)
        yield sheet.span(place, times.starting_at, times.ending_at)
