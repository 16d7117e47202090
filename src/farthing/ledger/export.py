"""Export: entries as CSV rows, one column per field; JSONL is the entries' own encoding."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from farthing.schema import METERS, PICO_PER_USD, Entry

MONEY = ("cost", "list_cost")
PLAIN = tuple(name for name in Entry.__struct_fields__ if name not in ("usage", *MONEY))

COLUMNS: tuple[str, ...] = (*PLAIN, *(f"{name}_usd" for name in MONEY), *METERS, "tokens")
"""The columns of a CSV export. Money is in dollars, exact; `at` is ISO 8601, UTC; what is unknown is empty."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the start of a formula."""


def csv_row(entry: Entry) -> tuple[str, ...]:
    """The cells of an entry, in the order of `COLUMNS`; text that a spreadsheet would run begins with an apostrophe."""
    usage = entry.usage
    return (
        *(_cell(name, getattr(entry, name)) for name in PLAIN),
        *(_dollars(getattr(entry, name)) for name in MONEY),
        *("" if usage is None else str(getattr(usage, meter)) for meter in METERS),
        "" if usage is None else str(usage.tokens),
    )


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "at":
        assert isinstance(value, int)
        return timestamp(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return harmless(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula.

    >>> harmless("=1+1"), harmless("gpt-5")
    ("'=1+1", 'gpt-5')
    """
    return f"'{text}" if text.startswith(FORMULA) else text


def timestamp(at: int) -> str:
    """An instant in ISO 8601, UTC, to the nanosecond.

    >>> timestamp(1_500_000_001)
    '1970-01-01T00:00:01.500000001Z'
    """
    seconds, rest = divmod(at, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _dollars(amount: int | None) -> str:
    return "" if amount is None else f"{Decimal(amount) / PICO_PER_USD:f}"
