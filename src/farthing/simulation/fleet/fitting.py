"""One calibration run: what a real engine did with a trace corrects the costs of its steps, here and on other models.

The corrections are few, physical, and pulled towards none: what the run does not show stays as it was.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from farthing.economics.step import StepCosts
from farthing.errors import RequestError
from farthing.simulation.fleet.arrivals import Arrivals
from farthing.simulation.fleet.fleet import Engine, Fleet
from farthing.simulation.fleet.readers import Measured
from farthing.simulation.fleet.simulate import KEPT, simulate
from farthing.simulation.fleet.state import Records

_NOISE = 0.02
"""Relative error of one simulated duration that is taken to be chance."""

_FIRST_WEIGHT = 0.3
"""Of the time from scheduling to the first token: it hangs on where in an iteration a request happens to come."""

_STEP = 0.3
"""In spreads. Slopes are taken over a finite step: batches change at once, so simulations are rough in the small."""


class Corrections(msgspec.Struct, frozen=True):
    """By how much the steps of a deployment differ from what was thought, for others on the same hardware.

    `memory`, `compute` and `link` multiply the times of those; `overlap` is added to the share of them that overlaps;
    `host_layer_s` and `host_sequence_s` are seconds more per layer and iteration, and per sequence and iteration.
    """

    memory: float = 1.0
    compute: float = 1.0
    link: float = 1.0
    overlap: float = 0.0
    host_layer_s: float = 0.0
    host_sequence_s: float = 0.0


class _Free(NamedTuple):
    """A correction that is fitted: around which value, and how far from it is not surprising."""

    name: str
    none: float
    spread: float


_FREE = (
    _Free("memory", 1.0, 0.15),
    _Free("compute", 1.0, 0.15),
    _Free("link", 1.0, 0.2),
    _Free("overlap", 0.0, 0.15),
    _Free("host_layer_s", 0.0, 20e-6),
    _Free("host_sequence_s", 0.0, 20e-6),
)


def corrected(costs: StepCosts, corrections: Corrections, layers: int) -> StepCosts:
    """The costs of a deployment of a model with so many layers, corrected; no time falls below 0."""
    host_s = float(costs.host_s) + corrections.host_layer_s * layers
    return costs._replace(
        weights_s=costs.weights_s * corrections.memory,
        experts_s=costs.experts_s * corrections.memory,
        context_s=costs.context_s * corrections.memory,
        window_s=costs.window_s * corrections.memory,
        token_s=costs.token_s * corrections.compute,
        sampled_s=costs.sampled_s * corrections.compute,
        pair_s=costs.pair_s * corrections.compute,
        link_s=costs.link_s * corrections.link,
        link_token_s=costs.link_token_s * corrections.link,
        overlap=min(max(float(costs.overlap) + corrections.overlap, 0.0), 1.0),
        host_s=max(host_s, 0.0),
        host_sequence_s=max(float(costs.host_sequence_s) + corrections.host_sequence_s, 0.0),
    )


def fit_corrections(
    measured: Measured, engine: Engine, initial: StepCosts, layers: int, replicas: int = 1
) -> Corrections:
    """The corrections with which a simulation of the trace comes closest to what was measured, request by request.

    Least squares over the logarithms of E2E, of the time of all further tokens, and of the time from scheduling to the
    first token, each with a soft limit to what one request can weigh, and over the corrections themselves. Links are
    corrected only where there are any. Raises RequestError for a trace of fewer than 20 requests or too many to keep.
    """
    count = len(measured.arrival_s)
    if not 20 <= count <= KEPT:
        raise RequestError(
            f"a calibration run of {count} requests cannot be fitted.", hint=f"Measure from 20 to {KEPT} requests."
        )
    free = [one for one in _FREE if one.name != "link" or float(initial.link_s) + float(initial.link_token_s) > 0]
    trace = measured.arrivals()
    scale = _NOISE * np.sqrt(count)

    def residuals(point: NDArray[np.float64]) -> NDArray[np.float64]:
        costs = corrected(initial, _at(free, point), layers)
        served = _served(Fleet(engine, costs, replicas), trace)
        return np.concatenate([_soft(_errors(served, measured)) / scale, point])

    def slopes(point: NDArray[np.float64]) -> NDArray[np.float64]:
        steps = _STEP * np.eye(len(point))
        return np.stack([(residuals(point + step) - residuals(point - step)) / (2 * _STEP) for step in steps], axis=1)

    found = least_squares(residuals, np.zeros(len(free)), jac=slopes, max_nfev=40)
    return _at(free, found.x)


def fit_step_costs(measured: Measured, engine: Engine, initial: StepCosts, layers: int = 1) -> StepCosts:
    """The costs of the deployment that was measured, from those that were thought; see `fit_corrections`."""
    return corrected(initial, fit_corrections(measured, engine, initial, layers), layers)


def _at(free: list[_Free], point: NDArray[np.float64]) -> Corrections:
    """Corrections at a point, whose coordinates are in spreads; factors are e to that."""
    values = {}
    for one, place in zip(free, point.tolist(), strict=True):
        values[one.name] = float(np.exp(one.spread * place)) if one.none == 1.0 else one.spread * place
    return Corrections(**values)


def _served(fleet: Fleet, trace: Arrivals) -> Records:
    served = simulate(fleet, trace).served
    assert served is not None
    return served


def _errors(served: Records, measured: Measured) -> NDArray[np.float64]:
    """Logarithms of simulated over measured durations."""
    parts = [_log_ratio(served["last_s"] - served["arrival_s"], measured.last_s - measured.arrival_s)]
    more = served["output_tokens"] > 1
    parts.append(_log_ratio((served["last_s"] - served["first_s"])[more], (measured.last_s - measured.first_s)[more]))
    known = ~np.isnan(measured.scheduled_s)
    begun, seen = served["scheduled_s"], measured.scheduled_s
    if not known.any():
        begun, seen, known = served["arrival_s"], measured.arrival_s, np.ones(len(served), dtype=bool)
    first = _log_ratio(np.sort((served["first_s"] - begun)[known]), np.sort((measured.first_s - seen)[known]))
    return np.concatenate([*parts, _FIRST_WEIGHT * first])


def _log_ratio(simulated: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.log(np.maximum(simulated, 1e-6) / np.maximum(measured, 1e-6))
    return ratio


def _soft(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors that grow like their square root beyond 30 %: a request that met another fate says little."""
    size = np.abs(errors)
    soft: NDArray[np.float64] = np.sign(errors) * np.where(
        size > 0.3, np.sqrt(np.maximum(0.6 * size - 0.09, 0.0)), size
    )
    return soft
