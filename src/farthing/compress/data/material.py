"""Material: all the texts of a job, read, split and checked against one another."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from farthing.compress.data.reading import read_examples, read_texts, split, without
from farthing.compress.examples import Examples
from farthing.compress.job import Job, Labeller
from farthing.compress.labelling.labeller import label_texts
from farthing.compress.parsing import digest
from farthing.compress.progress import Progress
from farthing.errors import TrafficError
from farthing.schema import usd


class Material(msgspec.Struct, frozen=True):
    """The texts of a job by purpose, the names of the labels, and what a person should know about them.

    `digest` stands for all that is learned from or decided by: texts and targets of `train` and `dev`, `unlabeled` and
    labels. `test` and `outside` are not in it: what is only reported changes nothing before.
    """

    train: Examples
    dev: Examples
    test: Examples
    unlabeled: Examples
    outside: Examples
    labels: tuple[str, ...]
    warnings: tuple[str, ...]
    digest: str


def read_material(job: Job, folder: Path) -> Material:
    """Read what a job names, as seen from `folder`; what is held out is drawn with the job's seed.

    Texts of dev and test are taken out of what is learned from. Raises TrafficError with file and line.
    """
    data, task = job.data, job.task
    learned = (
        read_examples(data, data.train, task, folder, None) if data.train else read_texts(data, data.unlabeled, folder)
    )
    warnings = list(learned.warnings)
    train = learned.examples
    if data.dev:
        found = read_examples(data, data.dev, task, folder, learned.labels)
        dev = found.examples
        warnings += found.warnings
        if learned.alone:
            warnings.append(f"Classes with a single example to learn from: {learned.alone}.")
    else:
        _refuse_alone(learned.alone)
        train, dev = split(train, data.held_out, np.random.default_rng(job.seed), task == "classification")
        _refuse_too_few(train, dev, data.train)
    test = Examples(())
    if data.test:
        found = read_examples(data, data.test, task, folder, learned.labels)
        test = found.examples
        warnings += found.warnings
    train, leaked = without(train, dev, test)
    if leaked:
        warnings.append(f"{leaked:,} texts to learn from are in dev or test too, and were left out of training.")
    unlabeled, outside = Examples(()), Examples(())
    if data.unlabeled:
        texts = read_texts(data, data.unlabeled, folder)
        unlabeled, leaked = without(texts.examples, dev, test)
        warnings += texts.warnings
        if leaked:
            warnings.append(f"{leaked:,} unlabeled texts are in dev or test too, and were left out of training.")
    if data.outside:
        texts = read_texts(data, data.outside, folder)
        outside = texts.examples
        warnings += texts.warnings
    if not len(train):
        raise TrafficError("Every text to learn from is in dev or test too.", hint="Split the files apart.")
    stands_for = _digest(learned.labels, train, dev, unlabeled)
    return Material(train, dev, test, unlabeled, outside, learned.labels, tuple(dict.fromkeys(warnings)), stands_for)


def with_bought_labels(material: Material, labeller: Labeller, key: str, answers: Path, progress: Progress) -> Material:
    """The material with the labels that a larger model gives its unlabeled texts; see `labelling.label_texts`.

    Texts that got a label are learned from like any other, the rest stays unlabeled.
    """
    progress.stage("labels")
    found = label_texts(material.unlabeled.texts, material.labels, labeller, key, answers, progress)
    progress.note(
        f"{labeller.model} labelled {len(found.labelled):,} of {len(material.unlabeled):,} texts for "
        f"${usd(found.cost)}{' and more' if found.unpriced else ''}; {found.strays:,} answers were no label, "
        f"{found.unsure:,} unsure, {found.refused:,} refused."
    )
    numbers = {label: number for number, label in enumerate(material.labels)}
    known = {one.text for one in found.labelled}
    bought = [numbers[one.label] for one in found.labelled]
    train = material.train
    return replace(
        material,
        train=Examples(
            (*train.texts, *(one.text for one in found.labelled)),
            np.concatenate([np.asarray(train.targets, np.int64), np.asarray(bought, np.int64)]),
        ),
        unlabeled=Examples(tuple(text for text in material.unlabeled.texts if text not in known)),
        digest=digest([material.digest, [(one.text, one.label) for one in found.labelled]]),
    )


def _refuse_alone(alone: str) -> None:
    if alone:
        raise TrafficError(
            f"These classes have one example only, which cannot be both learned from and held out: {alone}.",
            hint="Add examples, correct the labels, leave the classes out, or name a file of its own with data.dev.",
        )


def _refuse_too_few(train: Examples, dev: Examples, files: Sequence[str]) -> None:
    if not len(train) or not len(dev):
        raise TrafficError(
            f"{', '.join(files)}: {len(train) + len(dev)} examples cannot be split, to learn from and to decide by.",
            hint="Give more, or name a file of its own with data.dev.",
        )


def _digest(labels: tuple[str, ...], *examples: Examples) -> str:
    hashed = sha256(msgspec.json.encode(labels))
    for some in examples:
        targets = some.targets.tobytes() if isinstance(some.targets, np.ndarray) else msgspec.json.encode(some.targets)
        for part in (msgspec.json.encode((some.texts, some.seconds)), targets):
            hashed.update(sha256(part).digest())
    return hashed.hexdigest()
