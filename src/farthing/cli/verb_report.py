"""`farthing report`: say what was spent and saved, and on what."""

from collections.abc import Iterator
from time import time_ns

import click

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.figures import at_least, counted, dollars, percent, share
from farthing.cli.ledgers import ledger_of
from farthing.cli.render import answer, strong, table
from farthing.cli.totals import in_lines
from farthing.cli.when import shown, span
from farthing.ledger.report import WEEK, Question, Report, Share, report
from farthing.ports import LedgerStore
from farthing.schema import HOUR

EVER = "all"
DIMENSIONS = ("model", "tenant", "team", "key", "feature", "endpoint", "upstream", "provider")


@click.command()
@click.option("--last", default="24h", show_default=True, metavar="SPAN", help="90m, 24h, 7d, 4w, or all.")
@click.option(
    "--by", multiple=True, type=click.Choice(DIMENSIONS), default=("model",), show_default=True, help="Repeatable."
)
@verb
def command(asked: Asked, last: str, by: tuple[str, ...]) -> None:
    """Say what was spent and saved, and on what, in whole hours (UTC)."""
    with ledger_of(configuration(asked).settings) as ledger:
        spent = _report(ledger, last, by, time_ns())
    answer(asked, "farthing.report/1", spent, lambda spent: "\n".join(_words(spent)))


def _report(ledger: LedgerStore, last: str, by: tuple[str, ...], now: int) -> Report:
    if last == EVER:
        return report(Question(0, now, by), ledger.rollups())
    since = (now - span(last)) // HOUR * HOUR
    return report(Question(since, now, by), ledger.rollups(since, now), ledger.rollups(since - WEEK, now - WEEK))


def _words(spent: Report) -> Iterator[str]:
    total = spent.totals
    began = f"since {shown(spent.since)}" if spent.since else "since the ledger began"
    yield strong(f"{counted(total.calls, 'call')} {began}, UTC")
    if spent.simulated:
        yield f"SIMULATED: {spent.simulated:,} of them were answered by no real upstream"
    yield ""
    yield from in_lines(total, spent.change)
    for dimension, shares in spent.by.items():
        yield ""
        yield _breakdown(dimension, shares, total.paid)


def _breakdown(dimension: str, shares: tuple[Share, ...], paid: int) -> str:
    heads = (dimension, "calls", "paid", "of all", "list", "saved", "per 1k calls", "cache", "errors")
    rows = [
        (
            each.value or "-",
            f"{each.figures.calls:,}",
            at_least(each.figures.paid, each.figures.unpriced),
            share(each.figures.paid, paid),
            at_least(each.figures.list, each.figures.unpriced),
            dollars(each.figures.saved),
            at_least(each.figures.cost_per_1k, each.figures.unpriced),
            percent(each.figures.hit_ratio),
            f"{each.figures.errors:,}",
        )
        for each in shares
    ]
    return table(heads, rows)
