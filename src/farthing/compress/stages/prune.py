"""Structured pruning: heads, neurons, channels, layers and pieces are cut out, and the rest learns to do without."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from farthing.compress.job import Prune
from farthing.compress.networks.encoder import Encoder
from farthing.compress.networks.importance import Importance, importance, most_important
from farthing.compress.networks.keeping import Kept
from farthing.compress.networks.slicing import with_heads_and_neurons, with_layers, with_vocabulary, with_width
from farthing.compress.networks.vocabulary import counted, trimmed
from farthing.compress.stages.distil import SAMPLED
from farthing.compress.stages.learning import Instructor, Lecture, Manner, learn
from farthing.compress.stages.setting import Setting
from farthing.compress.training.loop import Schedule, Trained


def prune(setting: Setting, stage: Prune, before: Kept, instructor: Instructor, resume: Path) -> tuple[Kept, Trained]:
    """The model with less of everything that the stage names, in steps with recovery after each."""
    torch.manual_seed(setting.job.seed)
    student, spent = before, 0.0
    trained = Trained(0.0, 0, 0.0)
    for step in range(1, stage.steps + 1):
        manner = Manner(
            stage.losses, stage.temperature, stage.batch, Schedule(stage.epochs, stage.rate, stage.patience)
        )
        lecture = Lecture(setting, student, instructor, manner)
        found = importance(student.encoder, lecture.batches(0, 4, step)[:SAMPLED], lecture.loss, stage.importance)
        student = cut(setting, student, found, _share(stage, before.encoder, step))
        trained = learn(Lecture(setting, student, instructor, manner), resume.with_suffix(f".{step}"), 5 + step)
        spent += trained.cpu_s
    return student, trained._replace(cpu_s=spent)


def _share(stage: Prune, before: Encoder, step: int) -> Prune:
    """The sizes after a step: a straight line from those before to those wanted."""
    left = 1 - step / stage.steps

    def between(wanted: int, present: int) -> int:
        return wanted and min(present, round(wanted + max(present - wanted, 0) * left))

    shape = before.shape
    return Prune(
        heads=between(stage.heads, max(layer.heads for layer in shape.layers)),
        ffn=between(stage.ffn, max(layer.ffn for layer in shape.layers)),
        width=between(stage.width, shape.width),
        layers=between(stage.layers, len(shape.layers)),
        vocabulary=between(stage.vocabulary, shape.vocabulary),
    )


def cut(setting: Setting, student: Kept, found: Importance, sizes: Prune) -> Kept:
    """The model cut down to sizes, of which 0 means all; what matters least goes."""
    encoder, tokenizer, padding = student.encoder, student.tokenizer, student.padding
    heads, neurons = list(found.heads), list(found.neurons)
    if 0 < sizes.layers < len(encoder.layers):
        kept = most_important(found.layers, sizes.layers)
        encoder = with_layers(encoder, kept)
        heads, neurons = [heads[number] for number in kept], [neurons[number] for number in kept]
    if sizes.heads or sizes.ffn:
        encoder = with_heads_and_neurons(encoder, _chosen(heads, sizes.heads), _chosen(neurons, sizes.ffn))
    if 0 < sizes.width < encoder.shape.width:
        encoder = with_width(encoder, most_important(found.channels, sizes.width))
    if 0 < sizes.vocabulary < encoder.shape.vocabulary:
        counts = counted(tokenizer, (*setting.pool.texts, *setting.pool.seconds))
        tokenizer, order = trimmed(tokenizer, counts, sizes.vocabulary, 1)
        encoder, padding = with_vocabulary(encoder, order), order.index(padding)
    return Kept(encoder, tokenizer, padding)


def _chosen(scores: Sequence[Tensor], count: int) -> list[list[int]]:
    return [most_important(some, count or len(some)) for some in scores]
