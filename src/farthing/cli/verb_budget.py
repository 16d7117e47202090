"""`farthing budget`: how budgets and rate limits stand."""

import asyncio
import os
import time

import click
import msgspec

from farthing.budgets import resets_at
from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.figures import dollars, percent
from farthing.cli.render import answer, say, table
from farthing.cli.when import shown
from farthing.schema import Account, Limit
from farthing.wiring.limiting import accounts_of, limits_of


class Row(msgspec.Struct, frozen=True):
    """One account of a limit. Amounts of a budget are in pico-dollars, others in the unit of their meter."""

    limit: str
    meter: str
    subject: str
    period: str
    hard: bool
    allowed: int
    spent: int
    held: int
    expired: int
    resets_at: int | None


class Rows(msgspec.Struct, frozen=True):
    """Every account that was used."""

    limits: list[Row]


@click.group()
def command() -> None:
    """Show how budgets and rate limits stand."""


@command.command()
@click.argument("name", required=False)
@verb
def show(asked: Asked, name: str | None) -> None:
    """Print what was spent and what is held of every limit, or of the one called NAME.

    What is in doubt was held by a gateway that died; it counts until that gateway is back and says what became of it.
    """
    settings = configuration(asked).settings
    limits = [limit for limit in limits_of(settings) if name in (None, limit.name)]
    if not limits:
        what = f"There is no limit called {name!r}." if name else "No limit is configured."
        say(asked, f"{what} docs/guides/budgets.md shows how to set one.")
    now = time.time_ns()
    found = asyncio.run(accounts_of(settings, os.environ, limits, now))
    rows = [_row(one, now) for one in found]
    answer(asked, "farthing.budget/1", Rows(rows), lambda document: _in_words(document, now))


def _row(one: Account, now: int) -> Row:
    limit, balance = one.limit, one.balance
    return Row(
        limit.name,
        limit.meter,
        f"{limit.per} {one.subject}" if one.subject else limit.per,
        _period(limit),
        limit.hard,
        limit.amount,
        balance.spent,
        balance.held,
        balance.expired,
        resets_at(limit, now),
    )


def _period(limit: Limit) -> str:
    return f"{'rolling ' if limit.rolling else ''}{limit.period}"


def _in_words(document: Rows, now: int) -> str:
    heads = ("limit", "of", "period", "allowed", "spent", "held", "in doubt", "used", "resets")
    lines = [
        (
            row.limit if row.hard else f"{row.limit} (soft)",
            row.subject,
            row.period if row.meter != "concurrent" else "at once",
            *(_amount(row.meter, amount) for amount in (row.allowed, row.spent, row.held, row.expired)),
            percent((row.spent + row.held + row.expired) / row.allowed) if row.allowed else "-",
            shown(row.resets_at) if row.resets_at else "never",
        )
        for row in document.limits
    ]
    return table(heads, lines, labels=3)


def _amount(meter: str, amount: int) -> str:
    return dollars(amount) if meter == "usd" else f"{amount:,}"
