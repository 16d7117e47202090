"""Evaluation: how far a calibration is from measured rows, and how often its intervals hold them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.economics.calibrating.calibrate import resolved
from farthing.economics.calibrating.calibration import Calibration, Evidence, Quantity
from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.fitting import tabled
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.residuals import Residuals, measured_points, points_of, predicted_with, residuals
from farthing.economics.facts.catalogue import Catalogue
from farthing.errors import RequestError


class Errors(msgspec.Struct, frozen=True):
    """How far predictions of one quantity are from `rows` measurements, as shares of what was measured."""

    rows: int
    mean: float
    """Mean absolute percentage error (MAPE), as a share."""
    median: float
    covered: float
    """The share of measurements within the stated 90 % intervals."""


class Group(msgspec.Struct, frozen=True):
    """The errors of the rows that have something in common: `by` says what ("kind", "hardware", "model" ...)."""

    by: str
    name: str
    errors: dict[str, Errors]
    """Of "tpot", "throughput" and "ttft", where they were measured."""


class Refusals(msgspec.Struct, frozen=True):
    """So many rows could not be predicted, for one reason."""

    rows: int
    reason: str


class Evaluation(msgspec.Struct, frozen=True):
    """The errors of all rows and of groups of them.

    `waited` are rows whose requests mostly waited for memory or a slot, of which the engine's limit would have to be
    known; they are a group of their own and in no other. `points` of every layout were given away and are not in it.
    """

    rows: int
    predicted: int
    points: int
    refused: tuple[Refusals, ...]
    groups: tuple[Group, ...]


def evaluate(
    measurements: Sequence[Measurement], catalogue: Catalogue, calibration: Calibration, points: int = 0
) -> Evaluation:
    """Compare a calibration with measured rows, after `points` (0 to 2) rows of every layout were measured.

    Raises RequestError when no row can be predicted.
    """
    if points not in (0, 1, 2):
        raise RequestError(f"{points} measured points of every layout were asked for.", hint="Give 0, 1 or 2.")
    cases, refused = resolved(measurements, catalogue)
    if not cases:
        why = f" The first: {refused[0].reason}" if refused else ""
        raise RequestError(f"None of {len(measurements)} rows can be predicted.{why}")
    given = set(points_of(cases, points)) if points else set()
    if given:
        calibration = measured_points([cases[place] for place in sorted(given)], calibration)
    rest = [case for place, case in enumerate(cases) if place not in given]
    table = tabled(rest)
    left = residuals(table, predicted_with(rest, table, calibration))
    inside = _inside(rest, calibration, left)
    reasons = Counter(one.reason for one in refused)
    return Evaluation(
        rows=len(measurements),
        predicted=len(rest),
        points=len(given),
        refused=tuple(Refusals(count, reason) for reason, count in reasons.most_common()),
        groups=tuple(_groups(rest, calibration, table.sound, left, inside)),
    )


def _groups(
    cases: Sequence[Case],
    calibration: Calibration,
    sound: NDArray[np.bool_],
    left: Residuals,
    inside: Mapping[str, NDArray[np.bool_]],
) -> Iterator[Group]:
    by: dict[str, NDArray[np.str_]] = {
        "all": np.full(len(cases), "rows"),
        "kind": np.array([case.measurement.kind for case in cases]),
        "evidence": np.array([calibration.evidence(case.deployment) for case in cases]),
        "hardware": np.array([case.deployment.hardware.name for case in cases]),
        "model": np.array([case.deployment.architecture.name for case in cases]),
    }
    loop = by["kind"] == "closed_loop"
    for what, names in by.items():
        for name in np.unique(names[sound]):
            rows = sound & (names == name)
            yield Group(what, str(name), _errors(left, inside, rows))
            if what in ("hardware", "model", "evidence") and (rows & loop).any():
                yield Group(f"closed_loop by {what}", str(name), _errors(left, inside, rows & loop))
    if (~sound).any():
        yield Group("waited", "for memory or a slot", _errors(left, inside, ~sound))


def _errors(left: Residuals, inside: Mapping[str, NDArray[np.bool_]], rows: NDArray[np.bool_]) -> dict[str, Errors]:
    found: dict[str, Errors] = {}
    for name, values in left._asdict().items():
        known = rows & ~np.isnan(values)
        if known.any():
            off = np.abs(np.expm1(-values[known]))  # predicted over measured, less one
            found[name] = Errors(
                int(known.sum()), float(off.mean()), float(np.median(off)), float(inside[name][known].mean())
            )
    return found


def _inside(cases: Sequence[Case], calibration: Calibration, left: Residuals) -> dict[str, NDArray[np.bool_]]:
    """Whether each measurement lies within the interval that is stated for it."""
    evidence: list[Evidence] = [calibration.evidence(case.deployment) for case in cases]
    found: dict[str, NDArray[np.bool_]] = {}
    for name in get_args(Quantity):
        values = getattr(left, name)
        spreads = [calibration.spread(name, one, case.regime) for one, case in zip(evidence, cases, strict=True)]
        ratio = np.exp(values)
        found[name] = (ratio >= [spread.low for spread in spreads]) & (ratio <= [spread.high for spread in spreads])
    return found
