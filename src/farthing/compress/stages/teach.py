"""The teacher: a pre-trained encoder fine-tuned on the labels, an ensemble of them, or one that is finished."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from farthing.compress.answering import main_metric, said
from farthing.compress.job import Teacher
from farthing.compress.networks.encoder import Encoder, Insight, Layer
from farthing.compress.networks.loading import Foreign, Pretrained, Studied, load_finished, load_pretrained
from farthing.compress.networks.scratch import begin_from_nothing, learned_tokenizer
from farthing.compress.stages.setting import Setting
from farthing.compress.training.batches import batch, shuffled
from farthing.compress.training.corpus import Corpus, answered, corpus, taught
from farthing.compress.training.loop import Lesson, Schedule, Trained, device, train
from farthing.compress.training.losses import hard_loss
from farthing.errors import ConfigError

DROPOUT = 0.1
SHARPNESS = 20.0
"""How far apart the first answers of a head made of class means are: the factor on their cosines."""


class Ensemble(nn.Module):
    """Models of one tokenizer whose outputs are averaged; what goes on inside is the first one's."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask, both int64 [batch, length], to the mean output."""
        return self.insight(input_ids, attention_mask).output

    def insight(self, input_ids: Tensor, attention_mask: Tensor) -> Insight:
        """The first member's insight with the mean of all outputs."""
        insights = [_insight(member, input_ids, attention_mask) for member in self.members]
        return insights[0]._replace(output=torch.stack([one.output for one in insights]).mean(0))


def _insight(model: nn.Module, ids: Tensor, mask: Tensor) -> Insight:
    studied: Studied = model  # type: ignore[assignment]
    return studied.insight(ids, mask)


def load_teacher(setting: Setting, where: Path | None, folder: Path | None) -> Pretrained:
    """The teacher of a job: read from its path, with the weights that `teach` left in `folder` when it was trained."""
    chosen = setting.job.teacher
    if chosen.finished and where is not None:
        return load_finished(where, setting.labels, setting.output, chosen.pooling, setting.job.data.max_length)
    members = [_fresh(setting, where) for _ in range(chosen.members)]
    if folder is not None:
        for number, member in enumerate(members):
            member.model.load_state_dict(torch.load(folder / f"member-{number}.pt", weights_only=True))
    first = members[0]
    if len(members) == 1:
        return first
    return Pretrained(Ensemble([member.model for member in members]), first.tokenizer, first.padding)  # type: ignore[arg-type]


def teach(setting: Setting, where: Path | None, folder: Path, scratch: Path) -> list[Trained]:
    """Fine-tune the members of the teacher, and leave their weights in `folder`.

    Raises ConfigError when there is nothing to learn from.
    """
    trained = []
    for number in range(setting.job.teacher.members):
        state, found = member(setting, where, number, scratch / f"member-{number}.resume")
        torch.save(state, folder / f"member-{number}.pt")
        trained.append(found)
    return trained


def member(setting: Setting, where: Path | None, number: int, resume: Path) -> tuple[dict[str, Tensor], Trained]:
    """The weights of one fine-tuned member of the teacher, on the CPU, and how it went.

    Raises ConfigError when there is nothing to learn from.
    """
    if setting.task == "embedding":
        raise ConfigError(
            "A teacher of embeddings is not trained here: there are no labels.", hint="Set teacher.finished = true."
        )
    torch.manual_seed(setting.job.seed * 1000 + number)
    found = _fresh(setting, where)
    trained = _tuned(setting, found, number, resume, pretrained=where is not None)
    return {name: tensor.cpu() for name, tensor in found.model.state_dict().items()}, trained


def _fresh(setting: Setting, where: Path | None) -> Pretrained:
    chosen, length = setting.job.teacher, setting.job.data.max_length
    if where is None:
        tokenizer = learned_tokenizer((*setting.train.texts, *setting.train.seconds), length)
        return begin_from_nothing(
            tokenizer, setting.outputs, setting.output, layers=chosen.layers, width=chosen.width, max_length=length
        )
    return load_pretrained(where, setting.outputs, setting.output, chosen.pooling, length)


def _tuned(setting: Setting, found: Pretrained, number: int, resume: Path, *, pretrained: bool) -> Trained:
    model, chosen = found.model.to(device()), setting.job.teacher
    texts = corpus(setting.task, found.tokenizer, found.padding, setting.train, setting.outputs)
    dev = corpus(setting.task, found.tokenizer, found.padding, setting.dev, setting.outputs)
    if setting.task == "classification" and pretrained:
        _point_at_means(model, texts, setting)
    if pretrained:
        _freeze(model, chosen)

    def loss(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        some = batch(texts.texts, rows, device())
        return hard_loss(setting.task, model(some.ids, some.mask).float(), texts.targets_of(some))

    def score() -> float:
        outputs = said(setting.task, answered(model, dev.texts), dev.texts.offsets, setting.labels)
        return main_metric(setting.task, outputs, setting.dev.targets)

    lesson = Lesson(lambda epoch: shuffled(texts.texts, chosen.batch, setting.dice(1, number, epoch)), loss, score)
    return train(model, lesson, Schedule(chosen.epochs, chosen.rate), setting.progress, resume)


@torch.no_grad()
def _point_at_means(model: nn.Module, texts: Corpus, setting: Setting) -> None:
    """Start the head with the mean direction of each class, which is right most of the time before any step."""
    pooled = torch.from_numpy(taught(model, texts.texts, lambda done, total: None).pooled)
    targets = torch.from_numpy(np.asarray(texts.targets))
    directions = functional.normalize(pooled, dim=-1)
    means = torch.stack([directions[targets == label].mean(0) for label in range(setting.outputs)])
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    head.weight.copy_(functional.normalize(means, dim=-1).nan_to_num() * SHARPNESS / pooled.norm(dim=-1).mean())
    head.bias.zero_()


def _freeze(model: nn.Module, chosen: Teacher) -> None:
    """Leave the embeddings and the lowest layers as they are, and let the others' outputs drop out at random."""
    if isinstance(model, Encoder):
        for part in (model.tokens, model.positions, *model.layers[: chosen.frozen]):
            part.requires_grad_(False)
        for layer in model.layers:
            assert isinstance(layer, Layer)
            layer.dropout.p = DROPOUT
    elif isinstance(model, Foreign):
        table = model.body.get_input_embeddings()  # type: ignore[operator]
        table.requires_grad_(False)
