"""The Pareto frontier: what nothing else beats in every respect at once."""

from bisect import bisect_right, insort

import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError


def frontier(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of `values`, shape (points, 2 or 3), no other row equals or beats in every column; less is better.

    Of equal rows the first stays. Raises RequestError for values that are not finite.

    >>> frontier(np.array([[1.0, 9.0], [2.0, 5.0], [3.0, 6.0]])).tolist()
    [True, True, False]
    """
    if not np.isfinite(values).all():
        raise RequestError(
            "a frontier cannot be drawn through values that are not finite.", hint="Leave out what has no price."
        )
    padded = values if values.shape[1] == 3 else np.column_stack([values, np.zeros(len(values))])
    kept = np.zeros(len(values), dtype=bool)
    stairs: list[tuple[float, float]] = []
    order = np.lexsort((padded[:, 2], padded[:, 1], padded[:, 0]))
    kept[order] = [_climbed(stairs, second, third) for second, third in padded[order, 1:].tolist()]
    return kept


def _climbed(stairs: list[tuple[float, float]], second: float, third: float) -> bool:
    """Add a point to the stairs of what came before (second rises, third falls) unless one of them covers it."""
    at = bisect_right(stairs, (second, float("inf")))
    if at and stairs[at - 1][1] <= third:
        return False
    first = bisect_right(stairs, (second, third))
    last = first
    while last < len(stairs) and stairs[last][1] >= third:
        last += 1
    # A stair at the same `second` but with a higher `third` lies before `first` only if it is lower: it cannot be.
    del stairs[first:last]
    insort(stairs, (second, third))
    return True
