"""Retrieval: how high what was looked for stands in a list by score. Scores and gains are [queries, documents].

Ties count against the model: one that gives every document the same score finds nothing.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]


def cosine(left: Scores, right: Scores) -> NDArray[np.float64]:
    """Cosines between the rows of two matrices: [n, width] and [m, width] to [n, m]; 0 to a row of zeros."""
    return _unit(left) @ _unit(right).T


def first_places(scores: Scores, gains: Scores) -> NDArray[np.int64]:
    """The rank from 1 of the best placed document with a gain: [queries]; 0 where no document has one.

    >>> first_places(np.array([[0.1, 0.9, 0.5]]), np.array([[0, 0, 1]])).tolist()
    [2]
    """
    wanted = gains > 0
    best = np.where(wanted, scores, -np.inf).max(axis=1)
    place = 1 + np.sum(~wanted & (scores >= best[:, None]), axis=1)
    return np.where(wanted.any(axis=1), place, 0).astype(np.int64)


def mrr(scores: Scores, gains: Scores) -> float:
    """The mean of one over the first place; a query without any document to find counts as 0.

    >>> mrr(np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.2]]), np.array([[0, 0, 1], [1, 0, 0]]))
    0.75
    """
    places = first_places(scores, gains)
    return float(np.mean(np.divide(1.0, places, out=np.zeros(len(places)), where=places > 0)))


def recall_at(scores: Scores, gains: Scores, k: int) -> float:
    """The mean share of a query's documents with a gain that are among the first `k`; queries without any do not count.

    >>> recall_at(np.array([[0.1, 0.9, 0.5]]), np.array([[1, 0, 1]]), 2)
    0.5
    """
    ordered = _ordered(scores, gains) > 0
    whole = ordered.sum(axis=1)
    known = whole > 0
    return float(np.mean(ordered[known, :k].sum(axis=1) / whole[known])) if known.any() else 0.0


def ndcg(scores: Scores, gains: Scores, k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first `k`; queries without any gain are left out.

    K. Järvelin and J. Kekäläinen, ACM TOIS 20 (2002), with gains as they are and logarithms to base 2.

    >>> round(ndcg(np.array([[0.1, 0.9, 0.5]]), np.array([[0, 0, 1]])), 4)
    0.6309
    """
    ordered = _ordered(scores, gains)[:, :k]
    ideal = -np.sort(-gains.astype(np.float64), axis=1)[:, :k]
    discounts = 1 / np.log2(np.arange(2, ordered.shape[1] + 2))
    best = ideal @ discounts
    known = best > 0
    return float(np.mean((ordered @ discounts)[known] / best[known])) if known.any() else 0.0


def _ordered(scores: Scores, gains: Scores) -> NDArray[np.float64]:
    """Gains in the order of the scores, of equal scores the least gain first."""
    order = np.lexsort((gains, -scores), axis=1)
    return np.take_along_axis(gains, order, axis=1).astype(np.float64)


def _unit(rows: Scores) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0))
