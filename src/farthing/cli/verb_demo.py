"""`farthing demo`: show what Farthing does, on simulated traffic."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from farthing.cli.asking import Asked, verb
from farthing.cli.demonstration import Receipt, Summary, demonstrate, recall, stage
from farthing.cli.figures import dollars, duration, percent, share
from farthing.cli.render import answer, progress, say, strong, table
from farthing.cli.verb_up import pointers
from farthing.schema import usd

PAST_CALLS = 12_000
"""How many calls the simulated day before has."""


@click.command()
@click.option("--calls", default=1_200, type=click.IntRange(1, 1_000_000), show_default=True, help="How many to send.")
@click.option("--seed", default=7, show_default=True, help="Equal seeds send equal calls.")
@click.option("--port", default=8787, type=click.IntRange(0, 65535), show_default=True, help="Where to listen.")
@verb
def command(asked: Asked, calls: int, seed: int, port: int) -> None:
    """Show what Farthing does, on simulated traffic: no key, no network, nothing kept.

    Starts a gateway over an upstream that simulates answers, sends it real HTTP calls of several tenants, and prints
    what they cost and what was saved. At a terminal the gateway then stays up until Ctrl-C.
    """
    with TemporaryDirectory(prefix="farthing-demo-") as directory:
        say(asked, "Simulating yesterday, so that there is something to look back on ...")
        recalled = recall(Path(directory), PAST_CALLS, seed)
        uvloop.run(_show(asked, Path(directory), calls, seed, port, recalled))


async def _show(asked: Asked, directory: Path, calls: int, seed: int, port: int, recalled: int) -> None:
    async with stage(directory, port) as gateway:
        if not gateway.url.endswith(f":{port}") and port:
            say(asked, f"Port {port} is taken; the demo listens at {gateway.url} instead.")
        with progress(asked, "simulated calls", calls) as done:
            summary = await demonstrate(gateway, calls, seed, done)
        answer(asked, "farthing.demo/1", summary, _in_words)
        say(asked, f"\nThe dashboard also shows a simulated day before: {recalled:,} calls replayed in virtual time.")
        if sys.stdout.isatty():
            say(asked, "\nThe gateway stays up, over the simulated upstream. Ctrl-C stops it.")
            await _interruption()


async def _interruption() -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()


def _in_words(summary: Summary) -> str:
    return "\n".join(_words(summary))


def _words(summary: Summary) -> Iterator[str]:
    yield strong(f"SIMULATED: {summary.calls:,} calls of {summary.tenants} tenants in {summary.seconds:.1f} s")
    yield ""
    saved = summary.list_cost - summary.paid
    figures = [
        ("list cost", dollars(summary.list_cost), ""),
        ("paid", dollars(summary.paid), ""),
        ("saved", dollars(saved), share(saved, summary.list_cost)),
        *(
            (f"  by {lever}", dollars(amount), share(amount, summary.list_cost))
            for lever, amount in summary.saved.items()
        ),
    ]
    yield table(("simulated", "dollars", "of list"), figures)
    yield ""
    yield f"cache: {percent(summary.hit_ratio)} of the calls that may share an answer were given one"
    yield f"overhead of the gateway: p50 {duration(summary.overhead_p50)}, p99 {duration(summary.overhead_p99)}"
    if summary.errors:
        yield f"errors: {summary.errors:,}"
    if summary.receipt:
        yield ""
        yield from _receipt(summary.receipt)
    yield ""
    yield "Point an application here (answers are simulated), then see it on the dashboard:"
    yield pointers(summary.url)
    yield "For real answers: farthing up --provider openai"


def _receipt(receipt: Receipt) -> Iterator[str]:
    yield strong(f"one call: {receipt.model} for {receipt.tenant}/{receipt.feature} ({receipt.id}, simulated)")
    rows = [
        (line.meter, f"{line.quantity:,}", usd(line.unit_price and line.unit_price * 10**6), usd(line.amount))
        for line in receipt.lines
    ]
    rows.append(("total", "", "", usd(receipt.cost)))
    yield table(("meter", "quantity", "per million", "amount"), rows)
