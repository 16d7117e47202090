"""Multi-label classification: any number of labels to a text. Predictions and truth are 0 or 1, [n, labels]."""

import numpy as np
from numpy.typing import NDArray

from farthing.evaluation.intervals import ratio

Marks = NDArray[np.bool_]


def chosen(probabilities: NDArray[np.floating], cut: float = 0.5) -> Marks:
    """The labels at least so probable."""
    return np.asarray(probabilities >= cut)


def f1_parts(predicted: Marks, true: Marks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numerators and denominators of micro-F1, [n] each: twice the hits, and the labels said plus the true ones."""
    hits = 2.0 * np.sum(predicted & true, axis=1)
    return hits, (predicted.sum(axis=1) + true.sum(axis=1)).astype(np.float64)


def micro_f1(predicted: Marks, true: Marks) -> float:
    """F1 of all decisions together; 1 where nothing was true and nothing was said.

    >>> micro_f1(np.array([[1, 0], [1, 1]], bool), np.array([[1, 1], [0, 1]], bool)) == 4 / 6
    True
    """
    hits, whole = f1_parts(predicted, true)
    return float(ratio(hits.sum(), whole.sum()))


def macro_f1(predicted: Marks, true: Marks) -> float:
    """The mean of the F1 scores of the labels that were said or true; 1 if there are none.

    >>> round(macro_f1(np.array([[1, 0, 0], [1, 1, 0]], bool), np.array([[1, 1, 0], [0, 1, 0]], bool)), 4)
    0.6667
    """
    hits = 2.0 * np.sum(predicted & true, axis=0)
    whole = predicted.sum(axis=0) + true.sum(axis=0)
    known = whole > 0
    return float(np.mean(hits[known] / whole[known])) if known.any() else 1.0


def recalls(predicted: Marks, true: Marks) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each label, the share of the texts it is true of that it was said of (NaN where none), and their number."""
    counted = np.sum(true, axis=0)
    right = np.sum(predicted & true, axis=0)
    return np.divide(right, counted, out=np.full(len(counted), np.nan), where=counted > 0), counted.astype(np.int64)


def fit_cut(probabilities: NDArray[np.floating], true: Marks) -> float:
    """The probability from which on labels should be said for the best micro-F1, as sharp as there are examples.

    Halfway between two probabilities seen; 0.5 where no label is true at all.

    >>> round(fit_cut(np.array([[0.9, 0.3], [0.2, 0.35]]), np.array([[1, 1], [0, 1]], bool)), 3)
    0.25
    """
    scores, marks = probabilities.ravel().astype(np.float64), true.ravel()
    if not marks.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(marks[order])
    f1 = 2.0 * hits / (np.arange(1, len(scores) + 1) + marks.sum())
    # Equal scores are said together or not at all.
    last = np.append(scores[1:] < scores[:-1], True)
    best = int(np.argmax(np.where(last, f1, -1.0)))
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2)
