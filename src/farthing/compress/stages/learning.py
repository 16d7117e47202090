"""How a student learns from its teacher; distillation and every recovery go through here."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from farthing.compress.answering import main_metric, said
from farthing.compress.job import Losses
from farthing.compress.networks.encoder import Insight
from farthing.compress.networks.keeping import Kept
from farthing.compress.networks.loading import Studied
from farthing.compress.stages.setting import Setting
from farthing.compress.training.batches import Batch, Encoded, batch, encoded, shuffled
from farthing.compress.training.corpus import Corpus, Taught, answered, corpus
from farthing.compress.training.loop import Lesson, Schedule, Trained, device, train
from farthing.compress.training.losses import (
    contrastive_loss,
    hard_loss,
    pooled_loss,
    relations_loss,
    soft_loss,
    states_loss,
)


class Instructor(NamedTuple):
    """A teacher with what it said of the pool, and the pool as it reads it."""

    model: nn.Module
    texts: Encoded
    taught: Taught


class Manner(NamedTuple):
    """How to learn: what pulls how hard, and for how long."""

    losses: Losses
    temperature: float
    batch: int
    schedule: Schedule


class Lecture:
    """The pool as a student reads it, and its loss on batches of it."""

    def __init__(self, setting: Setting, student: Kept, instructor: Instructor, manner: Manner) -> None:
        self.task, self.encoder, self.instructor, self.manner = setting.task, student.encoder, instructor, manner
        self.setting = setting
        self.pool: Corpus = corpus(setting.task, student.tokenizer, student.padding, setting.pool, setting.outputs)
        self.dev = encoded(student.tokenizer, student.padding, setting.dev, offsets=setting.task == "tagging")
        self.bridges = nn.ModuleList()
        losses, widths = manner.losses, (student.encoder.shape.width, instructor.taught.pooled.shape[1])
        if widths[0] != widths[1] and (losses.pooled or losses.contrastive or losses.hidden):
            self.bridges.append(nn.Linear(*widths, bias=False).to(device()))

    def batches(self, epoch: int, *purpose: int) -> list[Batch]:
        """The pool in random order."""
        rows = shuffled(self.pool.texts, self.manner.batch, self.setting.dice(*purpose, epoch))
        return [batch(self.pool.texts, some, device()) for some in rows]

    def loss(self, some: Batch) -> Tensor:
        """The weighted sum of all that pulls the student."""
        losses, taught = self.manner.losses, self.instructor.taught
        insight = in_full(self.encoder.insight(some.ids, some.mask))
        total = insight.output.sum() * 0.0
        if losses.soft:
            said = taught.outputs_of(some)
            total = total + losses.soft * soft_loss(self.task, insight.output, said, some.mask, self.manner.temperature)
        if losses.hard:
            total = total + losses.hard * hard_loss(self.task, insight.output, self.pool.targets_of(some))
        if losses.pooled:
            total = total + losses.pooled * pooled_loss(self._across(insight.pooled), taught.pooled_of(some))
        if losses.contrastive:
            total = total + losses.contrastive * contrastive_loss(self._across(insight.pooled), taught.pooled_of(some))
        if losses.hidden or losses.relations:
            total = total + self._inner(some, insight)
        return total

    def score(self) -> float:
        """The main metric on the held-out texts, in percent."""
        outputs = said(self.task, answered(self.encoder, self.dev), self.dev.offsets, self.setting.labels)
        return main_metric(self.task, outputs, self.setting.dev.targets)

    def _across(self, states: Tensor) -> Tensor:
        """States in the teacher's width."""
        return self.bridges[0](states) if len(self.bridges) else states

    def _inner(self, some: Batch, insight: Insight) -> Tensor:
        """What hidden states and relations add, over the texts that both cut into the same number of tokens."""
        texts = self.instructor.texts
        same = [n for n, row in enumerate(some.rows) if len(texts.ids[row]) == len(self.pool.texts.ids[row])]
        if not same:
            return insight.output.sum() * 0.0
        theirs = batch(texts, some.rows[same], device())
        mask = theirs.mask
        with torch.no_grad():
            studied: Studied = self.instructor.model  # type: ignore[assignment]
            taught = studied.insight(theirs.ids, mask).states
        total = insight.output.sum() * 0.0
        losses, count = self.manner.losses, len(insight.states)
        for number, states in enumerate(insight.states):
            wanted = taught[round(number * (len(taught) - 1) / max(count - 1, 1))]
            ours = states[same][:, : mask.shape[1]]
            if losses.hidden:
                total = total + losses.hidden / count * states_loss(self._across(ours), wanted, mask)
            if losses.relations and number == count - 1:
                total = total + losses.relations * relations_loss(ours, wanted, mask)
        return total


def in_full(insight: Insight) -> Insight:
    """An insight in fp32, which losses are computed in, whatever the model computes in."""
    return Insight(insight.output.float(), insight.pooled.float(), tuple(states.float() for states in insight.states))


def learn(lecture: Lecture, resume: Path, purpose: int) -> Trained:
    """Train the lecture's student in place; `purpose` tells apart the random numbers of several lessons."""
    lecture.encoder.to(device())
    lesson = Lesson(lambda epoch: lecture.batches(epoch, purpose), lecture.loss, lecture.score)
    extra = [lecture.bridges] if len(lecture.bridges) else []
    return train(lecture.encoder, lesson, lecture.manner.schedule, lecture.setting.progress, resume, extra)
