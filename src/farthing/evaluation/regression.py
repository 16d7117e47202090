"""Regression: predicted amounts against true ones, both [n]."""

import numpy as np
from numpy.typing import NDArray


def mse(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """The mean squared error.

    >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    """
    return float(np.mean((np.asarray(predicted, dtype=np.float64) - true) ** 2))


def mae(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """The mean absolute error.

    >>> mae(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """
    return float(np.mean(np.abs(np.asarray(predicted, dtype=np.float64) - true)))
