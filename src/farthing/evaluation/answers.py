"""Answers: what a model said of some texts, held against what is true, task by task."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError
from farthing.evaluation import classification, multi_label, regression, retrieval, tagging
from farthing.evaluation.confidence import each_probability, probabilities
from farthing.evaluation.correlation import pearson, spearman
from farthing.evaluation.intervals import Resampled
from farthing.schema import Task

Floats = NDArray[np.floating]
Spans = Sequence[Sequence[tagging.Span]]

Outputs = Floats | Spans
"""Logits [n, labels] (of a regression [n, 1] or [n]); spans of each text for tagging; embeddings [n, width], and
[2, n, width] where texts stand in pairs."""

Targets = NDArray[np.integer] | Floats | Spans | None
"""Class indices [n]; 0 or 1 [n, labels]; amounts [n]; spans of each text; for embeddings another model's [n, width], or
how alike the pairs are [n], or None where the second text of each pair is what is to be found."""

MOST_TEXTS: Final = 400
"""Embeddings are compared between all pairs of so many texts, spread over those given: 80,000 pairs."""


ALIKE: Final = "Spearman of cosines"


class Beside(msgspec.Struct, frozen=True):
    """What there is beside outputs and targets.

    The names of labels, what logits are divided by, the probability from which on one of several labels is said; the
    outputs for texts that belong to no label, and for misspelt texts.
    """

    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    cut: float = 0.5
    outside: Floats | None = None
    typos: Outputs | None = None


class Parts(NamedTuple):
    """A metric that is a ratio of sums over texts: [n] each."""

    part: NDArray[np.float64]
    whole: NDArray[np.float64]


def _no_figure(chosen: NDArray[np.int64]) -> float:
    raise AssertionError("a metric of parts")


class Judged(msgspec.Struct, frozen=True):
    """What is known of answers once they are held against the truth.

    The metric is a ratio of `parts`, or else a `figure` of chosen texts as a whole (their indices may repeat). Recalls
    and their counts are by label, if there are labels. Whether each text is `right`, where it is that or wrong. The
    `confidence` of each decision, and whether it `held`; what each text was told (`said`).
    """

    metric: str
    n: int
    parts: Parts | None = None
    figure: Resampled = _no_figure
    macro_f1: float | None = None
    recalls: NDArray[np.float64] | None = None
    counts: NDArray[np.int64] | None = None
    right: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float64] | None = None
    held: NDArray[np.bool_] | None = None
    said: tuple[object, ...] = ()
    also: dict[str, float] = {}

    def value(self) -> float:
        """The metric as a share."""
        if self.parts is not None:
            whole = float(self.parts.whole.sum())
            return float(self.parts.part.sum()) / whole if whole else 1.0
        return self.figure(np.arange(self.n))


def judged(task: Task, outputs: Outputs, targets: Targets, beside: Beside) -> Judged:
    """Hold outputs against targets. Raises RequestError where they do not fit, or outputs are not numbers."""
    if task != "tagging":
        _check(cast(Floats, outputs), targets, paired=task == "embedding")
    return _JUDGES[task](outputs, targets, beside)


def sureness(logits: Floats, temperature: float) -> NDArray[np.float64]:
    """The confidence of classifications: the largest probability of each [n]."""
    return np.asarray(probabilities(logits, temperature).max(axis=-1))


def _classification(outputs: Outputs, targets: Targets, beside: Beside) -> Judged:
    logits, labels = cast(Floats, outputs), cast("NDArray[np.int64]", targets)
    predicted, classes = logits.argmax(axis=1), logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise RequestError(
            f"A label is number {labels.max() if labels.max() >= classes else labels.min()}, of {classes} columns.",
            hint="The model and the texts must be of the same set of labels.",
        )
    right = predicted == labels
    return Judged(
        "accuracy",
        len(labels),
        Parts(right.astype(np.float64), np.ones(len(labels))),
        macro_f1=classification.macro_f1(predicted, labels, classes),
        recalls=classification.recalls(predicted, labels, classes),
        counts=classification.support(labels, classes),
        right=right,
        confidence=sureness(logits, beside.temperature),
        held=right,
        said=tuple(predicted.tolist()),
    )


def _multi_label(outputs: Outputs, targets: Targets, beside: Beside) -> Judged:
    sure = each_probability(cast(Floats, outputs), beside.temperature)
    true, said = np.asarray(targets) > 0.5, multi_label.chosen(sure, beside.cut)
    recalls, counts = multi_label.recalls(said, true)
    return Judged(
        "micro-F1",
        len(true),
        Parts(*multi_label.f1_parts(said, true)),
        macro_f1=multi_label.macro_f1(said, true),
        recalls=recalls,
        counts=counts,
        confidence=np.where(said, sure, 1 - sure).ravel(),
        held=(said == true).ravel(),
        said=tuple(row.tobytes() for row in said),
    )


def _regression(outputs: Outputs, targets: Targets, beside: Beside) -> Judged:
    amounts, true = np.asarray(outputs, dtype=np.float64).reshape(-1), np.asarray(targets, dtype=np.float64)
    return Judged(
        "Spearman",
        len(true),
        figure=lambda chosen: spearman(amounts[chosen], true[chosen]),
        also={
            "Pearson": pearson(amounts, true),
            "MSE": regression.mse(amounts, true),
            "MAE": regression.mae(amounts, true),
        },
    )


def _tagging(outputs: Outputs, targets: Targets, beside: Beside) -> Judged:
    said, true = cast(Spans, outputs), cast(Spans, targets)
    if len(said) != len(true) or not len(true):
        raise _mismatch(len(said), len(true))
    count = 1 + max((span[2] for text in true for span in text), default=-1)
    recalls, counts = tagging.recalls(said, true, max(count, len(beside.labels)))
    return Judged(
        "span F1",
        len(true),
        Parts(*tagging.f1_parts(said, true)),
        macro_f1=tagging.macro_f1(said, true),
        recalls=recalls,
        counts=counts,
        said=tuple(tuple(sorted(text)) for text in said),
    )


def _embedding(outputs: Outputs, targets: Targets, beside: Beside) -> Judged:
    vectors = cast(Floats, outputs)
    if vectors.ndim == 2:
        return _alike(vectors, cast(Floats, targets))
    if targets is not None:
        rated = np.asarray(targets, dtype=np.float64)
        near = np.array(
            [float(retrieval.cosine(one[None], two[None])[0, 0]) for one, two in zip(*vectors, strict=True)]
        )
        return Judged("Spearman", len(rated), figure=lambda chosen: spearman(near[chosen], rated[chosen]))
    scores = retrieval.cosine(vectors[0], vectors[1])
    wanted = np.eye(len(scores))
    first = retrieval.first_places(scores, wanted)
    return Judged(
        "recall@1",
        len(scores),
        Parts((first == 1).astype(np.float64), np.ones(len(scores))),
        right=first == 1,
        said=tuple(scores.argmax(axis=1).tolist()),
        also={
            "recall@10": retrieval.recall_at(scores, wanted, 10),
            "MRR": retrieval.mrr(scores, wanted),
            "nDCG@10": retrieval.ndcg(scores, wanted, 10),
        },
    )


def _alike(vectors: Floats, others: Floats) -> Judged:
    """Whether texts that one model finds alike are so to another: Spearman of the cosines of all pairs."""
    if len(vectors) < 2:
        raise RequestError("One text alone is not like another.", hint="Give two texts or more.")
    kept = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), MOST_TEXTS)).astype(np.int64))
    ours, theirs = (retrieval.cosine(side[kept], side[kept]) for side in (vectors, others))

    def figure(chosen: NDArray[np.int64]) -> float:
        left, right = np.triu_indices(len(chosen), 1)
        one, other = chosen[left], chosen[right]
        apart = one != other  # a text drawn twice is like itself, which tells nothing
        one, other = one[apart], other[apart]
        return spearman(ours[one, other], theirs[one, other])

    return Judged(ALIKE, len(kept), figure=figure)


def _check(outputs: Floats, targets: Targets, paired: bool) -> None:
    n = outputs.shape[1] if paired and outputs.ndim == 3 else len(outputs)
    if targets is None and not (paired and outputs.ndim == 3):
        raise RequestError(f"There are {n} outputs, and nothing to hold them against.", hint="Give targets.")
    if not n or (targets is not None and len(targets) != n):
        raise _mismatch(n, 0 if targets is None else len(targets))
    if broken := int(np.sum(~np.isfinite(outputs))):
        raise RequestError(
            f"{broken:,} of {outputs.size:,} outputs of the model are not finite numbers.",
            hint="Its training went astray, most often by too high a learning rate.",
        )


def _mismatch(outputs: int, targets: int) -> RequestError:
    return RequestError(
        f"{outputs:,} outputs are to be held against {targets:,} targets.",
        hint="Give one of each for every text, and at least one text.",
    )


_JUDGES: dict[Task, Callable[[Outputs, Targets, Beside], Judged]] = {
    "classification": _classification,
    "multi-label": _multi_label,
    "regression": _regression,
    "tagging": _tagging,
    "embedding": _embedding,
}
