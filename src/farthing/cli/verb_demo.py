"""`farthing demo`: show what Farthing does, on simulated traffic."""

import asyncio
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from farthing.cli.asking import Asked, verb
from farthing.cli.demonstration import Receipt, Summary, demonstrate, recall, stage
from farthing.cli.figures import dollars, duration, percent, share
from farthing.cli.listening import pointers
from farthing.cli.render import answer, progress, say, strong, table
from farthing.ledger.report import Figures
from farthing.schema import usd


@click.command()
@click.option(
    "--calls", default=600, type=click.IntRange(1, 1_000_000), show_default=True, metavar="N", help="How many to send."
)
@click.option("--seed", default=7, show_default=True, metavar="N", help="Equal seeds send equal calls.")
@click.option(
    "--port",
    default=8787,
    type=click.IntRange(0, 65535),
    show_default=True,
    metavar="PORT",
    help="Where to listen; the next that is free, if it is taken.",
)
@verb
def command(asked: Asked, calls: int, seed: int, port: int) -> None:
    """Show what Farthing does, on simulated traffic: no key, no network, nothing kept.

    Replays a simulated day in virtual time, starts a gateway over an upstream that simulates answers, sends it real
    HTTP calls of several tenants, and prints what either cost and what was saved. At a terminal the gateway then stays
    up until Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it leaves nothing behind either
    with TemporaryDirectory(prefix="farthing-demo-") as directory:
        say(asked, "Replaying a simulated day ...")
        day = recall(Path(directory), seed)
        uvloop.run(_show(asked, Path(directory), day, calls, seed, port))


async def _show(asked: Asked, directory: Path, day: Figures, calls: int, seed: int, port: int) -> None:
    async with stage(directory, port) as gateway:
        if not gateway.url.endswith(f":{port}") and port:
            say(asked, f"Port {port} is taken; the demo listens at {gateway.url} instead.")
        with progress(asked, "simulated calls", calls) as done:
            summary = await demonstrate(gateway, day, calls, seed, done)
        answer(asked, "farthing.demo/1", summary, _in_words)
        if sys.stdout.isatty():
            await _interruption(asked)


async def _interruption(asked: Asked) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    say(asked, "\nThe gateway stays up, over the simulated upstream. Ctrl-C stops it.")
    await stop.wait()


def _in_words(summary: Summary) -> str:
    return "\n".join(_words(summary))


def _words(summary: Summary) -> Iterator[str]:
    live, day = summary.live, summary.day
    yield strong(
        f"SIMULATED: {live.calls:,} HTTP calls of {summary.tenants} tenants in {duration(summary.seconds * 1e6)}"
    )
    yield f"and, before them, a day of {day.calls:,} calls replayed in virtual time"
    yield ""
    levers = dict.fromkeys((*day.saved_by_lever, *live.saved_by_lever))
    both = zip(_came_to(live, levers), _came_to(day, levers), strict=True)
    rows = [(name, *now, *then) for (name, *now), (_, *then) in both]
    yield table(("", "HTTP calls", "of list", "day replayed", "of list"), rows)
    yield ""
    overhead = f"p50 {duration(live.overhead.p50)}, p99 {duration(live.overhead.p99)}"
    yield f"overhead of the gateway, over HTTP: {overhead}"
    yield ""
    if summary.receipt:
        yield from _receipt(summary.receipt)
        yield ""
    yield "Point an application here (answers are simulated); the dashboard shows both columns together:"
    yield pointers(summary.url)
    yield "For real answers: farthing up --provider openai"


def _came_to(of: Figures, levers: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    yield "list cost", dollars(of.list), ""
    yield "paid", dollars(of.paid), ""
    yield "saved", dollars(of.saved), share(of.saved, of.list)
    for lever in levers:
        amount = of.saved_by_lever.get(lever, 0)
        yield f"  by {lever}", dollars(amount), share(amount, of.list)
    yield "answered from the cache", f"{of.hits:,}", percent(of.hit_ratio)
    yield "errors", f"{of.errors:,}", ""


def _receipt(receipt: Receipt) -> Iterator[str]:
    yield strong(f"one call: {receipt.model} for {receipt.tenant}/{receipt.feature} ({receipt.id}, simulated)")
    rows = [
        (line.meter, f"{line.quantity:,}", usd(line.unit_price and line.unit_price * 10**6), usd(line.amount))
        for line in receipt.lines
    ]
    rows.append(("total", "", "", usd(receipt.cost)))
    yield table(("meter", "quantity", "per million", "amount"), rows)
