"""Simulated requests against measured ones."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError
from farthing.simulation.fleet.readers import Measured
from farthing.simulation.fleet.state import Records

PERCENTILES = (0.5, 0.9, 0.99)


class Percentile(msgspec.Struct, frozen=True):
    """One percentile of one duration; `error` is simulated over measured, less 1."""

    share: float
    measured_s: float
    simulated_s: float
    error: float


class Comparison(msgspec.Struct, frozen=True):
    """Percentiles (0.5, 0.9, 0.99) of the time to the first token, per further token, and to the last."""

    requests: int
    ttft: tuple[Percentile, ...]
    tpot: tuple[Percentile, ...]
    e2e: tuple[Percentile, ...]

    @property
    def worst(self) -> float:
        """The largest absolute error of the three percentiles of the time to the last token."""
        return max(abs(one.error) for one in self.e2e)


def compare(served: Records | None, measured: Measured) -> Comparison:
    """How far simulated requests (`Outcome.served`) are from the measured ones that they stand for.

    Raises RequestError when there are not as many.
    """
    found, expected = 0 if served is None else len(served), len(measured.arrival_s)
    if served is None or found != expected:
        raise RequestError(
            f"{found} simulated requests cannot be compared with {expected} measured ones.",
            hint="Simulate the whole trace, of at most 20,000 requests, to its end.",
        )
    more = served["output_tokens"] > 1
    steps = served["output_tokens"][more] - 1
    return Comparison(
        len(served),
        _percentiles(measured.first_s - measured.arrival_s, served["first_s"] - served["arrival_s"]),
        _percentiles(
            (measured.last_s - measured.first_s)[more] / steps, (served["last_s"] - served["first_s"])[more] / steps
        ),
        _percentiles(measured.last_s - measured.arrival_s, served["last_s"] - served["arrival_s"]),
    )


def _percentiles(measured: NDArray[np.float64], simulated: NDArray[np.float64]) -> tuple[Percentile, ...]:
    if not len(measured):
        return ()
    pairs = zip(PERCENTILES, np.quantile(measured, PERCENTILES), np.quantile(simulated, PERCENTILES), strict=True)
    return tuple(Percentile(share, float(one), float(other), float(other / one - 1.0)) for share, one, other in pairs)
