"""`farthing ledger`: read, export, verify and re-rate the ledger."""

import sys
import time
from collections.abc import Iterator

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.ledgers import ledger_of
from farthing.cli.when import SECOND, shown
from farthing.ports import LedgerStore
from farthing.schema import Entry, usd

POLL_SECONDS = 0.5
SETTLING = 900 * SECOND
"""Entries appear by settlement, and may have arrived this much before others that appeared earlier."""


@click.group()
def command() -> None:
    """Read, export, verify and re-rate the ledger."""


@command.command()
@click.option("-n", "count", default=20, type=click.IntRange(0), show_default=True, help="How many to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries as they come, until Ctrl-C.")
@verb
def tail(asked: Asked, count: int, follow: bool) -> None:
    """Print the latest entries, one to a line; with --json as JSON lines."""
    with ledger_of(configuration(asked).settings) as ledger:
        for entry in _latest(ledger, count, follow):
            click.echo(msgspec.json.encode(entry) if asked.json else _in_a_line(entry))
            sys.stdout.flush()


def _latest(ledger: LedgerStore, count: int, follow: bool) -> Iterator[Entry]:
    first = list(ledger.entries(limit=count, newest_first=True))[::-1] if count else []
    yield from first
    if not follow:
        return
    since = first[-1].at if first else time.time_ns()
    seen = {entry.id for entry in ledger.entries(since=since - SETTLING)}
    while True:
        time.sleep(POLL_SECONDS)
        for entry in ledger.entries(since=since - SETTLING):
            if entry.id not in seen:
                seen.add(entry.id)
                since = max(since, entry.at)
                yield entry


def _in_a_line(entry: Entry) -> str:
    usage = entry.usage
    tokens = f"{usage.input_tokens:,} in {usage.output_tokens:,} out" if usage else "no tokens"
    who = "/".join(filter(None, (entry.tenant, entry.team, entry.feature))) or entry.key or "-"
    outcome = entry.error or (f"cache {entry.cache}" if entry.cache != "off" else "")
    simulated = "simulated" if entry.simulated else ""
    columns = (
        shown(entry.at),
        entry.id,
        f"{entry.status:3}",
        f"{entry.served or entry.model:<24}",
        f"{who:<28}",
        f"{tokens:>22}",
        f"{usd(entry.cost):>14}",
        f"{entry.latency / 1000:9,.1f} ms",
        outcome,
        simulated,
    )
    return "  ".join(columns).rstrip()
