"""What a model's outputs say, in the form that evaluation takes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farthing.evaluation.answers import Beside, Outputs, Targets, judged
from farthing.evaluation.tagging import spans_of
from farthing.schema import Task

Raw = Sequence[NDArray[np.float32]]
"""The outputs of each text: [labels], or [length, labels] for tagging."""

Offsets = Sequence[Sequence[tuple[int, int]]]


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns of a tagging model: outside, and where a span of each label begins and goes on.

    >>> tag_names(("CITY",))
    ('O', 'B-CITY', 'I-CITY')
    """
    return ("O", *(f"{part}-{label}" for label in labels for part in "BI"))


def said(task: Task, raw: Raw, offsets: Offsets, labels: Sequence[str]) -> Outputs:
    """Outputs by text as evaluation takes them; `offsets` are the characters of each token, for tagging."""
    if task != "tagging":
        return np.stack(list(raw))
    longest = max((len(one) for one in raw), default=0)
    filled = np.zeros((len(raw), longest, raw[0].shape[-1]), np.float32)
    for number, one in enumerate(raw):
        filled[number, : len(one)] = one
    return spans_of(filled, offsets, tag_names(labels))


def main_metric(task: Task, outputs: Outputs, targets: Targets) -> float:
    """The main metric of a task, in percent."""
    return 100.0 * judged(task, outputs, targets, Beside()).value()
