"""Classes of deployments: what measurements of the same engine, GPU, model and layout have in common beyond the model.

The residual of a class (log of measured over predicted) is shared by partial pooling: classes nest, each level takes
the mean of what the level above left over, shrunk towards 0 by how few rows it rests on (J. James and C. Stein, 1961;
A. Gelman and J. Hill, Data Analysis Using Regression, 2007, chapter 12). A class that was never measured has none, so
nothing learned of one GPU or model is carried over to another.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from farthing.economics.calibrating.engines import engine_family
from farthing.economics.deployment import Deployment

SHRINKAGE = (2.0, 1.0, 1.0, 0.5)
"""Rows that a class's mean must outweigh, by level from the widest class to the narrowest."""

LAYOUT = 2
"""Which of a deployment's classes is the deployment itself."""

_MOST = 1.0  # a single residual counts for at most a factor of e


class Offset(msgspec.Struct, frozen=True):
    """What a class adds to the logarithm of predicted times; `rows` is how many measurements it rests on.

    `load` is added to the times of what grows with sequences and their context, beside `tpot`, and `token` to those of
    what grows with tokens.
    """

    tpot: float = 0.0
    ttft: float = 0.0
    rows: int = 0
    load: float = 0.0
    token: float = 0.0


class Residual(NamedTuple):
    """Logarithms of measured over predicted times of one row with its classes; `None` was not measured."""

    classes: tuple[str, ...]
    tpot: float | None
    ttft: float | None


def classes_of(deployment: Deployment, input_tokens: float = 0.0, output_tokens: float = 0.0) -> tuple[str, ...]:
    """The classes of a deployment, the widest first: engine family, GPU and model; version and precision; layout.

    A fourth is of requests of this length, where it is given.
    """
    family = (engine_family(deployment.engine), deployment.hardware.name, deployment.architecture.name)
    version = (*family, deployment.engine, deployment.weights)
    layout = (*version, f"tp{deployment.tensor}", f"dp{deployment.data}", f"ep{deployment.expert}")
    names = [" | ".join(parts) for parts in (family, version, layout)]
    return (*names, f"{names[-1]} | {input_tokens:.0f}:{output_tokens:.0f}") if output_tokens else tuple(names)


def pooled(rows: Sequence[Residual]) -> dict[str, Offset]:
    """The offsets of all classes that rows belong to."""
    tpot = [_bounded(row.tpot) for row in rows]
    ttft = [_bounded(row.ttft) for row in rows]
    found: dict[str, Offset] = {}
    for level, weight in enumerate(SHRINKAGE):
        members: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            members[row.classes[level]].append(place)
        for name, places in members.items():
            paces = [one for place in places if (one := tpot[place]) is not None]
            firsts = [one for place in places if (one := ttft[place]) is not None]
            offset = Offset(
                sum(paces) / (len(paces) + weight),
                _least_percentage(firsts) * len(firsts) / (len(firsts) + weight),
                len(places),
            )
            found[name] = offset
            for place in places:
                tpot[place] = _less(tpot[place], offset.tpot)
                ttft[place] = _less(ttft[place], offset.ttft)
    return found


def _least_percentage(values: list[float]) -> float:
    """The offset of least mean percentage error: the median with each row weighed by predicted over measured.

    Times to the first token have a heavy tail, which a mean would follow.
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    weights = list(accumulate(math.exp(-value) for value in ordered))
    return next(value for value, weight in zip(ordered, weights, strict=True) if weight >= weights[-1] / 2)


def _bounded(value: float | None) -> float | None:
    return None if value is None else max(-_MOST, min(_MOST, value))


def _less(value: float | None, offset: float) -> float | None:
    return None if value is None else value - offset


def summed(offsets: Sequence[Offset]) -> Offset:
    """The sum of offsets, which rests on as few rows as the narrowest of them."""
    return Offset(
        tpot=sum(one.tpot for one in offsets),
        ttft=sum(one.ttft for one in offsets),
        rows=min((one.rows for one in offsets), default=0),
        load=sum(one.load for one in offsets),
        token=sum(one.token for one in offsets),
    )
