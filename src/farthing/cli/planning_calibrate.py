"""`farthing plan calibrate`: the model, fitted to measurements of one's own."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.ledgers import ledger_of
from farthing.cli.planning_asking import fitted, known, with_calibration, with_facts, with_setup, written
from farthing.cli.planning_records import made
from farthing.cli.render import answer, say
from farthing.economics.calibrating.calibrate import calibrate, resolved
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.residuals import measured_points
from farthing.economics.calibrating.setup import Setup
from farthing.economics.facts.catalogue import Catalogue
from farthing.errors import RequestError
from farthing.importers.serving.detect import read_all
from farthing.importers.serving.ledger_points import ledger_points

MOST_REASONS = 6


class Calibrated(msgspec.Struct, frozen=True):
    """What went into a calibration: rows read and used, layouts with points of their own, why rows were left out."""

    output: str
    read: int
    used: int
    layouts: int
    refused: dict[str, int]
    anew: bool


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where to write it, as JSON."
)
@click.option("--ledger", "upstream", metavar="UPSTREAM", help="Take the calls that our ledger has of an upstream too.")
@click.option(
    "--anew", is_flag=True, help="Fit everything to these rows alone, instead of adding them to a calibration."
)
@with_setup
@with_facts
@with_calibration
@verb
def command(asked: Asked, files: tuple[Path, ...], out: Path, upstream: str | None, anew: bool, **given: Any) -> None:
    """Fit the model to measurements of one's own, for `--calibration` of the other questions.

    FILES are benchmark results of vLLM, SGLang, GuideLLM, AIPerf or GenAI-Perf, two or more scrapes of an engine's
    /metrics, or rows as `farthing plan evaluate` reads. What they were measured on is said by options where a file does
    not say it. The rows are added to the shipped calibration as points of their own layouts; many rows can stand alone.
    """
    if not files and upstream is None:
        raise click.UsageError("name files of measurements, or an upstream of the ledger with --ledger")
    catalogue, setup = known(given["facts"]), made(Setup, given)
    rows = read_all(files, setup) if files else []
    left_out: Counter[str] = Counter()
    if upstream is not None:
        with ledger_of(configuration(asked).settings) as ledger:
            points = ledger_points(ledger.entries(), upstream, setup)
        rows += points.measurements
        left_out.update(dict(points.refused))
    found, used = _fitted(asked, rows, left_out, anew, catalogue, given["calibration"])
    written(out, msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    document = Calibrated(str(out), len(rows), used, len(found.points), dict(left_out), anew)
    answer(asked, "farthing.plan.calibrate/1", document, lambda document: "\n".join(_words(document)))


def _fitted(
    asked: Asked,
    rows: Sequence[Measurement],
    left_out: Counter[str],
    anew: bool,
    catalogue: Catalogue,
    base: Path | None,
) -> tuple[Calibration, int]:
    cases, refused = resolved(rows, catalogue)
    left_out.update(one.reason for one in refused)
    if anew:
        return calibrate(rows, catalogue, lambda text: say(asked, f"{text} ...")), len(cases)
    if not cases:
        why = f" The first: {refused[0].reason}" if refused else ""
        raise RequestError(f"None of {len(rows)} rows can be used.{why}", hint="Say what they were measured on.")
    return measured_points(cases, fitted(base)), len(cases)


def _words(document: Calibrated) -> Iterator[str]:
    what = "fitted anew to" if document.anew else f"points of {document.layouts} layouts from"
    yield f"{document.output}: {what} {document.used:,} of {document.read:,} rows"
    reasons = sorted(document.refused.items(), key=lambda reason: -reason[1])
    for reason, count in reasons[:MOST_REASONS]:
        yield f"  left out {count:,}: {reason}"
