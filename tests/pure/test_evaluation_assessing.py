"""Assess and compare, for each of the five tasks: what is said is what happened."""

import math

import msgspec
import numpy as np
import pytest
import scipy.stats

from farthing.errors import RequestError
from farthing.evaluation.answers import Beside
from farthing.evaluation.assessing import assess, compare
from farthing.evaluation.quality import Quality

N, CLASSES = 600, 6


def dice(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def logits(labels: np.ndarray, right: float, rng: np.random.Generator, sharp: float = 3.0) -> np.ndarray:
    """Logits whose largest is the true class for about a share `right` of the texts."""
    shown = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % CLASSES)
    return (rng.normal(0, 0.5, (len(labels), CLASSES)) + sharp * np.eye(CLASSES)[shown]).astype(np.float32)


def test_classification():
    rng = dice()
    labels = rng.integers(0, CLASSES, N)
    teacher, student = logits(labels, 0.97, rng), logits(labels, 0.90, rng)
    names = tuple("abcdef")
    beside = Beside(names, outside=rng.normal(0, 0.5, (200, CLASSES)), typos=logits(labels, 0.8, rng))
    found = assess("classification", student, labels, dice(), beside)
    predicted = student.argmax(1)
    share = np.mean(predicted == labels)
    assert (found.metric, found.n) == ("accuracy", N)
    assert found.value == pytest.approx(100 * share)
    interval = scipy.stats.binomtest(int((predicted == labels).sum()), N).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert 78 < found.typo_value < 84 < found.macro_f1 < 93
    assert found.auroc > 0.95
    assert 0 < found.ece < 0.2
    assert [recall.label for recall in found.recalls] == list(names)
    assert sum(recall.n * recall.value for recall in found.recalls) / N == pytest.approx(found.value)
    assert sum(one.n for one in found.reliability) == N
    lost = compare("classification", teacher, student, labels, dice(), beside)
    assert lost.lost == pytest.approx(100 * (np.mean(teacher.argmax(1) == labels) - share))
    assert lost.low < lost.lost < lost.bound < lost.high
    assert lost.p < 0.001
    assert lost.agreement == pytest.approx(100 * np.mean(predicted == teacher.argmax(1)))
    drops = {name: one.value for name, one in zip(names, found.recalls, strict=True)}
    before = assess("classification", teacher, labels, dice(), beside).recalls
    assert lost.recall_drop == pytest.approx(max(one.value - drops[one.label] for one in before))
    assert lost.recall_drop == pytest.approx(
        next(one.value for one in before if one.label == lost.worst) - drops[lost.worst]
    )


def test_the_most_confident_are_right_more_often():
    rng = dice()
    labels = rng.integers(0, CLASSES, N)
    sure, unsure = logits(labels, 1.0, rng, sharp=8.0), logits(labels, 0.5, rng, sharp=1.0)
    mixed = np.where(np.arange(N)[:, None] < 0.8 * N, sure, unsure)
    found = assess("classification", mixed, labels, dice())
    assert found.kept_80 > 99 > found.value


def test_a_better_student_loses_less_than_nothing():
    rng = dice()
    labels = rng.integers(0, CLASSES, N)
    found = compare("classification", logits(labels, 0.8, rng), logits(labels, 0.95, rng), labels, dice())
    assert found.lost < found.bound < 0
    same = logits(labels, 0.9, rng)
    found = compare("classification", same, same, labels, dice())
    assert (found.lost, found.low, found.high, found.bound, found.p, found.agreement) == (0, 0, 0, 0, 1.0, 100)
    assert (found.worst, found.recall_drop) == ("", 0.0)
    assert math.copysign(1, found.lost) == 1


def test_a_label_with_few_examples_is_not_the_worst():
    labels = np.array([0] * 50 + [1] * 9)
    before, after = np.eye(2)[labels], np.eye(2)[np.where(np.arange(59) == 0, 1, 0)]
    found = compare("classification", before, after, labels, dice(), Beside(("many", "few")))
    assert (found.worst, found.recall_drop) == ("many", pytest.approx(2.0))


def test_multi_label():
    rng = dice()
    true = (rng.random((N, 4)) < 0.3).astype(np.float32)
    clear = np.where(true > 0, 3.0, -3.0)
    flipped = np.where(rng.random((N, 4)) < 0.1, -clear, clear)
    assert assess("multi-label", clear, true, dice()).value == 100.0
    found = assess("multi-label", flipped, true, dice(), Beside(tuple("abcd")))
    assert found.metric == "micro-F1"
    assert found.low < found.value < found.high
    assert found.high - found.low < 8
    assert (found.kept_80, found.auroc) == (None, None)
    lost = compare("multi-label", clear, flipped, true, dice(), Beside(tuple("abcd")))
    assert lost.lost == pytest.approx(100 - found.value)
    assert 0 < lost.low < lost.lost < lost.high
    assert lost.p is None
    assert lost.agreement == pytest.approx(100 * 0.9**4, abs=6)
    assert lost.worst in "abcd"


