"""Classification: shares of right answers, in all and label by label. Predictions and labels are class indices [n]."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Regression(msgspec.Struct, frozen=True):
    """A label that is recognised less often than before: recalls as shares, of `n` examples."""

    label: int
    n: int
    before: float
    after: float

    @property
    def drop(self) -> float:
        """How much of the recall is lost."""
        return self.before - self.after


def accuracy(predicted: Indices, labels: Indices) -> float:
    """The share of right predictions; 0 of none.

    >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    0.75
    """
    return float(np.mean(predicted == labels)) if len(labels) else 0.0


def macro_f1(predicted: Indices, labels: Indices, classes: int) -> float:
    """The mean of the F1 scores of those of `classes` that were predicted or should have been; 0 if there are none.

    >>> round(macro_f1(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), 3), 4)
    0.7333
    """
    right = np.bincount(labels[predicted == labels], minlength=classes)
    whole = np.bincount(predicted, minlength=classes) + np.bincount(labels, minlength=classes)
    known = whole > 0
    return float(np.mean(2.0 * right[known] / whole[known])) if known.any() else 0.0


def support(labels: Indices, classes: int) -> Indices:
    """How many examples each class has: [classes]."""
    return np.bincount(labels, minlength=classes).astype(np.int64)


def recalls(predicted: Indices, labels: Indices, classes: int) -> NDArray[np.float64]:
    """The share of each class's examples that were recognised: [classes], NaN where there is none.

    >>> recalls(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), 3).round(3).tolist()
    [0.667, 1.0, nan]
    """
    right = np.bincount(labels[predicted == labels], minlength=classes)
    counted = support(labels, classes)
    return np.asarray(np.divide(right, counted, out=np.full(classes, np.nan), where=counted > 0))


def regressions(
    before: NDArray[np.float64], after: NDArray[np.float64], counts: Indices, least: int = 10
) -> tuple[Regression, ...]:
    """Labels of at least so many examples that are recognised less often than before, the largest drop first.

    Recalls as shares and counts of examples, all [classes].

    >>> worse = regressions(np.array([0.9, 0.8, 1.0]), np.array([0.7, 0.8, 0.0]), np.array([20, 20, 3]))
    >>> [(one.label, round(one.drop, 2)) for one in worse]
    [(0, 0.2)]
    """
    found = [
        Regression(label, int(counts[label]), float(before[label]), float(after[label]))
        for label in range(len(counts))
        if counts[label] >= max(least, 1) and after[label] < before[label]
    ]
    return tuple(sorted(found, key=lambda one: (-one.drop, one.label)))
