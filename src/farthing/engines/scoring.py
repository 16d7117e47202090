"""What a model says of a batch of texts, ready to be told."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farthing.engines.batching import runs
from farthing.engines.onnx import BATCH_TOKENS, Floats, Model
from farthing.errors import UpstreamError

Item = str | tuple[str, str]
"""A text, or a pair of texts to be read as one."""

SETUP_TOKENS: Final = 16
"""What one run more costs, in tokens: for a student of 1.4 million parameters 100 us, at 8 us to the token. A larger
model's run costs fewer; within 8 to 32 it makes a difference of 3 %."""

DIGITS: Final = 6
"""Probabilities are told to so many decimals: what is beyond says nothing, and would fill half of the answer."""


class Scored(NamedTuple):
    """What a model says of one text, which came to so many `tokens`.

    `values` are probabilities of the labels, scores, or an embedding, which is kept as an array; `best` is the index of
    the likeliest label, and `confidence` how likely the model holds it to be right.
    """

    tokens: int
    values: "list[float] | NDArray[np.float32]"
    best: int = 0
    confidence: float = 1.0


def score(model: Model, items: Sequence[Item]) -> list[Scored | Exception]:
    """What a model says of texts, in their order; they are run together, those of like lengths at once.

    An UpstreamError stands in the place of a text for which the model gives no numbers.
    """
    ids = _encoded(model, items)
    lengths = [len(one) for one in ids]
    outputs: Floats = np.empty((0, 0), np.float32)
    for places in runs(lengths, setup=SETUP_TOKENS, most=BATCH_TOKENS):
        rows = model.run([ids[place] for place in places])
        if not len(outputs):
            outputs = np.empty((len(items), rows.shape[1]), np.float32)
        outputs[places] = rows
    found: list[Scored | Exception] = list(_scored(model, outputs, lengths))
    sound = np.isfinite(outputs).all(axis=1)
    if not sound.all():
        for place in np.flatnonzero(~sound).tolist():
            found[place] = _senseless(model, lengths[place])
    return found


def _senseless(model: Model, tokens: int) -> UpstreamError:
    return UpstreamError(
        f"The model {model.artefact.name} gave values that are no numbers for a text of {tokens} tokens.",
        hint="Make the artefact again; such a model should not have passed its gates.",
    )


def _encoded(model: Model, items: Sequence[Item]) -> list[list[int]]:
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) == len(items):
        return model.tokens.encode(texts)
    alone = iter(model.tokens.encode(texts))
    paired = iter(model.tokens.encode_pairs([item for item in items if not isinstance(item, str)]))
    return [next(alone) if isinstance(item, str) else next(paired) for item in items]


def _scored(model: Model, outputs: Floats, lengths: Sequence[int]) -> list[Scored]:
    task = model.artefact.task
    if task == "embedding":
        return [Scored(count, row) for count, row in zip(lengths, outputs, strict=True)]
    if task == "regression":
        return [Scored(count, row) for count, row in zip(lengths, _told(outputs), strict=True)]
    shares = probabilities(outputs, model.artefact.temperature, together=task == "classification")
    best = shares.argmax(axis=1)
    if task == "classification":
        sure = shares[np.arange(len(shares)), best]
    else:
        sure = np.maximum(shares, 1 - shares).min(axis=1)  # as sure as of the label it is least sure of
    rows = zip(lengths, _told(shares), best.tolist(), sure.round(DIGITS).tolist(), strict=True)
    return [Scored(*row) for row in rows]


def probabilities(logits: Floats, temperature: float, *, together: bool) -> NDArray[np.float64]:
    """Probabilities of labels [texts, labels]: that sum to 1 for each text where they exclude one another (`together`).

    softmax(logits / temperature), else 1 / (1 + exp(-logits / temperature)).

    >>> probabilities(np.array([[0.0, 0.0]], np.float32), 1.0, together=True).tolist()
    [[0.5, 0.5]]
    """
    scaled = np.where(np.isfinite(logits), logits, 0).astype(np.float64) / temperature
    if not together:
        return np.asarray(1 / (1 + np.exp(-np.clip(scaled, -500, 500))))
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def _told(values: NDArray[np.floating]) -> list[list[float]]:
    rows: list[list[float]] = values.astype(np.float64).round(DIGITS).tolist()
    return rows