def test_regression():
    rng = dice()
    true = rng.random(N).astype(np.float32)
    near, far = true + rng.normal(0, 0.1, N), true + rng.normal(0, 0.3, N)
    found = assess("regression", near[:, None], true, dice())
    assert found.metric == "Spearman"
    assert found.value == pytest.approx(100 * scipy.stats.spearmanr(near, true).statistic)
    assert found.low < found.value < found.high
    assert found.also["MSE"] == pytest.approx(0.01, rel=0.2)
    lost = compare("regression", near[:, None], far[:, None], true, dice())
    assert 0 < lost.low < lost.lost < lost.high
    assert (lost.p, lost.agreement, lost.worst) == (None, None, "")


def test_tagging():
    true = (((0, 4, 0), (5, 9, 1)), ((0, 3, 0),), ()) * 20
    worse = (((0, 4, 0), (5, 9, 0)), ((0, 3, 0),), ()) * 20
    found = assess("tagging", worse, true, dice(), Beside(("CITY", "DAY")))
    assert (found.metric, found.value) == ("span F1", pytest.approx(200 / 3))
    assert [(one.label, one.n, one.value) for one in found.recalls] == [("CITY", 40, 100.0), ("DAY", 20, 0.0)]
    lost = compare("tagging", true, worse, true, dice(), Beside(("CITY", "DAY")))
    assert lost.lost == pytest.approx(100 / 3)
    assert (lost.worst, lost.recall_drop) == ("DAY", 100.0)
    assert lost.agreement == pytest.approx(200 / 3)


def test_embeddings_against_those_of_the_teacher():
    rng = dice()
    teacher = rng.normal(size=(80, 16))
    turned = teacher @ np.linalg.qr(rng.normal(size=(16, 16)))[0]
    found = assess("embedding", turned, teacher, dice())
    assert (found.metric, found.value) == ("Spearman of cosines", pytest.approx(100))
    narrow = teacher[:, :8]
    found = assess("embedding", narrow, teacher, dice())
    assert found.low < found.value < found.high < 95
    lost = compare("embedding", teacher, narrow, teacher, dice())
    assert lost.lost == pytest.approx(100 - found.value)
    assert 0 < lost.low < lost.high
    collapsed = assess("embedding", np.ones((80, 4)), teacher, dice())
    assert collapsed.value == 0.0


def test_embeddings_of_pairs():
    rng = dice()
    firsts = rng.normal(size=(60, 8))
    near = np.stack([firsts, firsts + rng.normal(0, 0.1, firsts.shape)])
    far = np.stack([firsts, firsts + rng.normal(0, 1.2, firsts.shape)])
    found = assess("embedding", near, None, dice())
    assert (found.metric, found.value) == ("recall@1", 100.0)
    lost = compare("embedding", near, far, None, dice())
    assert lost.lost == 100 - assess("embedding", far, None, dice()).value
    assert lost.p < 0.05
    assert assess("embedding", np.ones((2, 60, 8)), None, dice()).value == 0.0
    alike = np.array([float(np.dot(one, two)) for one, two in zip(*far, strict=True)])
    rated = assess("embedding", far, alike, dice())
    assert rated.metric == "Spearman"
    assert rated.value > 80


def test_what_is_measured_survives_json():
    labels = np.array([0] * 20)  # so that the other labels have no recall
    found = assess("classification", np.eye(CLASSES)[labels], labels, dice())
    assert msgspec.json.decode(msgspec.json.encode(found), type=Quality) == found
    assert [one.value for one in found.recalls] == [100.0] + [None] * 5


def test_the_same_dice_say_the_same():
    rng = dice()
    true = (rng.random((50, 3)) < 0.5).astype(np.float32)
    said = rng.normal(size=(50, 3))
    assert assess("multi-label", said, true, dice(4)) == assess("multi-label", said, true, dice(4))


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "says"),
    [
        ("classification", np.ones((3, 2)), np.array([0, 1]), "3 outputs"),
        ("classification", np.ones((0, 2)), np.zeros(0, np.int64), "0 outputs"),
        ("classification", np.ones((2, 2)), np.array([0, 2]), "number 2, of 2 columns"),
        ("classification", np.array([[0.0, math.nan], [1, 2]]), np.array([0, 1]), "1 of 4 outputs"),
        ("regression", np.array([[math.inf]]), np.array([1.0]), "not finite"),
        ("classification", np.ones((2, 2)), None, "nothing to hold"),
        ("embedding", np.ones((2, 2)), None, "nothing to hold"),
        ("embedding", np.ones((1, 2)), np.ones((1, 2)), "One text"),
        ("tagging", ((),), ((), ()), "1 outputs"),
    ],
)
def test_what_does_not_fit_is_refused(task, outputs, targets, says):
    with pytest.raises(RequestError, match=says) as refused:
        assess(task, outputs, targets, dice())
    assert refused.value.hint
