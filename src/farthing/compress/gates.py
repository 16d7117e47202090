"""Gates: whether a stage keeps what the job must not lose, and what to try when it does not."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from farthing.compress.job import Distil, Prune, Quantize, Stage, Targets
from farthing.compress.record import Goal, Quantity, Row

if TYPE_CHECKING:  # torch stays out of what the command line imports
    from farthing.compress.networks.encoder import EncoderShape

FLOOR: Final = ("accuracy", "recall")
"""What a gentler stage helps; the rest would take a harsher one."""

MATRICES: Final = 6
"""Matrices of one layer that can be left in fp32: query, key, value, output, up and down."""

RECOVERY: Final = 2
"""Epochs of training with rounding that are tried first, where none were asked for."""

_CLOSE = 1e-9  # what floating point adds to a figure at its limit


class Breach(msgspec.Struct, frozen=True):
    """A target that is not met: what of, what was found, what the limit is, and the same in a sentence."""

    what: Quantity
    found: float
    limit: float
    says: str

    @property
    def floor(self) -> bool:
        """Whether too much was lost, so that a gentler stage helps."""
        return self.what in FLOOR


def judge(targets: Targets, row: Row, teacher: Row) -> tuple[Breach, ...]:
    """The targets that a row does not meet, what is lost first; what was not measured breaks nothing.

    What is lost is decided by the point estimate on the dev texts. Sizes and times are targets of the whole line: of a
    stage that others follow, only breaches of the `floor` count.
    """
    return tuple(
        Breach(goal.what, goal.found, goal.limit, goal.says) for goal in goals(targets, row, teacher) if not goal.met
    )


def goals(targets: Targets, row: Row, teacher: Row) -> tuple[Goal, ...]:
    """All targets that were set and can be decided, met or not."""
    return (*_kept(targets, row), *_reached(targets, row, teacher))


def gentler(stage: Stage, shape: "EncoderShape") -> Stage | None:
    """The same stage with a smaller ratio, for a model of a shape that it begins with; None when it cannot be gentler.

    Distilling keeps a layer more, and once all are kept it narrows less and keeps more of the vocabulary. Pruning keeps
    more of all that it cuts. Quantization trains with rounding, and then leaves more matrices in fp32.
    """
    if isinstance(stage, Distil):
        return _gentler_distil(stage, shape)
    return _gentler_prune(stage, shape) if isinstance(stage, Prune) else _gentler_quantize(stage, shape)


def _kept(targets: Targets, row: Row) -> Iterator[Goal]:
    change = row.dev_against_teacher
    if change is None:
        return
    texts = f" on {row.dev.n:,} texts" if row.dev else ""
    done = f"{change.metric}{texts} is {abs(change.lost):.2f} points {'lower' if change.lost > 0 else 'higher'}"
    yield Goal(
        "accuracy",
        targets.lost,
        change.lost,
        change.lost <= targets.lost + _CLOSE,
        f"{done} (95 % sure: no more than {change.bound:.2f} are lost); {targets.lost:g} may be lost",
    )
    if change.worst:
        yield Goal(
            "recall",
            targets.recall_lost,
            change.recall_drop,
            change.recall_drop <= targets.recall_lost + _CLOSE,
            f"recall of '{change.worst}' is {change.recall_drop:.1f} points lower; {targets.recall_lost:g} may be lost",
        )


def _reached(targets: Targets, row: Row, teacher: Row) -> Iterator[Goal]:
    if targets.smaller and row.mb and teacher.mb:
        yield _at_least("smaller", targets.smaller, teacher.mb / row.mb, "{:.1f}x smaller than the teacher")
    if targets.faster and row.cpu_ms and teacher.cpu_ms:
        yield _at_least("faster", targets.faster, teacher.cpu_ms / row.cpu_ms, "{:.1f}x faster than the teacher")
    if targets.size_mb and row.mb is not None:
        yield _at_most("size", targets.size_mb, row.mb, "{:.2f} MB on disk")
    if targets.latency_ms and row.cpu_ms is not None:
        yield _at_most("latency", targets.latency_ms, row.cpu_ms, "{:.2f} ms of CPU a text")
    if targets.usd_per_1k and row.usd_per_1k is not None:
        yield _at_most("cost", targets.usd_per_1k, row.usd_per_1k, "${:.6f} per 1,000 calls")


def _at_least(what: Quantity, limit: float, found: float, says: str) -> Goal:
    return Goal(what, limit, found, found >= limit - _CLOSE, f"{says.format(found)}; at least {limit:g} is asked")


def _at_most(what: Quantity, limit: float, found: float, says: str) -> Goal:
    return Goal(what, limit, found, found <= limit + _CLOSE, f"{says.format(found)}; at most {limit:g} is asked")


def _gentler_distil(stage: Distil, shape: "EncoderShape") -> Distil | None:
    depth = len(shape.layers)
    if isinstance(stage.layers, int):
        if stage.layers < depth:
            return replace(stage, layers=stage.layers + 1)
    elif len(stage.layers) < depth:
        return replace(stage, layers=_with_one_more(stage.layers, depth))
    for field, whole in (("width", shape.width), ("embedding", shape.width), ("vocabulary", shape.vocabulary)):
        kept = getattr(stage, field)
        if kept and kept < whole:
            return replace(stage, **{field: _more(kept, 2.0, 32, whole)})
    return None


def _with_one_more(layers: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """The layers, and the missing one that is furthest from any of them."""
    missing = [layer for layer in range(depth) if layer not in layers]
    added = max(missing, key=lambda layer: (min((abs(layer - one) for one in layers), default=0), -layer))
    return tuple(sorted((*layers, added)))


def _gentler_prune(stage: Prune, shape: "EncoderShape") -> Prune | None:
    wholes = {
        "heads": (max(layer.heads for layer in shape.layers), 1.25, 1),
        "ffn": (max(layer.ffn for layer in shape.layers), 1.5, 8),
        "width": (shape.width, 1.25, 32),
        "layers": (len(shape.layers), 1.25, 1),
        "vocabulary": (shape.vocabulary, 1.5, 1),
    }
    sizes = {
        field: _more(getattr(stage, field), factor, step, whole)
        for field, (whole, factor, step) in wholes.items()
        if getattr(stage, field)
    }
    return replace(stage, **sizes) if any(sizes.values()) else None


def _more(kept: int, factor: float, step: int, whole: int) -> int:
    """More is kept, a multiple of `step`; 0, which stands for all, when that is all there is."""
    more = max(kept + 1, math.ceil(factor * kept))
    more = math.ceil(more / step) * step
    return more if more < whole else 0


def _gentler_quantize(stage: Quantize, shape: "EncoderShape") -> Quantize | None:
    if stage.embeddings == 4:
        return replace(stage, embeddings=8)
    if not stage.recovery:
        return replace(stage, recovery=RECOVERY)
    most = MATRICES * len(shape.layers)
    if stage.exceptions < most:
        return replace(stage, exceptions=min(most, max(2 * stage.exceptions, 1)))
    return replace(stage, embeddings=32) if stage.embeddings == 8 else None
