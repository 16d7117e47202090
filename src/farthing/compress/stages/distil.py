"""Distillation: a smaller student cut from the model before, taught by the teacher."""

from pathlib import Path

import torch
from tokenizers import Tokenizer

from farthing.compress.job import Distil
from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape
from farthing.compress.networks.importance import importance, most_important
from farthing.compress.networks.keeping import Kept
from farthing.compress.networks.loading import Pretrained
from farthing.compress.networks.slicing import factorized, with_layers, with_positions, with_vocabulary, with_width
from farthing.compress.networks.vocabulary import counted, trimmed
from farthing.compress.stages.learning import Instructor, Lecture, Manner, learn
from farthing.compress.stages.setting import Setting
from farthing.compress.stages.teach import Ensemble
from farthing.compress.training.loop import Schedule, Trained
from farthing.errors import ConfigError

SAMPLED = 32
"""Batches that importance is measured on."""

DEFAULT_WIDTH = 384


def distil(
    setting: Setting, stage: Distil, before: Pretrained, instructor: Instructor, resume: Path
) -> tuple[Kept, Trained]:
    """A student of the sizes that the stage says, taught on the pool."""
    torch.manual_seed(setting.job.seed)
    student = begun(setting, stage, before)
    manner = Manner(stage.losses, stage.temperature, stage.batch, Schedule(stage.epochs, stage.rate, stage.patience))
    if 0 < stage.width < student.encoder.shape.width:
        lecture = Lecture(setting, student, instructor, manner)
        found = importance(student.encoder, lecture.batches(0, 2)[:SAMPLED], lecture.loss)
        student = student._replace(encoder=with_width(student.encoder, most_important(found.channels, stage.width)))
    lecture = Lecture(setting, student, instructor, manner)
    trained = learn(lecture, resume, 3)
    return student, trained


def begun(setting: Setting, stage: Distil, before: Pretrained) -> Kept:
    """The student before its first step."""
    tokenizer, padding = before.tokenizer, before.padding
    # Of an ensemble, the student begins as its first member.
    model = before.model.members[0] if isinstance(before.model, Ensemble) else before.model
    encoder = model if isinstance(model, Encoder) else _from_nothing(setting, stage, before)
    encoder = with_layers(encoder, chosen_layers(stage, len(encoder.layers)))
    encoder = with_positions(encoder, setting.job.data.max_length)
    counts = counted(tokenizer, (*setting.pool.texts, *setting.pool.seconds))
    if stage.vocabulary:
        tokenizer, order = trimmed(tokenizer, counts, stage.vocabulary, stage.seen)
        encoder = with_vocabulary(encoder, order)
        counts = type(counts)({number: counts[before_] for number, before_ in enumerate(order)})
        padding = order.index(padding)
    if stage.embedding:
        seen = [float(counts[number]) for number in range(encoder.shape.vocabulary)]
        weights = torch.tensor(seen, device=encoder.tokens.weight.device)
        encoder = factorized(encoder, stage.embedding, weights)
    return Kept(encoder, cut_off(tokenizer, setting.job.data.max_length), padding)


def chosen_layers(stage: Distil, depth: int) -> list[int]:
    """The layers a student starts from: those named, or so many spread evenly from the first to the last.

    >>> chosen_layers(Distil(layers=2), 6), chosen_layers(Distil(layers=(0, 3)), 6)
    ([0, 5], [0, 3])
    """
    if isinstance(stage.layers, tuple):
        beyond = [number for number in stage.layers if not 0 <= number < depth]
        if beyond:
            raise ConfigError(
                f"The model has {depth} layers, 0 to {depth - 1}; the distil stage asks for layer {beyond[0]}.",
                hint="Name layers that are there, or say how many.",
            )
        return list(stage.layers)
    if stage.layers >= depth:
        return list(range(depth))
    if stage.layers == 1:
        return [depth - 1]
    return [round(number * (depth - 1) / (stage.layers - 1)) for number in range(stage.layers)]


def cut_off(tokenizer: Tokenizer, length: int) -> Tokenizer:
    """The tokenizer, cutting off texts after so many tokens and filling up none."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return tokenizer


def _from_nothing(setting: Setting, stage: Distil, before: Pretrained) -> Encoder:
    """A student of an architecture that none can be cut from: random, but for what it is taught."""
    setting.progress.note("The teacher is of an architecture that students cannot be cut from: this one starts random.")
    width = stage.width or DEFAULT_WIDTH
    depth = stage.layers if isinstance(stage.layers, int) else len(stage.layers)
    layers = tuple(LayerShape(width // 32, 4 * width) for _ in range(depth))
    vocabulary = before.tokenizer.get_vocab_size(with_added_tokens=True)
    length = setting.job.data.max_length
    return Encoder(
        EncoderShape(vocabulary, length, width, width, layers, setting.outputs, output=setting.output)
    ).eval()
