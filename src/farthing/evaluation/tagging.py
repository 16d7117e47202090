"""Tagging: spans of characters with a kind, from what a model says of each token.

Labels are written as BIO ("B-CITY", "I-CITY", "O": begins, goes on, outside) or bare ("CITY", "O"); kinds are what
remains of them, in the order of their first appearance, and a span names its kind by number.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farthing.evaluation.intervals import ratio

Span = tuple[int, int, int]
"""First character, character after the last, and number of the kind."""

OUTSIDE = "O"


def kinds(labels: Sequence[str]) -> tuple[str, ...]:
    """The kinds of spans that labels of tokens stand for.

    >>> kinds(("O", "B-CITY", "I-CITY", "DAY"))
    ('CITY', 'DAY')
    """
    return tuple(dict.fromkeys(_kind(label) for label in labels if label != OUTSIDE))


def spans_of(
    logits: NDArray[np.floating], offsets: Sequence[Sequence[tuple[int, int]]], labels: Sequence[str]
) -> tuple[tuple[Span, ...], ...]:
    """The spans of each text: logits [n, length, labels] and, per text, the characters [start, end) of its tokens.

    Tokens of no characters (added by the tokenizer) and padding beyond the offsets are passed over.

    >>> logits = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0]]]
    >>> spans_of(logits, [[(0, 0), (0, 3), (4, 8), (0, 0)]], ("O", "B-CITY", "I-CITY"))
    (((0, 8, 0),),)
    """
    numbers = {name: number for number, name in enumerate(kinds(labels))}
    best = logits.argmax(-1)
    return tuple(
        _joined([labels[one] for one in row[: len(places)]], places, numbers)
        for row, places in zip(best, offsets, strict=True)
    )


def f1_parts(
    predicted: Sequence[Sequence[Span]], true: Sequence[Sequence[Span]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numerators and denominators of span F1, [n] each: twice the spans found, and the spans said plus the true ones.

    A span counts as found when both its ends and its kind are right.
    """
    pairs = [(set(said), set(real)) for said, real in zip(predicted, true, strict=True)]
    hits = np.array([2.0 * len(said & real) for said, real in pairs])
    return hits, np.array([float(len(said) + len(real)) for said, real in pairs])


def span_f1(predicted: Sequence[Sequence[Span]], true: Sequence[Sequence[Span]]) -> float:
    """F1 of all spans together; 1 where there was none to be found and none was said.

    >>> span_f1([[(0, 4, 0), (5, 9, 1)]], [[(0, 4, 0), (5, 9, 0)]])
    0.5
    """
    hits, whole = f1_parts(predicted, true)
    return float(ratio(hits.sum(), whole.sum()))


def recalls(
    predicted: Sequence[Sequence[Span]], true: Sequence[Sequence[Span]], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each of `count` kinds, the share of its spans that were found (NaN where there is none) and their number."""
    right, counted = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for said, real in zip(predicted, true, strict=True):
        found = set(said)
        for span in set(real):
            counted[span[2]] += 1
            right[span[2]] += span in found
    return np.divide(right, counted, out=np.full(count, np.nan), where=counted > 0), counted


def macro_f1(predicted: Sequence[Sequence[Span]], true: Sequence[Sequence[Span]]) -> float:
    """The mean of the span F1 scores of the kinds that were said or true; 1 if there are none."""
    found = sorted({span[2] for spans in (*predicted, *true) for span in spans})
    scores = [span_f1(_only(predicted, kind), _only(true, kind)) for kind in found]
    return float(np.mean(scores)) if scores else 1.0


def _only(texts: Sequence[Sequence[Span]], kind: int) -> list[list[Span]]:
    return [[span for span in text if span[2] == kind] for text in texts]


def _kind(label: str) -> str:
    return label[2:] if label[:2] in ("B-", "I-") else label


def _joined(tags: Sequence[str], offsets: Sequence[tuple[int, int]], numbers: dict[str, int]) -> tuple[Span, ...]:
    found: list[Span] = []
    open_kind = ""
    for tag, (start, end) in zip(tags, offsets, strict=True):
        if end <= start:
            continue
        kind = "" if tag == OUTSIDE else _kind(tag)
        if kind and kind == open_kind and not tag.startswith("B-"):
            found[-1] = (found[-1][0], end, found[-1][2])
        elif kind:
            found.append((start, end, numbers[kind]))
        open_kind = kind
    return tuple(found)
