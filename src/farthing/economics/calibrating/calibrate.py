"""Calibrating: constants from all rows, offsets of their classes, and errors on rows that each fit had not seen."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.calibrating.cases import Case, resolve
from farthing.economics.calibrating.engines import engine_family
from farthing.economics.calibrating.fitting import fit, tabled
from farthing.economics.calibrating.held_out import FEWEST, Progress, held_out, spreads_of
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.residuals import class_offsets
from farthing.economics.facts.catalogue import Catalogue
from farthing.errors import FarthingError, RequestError


class Refused(NamedTuple):
    """A row that cannot be predicted, and why."""

    measurement: Measurement
    reason: str


def resolved(measurements: Sequence[Measurement], catalogue: Catalogue) -> tuple[list[Case], list[Refused]]:
    """The cases of measured rows, and the rows that are none with the reasons."""
    cases: list[Case] = []
    refused: list[Refused] = []
    for row in measurements:
        try:
            cases.append(resolve(row, catalogue))
        except FarthingError as error:
            refused.append(Refused(row, error.message))
    return cases, refused


def calibrate(measurements: Sequence[Measurement], catalogue: Catalogue, progress: Progress) -> Calibration:
    """The calibration of measured rows.

    Errors are those on rows that were held out: of one model at a time, of one kind of hardware at a time, and of
    rows drawn at random. Raises RequestError when too few rows can be used.
    """
    cases, refused = resolved(measurements, catalogue)
    if len(cases) < FEWEST:
        why = f" The first of {len(refused)} refused: {refused[0].reason}" if refused else ""
        raise RequestError(
            f"Only {len(cases)} of {len(measurements)} rows can be used, and a fit takes {FEWEST}.{why}",
            hint="Measure more loads, or add points to the calibration that is shipped.",
        )
    table = tabled(cases)
    progress(f"fitting the constants to {len(cases)} rows")
    constants = fit(table)
    fitted = Calibration(
        constants=constants,
        offsets=class_offsets(cases, table, constants),
        spreads={},
        hardware=_names(case.deployment.hardware.name for case in cases),
        models=_names(case.deployment.architecture.name for case in cases),
        engines=_names(engine_family(case.deployment.engine) for case in cases),
        ranges={
            name: (min(values), max(values))
            for name in ("concurrency", "input_tokens", "output_tokens")
            for values in [[float(getattr(case, name)) for case in cases]]
        },
        rows=len(cases),
    )
    parts = list(held_out(cases, constants, progress))
    return msgspec.structs.replace(fitted, spreads=spreads_of(parts))


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))
