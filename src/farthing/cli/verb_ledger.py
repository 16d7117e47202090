"""`farthing ledger`: read, export, verify, re-rate and reconcile the ledger."""

import csv
import sys
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.figures import dollars
from farthing.cli.following import latest
from farthing.cli.ledgers import ledger_of
from farthing.cli.proving import Proven, prove
from farthing.cli.reconciling import in_words, reconciled
from farthing.cli.render import answer, table
from farthing.cli.rerating import OWN, Rerating, rerated
from farthing.cli.when import instant, shown
from farthing.errors import LedgerError
from farthing.ledger.export import COLUMNS, csv_row
from farthing.schema import Entry, usd


@click.group()
def command() -> None:
    """Read, export, verify, re-rate and reconcile the ledger."""


@command.command()
@click.option("-n", "count", default=20, type=click.IntRange(0), show_default=True, help="How many to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries as they come, until Ctrl-C.")
@verb
def tail(asked: Asked, count: int, follow: bool) -> None:
    """Print the latest entries, one to a line.

    With --json, each line is the entry as the ledger keeps it.
    """
    with ledger_of(configuration(asked).settings) as ledger:
        for entry in latest(ledger, count, follow):
            click.echo(msgspec.json.encode(entry) if asked.json else _in_a_line(entry))


@command.command()
@click.option("--format", "name", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("--since", metavar="WHEN", default="1970-01-01", help="A date and time (UTC), or a span such as 7d.")
@click.option("--until", metavar="WHEN", help="Likewise; up to now when left out.")
@verb
def export(asked: Asked, name: str, since: str, until: str | None) -> None:
    """Print the entries of a period, as CSV or JSON lines.

    CSV has dollars, the JSON lines are as the ledger keeps them, in pico-dollars. --json is --format jsonl.
    """
    now = time.time_ns()
    with ledger_of(configuration(asked).settings) as ledger:
        entries = ledger.entries(instant(since, now), instant(until, now) if until else now)
        _write_lines(entries) if asked.json or name == "jsonl" else _write_csv(entries)


@command.command()
@verb
def verify(asked: Asked) -> None:
    """Check the whole ledger; exit 4 when something is broken.

    Looks at every checksum of the journal, at the store's own file, and at what must be true of all entries.
    """
    proven = prove(configuration(asked).settings)
    answer(asked, "farthing.ledger.verify/1", proven, _verdict)
    if not proven.sound:
        raise LedgerError(f"the ledger breaks {len(proven.problems)} rules", hint="Restore it from a backup.")


@command.command()
@click.option("--edition", metavar="VERSION", default=OWN, show_default=True, help="Of the price book; or `current`.")
@click.option("--apply", is_flag=True, help="Enter the differences as corrections. No gateway may be running.")
@verb
def rerate(asked: Asked, edition: str, apply: bool) -> None:
    """Charge every metered attempt again, to prove or correct it.

    By the edition of the price book that it was charged by, the amount must be the same; by another it may differ.
    Entries are never changed: --apply adds corrections. An attempt that its own edition does not reproduce, such as
    one on hardware paid by the hour, is left alone.
    """
    if apply and edition == OWN:
        raise click.UsageError("--apply needs the --edition to apply")
    answer(asked, "farthing.ledger.rerate/1", rerated(configuration(asked).settings, edition, apply), _differences)


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--tolerance", type=click.FloatRange(0, 100), default=0.1, show_default=True, metavar="PERCENT", help="Of the bill."
)
@verb
def reconcile(asked: Asked, files: tuple[Path, ...], tolerance: float) -> None:
    """Compare the ledger with a provider's own account; exit 1 when they differ by more than the tolerance.

    Each FILE is an export of usage or costs from OpenAI, Anthropic or OpenRouter, of one provider at a time. Tokens and
    dollars are compared apart, by model and UTC day, on the days that both sides have in full.
    """
    share = Fraction(str(tolerance)) / 100
    found = reconciled(configuration(asked).settings, files, share, time.time_ns())
    answer(asked, "farthing.ledger.reconcile/1", found, in_words)
    click.get_current_context().exit(0 if found.comparable and not found.off else 1)


def _write_lines(entries: Iterable[Entry]) -> None:
    for entry in entries:
        sys.stdout.buffer.write(msgspec.json.encode(entry) + b"\n")
    sys.stdout.buffer.flush()


def _write_csv(entries: Iterable[Entry]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(csv_row, entries))


def _verdict(proven: Proven) -> str:
    if proven.sound:
        return f"sound: {proven.entries:,} entries, every checksum and every rule holds"
    return "\n".join(proven.problems)


def _differences(rerating: Rerating) -> str:
    lines = [f"{rerating.attempts:,} metered attempts, {rerating.reproduced:,} reproduced by their own edition"]
    if left := rerating.attempts - rerating.reproduced:
        lines.append(
            f"{left:,} left alone, for their own edition gives another amount: {', '.join(rerating.left_alone)}"
        )
    if rerating.edition != OWN:
        lines.append(f"{rerating.changed:,} would cost another amount by edition {rerating.edition}")
        rows = [(model, dollars(change.before), dollars(change.after)) for model, change in rerating.by_model.items()]
        if rows:
            lines += ["", table(("model", "now", "then"), rows)]
    if rerating.applied:
        lines.append(f"entered {rerating.changed:,} corrections")
    return "\n".join(lines)


def _in_a_line(entry: Entry) -> str:
    usage = entry.usage
    tokens = f"{usage.input_tokens:,} in {usage.output_tokens:,} out" if usage else "no tokens"
    who = "/".join(filter(None, (entry.tenant, entry.team, entry.feature))) or entry.key or "-"
    outcome = entry.error or (f"cache {entry.cache}" if entry.cache != "off" else "")
    columns = (
        shown(entry.at),
        entry.id,
        f"{entry.status:3}",
        f"{entry.served or entry.model or '-':<24}",
        f"{who:<28}",
        f"{tokens:>22}",
        f"{usd(entry.cost):>14}",
        f"{entry.latency / 1000:9,.1f} ms",
        outcome,
        "simulated" if entry.simulated else "",
    )
    return "  ".join(filter(None, columns))
