"""Correlation of two series of the same length [n]."""

import numpy as np
from numpy.typing import NDArray


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs.

    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [1.5, 0.0, 1.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[place], dtype=np.float64)


def pearson(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Linear correlation, -1 to 1; 0 where either does not vary, for that tells nothing of the other.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 5.0])), 4)
    0.982
    """
    if len(left) < 2:
        return 0.0
    one, other = (np.asarray(side, dtype=np.float64) - np.mean(side, dtype=np.float64) for side in (left, right))
    scale = float(np.sqrt(np.sum(one * one) * np.sum(other * other)))
    return float(np.clip(np.sum(one * other) / scale, -1.0, 1.0)) if scale > 0 else 0.0


def spearman(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Correlation of ranks, -1 to 1; 0 where either does not vary. C. Spearman (1904).

    >>> spearman(np.array([1.0, 5.0, 9.0]), np.array([1.0, 2.0, 30.0]))
    1.0
    """
    return pearson(ranks(left), ranks(right))
