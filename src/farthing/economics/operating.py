"""Where a fleet operates under random arrivals: how many requests a copy holds at once, and what the slowest see.

A continuous batch serves everyone in it at the same pace, so a copy is a processor-sharing queue whose total rate
depends on how many it holds. For Poisson arrivals the number inside then has a product form that depends on nothing
but the mean work of a request: P(n) ~ prod(rate / X(k), k = 1..n), and a geometric tail once all slots are taken
(F. P. Kelly, Reversibility and Stochastic Networks, 1979, section 3.3).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farthing.economics.step import Real

HALVINGS = 14
"""Steps of the search for the highest rate: it is then known to one part in sixteen thousand of capacity."""

FULL = 0.98
"""No copy is run at more than this share of its capacity: beyond, waiting grows without bound."""


class Curves(NamedTuple):
    """How each of several copies serves a given number of requests at once.

    `held` has shape (points,) and rises from 1 in whole numbers; the other tables have shape (copies, points). `slots`,
    of shape (copies,), is how many each can serve at once; beyond `slots`, `requests_per_s` is that of full slots.
    """

    held: NDArray[np.float64]
    requests_per_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    ttft_s: NDArray[np.float64]
    slots: NDArray[np.float64]


class Operating(NamedTuple):
    """What callers see at a rate, one element per copy: the mean number inside, and times at the percentile asked.

    `utilisation` is of the requests per second that full slots serve; `idle` is the share of time with nobody inside.
    """

    held: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    ttft_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]
    utilisation: NDArray[np.float64]
    idle: NDArray[np.float64]


class Bounds(NamedTuple):
    """The latencies that must be met, in seconds at a percentile (0 to 1); infinity where nothing is asked."""

    ttft_s: float
    tpot_s: float
    e2e_s: float
    percentile: float


def capacity_per_s(curves: Curves) -> NDArray[np.float64]:
    """Requests per second of each copy with every slot taken, shape (copies,)."""
    return _at(curves.held, curves.requests_per_s, curves.slots)


def open_loop(curves: Curves, rate_per_s: NDArray[np.float64], output_tokens: float, percentile: float) -> Operating:
    """What callers of each copy see when requests arrive at random, `rate_per_s` of shape (copies,).

    A rate at or above `FULL` of capacity gives infinite times.
    """
    return _open_loop(curves, _cells(curves), rate_per_s, output_tokens, percentile)


class _Cells(NamedTuple):
    """The spans between points of the grid, each as wide as it lies within the slots; tables are (copies, points)."""

    before: NDArray[np.float64]
    steps: NDArray[np.float64]
    served: NDArray[np.float64]
    """Requests per second halfway through the whole numbers of each cell."""
    reached: NDArray[np.float64]
    """The sum of all steps so far."""
    logs: NDArray[np.float64]
    """The sum of ln(served) over all whole numbers so far."""
    capacity: NDArray[np.float64]


def _cells(curves: Curves) -> _Cells:
    before = np.concatenate([[0.0], curves.held[:-1]])
    steps = np.clip(curves.slots[:, None] - before, 0.0, np.diff(curves.held, prepend=0.0))
    widths = np.diff(curves.held)
    past = 0.5 * (widths + 1.0) / widths
    served = curves.requests_per_s
    served = np.concatenate([served[:, :1], served[:, :-1] * (1.0 - past) + served[:, 1:] * past], axis=1)
    logs = np.cumsum(np.log(served) * steps, axis=1)
    return _Cells(before, steps, served, np.cumsum(steps, axis=1), logs, capacity_per_s(curves))


def _open_loop(
    curves: Curves, cells: _Cells, rate_per_s: NDArray[np.float64], output_tokens: float, percentile: float
) -> Operating:
    capacity = cells.capacity
    stable = rate_per_s < FULL * capacity
    rate = np.where(stable, rate_per_s, 0.5 * capacity)
    # ln P(n) up to a constant, summed piecewise: within a cell of the grid, X is taken as that of its middle.
    levels = np.log(rate)[:, None] * cells.reached - cells.logs
    top = np.maximum(levels.max(axis=1), 0.0)
    none = np.exp(-top)
    ends = np.exp(levels - top[:, None])
    starts = np.concatenate([none[:, None], ends[:, :-1]], axis=1)
    ratio = rate[:, None] / cells.served
    even = np.abs(ratio - 1.0) < 1e-9
    mass = np.where(even, starts * cells.steps, (ends - starts) * ratio / np.where(even, 1.0, ratio - 1.0))
    load, last = rate / capacity, ends[:, -1]
    queue = last * load / (1.0 - load)
    reached = np.cumsum(mass, axis=1) + none[:, None]
    whole = reached[:, -1] + queue
    inside = (mass * (cells.before + 0.5 * (cells.steps + 1.0))).sum(axis=1)
    inside += queue * (curves.slots + 1.0 / (1.0 - load))
    seen = _crossing(curves, none / whole, reached / whole[:, None], percentile)
    waiting = (queue + last) / whole
    excess = np.maximum(waiting / (1.0 - percentile), 1.0)
    wait = np.log(excess) / (capacity - rate)
    tpot = _at(curves.held, curves.tpot_s, seen)
    ttft = _at(curves.held, curves.ttft_s, seen) + wait
    return Operating(
        held=np.where(stable, inside / whole, np.inf),
        tpot_s=np.where(stable, tpot, np.inf),
        ttft_s=np.where(stable, ttft, np.inf),
        e2e_s=np.where(stable, ttft + np.maximum(output_tokens - 1.0, 0.0) * tpot, np.inf),
        utilisation=rate_per_s / capacity,
        idle=np.where(stable, none / whole, 0.0),
    )


def closed_loop_at(curves: Curves, held: NDArray[np.float64], output_tokens: float) -> Operating:
    """What callers of each copy see when always `held` of them, shape (copies,), wait for an answer; times are means.

    Those beyond the slots wait for one (Little's law).
    """
    inside = np.minimum(np.maximum(held, 1.0), curves.slots)
    capacity = capacity_per_s(curves)
    tpot = _at(curves.held, curves.tpot_s, inside)
    ttft = _at(curves.held, curves.ttft_s, inside) + np.maximum(held - curves.slots, 0.0) / capacity
    return Operating(
        held=held,
        tpot_s=tpot,
        ttft_s=ttft,
        e2e_s=ttft + np.maximum(output_tokens - 1.0, 0.0) * tpot,
        utilisation=_at(curves.held, curves.requests_per_s, inside) / capacity,
        idle=np.zeros_like(capacity),
    )


def met(seen: Operating, bounds: Bounds) -> NDArray[np.bool_]:
    """Where every bound is met."""
    within: NDArray[np.bool_] = (
        (seen.ttft_s <= bounds.ttft_s) & (seen.tpot_s <= bounds.tpot_s) & (seen.e2e_s <= bounds.e2e_s)
    )
    return within & np.isfinite(seen.e2e_s)


def highest_rate(curves: Curves, output_tokens: float, bounds: Bounds) -> NDArray[np.float64]:
    """The highest rate per second at which each copy meets the bounds, shape (copies,); 0 where no rate does."""
    cells = _cells(curves)
    low = np.zeros(len(curves.slots))
    high = FULL * cells.capacity
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        good = met(_open_loop(curves, cells, middle, output_tokens, bounds.percentile), bounds)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return low


def most_held(curves: Curves, output_tokens: float, bounds: Bounds) -> NDArray[np.float64]:
    """The most callers at once for which each copy meets the bounds, shape (copies,); 0 where one is too many."""
    low, high = np.zeros(len(curves.slots)), np.full(len(curves.slots), 4.0 * curves.held[-1])
    while np.any(high - low > 1.0):
        middle = np.floor(0.5 * (low + high))
        good = met(closed_loop_at(curves, np.maximum(middle, 1.0), output_tokens), bounds) & (middle >= 1.0)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return low


def _at(held: NDArray[np.float64], table: NDArray[np.float64], where: Real) -> NDArray[np.float64]:
    """Rows of a table, each read at its own place between the points of the grid, linearly; held at both ends."""
    place = np.asarray(where, dtype=np.float64)
    right = np.clip(np.searchsorted(held, place), 1, len(held) - 1)
    left = right - 1
    share = np.clip((place - held[left]) / (held[right] - held[left]), 0.0, 1.0)
    rows = np.arange(len(table))
    read: NDArray[np.float64] = table[rows, left] * (1.0 - share) + table[rows, right] * share
    return read


def _crossing(
    curves: Curves, none: NDArray[np.float64], reached: NDArray[np.float64], percentile: float
) -> NDArray[np.float64]:
    """How many are inside at a percentile, never fewer than 1 nor more than the slots; `none` is the chance of 0."""
    right = np.minimum((reached < percentile).sum(axis=1), len(curves.held) - 1)
    rows = np.arange(len(reached))
    left = np.maximum(right - 1, 0)
    before = np.where(right > 0, reached[rows, left], none)
    start = np.where(right > 0, curves.held[left], 0.0)
    share = np.clip((percentile - before) / np.maximum(reached[rows, right] - before, 1e-12), 0.0, 1.0)
    inside: NDArray[np.float64] = np.clip(start + share * (curves.held[right] - start), 1.0, curves.slots)
    return inside
