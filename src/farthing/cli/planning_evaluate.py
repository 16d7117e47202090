"""`farthing plan evaluate`: the model's predictions against measured rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import fitted, known, with_calibration, with_facts
from farthing.cli.render import answer, say, strong, table
from farthing.economics.calibrating.calibrate import calibrate
from farthing.economics.calibrating.evaluation import Errors, Evaluation, Group, Refusals, evaluate
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.energy.power import PowerModel
from farthing.economics.energy.power_fit import FEWEST, evaluate_power, fit_power, power_points
from farthing.economics.facts.catalogue import Catalogue
from farthing.errors import FarthingError, RequestError
from farthing.importers.serving.rows import read_measurements
from farthing.wiring.power import power_model

QUANTITIES = ("tpot", "throughput", "ttft", "power")
MOST_REASONS = 6


@click.command()
@click.argument("rows", type=click.Path(path_type=Path))
@click.option(
    "--fit", type=click.Path(path_type=Path), metavar="FILE", help="Fit to these rows first, and to no others."
)
@click.option(
    "--points",
    type=click.IntRange(0, 2),
    default=0,
    show_default=True,
    help="Rows of each deployment that are given away.",
)
@with_facts
@with_calibration
@verb
def command(
    asked: Asked, rows: Path, fit: Path | None, points: int, facts: tuple[Path, ...], calibration: Path | None
) -> None:
    """Hold predictions against ROWS, measured serving as CSV: mean and median errors, and how often intervals hold.

    By kind of measurement, hardware and model. Rows that are wrong or cannot be predicted are counted, with the reason.
    """
    if fit is not None and calibration is not None:
        raise click.UsageError("--fit and --calibration contradict one another; give one of them")
    catalogue, power = known(facts), power_model()
    bad: list[FarthingError] = []
    measured = read_measurements(rows, bad.append)
    if fit is None:
        chosen = fitted(calibration)
    else:
        seen = read_measurements(fit)
        chosen = calibrate(seen, catalogue, lambda text: say(asked, f"{text} ..."))
        power = _power_of(seen, catalogue, power)
    try:
        found = evaluate(measured, catalogue, chosen, points)
    except RequestError:
        if bad:  # the first thing wrong with the file says more than that nothing is left of it
            raise bad[0] from None
        raise
    drawn = evaluate_power(measured, catalogue, power, chosen)
    found = msgspec.structs.replace(
        found,
        rows=found.rows + len(bad),
        refused=(*(Refusals(1, error.message) for error in bad), *found.refused),
        groups=tuple(_joined(found.groups, drawn)),
    )
    answer(asked, "farthing.plan.evaluate/1", found, lambda found: "\n".join(_words(found)))


def _power_of(seen: Sequence[Measurement], catalogue: Catalogue, shipped: PowerModel) -> PowerModel:
    """The power model of the rows that the fit has seen; the shipped one where too few of them say power."""
    points, _ = power_points(seen, catalogue, shipped.block_scaled)
    return fit_power(points, shipped.block_scaled) if len(points) >= FEWEST else shipped


def _joined(groups: Sequence[Group], power: Sequence[Group]) -> Iterator[Group]:
    """Groups with the errors of power among the others of the same rows."""
    drawn = {(group.by, group.name): group.errors for group in power}
    for group in groups:
        errors = group.errors | drawn.pop((group.by, group.name), {})
        yield msgspec.structs.replace(group, errors=errors)
    for (by, name), errors in drawn.items():
        yield Group(by, name, errors)


def _words(found: Evaluation) -> Iterator[str]:
    given = f", {found.points:,} of them given away" if found.points else ""
    yield strong(f"{found.predicted:,} of {found.rows:,} rows predicted{given}")
    known = [name for name in QUANTITIES if any(name in group.errors for group in found.groups)]
    yield "Errors: mean / median of |predicted over measured - 1|, and the share within the 90 % interval."
    yield ""
    for by in dict.fromkeys(group.by for group in found.groups):
        groups = [group for group in found.groups if group.by == by]
        yield table(
            (by, *known), [(group.name, *(_cell(group.errors.get(name)) for name in known)) for group in groups]
        )
        yield ""
    for refusals in found.refused[:MOST_REASONS]:
        yield f"Refused {refusals.rows:,}: {refusals.reason}"
    if len(found.refused) > MOST_REASONS:
        rest = found.refused[MOST_REASONS:]
        yield f"Refused {sum(one.rows for one in rest):,} for {len(rest)} other reasons."


def _cell(errors: Errors | None) -> str:
    if errors is None:
        return ""
    return f"{100 * errors.mean:.1f} / {100 * errors.median:.1f} %, {100 * errors.covered:.0f} % in, n {errors.rows:,}"
