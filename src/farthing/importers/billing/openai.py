"""OpenAI: pages of /v1/organization/usage/* by model and of /v1/organization/costs by line item, or the same as CSV."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

import msgspec

from farthing.importers.billing.sheet import Sheet, Span, day_of
from farthing.ledger.reconcile import Amounts, Bill, Line, Measure

USAGE_NAMES = frozenset(("num_model_requests", "input_tokens"))
COST_NAMES = frozenset(("amount", "start_time"))
COST_COLUMNS = frozenset(("amount_value", "start_time"))

Count = Annotated[int, msgspec.Meta(ge=0)]
PROVIDER = "openai"
TOKENS: tuple[Measure, ...] = ("requests", "tokens", "input", "output", "cache_read", "cache_write")


class _Times(msgspec.Struct):
    start_time: int | str | None = None
    end_time: int | str | None = None


class _Usage(_Times):
    num_model_requests: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    input_cached_tokens: Count = 0
    input_cache_write_tokens: Count = 0
    model: str = ""


class _Amount(msgspec.Struct, frozen=True):
    value: Decimal = Decimal(0)
    currency: str = "usd"


class _Cost(_Times):
    amount: _Amount = _Amount()
    amount_value: Decimal | None = None
    amount_currency: str = "usd"
    line_item: str = ""


def usage(sheet: Sheet) -> Bill:
    """Requests and tokens, which include those read from and written to the cache. Raises TrafficError."""
    lines = []
    for place, row in sheet.rows:
        if not row.keys() >= USAGE_NAMES:  # images, sessions: nothing that is counted in tokens
            continue
        sold = sheet.shaped(place, row, _Usage)
        if not sold.model:
            raise sheet.unnamed(place, "group_by=model")
        amounts: Amounts = {
            "requests": sold.num_model_requests,
            "tokens": sold.input_tokens + sold.output_tokens,
            "input": sold.input_tokens,
            "output": sold.output_tokens,
            "cache_read": sold.input_cached_tokens,
            "cache_write": sold.input_cache_write_tokens,
        }
        lines.append(Line(day_of(sheet.span(place, sold.start_time, sold.end_time)[0]), sold.model, amounts))
    return sheet.bill(PROVIDER, TOKENS, lines, _spans(sheet))


def costs(sheet: Sheet) -> Bill:
    """Dollars by line item, which names the model where there is one. Raises TrafficError."""
    lines = []
    for place, row in sheet.rows:
        sold = sheet.shaped(place, row, _Cost)
        amount = sold.amount if sold.amount_value is None else _Amount(sold.amount_value, sold.amount_currency)
        cost = sheet.pico(place, amount.value, amount.currency)
        if not cost:
            continue
        if not sold.line_item:
            raise sheet.unnamed(place, "group_by=line_item")
        start, _ = sheet.span(place, sold.start_time, sold.end_time)
        lines.append(Line(day_of(start), model_of(sold.line_item), {"cost": cost}))
    return sheet.bill(PROVIDER, ("cost",), lines, _spans(sheet))


def model_of(line_item: str) -> str:
    """The model that a line item is about; the whole of one that is about none.

    >>> model_of("evals | gpt-4o-mini-2024-07-18, cached input"), model_of("gpt-image-2 text, input")
    ('gpt-4o-mini-2024-07-18', 'gpt-image-2')
    >>> model_of("web search tool calls")
    'web search tool calls'
    """
    name, comma, _ = line_item.rpartition("|")[2].strip().partition(",")
    return name.split()[0] if comma and name else line_item


def _spans(sheet: Sheet) -> Iterator[Span]:
    for place, bucket in sheet.buckets:
        times = sheet.shaped(place, bucket, _Times)
        yield sheet.span(place, times.start_time, times.end_time)
