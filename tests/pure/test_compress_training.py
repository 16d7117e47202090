"""The training loop and what pulls a student."""

import numpy as np
import pytest
import torch
from torch import nn

from farthing.compress.examples import Examples
from farthing.compress.progress import Silence
from farthing.compress.training.batches import Encoded, batch, in_order, shuffled
from farthing.compress.training.corpus import tags
from farthing.compress.training.loop import Lesson, Schedule, train
from farthing.compress.training.losses import (
    contrastive_loss,
    hard_loss,
    pooled_loss,
    relations_loss,
    similarity_loss,
    soft_loss,
    states_loss,
)
from farthing.errors import ConfigError, Unavailable

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def lesson(model: nn.Module, loss=None) -> Lesson:
    def batches(epoch: int):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(epoch))
        return [order[at : at + 16] for at in range(0, 64, 16)]

    def usual(rows):
        return nn.functional.cross_entropy(model(X[rows]), Y[rows])

    return Lesson(batches, loss or usual, lambda: float((model(X).argmax(1) == Y).float().mean()))


def fresh() -> nn.Module:
    torch.manual_seed(5)
    return nn.Linear(4, 2)


def test_it_learns_and_keeps_its_best_epoch(tmp_path):
    model = fresh()
    before = lesson(model).score()

    trained = train(model, lesson(model), Schedule(20, 0.1, 20), Silence(), tmp_path / "x.resume")

    assert trained.score > max(before, 0.95)
    assert lesson(model).score() == pytest.approx(trained.score)
    assert not (tmp_path / "x.resume").exists()


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    whole = fresh()
    train(whole, lesson(whole), Schedule(6, 0.05, 6), Silence(), tmp_path / "a.resume")

    class Killed(Exception):
        pass

    class Killer(Silence):
        def step(self, done, total, **figures):
            if done == 18:
                raise Killed

    halved = fresh()
    with pytest.raises(Killed):
        train(halved, lesson(halved), Schedule(6, 0.05, 6), Killer(), tmp_path / "b.resume")
    again = nn.Linear(4, 2)
    train(again, lesson(again), Schedule(6, 0.05, 6), Silence(), tmp_path / "b.resume")

    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_damaged_resume_file_means_starting_again(tmp_path):
    (tmp_path / "x.resume").write_bytes(b"not a checkpoint")
    model = fresh()
    assert train(model, lesson(model), Schedule(3, 0.1), Silence(), tmp_path / "x.resume").score > 0.5


def test_it_stops_when_nothing_gets_better(tmp_path):
    steps = []

    class Watching(Silence):
        def step(self, done, total, **figures):
            steps.append(done)

    model = fresh()
    scores = iter([0.1, 0.9, *[0.5] * 20])
    train(model, lesson(model)._replace(score=lambda: next(scores)), Schedule(20, 0.1, 2), Watching(), tmp_path / "x")
    assert max(steps) == 3 * 4


def test_a_loss_that_is_no_number_is_told_and_the_run_can_go_on(tmp_path):
    model = fresh()
    calls = []

    def sometimes(rows):
        calls.append(rows)
        loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
        return loss * float("nan") if len(calls) == 6 else loss

    with pytest.raises(ConfigError, match=r"loss is nan in epoch 2, batch 2, at a rate of 0.1"):
        train(model, lesson(model, sometimes), Schedule(4, 0.1), Silence(), tmp_path / "x.resume")
    assert (tmp_path / "x.resume").exists()


def test_running_out_of_memory_says_what_to_lower(tmp_path):
    model = fresh()

    def greedy(rows):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(Unavailable, match="Memory ran out in epoch 1, batch 1") as caught:
        train(model, lesson(model, greedy), Schedule(4, 0.1), Silence(), tmp_path / "x.resume")
    assert "batch" in caught.value.hint


TASKS = ["classification", "multi-label", "regression", "tagging", "embedding"]


@pytest.mark.parametrize("task", TASKS)
def test_nothing_pulls_a_student_that_says_what_its_teacher_does(task):
    output = torch.randn(6, 5, 3) if task == "tagging" else torch.randn(6, 1 if task == "regression" else 3)
    mask = torch.ones(6, 5)
    same, other = output.clone().requires_grad_(), (output + torch.randn_like(output)).requires_grad_()

    gradient = torch.autograd.grad(soft_loss(task, same, output, mask, 2.0), same)[0]
    assert gradient.abs().max() < 1e-5
    assert soft_loss(task, other, output, mask, 2.0) > soft_loss(task, same, output, mask, 2.0)


@pytest.mark.parametrize("task", TASKS)
def test_texts_that_nobody_labelled_do_not_count(task):
    output = torch.randn(4, 5, 3) if task == "tagging" else torch.randn(4, 1 if task == "regression" else 3)
    unknown = {
        "classification": torch.full((4,), -1),
        "tagging": torch.full((4, 5), -1),
        "multi-label": torch.full((4, 3), float("nan")),
        "regression": torch.full((4,), float("nan")),
        "embedding": torch.full((4,), -1),
    }[task]
    output.requires_grad_()

    loss = hard_loss(task, output, unknown)
    loss.backward()

    assert loss == 0
    assert (output.grad == 0).all()


def test_padding_does_not_count():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    states, taught = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    changed = states.clone()
    changed[0, 2] += 100
    for loss in (states_loss, relations_loss):
        assert loss(states, taught, mask) == pytest.approx(float(loss(changed, taught, mask)), rel=1e-5)
        assert loss(taught, taught, mask) == pytest.approx(0, abs=1e-5)
    logits, wanted = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    wild = logits.clone()
    wild[0, 2] += torch.tensor([100.0, 0, 0, 0])
    assert soft_loss("tagging", logits, wanted, mask, 1.0) == soft_loss("tagging", wild, wanted, mask, 1.0)


def test_inner_losses_are_least_where_student_and_teacher_agree():
    taught = torch.randn(8, 16)
    for loss in (pooled_loss, similarity_loss, contrastive_loss):
        assert loss(taught, taught) < loss(taught + torch.randn(8, 16), taught)
    assert similarity_loss(torch.randn(8, 4), taught) > 0


def test_every_text_is_seen_once_an_epoch_and_similar_lengths_together():
    rng = np.random.default_rng(0)
    texts = Encoded([[1] * int(n) for n in rng.integers(1, 40, 500)], 0, [])

    rows = shuffled(texts, 16, np.random.default_rng(1))

    assert sorted(np.concatenate(rows).tolist()) == list(range(500))
    padded = sum(max(len(texts.ids[row]) for row in some) * len(some) for some in rows)
    assert padded < 1.25 * sum(map(len, texts.ids))
    assert sorted(np.concatenate(list(in_order(texts, 7))).tolist()) == list(range(500))
    some = batch(texts, rows[0], torch.device("cpu"))
    assert some.mask.sum(1).tolist() == [len(texts.ids[row]) for row in rows[0]]


def test_spans_become_tags_and_special_tokens_stay_unknown():
    offsets = [(0, 0), (0, 3), (4, 8), (9, 12), (0, 0)]
    assert tags(offsets, ((4, 12, 1),)).tolist() == [-1, 0, 3, 4, -1]
    assert tags(offsets, ((0, 3, 0), (4, 8, 0))).tolist() == [-1, 1, 1, 0, -1]


def test_examples_know_how_many_they_are():
    assert len(Examples(("a", "b"))) == 2
