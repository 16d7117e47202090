"""Fitting the power model to measured power, and its errors on models and hardware that a fit has not seen."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from farthing.economics.calibrating.calibrate import Refused, resolved
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.evaluation import Errors, Group
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.energy.power import Activity, PowerModel, activity_of, drawn_w
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.facts.rows import Row
from farthing.economics.predicting import predict
from farthing.economics.serving import Load
from farthing.economics.terms import stacked
from farthing.errors import RequestError

Floats = NDArray[np.float64]

FEWEST = 12
"""Points below which six constants would say more about chance than about the device."""

QUANTILES = (0.04, 0.96)
"""Of errors on models left out: wider than 5 and 95, since the rows of one model err together."""

_START = (0.2, 200.0, 3.0, 6.0, 50.0, 200.0)
_MOST = (0.6, 1000.0, 20.0, 60.0, 500.0, 2000.0)
_OUTLIER = 0.1  # beyond this share off, an error counts by its size and no longer by its square

CONSTANTS = PowerModel.__struct_fields__[:6]


class Point(NamedTuple):
    """The measured power of one device while it did something."""

    hardware: str
    model: str
    kind: str
    tdp_w: float
    activity: Activity
    measured_w: float


def power_points(
    measurements: Sequence[Measurement],
    catalogue: Catalogue,
    block_scaled: tuple[str, ...],
    calibration: Calibration | None = None,
) -> tuple[list[Point], list[Refused]]:
    """Points of the rows that say power, and the rows that cannot be used, with the reasons.

    How often a device reads its weights follows from the measured throughput, or with a calibration from the predicted
    one.
    """
    cases, refused = resolved([row for row in measurements if row.power_w is not None], catalogue)
    points: list[Point] = []
    for case in cases:
        try:
            points.append(_point(case, block_scaled, calibration))
        except RequestError as error:
            refused.append(Refused(case.measurement, error.message))
    return points, refused


def _point(case: Case, block_scaled: tuple[str, ...], calibration: Calibration | None) -> Point:
    row, deployment = case.measurement, case.deployment
    watts = row.power_w or 0.0
    if not 0 < watts < math.inf:
        raise RequestError(f"A row of {row.model} on {row.hardware} draws {watts:g} W.")
    rate = row.output_tokens_per_s_per_device
    if calibration is not None:
        rate = predict(deployment, case.workload, calibration).output_tokens_per_s.value / deployment.devices
    if rate is None or not 0 < rate < math.inf:
        raise RequestError(f"A row of {row.model} on {row.hardware} has power, but no throughput.")
    inside = min(case.concurrency, case.slots)
    step_s = inside * deployment.data / (rate * row.devices)
    load = Load(inside, case.input_tokens, case.output_tokens, case.slots, case.window)
    return Point(
        hardware=deployment.hardware.name,
        model=deployment.architecture.name,
        kind=row.kind,
        tdp_w=deployment.hardware.tdp_w,
        activity=activity_of(deployment, load, step_s, block_scaled),
        measured_w=watts / row.devices,
    )


def fit_power(
    points: Sequence[Point], block_scaled: tuple[str, ...] = (), source: str = "", date: str = ""
) -> PowerModel:
    """The power model of measured points: least squares of logarithms, with outliers bounded.

    Its interval is that of errors on models left out one at a time. Raises RequestError for too few points.
    """
    if len(points) < FEWEST:
        raise RequestError(
            f"A power model takes {FEWEST} measured points, and there are {len(points)}.",
            hint="Give rows with avg_power_w or J per token.",
        )
    names = sorted({point.hardware for point in points})
    bare = PowerModel(*_START, 1.0, 1.0, len(points), tuple(names), block_scaled, source, date)
    left_out = np.array([point.model for point in points])
    if len(set(left_out)) < 2:
        left_out = np.arange(len(points)).astype(str)
    off = np.exp(-held_out(points, bare, left_out))
    low, high = (float(bound) for bound in np.quantile(off, QUANTILES))
    return _fitted(points, _replaced(bare, low=min(low, 1.0), high=max(high, 1.0)))


def held_out(points: Sequence[Point], bare: PowerModel, groups: NDArray[np.str_]) -> Floats:
    """Logarithms of predicted over measured power, each point predicted by a fit without its group, shape (points,)."""
    off = np.empty(len(points))
    for group in np.unique(groups):
        rows = groups == group
        model = _fitted([point for point, out in zip(points, rows, strict=True) if not out], bare)
        off[rows] = off_by([point for point, out in zip(points, rows, strict=True) if out], model)
    return off


def _fitted(points: Sequence[Point], bare: PowerModel) -> PowerModel:
    tdp_w, activity, measured = _tabled(points)

    def off(constants: Floats) -> Floats:
        found: Floats = np.log(drawn_w(tdp_w, activity, _with(bare, constants)) / measured)
        return found

    found = least_squares(off, _START, bounds=(0.0, _MOST), x_scale=_START, loss="soft_l1", f_scale=_OUTLIER)
    return _with(bare, found.x)


def off_by(points: Sequence[Point], model: PowerModel) -> Floats:
    """Logarithms of predicted over measured power, shape (points,)."""
    tdp_w, activity, measured = _tabled(points)
    found: Floats = np.log(drawn_w(tdp_w, activity, model) / measured)
    return found


def _tabled(points: Sequence[Point]) -> tuple[Floats, Activity, Floats]:
    return (
        np.array([point.tdp_w for point in points]),
        stacked([point.activity for point in points]),
        np.array([point.measured_w for point in points]),
    )


def _with(model: PowerModel, constants: Floats) -> PowerModel:
    return _replaced(model, **{name: float(value) for name, value in zip(CONSTANTS, constants, strict=True)})


def _replaced(model: PowerModel, **fields: float) -> PowerModel:
    return PowerModel(**{name: fields.get(name, getattr(model, name)) for name in model.__struct_fields__})


def evaluate_power(
    measurements: Sequence[Measurement],
    catalogue: Catalogue,
    model: PowerModel,
    calibration: Calibration | None = None,
) -> tuple[Group, ...]:
    """Errors of "power" on measured rows, of all and by kind, hardware and model; empty where no row says power.

    With a calibration devices do what is predicted of them, without one what their measured throughput implies.
    """
    points, _ = power_points(measurements, catalogue, model.block_scaled, calibration)
    if not points:
        return ()
    return tuple(grouped(points, off_by(points, model), model))


def grouped(points: Sequence[Point], off: Floats, model: PowerModel) -> Iterator[Group]:
    """The errors of points by what they have in common; `off` is the logarithm of predicted over measured."""
    named: dict[str, Callable[[Point], str]] = {
        "all": lambda point: "rows",
        "kind": lambda point: point.kind,
        "hardware": lambda point: point.hardware,
        "model": lambda point: point.model,
    }
    inside = (np.exp(-off) >= model.low) & (np.exp(-off) <= model.high)
    share = np.abs(np.expm1(off))
    for by, name in named.items():
        names = np.array([name(point) for point in points])
        for group in np.unique(names):
            rows = names == group
            found = Errors(
                int(rows.sum()), float(share[rows].mean()), float(np.median(share[rows])), float(inside[rows].mean())
            )
            yield Group(by, str(group), {"power": found})


def parse_power(place: str, data: dict[str, object]) -> PowerModel:
    """The power model of a TOML document; raises ConfigError naming the key that is wrong."""
    row = Row(place, data)
    row.only(*PowerModel.__struct_fields__)
    model = PowerModel(
        **{name: row.number(name) for name in (*CONSTANTS, "low", "high")},
        rows=row.count("rows"),
        hardware=row.texts("hardware"),
        block_scaled=row.texts("block_scaled"),
        source=row.text("source"),
        date=row.day("date"),
    )
    if not model.low <= 1 <= model.high or model.floor >= 1:
        raise row.error(
            f"has low {model.low:g}, high {model.high:g} and floor {model.floor:g}",
            "low is at most 1, high at least 1, and floor below 1.",
        )
    return model
