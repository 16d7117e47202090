"""`farthing replay`: drive recorded traffic through the same pipeline, in virtual time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic, time_ns

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.figures import counted, dollars, duration
from farthing.cli.render import answer, progress, strong
from farthing.cli.totals import in_lines
from farthing.cli.traffic import AUTO, FORMATS, importer_of, records
from farthing.importers import Reading
from farthing.ledger.report import Figures
from farthing.schema import Recorded
from farthing.wiring.replaying import replay_traffic


class Rerun(msgspec.Struct, frozen=True):
    """What a replay came to. Money is in pico-dollars.

    `spanned` is the time that passed in the recording, `took` that of the replay, both in seconds. `recorded_cost` is
    what was paid for the `recorded_priced` calls of which the recording says so. `late` calls waited for others.
    """

    file: str
    format: str
    policy: str
    calls: int
    spanned: float
    took: float
    calls_per_second: int
    totals: Figures
    recorded_cost: int
    recorded_priced: int
    late: int
    skipped: dict[str, int]
    simulated: bool = True


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "name", type=click.Choice(FORMATS), default=AUTO, show_default=True, help="What FILE is.")
@click.option("--model", metavar="NAME", help="The model that was asked, where FILE does not say.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after so many calls.")
@verb
def command(asked: Asked, file: Path, name: str, model: str | None, limit: int | None) -> None:
    """Drive FILE, recorded traffic, through the same pipeline in virtual time, under the configuration in force.

    Says what it would have cost at today's prices, and what the levers would have saved. No upstream is asked, and
    nothing is entered in the ledger: each call is answered as the recording says.
    """
    settings = configuration(asked).settings
    importer, reading = importer_of(file, name), Reading(model)
    with progress(asked, "calls", limit) as done:
        began = monotonic()
        outcome = replay_traffic(settings, _counted(records(importer, file, reading, limit), done), time_ns())
        took = monotonic() - began
    replayed = outcome.replayed
    rerun = Rerun(
        file=str(file),
        format=importer.name,
        policy=outcome.policy,
        calls=replayed.calls,
        spanned=(replayed.ended - replayed.began) / 1e9,
        took=round(took, 3),
        calls_per_second=round(replayed.calls / took),
        totals=outcome.totals,
        recorded_cost=replayed.recorded_cost,
        recorded_priced=replayed.recorded_priced,
        late=replayed.late,
        skipped=dict(reading.skipped),
    )
    answer(asked, "farthing.replay/1", rerun, lambda rerun: "\n".join(_words(rerun)))


def _counted(traffic: Iterable[Recorded], done: Callable[[int], None]) -> Iterator[Recorded]:
    for count, recorded in enumerate(traffic, 1):
        done(count)
        yield recorded


def _words(rerun: Rerun) -> Iterator[str]:
    yield strong(f"REPLAYED (simulated): {counted(rerun.calls, 'call')} of {rerun.file}, format {rerun.format}")
    took = f"{duration(rerun.took * 1e6)}, {rerun.calls_per_second:,} calls/s"
    yield f"{duration(rerun.spanned * 1e6)} of traffic in {took}; policy {rerun.policy}"
    yield ""
    yield from in_lines(rerun.totals, timed=False)
    if rerun.recorded_priced:
        yield f"The recording says that {rerun.recorded_priced:,} of the calls cost {dollars(rerun.recorded_cost)}."
    if rerun.late:
        yield f"{rerun.late:,} calls waited, for too many were open at once."
    for reason, count in rerun.skipped.items():
        yield f"Left out {count:,}: {reason}"
