"""Intervals: how sure a measured share or difference is."""

import math
from collections.abc import Callable
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError

DRAWS = 10_000
"""Resamples of a mean: enough for the ends of a 95 % interval to move by about a hundredth of its width."""

FEW = 64
"""Different values up to which resampling draws how often each value occurs rather than which examples."""

_CELLS = 4_000_000  # drawn at once, so that memory stays at some tens of MB

Resampled = Callable[[NDArray[np.int64]], float]
"""A figure of the examples with these indices, which repeat."""


class Difference(msgspec.Struct, frozen=True):
    """After less before: the mean, its two-sided 95 % interval, and what it exceeds with 95 % confidence."""

    mean: float
    low: float
    high: float
    bound: float


def wilson(right: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The two-sided interval of a share of which `right` of `n` were seen; (0, 1) of none. Raises RequestError.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    >>> [round(end, 4) for end in wilson(93, 100)]
    [0.8625, 0.9657]
    """
    if not 0 <= right <= n:
        raise RequestError(f"{right:g} of {n:g} were right.", hint="Count no more than there are, and none below zero.")
    if n == 0:
        return 0.0, 1.0
    low, high = wilson_bounds(np.array([right], dtype=np.float64), np.array([n], dtype=np.float64), level)
    return float(low[0]), float(high[0])


def wilson_bounds(
    right: NDArray[np.float64], n: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`wilson` for many shares at once, all `n` above zero."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def paired_bootstrap(
    before: NDArray[np.float64], after: NDArray[np.float64], rng: np.random.Generator, draws: int = DRAWS
) -> Difference:
    """The mean difference of two scores of the same examples, by percentiles of resampled examples.

    Raises RequestError when there is no example, or not one score of each for every one. B. Efron and R. Tibshirani,
    "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    if len(before) != len(after) or not len(before):
        raise RequestError(
            f"{len(before)} scores before are to be compared with {len(after)} after.",
            hint="Score the same examples both times, at least one.",
        )
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return spread(float(differences.mean()), _resampled_means(differences, rng, draws))


def bootstrap(figure: Resampled, n: int, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """A figure of `n` examples, taken anew from so many resamples of them: [draws]."""
    return np.array([figure(rng.integers(0, n, n)) for _ in range(draws)])


def spread(mean: float, resampled: NDArray[np.float64]) -> Difference:
    """A difference and the percentiles of what resampling made of it."""
    low, bound, high = np.quantile(resampled, (0.025, 0.05, 0.975))
    return Difference(mean, float(low), float(high), float(bound))


def ratio_draws(
    parts: NDArray[np.float64], whole: NDArray[np.float64], rng: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """Ratios of sums over resampled examples: columns of `parts` [n, k] over those of `whole` [n, k] -> [draws, k].

    A ratio of nothing to nothing is 1: nothing was to be found, and nothing was. Resampling is the same for all
    columns, so that ratios of one draw can be compared.
    """
    n = len(parts)
    found = []
    for size in _batches(draws, n):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        found.append(ratio(weights @ parts, weights @ whole))
    return np.concatenate(found)


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part over whole, and 1 where the whole is nothing."""
    return np.divide(part, whole, out=np.ones(np.shape(part)), where=whole > 0)


def mcnemar(before_right: NDArray[np.bool_], after_right: NDArray[np.bool_]) -> float:
    """The two-sided p of so uneven a change between two models of the same skill: exact, by the binomial distribution.

    Q. McNemar, Psychometrika 12 (1947).

    >>> flipped = np.arange(10) < 8
    >>> round(mcnemar(flipped, ~flipped), 6), mcnemar(flipped, flipped)
    (0.109375, 1.0)
    """
    lost = int(np.sum(before_right & ~after_right))
    won = int(np.sum(~before_right & after_right))
    changed = lost + won
    if not changed:
        return 1.0
    logs = [_log_choose(changed, k) - changed * math.log(2) for k in range(min(lost, won) + 1)]
    return min(1.0, 2.0 * sum(math.exp(one) for one in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _resampled_means(values: NDArray[np.float64], rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    n = len(values)
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= FEW:
        # The same distribution as drawing examples, for far less work: how often each value is drawn.
        return np.asarray(rng.multinomial(n, counts / n, size=draws) @ different / n)
    parts = [values[rng.integers(0, n, (size, n))].mean(axis=1) for size in _batches(draws, n)]
    return np.concatenate(parts)


def _batches(draws: int, n: int) -> list[int]:
    most = max(1, _CELLS // n)
    return [min(most, draws - done) for done in range(0, draws, most)]
