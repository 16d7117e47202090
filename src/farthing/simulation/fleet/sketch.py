"""Quantiles of a stream in constant memory: counts by logarithm, within 1 % of the true value.

A sketch with relative accuracy as in C. Masson, J. E. Rim, H. K. Lee, "DDSketch", VLDB 2019.
"""

import math

import numpy as np
from numpy.typing import NDArray

from farthing.simulation.fleet.compiled import compiled

LEAST = 1e-5
"""Seconds: what is shorter counts as this."""

_WIDTH = math.log(1.01 / 0.99)
BINS = 1300
"""Reaches to LEAST * exp(BINS * _WIDTH), 1.9 million seconds."""


@compiled
def bin_of(seconds: float) -> int:
    """The bin that a duration is counted in."""
    if seconds <= LEAST:
        return 0
    return min(int(math.log(seconds / LEAST) / _WIDTH) + 1, BINS - 1)


def quantile(counts: NDArray[np.int64], share: float) -> float:
    """The value below which `share` (0 to 1) of what was counted lies, within 1 %; NaN when nothing was counted."""
    total = int(counts.sum())
    if not total:
        return math.nan
    rank = min(max(math.ceil(share * total), 1), total)
    index = int(np.searchsorted(np.cumsum(counts), rank))
    # The middle of a bin whose ends are LEAST * e^((index - 1) * width) and that times 1.01 / 0.99.
    return LEAST if index == 0 else LEAST * math.exp((index - 1) * _WIDTH) * 1.01
