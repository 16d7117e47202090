"""Assess a model's answers, and compare those of two models on the same texts."""

import math
from typing import Final

import numpy as np
from msgspec.structs import replace

from farthing.evaluation.answers import ALIKE, Beside, Judged, Outputs, Targets, judged, sureness
from farthing.evaluation.classification import regressions
from farthing.evaluation.confidence import auroc, coverage, ece, reliability
from farthing.evaluation.intervals import (
    Difference,
    bootstrap,
    mcnemar,
    paired_bootstrap,
    ratio_draws,
    spread,
    wilson,
)
from farthing.evaluation.quality import Comparison, Quality, Recall
from farthing.schema import Task

LEAST: Final = 10
"""Examples of a label below which what it loses is not looked at: one answer would move it by more than 10 points."""

BINS: Final = 10
"""Bins of the reliability diagram."""

ALONE: Final = Beside()

RATIO_DRAWS: Final = 2_000
FIGURE_DRAWS: Final = 1_000
PAIR_DRAWS: Final = 200  # each ranks some 80,000 pairs anew


def assess(task: Task, outputs: Outputs, targets: Targets, rng: np.random.Generator, beside: Beside = ALONE) -> Quality:
    """How good outputs are (see `answers.Outputs` and `Targets` for what each task takes). Raises RequestError."""
    found = judged(task, outputs, targets, beside)
    value = found.value()
    low, high = _interval(found, value, rng)
    typos = None if beside.typos is None else judged(task, beside.typos, targets, beside).value()
    quality = Quality(
        metric=found.metric,
        value=100 * value,
        low=100 * low,
        high=100 * high,
        n=found.n,
        macro_f1=None if found.macro_f1 is None else 100 * found.macro_f1,
        typo_value=None if typos is None else 100 * typos,
        recalls=_recalls(found, beside.labels),
        also=found.also,
    )
    return _with_confidence(quality, found, beside)


def compare(
    task: Task,
    before: Outputs,
    after: Outputs,
    targets: Targets,
    rng: np.random.Generator,
    beside: Beside = ALONE,
) -> Comparison:
    """What is lost from one model's outputs to another's on the same texts, in points. Raises RequestError.

    Intervals are by the paired bootstrap. Of `beside`, only the names of labels and `cut` matter.
    """
    was, became = judged(task, before, targets, beside), judged(task, after, targets, beside)
    change = _difference(was, became, rng)
    worst, drop = _worst(was, became, beside.labels)
    same = [one == other for one, other in zip(was.said, became.said, strict=True)]
    return Comparison(
        metric=was.metric,
        lost=_points(change.mean),
        low=_points(change.high),
        high=_points(change.low),
        bound=_points(change.bound),
        p=None if was.right is None or became.right is None else mcnemar(was.right, became.right),
        agreement=100 * sum(same) / len(same) if same else None,
        worst=worst,
        recall_drop=drop,
    )


def _points(change: float) -> float:
    """What is lost by a change in shares; nothing is 0, never -0."""
    return -100 * change + 0.0


def _interval(found: Judged, value: float, rng: np.random.Generator) -> tuple[float, float]:
    if found.right is not None:
        return wilson(int(found.right.sum()), found.n)
    if found.parts is not None:
        drawn = ratio_draws(found.parts.part[:, None], found.parts.whole[:, None], rng, RATIO_DRAWS)[:, 0]
    else:
        drawn = bootstrap(found.figure, found.n, rng, _draws(found))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return min(float(low), value), max(float(high), value)


def _difference(was: Judged, became: Judged, rng: np.random.Generator) -> Difference:
    if was.right is not None and became.right is not None:
        return paired_bootstrap(was.right.astype(np.float64), became.right.astype(np.float64), rng)
    if was.parts is not None and became.parts is not None:
        parts, wholes = zip(was.parts, became.parts, strict=True)
        both = ratio_draws(np.stack(parts, axis=1), np.stack(wholes, axis=1), rng, RATIO_DRAWS)
        drawn = both[:, 1] - both[:, 0]
    else:
        drawn = bootstrap(lambda chosen: became.figure(chosen) - was.figure(chosen), was.n, rng, _draws(was))
    return spread(became.value() - was.value(), drawn)


def _draws(found: Judged) -> int:
    return PAIR_DRAWS if found.metric == ALIKE else FIGURE_DRAWS


def _with_confidence(quality: Quality, found: Judged, beside: Beside) -> Quality:
    if found.confidence is None or found.held is None:
        return quality
    outside = None if beside.outside is None else sureness(beside.outside, beside.temperature)
    known = found.right is not None
    return replace(
        quality,
        ece=ece(found.confidence, found.held),
        reliability=reliability(found.confidence, found.held, BINS),
        kept_80=100 * coverage(found.confidence, found.held, (0.8,))[0] if known else None,
        auroc=auroc(found.confidence, outside) if known and outside is not None and len(outside) else None,
    )


def _recalls(found: Judged, labels: tuple[str, ...]) -> tuple[Recall, ...]:
    if found.recalls is None or found.counts is None:
        return ()
    return tuple(
        Recall(_name(labels, place), int(n), None if math.isnan(share) else 100 * float(share))
        for place, (share, n) in enumerate(zip(found.recalls, found.counts, strict=True))
    )


def _worst(was: Judged, became: Judged, labels: tuple[str, ...]) -> tuple[str, float]:
    if was.recalls is None or became.recalls is None or was.counts is None:
        return "", 0.0
    lost = regressions(was.recalls, became.recalls, was.counts, LEAST)
    return (_name(labels, lost[0].label), 100 * lost[0].drop) if lost else ("", 0.0)


def _name(labels: tuple[str, ...], place: int) -> str:
    return labels[place] if place < len(labels) else str(place)
