"""Residuals: what is left of measurements beside predictions, and what classes and measured points make of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.classes import LAYOUT, Offset, Residual, classes_of, pooled
from farthing.economics.calibrating.constants import CONSTANTS, Constant
from farthing.economics.calibrating.fitting import Floats, Scales, Table, fit, predicted, tabled
from farthing.economics.serving import Served

_NOISE = 0.05  # of one measurement, as a share
_PRIORS = (0.3, 0.4, 0.4)  # how far all times, those of context and those of tokens are off in a new deployment
_TTFT_SHRINKAGE = 0.25
_NUDGE = 1e-3
_REFIT_ROUNDS = 8  # from the constants of all rows it is a short way


class Residuals(NamedTuple):
    """Logarithms of measured over predicted, an element per row; NaN where nothing was measured."""

    tpot: Floats
    ttft: Floats
    throughput: Floats


def points_of(cases: Sequence[Case], count: int) -> list[int]:
    """The places of so many rows of every layout that has more: evenly spaced in load."""
    layouts: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        layouts.setdefault(_classes(case)[LAYOUT], []).append(place)
    found: list[int] = []
    for places in layouts.values():
        if len(places) > count:
            ordered = sorted(places, key=lambda place: _tokens_at_once(cases[place]))
            found += [ordered[len(ordered) * (2 * one + 1) // (2 * count)] for one in range(count)]
    return sorted(found)


def _tokens_at_once(case: Case) -> float:
    """Tokens of one iteration: one of each caller's answer, and the share of its prompt that comes with it."""
    return case.concurrency * (1.0 + case.input_tokens / case.output_tokens)


def fitted(cases: Sequence[Case], start: Mapping[str, float], constants: Sequence[Constant] = CONSTANTS) -> Calibration:
    """Constants and offsets of some cases, from constants that are near; without intervals."""
    table = tabled(cases)
    found = fit(table, start, _REFIT_ROUNDS, constants)
    return Calibration(found, class_offsets(cases, table, found), {}, (), (), (), {}, len(cases))


def class_offsets(cases: Sequence[Case], table: Table, constants: Mapping[str, float]) -> dict[str, Offset]:
    """The offsets of the classes of cases; rows whose requests waited for memory or a slot say nothing of them."""
    left = residuals(table, predicted(table, constants))
    paced = _paced(table, left)
    return pooled(
        [
            Residual(_classes(case), _known(paced[place]), _known(left.ttft[place]))
            for place, case in enumerate(cases)
            if table.sound[place]
        ]
    )


def residuals(table: Table, served: Served) -> Residuals:
    """What is left of measurements, as logarithms."""
    return Residuals(
        np.log(table.tpot_s / served.tpot_s),
        np.log(table.ttft_s / served.ttft_s),
        np.log(table.output_tokens_per_s / (served.output_tokens_per_s * table.copies)),
    )


def predicted_with(cases: Sequence[Case], table: Table, calibration: Calibration) -> Served:
    """What a calibration says of cases, each with the offset of its class and its own measured points."""
    return predicted(table, calibration.constants, _scales([_offset(calibration, case) for case in cases]))


def measured_points(cases: Sequence[Case], calibration: Calibration) -> Calibration:
    """The calibration with measured points of single layouts added, each counting for that layout alone.

    A layout's points say how far all of its times are off, and beside that what grows with context and with tokens: a
    Bayesian linear regression of three unknowns on the residuals, whose slopes come from the model itself.
    """
    table = tabled(cases)
    offsets = [_offset(calibration, case) for case in cases]
    left = residuals(table, predicted(table, calibration.constants, _scales(offsets)))
    paced = _paced(table, left)
    slopes = [_slope(cases, table, calibration, name) for name in ("load", "token")]
    shape = np.column_stack([np.ones(len(cases)), *slopes])
    layouts: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        layouts.setdefault(_classes(case)[LAYOUT], []).append(place)
    points = {name: _own(paced[places], left.ttft[places], shape[places]) for name, places in layouts.items()}
    return msgspec.structs.replace(calibration, points=calibration.points | points)


def _slope(cases: Sequence[Case], table: Table, calibration: Calibration, name: str) -> Floats:
    """By how much the logarithm of an iteration's time grows with one part of an offset."""
    both = []
    for nudge in (0.0, _NUDGE):
        offsets = [_offset(calibration, case) for case in cases]
        moved = [msgspec.structs.replace(offset, **{name: getattr(offset, name) + nudge}) for offset in offsets]
        both.append(_paced(table, residuals(table, predicted(table, calibration.constants, _scales(moved)))))
    slope: Floats = (both[0] - both[1]) / _NUDGE
    return slope


def _own(paced: Floats, ttft: Floats, slopes: Floats) -> Offset:
    known = ~np.isnan(paced)
    shape = slopes[known]
    precision = shape.T @ shape / _NOISE**2 + np.diag([1 / spread**2 for spread in _PRIORS])
    scale, load, token = (float(one) for one in np.linalg.solve(precision, shape.T @ paced[known] / _NOISE**2))
    first = ttft[~np.isnan(ttft)]
    return Offset(scale, float(first.sum() / (len(first) + _TTFT_SHRINKAGE)), len(paced), load, token)


def _scales(offsets: Sequence[Offset]) -> Scales:
    scale = np.exp([offset.tpot for offset in offsets])
    return Scales(
        scale,
        np.exp([offset.load for offset in offsets]),
        np.exp([offset.token for offset in offsets]),
        np.exp([offset.ttft for offset in offsets]) / scale,
    )


def _offset(calibration: Calibration, case: Case) -> Offset:
    return calibration.offset(case.deployment, case.workload)


def _paced(table: Table, left: Residuals) -> Floats:
    """The residual of an iteration's time: of TPOT, or of throughput where nobody measured TPOT."""
    static = table.kind == "static_batch"  # which times the whole batch, and its TPOT is derived from that
    return np.where(np.isnan(left.tpot) | static, -left.throughput, left.tpot)


def _classes(case: Case) -> tuple[str, ...]:
    return classes_of(case.deployment, case.input_tokens, case.output_tokens)


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
