"""What a decoder is taught by another: the divergence, the budget, and going on after a kill."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from decoder_sample import random_decoder, tickets
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.compress.generative import decoders, distilling, scoring
from farthing.compress.generative.job import Relearn
from farthing.compress.generative.tokens import words_of
from farthing.compress.progress import Silence
from farthing.compress.training.batches import Encoded
from farthing.errors import ConfigError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_decoder(tmp_path_factory.mktemp("decoder"), num_hidden_layers=2)


def course(folder: Path, count: int = 40) -> distilling.Course:
    words = words_of(folder)
    sequences = words.sequences([ticket.line for ticket in tickets(count + 8, seed=2)], 40)
    return distilling.Course(Encoded(sequences[:count], 0, []), Encoded(sequences[count:], 0, []), seed=1)


def logits_of(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 1000), st.integers(1, 20), st.floats(0.5, 4))
@settings(max_examples=30, deadline=None)
def test_lumping_what_is_unlikely_never_adds_to_the_divergence(seed: int, best: int, temperature: float) -> None:
    taught, found = logits_of(seed, 5, 20), logits_of(seed + 1, 5, 20)
    whole = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=taught / temperature),
        torch.distributions.Categorical(logits=found / temperature),
    )
    lumped = distilling.divergence(found, distilling.softened(taught, best, temperature), temperature)
    lumped = lumped / temperature**2
    assert (lumped <= whole + 1e-4).all()
    assert (lumped >= -1e-4).all()
    if best == 20:
        assert torch.allclose(lumped, whole, atol=1e-4)


def test_a_decoder_does_not_diverge_from_itself_and_its_gradient_is_nothing() -> None:
    found = logits_of(3, 6, 50).requires_grad_()
    apart = distilling.divergence(found, distilling.softened(found.detach(), 8, 2.0), 2.0)
    apart.sum().backward()
    assert apart.abs().max() < 1e-5
    assert found.grad is not None
    assert found.grad.abs().max() < 1e-4


def test_scoring_measures_the_same_divergence() -> None:
    taught, found = logits_of(5, 7, 300), logits_of(6, 7, 300)
    known = distilling.softened(taught, scoring.BEST, 1.0)
    logs = scoring.log_softmax(found.numpy())
    other = scoring.divergence(
        known.logs.numpy().astype(np.float64), np.take_along_axis(logs, known.ids.numpy(), -1).astype(np.float64)
    )
    assert np.allclose(other, distilling.divergence(found, known, 1.0).numpy(), atol=1e-4)


def test_log_probability_is_that_of_transformers(folder: Path) -> None:
    model, texts = decoders.load_decoder(folder), course(folder).dev
    total = count = 0.0
    with torch.no_grad():
        for ids in texts.ids:
            row = torch.tensor([ids])
            total -= float(model(input_ids=row, labels=row).loss) * (len(ids) - 1)
            count += len(ids) - 1
    assert distilling.log_probability(model, texts, 3) == pytest.approx(total / count, rel=1e-4)


def test_a_budget_of_tokens_is_kept(folder: Path) -> None:
    model = decoders.load_decoder(folder)
    lessons = distilling._Lessons(model, model, course(folder), Relearn(epochs=2, batch=4, tokens=600))
    for epoch in range(2):
        rows = np.concatenate(lessons.batches(epoch))
        assert 150 < sum(lessons.tokens[row] for row in rows) <= 300
    assert not np.array_equal(np.concatenate(lessons.batches(0)), np.concatenate(lessons.batches(1)))


def test_asking_the_teacher_once_is_as_good_as_always(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = decoders.load_decoder(folder)
    student = decoders.load_decoder(folder)
    torch.nn.init.normal_(student.model.layers[1].mlp.up_proj.weight)
    stage = Relearn(epochs=2, batch=8, best=32)
    kept = distilling._Lessons(student, teacher, course(folder), stage)
    monkeypatch.setattr(distilling, "MOST_KEPT_BYTES", 0)
    live = distilling._Lessons(student, teacher, course(folder), stage)
    assert kept.kept is not None
    assert live.kept is None
    rows = kept.batches(0)[0]
    assert kept.loss(rows).item() == pytest.approx(live.loss(rows).item(), rel=0.02)


class Killed(Exception):
    """What stands for a kill between two epochs."""


class Killing(Silence):
    """Kills as soon as an epoch is written."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def step(self, done: int, total: int, **figures: float) -> None:
        if figures.get("epoch") == self.epoch and "dev" not in figures:
            raise Killed


def test_a_killed_run_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    stage = Relearn(epochs=3, rate=2e-3, batch=8, patience=9)

    def students() -> tuple[decoders.Model, decoders.Model]:
        return decoders.load_decoder(folder), decoders.load_decoder(folder)

    def spoil(model: decoders.Model) -> decoders.Model:
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.zero_()
        return model

    whole, teacher = students()
    distilling.distil(spoil(whole), teacher, course(folder), stage, Silence(), tmp_path / "a")
    first, _ = students()
    with pytest.raises(Killed):
        distilling.distil(spoil(first), teacher, course(folder), stage, Killing(2), tmp_path / "b")
    assert (tmp_path / "b").is_file()
    second, _ = students()
    distilling.distil(spoil(second), teacher, course(folder), stage, Silence(), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole.model.layers[0].mlp.up_proj.weight, torch.zeros(128, 64))


def test_a_loss_that_is_no_number_is_said_with_its_place(folder: Path, tmp_path: Path) -> None:
    student, teacher = decoders.load_decoder(folder), decoders.load_decoder(folder)
    with torch.no_grad():
        student.model.norm.weight.fill_(math.nan)
    with pytest.raises(ConfigError, match="epoch 1, batch 1"):
        distilling.distil(student, teacher, course(folder), Relearn(epochs=1), Silence(), tmp_path / "r")
