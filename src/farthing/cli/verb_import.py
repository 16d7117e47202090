"""`farthing import`: turn a traffic file of another format into ours."""

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.figures import counted
from farthing.cli.render import answer, progress, say
from farthing.cli.traffic import AUTO, FORMATS, importer_of, records
from farthing.errors import TrafficError
from farthing.importers import Reading
from farthing.schema import Recorded, write_recorded


class Imported(msgspec.Struct, frozen=True):
    """What was read: how many records were written where, and how many were left out, by reason."""

    format: str
    records: int
    skipped: dict[str, int]
    output: str


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="OUT", help="Write there instead of stdout.")
@click.option("--format", "name", type=click.Choice(FORMATS), default=AUTO, show_default=True, help="What FILE is.")
@click.option("--model", metavar="NAME", help="The model that was asked, where FILE does not say.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after so many records.")
@verb
def command(asked: Asked, file: Path, output: Path | None, name: str, model: str | None, limit: int | None) -> None:
    """Turn FILE, traffic as another tool or study recorded it, into JSON lines that `farthing replay` reads.

    With --output, --json prints what was done as JSON.
    """
    if asked.json and output is None:
        raise click.UsageError("--json says what was done, so the records themselves need --output")
    importer, reading = importer_of(file, name), Reading(model)
    with progress(asked, "records", limit) as done:
        count = _write(records(importer, file, reading, limit), output, done)
    imported = Imported(importer.name, count, dict(reading.skipped), str(output or "stdout"))
    if output is None:
        say(asked, _in_words(imported))
    else:
        answer(asked, "farthing.import/1", imported, _in_words)


def _write(traffic: Iterable[Recorded], output: Path | None, done: Callable[[int], None]) -> int:
    count = 0
    try:
        with output.open("wb") if output else nullcontext(sys.stdout.buffer) as file:
            for count, recorded in enumerate(traffic, 1):
                file.write(write_recorded(recorded) + b"\n")
                done(count)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise TrafficError(f"cannot write {output}: {error.strerror}", hint="Name another --output.") from error
    return count


def _in_words(imported: Imported) -> str:
    left_out = "".join(f"\n  left out {count:,}: {reason}" for reason, count in imported.skipped.items())
    return f"{counted(imported.records, 'record')} of format {imported.format} to {imported.output}{left_out}"
