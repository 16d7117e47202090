"""How good an artefact is: asked through what will serve it, on the processor it is made on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from farthing.compress.answering import Raw, said
from farthing.compress.data.texts import with_typos
from farthing.compress.examples import Examples
from farthing.engines.onnx import Model
from farthing.evaluation.answers import Beside, Outputs
from farthing.evaluation.assessing import assess, compare
from farthing.evaluation.confidence import Threshold, fit_temperature, probabilities, threshold_for
from farthing.evaluation.quality import Comparison, Quality
from farthing.schema import Task
from farthing.schema.artefact import TOKENIZER

TYPOS: Final = 0.05
"""Typing errors per character that robustness is measured at: about two in a question of eight words."""

AT_ONCE: Final = 256


class Examined(NamedTuple):
    """What an artefact says of texts, as evaluation takes it; of misspelt ones and those of no label where asked."""

    outputs: Outputs
    typos: Outputs | None = None
    outside: Outputs | None = None


def examine(folder: Path, examples: Examples, outside: Examples | None = None, *, seed: int = 0) -> Examined:
    """Ask the artefact in a folder about all texts; with `outside`, also about those and about misspelt ones."""
    model = Model.load(folder)
    plain = asked(model, folder, examples)
    if outside is None:
        return Examined(plain)
    misspelt = Examples(tuple(with_typos(examples.texts, np.random.default_rng(seed), TYPOS)), None, examples.seconds)
    # Misspelling moves the characters that spans name.
    typos = None if model.artefact.task == "tagging" else asked(model, folder, misspelt)
    return Examined(plain, typos, asked(model, folder, outside) if len(outside) else None)


def asked(model: Model, folder: Path, examples: Examples) -> Outputs:
    """What a model, whose tokenizer is in a folder, says of texts."""
    pairs = list(zip(examples.texts, examples.seconds, strict=True)) if examples.seconds else None
    ids = model.tokens.encode_pairs(pairs) if pairs else model.encode(examples.texts)
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    raw: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(ids)
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        for place, row in zip(places, model.run([ids[place] for place in places]), strict=True):
            raw[place] = row[: len(ids[place])] if row.ndim == 2 else row
    return answers(model.artefact.task, raw, folder, examples, model.artefact.labels)


def answers(task: Task, raw: Raw, folder: Path, examples: Examples, columns: Sequence[str]) -> Outputs:
    """Outputs by text as evaluation takes them; `columns` are the names of the artefact's."""
    if task != "tagging":
        return said(task, raw, (), columns)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    offsets = [one.offsets for one in tokenizer.encode_batch(list(examples.texts))]
    kinds = tuple(name.removeprefix("B-") for name in columns if name.startswith("B-"))
    return said(task, raw, [some[: len(one)] for some, one in zip(offsets, raw, strict=True)], kinds)


def quality(task: Task, examined: Examined, examples: Examples, labels: tuple[str, ...], temperature: float) -> Quality:
    """The figures that people are shown."""
    outside = examined.outside if task == "classification" else None
    beside = Beside(labels, temperature, outside=outside, typos=examined.typos)  # type: ignore[arg-type]
    return assess(task, examined.outputs, examples.targets, np.random.default_rng(0), beside)


def against(task: Task, before: Examined, after: Examined, examples: Examples, labels: tuple[str, ...]) -> Comparison:
    """What is lost from one to the other."""
    rng = np.random.default_rng(0)
    return compare(task, before.outputs, after.outputs, examples.targets, rng, Beside(labels))


class Confidence(NamedTuple):
    """How to read confidence: what logits are divided by, and from where on an answer is sure enough."""

    temperature: float = 1.0
    threshold: Threshold | None = None


def calibrated(task: Task, examined: Examined, examples: Examples, sure: float) -> Confidence:
    """Confidence that means what it says on held-out texts; `sure` is the percentage right that is enough."""
    targets = examples.targets
    if task not in ("classification", "multi-label") or not isinstance(targets, np.ndarray):
        return Confidence()
    logits = np.asarray(examined.outputs)
    temperature = fit_temperature(logits, targets)
    if task == "multi-label":
        return Confidence(temperature)
    confidence = probabilities(logits, temperature).max(axis=-1)
    return Confidence(temperature, threshold_for(confidence, logits.argmax(axis=-1) == targets, sure / 100))
