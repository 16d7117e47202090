"""Quality: how good a model's answers are, and how much worse than another's; the figures that people are shown."""

import msgspec

from farthing.evaluation.confidence import Bin


class Recall(msgspec.Struct, frozen=True):
    """How many percent of a label's `n` examples were recognised; None where there is none."""

    label: str
    n: int
    value: float | None


class Quality(msgspec.Struct, frozen=True):
    """The main metric of a task in percent, with its 95 % interval, over `n` texts, and what else is known.

    `ece` is a share (0 to 1) and `auroc` too: how well confidence tells texts that belong from those that do not.
    `kept_80` is the percentage right among the most confident 80 %, `typo_value` the metric on misspelt texts.
    `also` are further metrics by name, as they are. What does not apply is None or empty.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    macro_f1: float | None = None
    ece: float | None = None
    kept_80: float | None = None
    auroc: float | None = None
    typo_value: float | None = None
    recalls: tuple[Recall, ...] = ()
    reliability: tuple[Bin, ...] = ()
    also: dict[str, float] = {}


class Comparison(msgspec.Struct, frozen=True):
    """What a model loses against another on the same texts, in points of the main metric; below zero it wins.

    `low` and `high` are the 95 % interval of `lost`, and with 95 % confidence no more than `bound` is lost. `p` is
    McNemar's where answers are right or wrong. `agreement` is how many percent of their answers are the same.
    `recall_drop` is in points, of the label that lost most (`worst`, empty where none lost).
    """

    metric: str
    lost: float
    low: float
    high: float
    bound: float
    p: float | None = None
    agreement: float | None = None
    worst: str = ""
    recall_drop: float = 0.0
