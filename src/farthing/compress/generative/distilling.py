"""Distilling a decoder: a smaller one learns what its teacher expects to come next, and how surely."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from farthing.compress.generative.decoders import Model
from farthing.compress.generative.job import Relearn
from farthing.compress.progress import Progress
from farthing.compress.training.batches import Batch, Encoded, batch, in_order, shuffled
from farthing.compress.training.loop import Lesson, Schedule, Trained, device, lower_precision, train

MOST_KEPT_BYTES: Final = 2_000_000_000
"""The teacher is asked once and its answers kept when they are not more than this; else it is asked in every epoch."""

_LEAST = 1e-6
"""The least probability that is left to the tokens not learned one by one, so that its logarithm is finite."""

Rows = NDArray[np.int64]


class Taught(NamedTuple):
    """What a teacher expects next: the likeliest tokens, and the logarithms of their softened probabilities."""

    ids: Tensor
    logs: Tensor


class Course(NamedTuple):
    """What is learned, and what decides when it is enough: sequences of token ids."""

    train: Encoded
    dev: Encoded
    seed: int


def distil(student: Model, teacher: Model, course: Course, stage: Relearn, progress: Progress, resume: Path) -> Trained:
    """Train a student in place on what its teacher expects, and leave it as it was after its best epoch.

    The score is the mean log-probability of held-out tokens. After each epoch what is needed to go on is written to
    `resume`. Raises ConfigError when the loss is not a number any more, Unavailable when memory runs out.
    """
    student.to(device())
    teacher.to(device()).eval()
    lessons = _Lessons(student, teacher, course, stage)
    lesson = Lesson(lessons.batches, lessons.loss, lambda: log_probability(student, course.dev))
    try:
        return train(student, lesson, Schedule(stage.epochs, stage.rate, stage.patience), progress, resume)
    finally:
        student.cpu()
        teacher.cpu()


@torch.no_grad()
def log_probability(model: Model, texts: Encoded, size: int = 16) -> float:
    """The mean log-probability of each token but a text's first, given those before it; perplexity is exp(-this)."""
    total, count = 0.0, 0
    for rows in in_order(texts, size):
        some = batch(texts, rows, next(model.parameters()).device)
        logs = _next(model, some).log_softmax(-1)
        mask = some.mask[:, 1:].bool()
        found = logs.gather(-1, some.ids[:, 1:, None])[..., 0]
        total += float(found[mask].double().sum())
        count += int(mask.sum())
    return total / max(count, 1)


def softened(logits: Tensor, best: int, temperature: float) -> Taught:
    """The `best` likeliest tokens and the logarithms of their probabilities at a temperature, [..., best]."""
    logs, ids = (logits.float() / temperature).log_softmax(-1).topk(min(best, logits.shape[-1]), dim=-1)
    return Taught(ids, logs)


def divergence(logits: Tensor, taught: Taught, temperature: float) -> Tensor:
    """How far a student is from what was taught, at each place: KL(teacher || student), all other tokens as one.

    Scaled by the temperature squared, so that gradients do not depend on it (Hinton et al. 2015, arXiv:1503.02531).
    """
    found = (logits.float() / temperature).log_softmax(-1).gather(-1, taught.ids)
    shares = taught.logs.exp()
    apart = (shares * (taught.logs - found)).sum(-1)
    if taught.ids.shape[-1] < logits.shape[-1]:
        rest = (1 - shares.sum(-1)).clamp(min=_LEAST)
        left = torch.log1p(-found.exp().sum(-1).clamp(max=1 - _LEAST))
        apart = apart + rest * (rest.log() - left)
    return apart * temperature**2


class _Lessons:
    """Batches of an epoch, and what a student loses on one."""

    def __init__(self, student: Model, teacher: Model, course: Course, stage: Relearn) -> None:
        self.student, self.teacher, self.course, self.stage = student, teacher, course, stage
        self.tokens = [len(ids) - 1 for ids in course.train.ids]
        vocabulary = int(teacher.config.vocab_size)
        kept_bytes = sum(self.tokens) * min(stage.best, vocabulary) * (4 + 2)
        self.kept = self._asked() if kept_bytes <= MOST_KEPT_BYTES and stage.epochs > 1 and stage.soft else None

    def batches(self, epoch: int) -> Sequence[Rows]:
        """Rows of an epoch in random order, as many as the budget of tokens allows."""
        rows = shuffled(self.course.train, self.stage.batch, np.random.default_rng([self.course.seed, epoch]))
        if not self.stage.tokens:
            return rows
        budget = math.ceil(self.stage.tokens / max(self.stage.epochs, 1))
        before = np.cumsum([sum(self.tokens[row] for row in some) for some in rows])
        return rows[: max(int(np.searchsorted(before, budget, side="right")), 1)]

    def loss(self, rows: Rows) -> Tensor:
        some = batch(self.course.train, rows, device())
        logits = _next(self.student, some)
        mask = some.mask[:, 1:].bool()
        loss = logits.new_zeros((), dtype=torch.float32)
        if self.stage.soft:
            taught = self._taught(some, mask)
            loss = loss + self.stage.soft * divergence(logits[mask], taught, self.stage.temperature).mean()
        if self.stage.hard:
            true = some.ids[:, 1:][mask]
            loss = loss + self.stage.hard * functional.cross_entropy(logits[mask].float(), true)
        return loss

    def _taught(self, some: Batch, mask: Tensor) -> Taught:
        """What the teacher expects at the places of a batch that are no padding, one after the other."""
        if self.kept is None:
            with torch.no_grad():
                return softened(_next(self.teacher, some)[mask], self.stage.best, self.stage.temperature)
        ids = torch.cat([self.kept[row].ids for row in some.rows]).long()
        logs = torch.cat([self.kept[row].logs.float() for row in some.rows])
        return Taught(ids.to(mask.device), logs.to(mask.device))

    @torch.no_grad()
    def _asked(self) -> dict[int, Taught]:
        """What the teacher expects in every text, asked once and kept in half precision."""
        kept: dict[int, Taught] = {}
        for rows in in_order(self.course.train, self.stage.batch):
            some = batch(self.course.train, rows, device())
            with lower_precision():
                taught = softened(_next(self.teacher, some), self.stage.best, self.stage.temperature)
            for place, row in enumerate(rows):
                length = self.tokens[row]
                ids, logs = taught.ids[place, :length], taught.logs[place, :length]
                kept[int(row)] = Taught(ids.int().cpu(), logs.half().cpu())
        return kept


def _next(model: Model, some: Batch) -> Tensor:
    """Logits of every token but a text's first, [batch, length - 1, vocabulary]."""
    logits: Tensor = model(input_ids=some.ids, attention_mask=some.mask, use_cache=False).logits
    return logits[:, :-1]
