"""Confidence: what a model's probabilities are worth, and from which on its answer may be given alone."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError
from farthing.evaluation.intervals import wilson_bounds

COOLEST, HOTTEST = 0.05, 20.0
"""Temperatures between which the best one is looked for."""

Floats = NDArray[np.floating]
Numbers = NDArray[np.integer] | NDArray[np.floating]


class Bin(msgspec.Struct, frozen=True):
    """Answers of about one confidence: its mean, the share of them that is right, and how many there are."""

    confidence: float
    right: float
    n: int


class Threshold(msgspec.Struct, frozen=True):
    """Answers at least as confident as `value`: their share of all, how many are right, and at least how many surely.

    `right` and `low` are shares; `low` is the lower end of the 95 % interval.
    """

    value: float
    share: float
    right: float
    low: float


def probabilities(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax over the last axis of logits divided by a temperature. Raises RequestError unless it is above zero.

    >>> probabilities(np.array([[2.0, 0.0]]), 2.0).round(4).tolist()
    [[0.7311, 0.2689]]
    """
    scaled = _scaled(logits, temperature)
    risen = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(risen / risen.sum(axis=-1, keepdims=True))


def each_probability(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """The logistic function of logits divided by a temperature: labels that do not exclude one another."""
    # tanh neither overflows nor warns, however large the logits are.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * _scaled(logits, temperature))))


def fit_temperature(logits: Floats, labels: Numbers) -> float:
    """The temperature at which the truth is likeliest: class indices [n], or 0 and 1 [n, labels] for multi-label.

    C. Guo et al., "On calibration of modern neural networks", ICML 2017. Raises RequestError for no example.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        raise RequestError("A temperature cannot be fitted to no example.", hint="Hold some labelled texts out.")
    exact = np.asarray(logits, dtype=np.float64)
    loss = _each_loss if labels.ndim > 1 else _class_loss
    truth = labels if labels.ndim > 1 else labels.astype(np.int64)
    found = minimize_scalar(
        lambda log: loss(exact / math.exp(log), truth),
        bounds=(math.log(COOLEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(math.exp(found.x))


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> tuple[Bin, ...]:
    """Answers by confidence, in so many bins of equal width from 0 to 1; empty ones are left out."""
    place = np.clip((np.asarray(confidence) * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    hit = np.bincount(place, weights=right, minlength=bins)
    return tuple(
        Bin(float(sure[one] / counts[one]), float(hit[one] / counts[one]), int(counts[one]))
        for one in range(bins)
        if counts[one]
    )


def ece(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from the share that is right, 0 to 1; 0 of no answer.

    >>> round(ece(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, True, False])), 3)
    0.1
    """
    found = reliability(confidence, right, bins)
    return sum(one.n * abs(one.confidence - one.right) for one in found) / max(len(confidence), 1)


def auroc(inside: Floats, outside: Floats) -> float:
    """How likely a text that belongs scores higher than one that does not, a tie counting half. Raises RequestError.

    >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    if not len(inside) or not len(outside):
        raise RequestError(
            f"{len(inside)} scores of texts that belong are held against {len(outside)} that do not.",
            hint="Give at least one of each.",
        )
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, side="left") + np.searchsorted(ordered, inside, side="right")
    return float(np.mean(below / (2 * len(outside))))


def coverage(confidence: Floats, right: NDArray[np.bool_], shares: Sequence[float]) -> tuple[float, ...]:
    """The share that is right of the most confident answers, for each of several shares (0 to 1) of all; NaN of none.

    Answers as confident as the last one that counts all count in part, so their order does not matter.

    >>> coverage(np.array([0.9, 0.8, 0.5, 0.5]), np.array([True, True, True, False]), (0.5, 0.75, 1.0))
    (1.0, 0.8333333333333334, 0.75)
    """
    if not len(confidence):
        return tuple(math.nan for _ in shares)
    hits, counts, _ = _from_the_top(confidence, right)
    return tuple(_right_of(max(1, round(share * len(confidence))), hits, counts) for share in shares)


def threshold_for(confidence: Floats, right: NDArray[np.bool_], floor: float) -> Threshold | None:
    """The lowest confidence from which on answers are surely right as often as `floor`; None if there is none.

    Surely: the lower end of the 95 % interval is no less. Many thresholds are tried on the same answers, so what is
    taken is a little better here than it will be: check it on others.
    """
    if not len(confidence):
        return None
    hits, counts, values = _from_the_top(confidence, right)
    low, _ = wilson_bounds(hits, counts)
    enough = np.flatnonzero(low >= floor)
    if not len(enough):
        return None
    last = int(enough[-1])
    return Threshold(
        float(values[last]), float(counts[last] / len(confidence)), float(hits[last] / counts[last]), float(low[last])
    )


def _scaled(logits: Floats, temperature: float) -> NDArray[np.float64]:
    if not temperature > 0:
        raise RequestError(f"The temperature is {temperature:g}.", hint="It must be above 0.")
    return np.asarray(logits, dtype=np.float64) / temperature


def _from_the_top(
    confidence: Floats, right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each confidence seen, the highest first: how many are right and how many there are from it up, and itself."""
    values, place = np.unique(confidence, return_inverse=True)
    hits = np.bincount(place, weights=right)[::-1].cumsum()
    counts = np.bincount(place)[::-1].cumsum()
    return hits, counts.astype(np.float64), np.asarray(values[::-1], dtype=np.float64)


def _right_of(most: int, hits: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    return float(np.interp(most, np.append(0.0, counts), np.append(0.0, hits)) / most)


def _class_loss(logits: NDArray[np.float64], labels: Numbers) -> float:
    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(log_sum - logits[np.arange(len(labels)), labels]))


def _each_loss(logits: NDArray[np.float64], labels: Numbers) -> float:
    return float(np.mean(np.logaddexp(0.0, logits) - logits * labels))
