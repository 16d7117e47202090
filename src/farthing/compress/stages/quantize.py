"""Quantization: weights and products in 8 bits, by the fastest recipe that keeps the floor."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from farthing.compress.answering import main_metric
from farthing.compress.evaluating import asked
from farthing.compress.exporting import export_onnx
from farthing.compress.job import Losses, Quantize
from farthing.compress.networks.keeping import Kept
from farthing.compress.quantizing import Batch, Chosen, choose, fake_quantized, padded_batches, recipe_of
from farthing.compress.quantizing import quantize as write_quantized
from farthing.compress.stages.learning import Instructor, Lecture, Manner, learn
from farthing.compress.stages.setting import Setting
from farthing.compress.training.loop import Schedule
from farthing.engines.onnx import Model
from farthing.schema.artefact import MODEL

TIMED: Final = 200
"""Texts that recipes are timed on, one at a time."""

RECOVERY_RATE: Final = 1e-4
RECOVERY_BATCH: Final = 64


class Quantized(NamedTuple):
    """What was done, in words, and the CPU seconds that training with rounding took."""

    note: str
    cpu_s: float


class Before(NamedTuple):
    """The model to be quantized: its artefact, and its network where there is one to train on."""

    folder: Path
    kept: Kept | None


def quantized(
    setting: Setting, stage: Quantize, before: Before, instructed: Callable[[], Instructor], floor: float, work: Path
) -> Quantized:
    """Write the quantized graph of a model into the folder `work`, whose main metric is to be `floor` at least.

    A stage with `recovery` trains the model with rounded numbers first.
    """
    source, cpu_s = before.folder / MODEL, 0.0
    if stage.recovery and before.kept is not None:
        source = work / "recovered.onnx"
        cpu_s = _recovered(setting, stage, before.kept, instructed(), source)
    chosen = choose(
        source,
        [recipe_of(name, stage.embeddings) for name in stage.recipes],
        calibration(setting, before.folder, stage.calibration),
        lambda path: _score(setting, path, before.folder),
        floor,
        stage.exceptions,
        lambda path: _cost(setting, path, before.folder),
    )
    (work / MODEL).write_bytes(chosen.model)
    return Quantized(in_words(chosen), cpu_s)


def plainly(source: Path, target: Path) -> None:
    """Quantize a graph by the plainest recipe."""
    write_quantized(source, target, recipe_of("dynamic"))


def calibration(setting: Setting, folder: Path, count: int) -> list[Batch]:
    """Batches of so many training texts, as the artefact in a folder reads them."""
    model = Model.load(folder)
    rows = setting.dice(13).permutation(len(setting.train))[:count]
    if setting.train.seconds:
        ids = model.tokens.encode_pairs([(setting.train.texts[row], setting.train.seconds[row]) for row in rows])
    else:
        ids = model.encode([setting.train.texts[row] for row in rows])
    return padded_batches(sorted(ids, key=len), padding=model.tokens.padding)


def in_words(chosen: Chosen) -> str:
    """Which recipe was taken, and what it took."""
    exceptions = chosen.recipe.exceptions
    left = f", with {len(exceptions)} parts left in fp32" if exceptions else ""
    return f"{chosen.recipe.name}{left}; the best of {len(chosen.tried)} that were tried"


def _score(setting: Setting, path: Path, folder: Path) -> float:
    outputs = asked(Model.load(folder, graph=path), folder, setting.dev)
    return main_metric(setting.task, outputs, setting.dev.targets)


def _cost(setting: Setting, path: Path, folder: Path) -> float:
    """The median CPU seconds of one text alone."""
    model = Model.load(folder, graph=path)
    ids = model.encode(setting.dev.texts[:TIMED])
    took = []
    for one in ids:
        began = time.thread_time()
        model.run([one])
        took.append(time.thread_time() - began)
    return median(took)


def _recovered(setting: Setting, stage: Quantize, kept: Kept, instructor: Instructor, target: Path) -> float:
    """Train with rounded numbers, and export what came of it; CPU seconds."""
    manner = Manner(Losses(), 2.0, RECOVERY_BATCH, Schedule(stage.recovery, RECOVERY_RATE))
    with fake_quantized(kept.encoder, reduced=any(name.endswith("-reduced") for name in stage.recipes)):
        trained = learn(Lecture(setting, kept, instructor, manner), target.with_suffix(".resume"), 17)
    export_onnx(
        kept.encoder.cpu().eval(),
        target,
        output="embedding" if setting.task == "embedding" else "logits",
        vocabulary=kept.encoder.shape.vocabulary,
    )
    return trained.cpu_s
