"""Successive halving: many sizes trained a little, the better half of them twice as long, and so on.

After Jamieson and Talwalkar 2016 (arXiv:1502.07943), with one change: what keeps the floor counts as equally good, so
that among those the cheaper go on.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec.structs import replace

from farthing.compress.job import Distil, Prune, Stage

KEPT = 2
"""One of so many trials goes on to the next rung, which trains so many times as long."""


class Cost(msgspec.Struct, frozen=True):
    """What a size takes once it is served: MB on disk, ms of CPU for one text, and dollars for 1,000."""

    mb: float
    cpu_ms: float
    usd_per_1k: float | None = None


class Score(msgspec.Struct, frozen=True):
    """How good a trial is by now: its main metric in percent, and by how many points it falls short of the floor."""

    value: float
    short: float
    cost: Cost


def budget(epochs: int, rung: int, rungs: int) -> int:
    """The epochs of a rung, numbered from 0: all of them in the last one, half as many in each before.

    >>> [budget(6, rung, 3) for rung in range(3)], budget(0, 0, 2)
    ([2, 3, 6], 0)
    """
    return math.ceil(epochs / int(KEPT ** (rungs - 1 - rung)))


def shortened(stages: Sequence[Stage], rung: int, rungs: int) -> tuple[Distil | Prune, ...]:
    """The stages that a trial goes through in a rung: those that train, for the epochs of the rung."""
    return tuple(
        replace(stage, epochs=budget(stage.epochs, rung, rungs))
        for stage in stages
        if isinstance(stage, Distil | Prune)
    )


def survivors(scores: Sequence[Score]) -> list[int]:
    """The numbers of the better half, one more of an odd count: what falls less short, and is cheaper, goes on."""
    ranked = sorted(range(len(scores)), key=lambda number: (scores[number].short, *_price(scores[number].cost), number))
    return sorted(ranked[: math.ceil(len(scores) / KEPT)])


def chosen(scores: Sequence[Score]) -> int:
    """The number of the cheapest trial that keeps the floor, or else of the most accurate one."""
    keeping = [number for number, score in enumerate(scores) if not score.short]
    if keeping:
        return min(keeping, key=lambda number: (*_price(scores[number].cost), number))
    return min(range(len(scores)), key=lambda number: (-scores[number].value, *_price(scores[number].cost), number))


def spread(places: Sequence[tuple[float, float]], count: int) -> list[int]:
    """The numbers of so many places, the first among them, that lie as far apart as can be in ratios of their figures.

    Each next one is that whose nearest neighbour among those taken is furthest (Gonzalez 1985, doi 10.1016/
    0304-3975(85)90224-5). `places` are positive figures, such as MB and ms.

    >>> spread([(1, 1), (1.1, 1), (4, 4), (2, 2)], 3)
    [0, 2, 3]
    """
    logs = np.log(np.asarray(places, np.float64).reshape(-1, 2))
    taken = [0] if len(logs) else []
    while len(taken) < min(count, len(logs)):
        apart = np.linalg.norm(logs[:, None] - logs[None, taken], axis=-1).min(1)
        apart[taken] = -1.0
        taken.append(int(apart.argmax()))
    return taken


def _price(cost: Cost) -> tuple[float, float]:
    return cost.cpu_ms, cost.mb
