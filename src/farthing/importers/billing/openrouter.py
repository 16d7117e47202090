"""OpenRouter: days of /api/v1/activity, or single generations of /api/v1/generation, one after another or as CSV."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec

from farthing.importers.billing.sheet import Sheet, Span, day_of
from farthing.ledger.reconcile import DAY, Amounts, Bill, Line, Measure

ACTIVITY_NAMES = frozenset(("date", "usage", "prompt_tokens"))
GENERATION_NAMES = frozenset(("created_at", "total_cost", "native_tokens_prompt"))
GENERATION_COLUMNS = frozenset(("created_at", "cost_total", "tokens_prompt"))

Count = Annotated[int, msgspec.Meta(ge=0)]
PROVIDER = "openrouter"
SOLD: tuple[Measure, ...] = ("requests", "tokens", "input", "output", "cost")


class _Activity(msgspec.Struct):
    date: str
    model: str = ""
    model_permaslug: str = ""
    usage: Decimal = Decimal(0)
    requests: Count = 0
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class _Generation(msgspec.Struct):
    created_at: str
    model: str = ""
    model_permaslug: str = ""
    total_cost: Decimal = Decimal(0)
    cost_total: Decimal = Decimal(0)
    native_tokens_prompt: Count = 0
    native_tokens_completion: Count = 0
    tokens_prompt: Count = 0
    tokens_completion: Count = 0


def activity(sheet: Sheet) -> Bill:
    """Requests, tokens and dollars; of the days between its first and last it tells everything. Raises TrafficError."""
    lines = []
    for place, row in sheet.rows:
        sold = sheet.shaped(place, row, _Activity)
        name = sold.model or sold.model_permaslug
        if not name:
            raise sheet.unnamed(place, "the activity of /api/v1/activity")
        day = day_of(sheet.time(place, sold.date))
        cost = sheet.pico(place, sold.usage)
        lines.append(_line(day, name, sold.requests, sold.prompt_tokens, sold.completion_tokens, cost))
    return sheet.bill(PROVIDER, SOLD, lines, _from_first_to_last(lines))


def generations(sheet: Sheet) -> Bill:
    """The same of single calls, by the tokens they are charged for; the file is taken to hold all calls of its days.

    Raises TrafficError.
    """
    lines = []
    for place, row in sheet.rows:
        sold = sheet.shaped(place, row, _Generation)
        name = sold.model or sold.model_permaslug
        if not name:
            raise sheet.unnamed(place, "the records of /api/v1/generation")
        native = "native_tokens_prompt" in row
        given = sold.native_tokens_prompt if native else sold.tokens_prompt
        written = sold.native_tokens_completion if native else sold.tokens_completion
        cost = sheet.pico(place, sold.total_cost or sold.cost_total)
        lines.append(_line(day_of(sheet.time(place, sold.created_at)), name, 1, given, written, cost))
    return sheet.bill(PROVIDER, SOLD, lines, _from_first_to_last(lines))


def _line(day: int, model: str, requests: int, given: int, written: int, cost: int) -> Line:
    amounts: Amounts = {
        "requests": requests,
        "tokens": given + written,
        "input": given,
        "output": written,
        "cost": cost,
    }
    return Line(day, model, amounts)


def _from_first_to_last(lines: Iterable[Line]) -> list[Span]:
    days = [line.day for line in lines]
    return [(day, day + DAY) for day in range(min(days), max(days) + DAY, DAY)]
