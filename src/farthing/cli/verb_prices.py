"""`farthing prices`: show the price book."""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from time import time_ns

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.render import answer, table
from farthing.cli.when import shown
from farthing.errors import PriceError
from farthing.pricing import PriceBook, PriceRow
from farthing.stores.price_files import current_book


class Prices(msgspec.Struct, frozen=True):
    """An edition of the price book, and the prices in it of the models asked for."""

    version: str
    as_of: str
    pattern: str
    rows: list[PriceRow]


@click.group()
def command() -> None:
    """Show the price book."""


@command.command()
@click.argument("model", default="*")
@click.option("--all", "every", is_flag=True, help="Past and coming prices too, not only those in force.")
@verb
def show(asked: Asked, model: str, every: bool) -> None:
    """Print the prices of MODEL, or say what the book holds.

    MODEL is a name, provider/name, or either with * for any part. Exit 3 when no model of that name has a price.
    """
    prices = _prices(current_book(configuration(asked).settings.prices.overrides), model)
    if not every:
        prices = msgspec.structs.replace(prices, rows=_in_force(prices.rows, time_ns()))
    answer(asked, "farthing.prices/1", prices, _contents if model == "*" else _in_rows)


def _prices(book: PriceBook, pattern: str) -> Prices:
    rows = list(book.rows(pattern))
    if not rows:
        known = {row.model for row in book.rows()}
        near = get_close_matches(pattern, known, 3)
        hint = f"The nearest names: {', '.join(near)}." if near else "See `farthing prices show`."
        raise PriceError(f'No price in edition {book.version} is for "{pattern}"', hint=hint)
    return Prices(book.version, book.edition.as_of, pattern, rows)


def _in_force(rows: list[PriceRow], now: int) -> list[PriceRow]:
    """The rows that hold at an instant: where terms overlap, the last."""
    held = [row for row in rows if (row.start or 0) <= now and (row.until is None or now < row.until)]
    last = {_offer(row): (row.start, row.until) for row in held}
    return [row for row in held if last[_offer(row)] == (row.start, row.until)]


def _offer(row: PriceRow) -> tuple[object, ...]:
    return row.provider, row.model, row.tier, row.windows


def _contents(prices: Prices) -> str:
    rows = Counter(row.provider for row in prices.rows)
    models = Counter(provider for provider, _ in {(row.provider, row.model) for row in prices.rows})
    lines = [(name, f"{models[name]:,}", f"{rows[name]:,}") for name in sorted(rows)]
    lines.append(("all", f"{models.total():,}", f"{rows.total():,}"))
    return f"edition {prices.version}\n\n" + table(("provider", "models", "prices"), lines)


def _in_rows(prices: Prices) -> str:
    heads = ("provider", "model", "tier", "meters", "holds", "dollars", "per")
    meters: dict[tuple[str, ...], list[str]] = {}
    for row in prices.rows:
        alike = (row.provider, row.model, row.tier, ", ".join(_conditions(row)), row.usd, row.per)
        meters.setdefault(alike, []).append(row.meter)
    rows = [(*alike[:3], ", ".join(names), *alike[3:]) for alike, names in meters.items()]
    return f"edition {prices.version}\n\n" + table(heads, rows, labels=5)


def _conditions(row: PriceRow) -> Iterator[str]:
    if row.above:
        yield f"above {row.above:,} input tokens"
    if row.start:
        yield f"from {shown(row.start)[:10]}"
    if row.until:
        yield f"until {shown(row.until)[:10]}"
    if row.windows:
        yield "at certain hours"
