"""Held out: how far predictions are from rows that the fit behind them had not seen, by what it knew of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from farthing.economics.calibrating.calibration import Calibration, Evidence, Regime, Spread
from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.fitting import tabled
from farthing.economics.calibrating.residuals import (
    Residuals,
    fitted,
    measured_points,
    points_of,
    predicted_with,
    residuals,
)

FEWEST = 8
"""Rows below which constants are not fitted anew: they would say more about chance than about the engine."""

QUANTILES = (0.04, 0.96)
"""A little beyond 90 %: rows of a new model err together, so the next one errs more than the rows so far tell."""

_THIRDS = 3
_SEED = 20_260_401  # which rows are held out is drawn once, so that two calibrations can be compared

Progress = Callable[[str], None]


class HeldOut(NamedTuple):
    """Rows that a fit had not seen, with what is left of each; `group` is the model or hardware that was left out."""

    evidence: Evidence
    group: str
    cases: list[Case]
    left: Residuals


def held_out(cases: Sequence[Case], start: Mapping[str, float], progress: Progress) -> Iterator[HeldOut]:
    """Fit without one model at a time, without one kind of hardware, and with a third of all rows drawn at random.

    A model left out is then looked at again with one and two measured points of every layout given back. Rows whose
    requests waited for memory or a slot are left away: they tell of the engine's limits, not of its speed.
    """
    models = np.array([case.deployment.architecture.name for case in cases])
    hardware = np.array([case.deployment.hardware.name for case in cases])
    # Rows of one layout and load are one measurement repeated, so they are kept together.
    loads = np.array([f"{case.deployment}{case.workload}" for case in cases])
    drawn = np.random.default_rng(_SEED).integers(0, _THIRDS, len(cases))
    _, first = np.unique(loads, return_inverse=True)
    for name in np.unique(models):
        yield from _without(cases, models, str(name), start, progress, "new model")
    for name in np.unique(hardware):
        yield from _without(cases, hardware, str(name), start, progress, "new hardware")
    thirds = drawn[first]
    seen = [case for case, third in zip(cases, thirds, strict=True) if third == 0]
    rest = [case for case, third in zip(cases, thirds, strict=True) if third != 0]
    if len(seen) >= FEWEST and rest:
        progress(f"fitting to a third: {len(seen)} rows")
        yield looked_at("class", "two thirds", rest, fitted(seen, start))


def spreads_of(parts: Sequence[HeldOut]) -> dict[str, dict[str, Spread]]:
    """Between what factors measurements lie, by "regime: evidence" and quantity."""
    found: dict[str, dict[str, Spread]] = {}
    # Nobody left out a model and a kind of hardware at once, so the errors of both stand for those of that.
    sources: dict[str, tuple[str, ...]] = {evidence: (evidence,) for evidence in get_args(Evidence)}
    sources["new model and hardware"] = ("new model", "new hardware")
    for evidence, of in sources.items():
        for regime in get_args(Regime):
            kept = [(part, [case.regime == regime for case in part.cases]) for part in parts if part.evidence in of]
            quantities = {}
            for name in Residuals._fields:
                values = [getattr(part.left, name)[rows] for part, rows in kept]
                if spread := _spread(np.concatenate(values) if values else np.zeros(0)):
                    quantities[name] = spread
            found[f"{regime}: {evidence}"] = quantities
    return found


def _without(
    cases: Sequence[Case],
    groups: NDArray[np.str_],
    group: str,
    start: Mapping[str, float],
    progress: Progress,
    evidence: Evidence,
) -> Iterator[HeldOut]:
    held = [case for case, one in zip(cases, groups, strict=True) if one == group]
    rest = [case for case, one in zip(cases, groups, strict=True) if one != group]
    if len(rest) < FEWEST:
        return
    progress(f"fitting without {group}: {len(rest)} rows")
    found = fitted(rest, start)
    yield looked_at(evidence, group, held, found)
    if evidence == "new model":
        yield from _with_points("one point", 1, group, held, found)
        yield from _with_points("two points", 2, group, held, found)


def _with_points(
    evidence: Evidence, count: int, group: str, held: Sequence[Case], found: Calibration
) -> Iterator[HeldOut]:
    given = set(points_of(held, count))
    if not given:
        return
    measured = measured_points([held[place] for place in sorted(given)], found)
    rest = [case for place, case in enumerate(held) if place not in given]
    if known := [case for case in rest if measured.evidence(case.deployment) == evidence]:
        yield looked_at(evidence, group, known, measured)


def looked_at(evidence: Evidence, group: str, cases: Sequence[Case], found: Calibration) -> HeldOut:
    """What is left of rows after a calibration, without those whose requests waited for memory or a slot."""
    table = tabled(cases)
    left = residuals(table, predicted_with(cases, table, found))
    sound = [case for case, is_sound in zip(cases, table.sound, strict=True) if is_sound]
    return HeldOut(evidence, group, sound, Residuals(*(values[table.sound] for values in left)))


def _spread(values: NDArray[np.float64]) -> Spread | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.exp(np.quantile(known, QUANTILES))
    return Spread(float(low), float(high), len(known))
