"""Metrics of every task: against scipy and scikit-learn, and against what they must be by definition."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from farthing.evaluation import classification, multi_label, retrieval, tagging
from farthing.evaluation.correlation import pearson, ranks, spearman

answers = st.integers(2, 6).flatmap(
    lambda classes: st.integers(1, 60).flatmap(
        lambda n: st.tuples(
            arrays(np.int64, n, elements=st.integers(0, classes - 1)),
            arrays(np.int64, n, elements=st.integers(0, classes - 1)),
            st.just(classes),
        )
    )
)
marks = st.integers(1, 20).flatmap(lambda n: st.tuples(arrays(np.bool_, (n, 4)), arrays(np.bool_, (n, 4))))
# Sixteenths: exact in floating point, and often equal.
values = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, n, elements=st.integers(-16, 16).map(lambda v: v / 16))] * 2)
)
span = st.tuples(st.integers(0, 5), st.integers(6, 9), st.integers(0, 2))
texts = st.lists(st.tuples(st.lists(span, max_size=4), st.lists(span, max_size=4)), min_size=1, max_size=8)


@settings(deadline=None)
@given(answers)
def test_classification_is_as_scikit_learn_has_it(given_answers):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a reference, not a dependency")
    predicted, labels, classes = given_answers
    assert classification.accuracy(predicted, labels) == pytest.approx(metrics.accuracy_score(labels, predicted))
    expected = metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    assert classification.macro_f1(predicted, labels, classes) == pytest.approx(expected)
    found = classification.recalls(predicted, labels, classes)
    for label in range(classes):
        if (labels == label).any():
            assert found[label] == pytest.approx(np.mean(predicted[labels == label] == label))
        else:
            assert np.isnan(found[label])


def test_nothing_is_not_right():
    none = np.zeros(0, np.int64)
    assert classification.accuracy(none, none) == 0.0
    assert classification.macro_f1(none, none, 3) == 0.0


def test_regressions_are_drops_of_labels_with_enough_examples_the_largest_first():
    before, after = np.array([1.0, 0.9, 0.5, 1.0, np.nan]), np.array([0.8, 0.5, 0.6, 0.0, np.nan])
    found = classification.regressions(before, after, np.array([10, 30, 50, 9, 0]), least=10)
    assert [(one.label, one.n, round(one.drop, 6)) for one in found] == [(1, 30, 0.4), (0, 10, 0.2)]
    assert [one.label for one in classification.regressions(before, after, np.array([10, 30, 50, 9, 0]), 0)] == [
        3,
        1,
        0,
    ]


@settings(deadline=None)
@given(marks)
def test_multi_label_is_as_scikit_learn_has_it(given_marks):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a reference, not a dependency")
    said, true = given_marks
    if said.any() or true.any():
        expected = metrics.f1_score(true, said, average="micro", zero_division=0)
        assert multi_label.micro_f1(said, true) == pytest.approx(expected)
        known = np.flatnonzero((said | true).any(axis=0))
        each = [metrics.f1_score(true[:, one], said[:, one], zero_division=0) for one in known]
        assert multi_label.macro_f1(said, true) == pytest.approx(np.mean(each))
    else:
        assert multi_label.micro_f1(said, true) == multi_label.macro_f1(said, true) == 1.0


@given(st.integers(0, 2**32 - 1))
def test_no_cut_beats_the_fitted_one(seed):
    rng = np.random.default_rng(seed)
    sure, true = rng.integers(0, 12, (9, 3)) / 12, rng.random((9, 3)) < 0.4
    cut = multi_label.fit_cut(sure, true)
    best = max(multi_label.micro_f1(sure >= one / 24, true) for one in range(26))
    if true.any():
        assert multi_label.micro_f1(multi_label.chosen(sure, cut), true) == pytest.approx(best)
    else:
        assert cut == 0.5


@given(values)
def test_correlation_is_as_scipy_has_it(given_values):
    left, right = given_values
    assert ranks(left) == pytest.approx(scipy.stats.rankdata(left) - 1)
    if len(set(left)) > 1 and len(set(right)) > 1:
        assert spearman(left, right) == pytest.approx(scipy.stats.spearmanr(left, right).statistic, abs=1e-9)
        assert pearson(left, right) == pytest.approx(scipy.stats.pearsonr(left, right).statistic, abs=1e-9)
    else:
        assert spearman(left, right) == pearson(left, right) == 0.0


@given(texts)
def test_span_f1_counts_whole_spans(given_texts):
    said, true = zip(*given_texts, strict=True)
    hits = sum(len(set(one) & set(other)) for one, other in given_texts)
    whole = sum(len(set(one)) + len(set(other)) for one, other in given_texts)
    assert tagging.span_f1(said, true) == pytest.approx(2 * hits / whole if whole else 1.0)
    assert tagging.span_f1(true, true) == 1.0
    assert 0 <= tagging.macro_f1(said, true) <= 1


LABELS = ("O", "B-CITY", "I-CITY", "B-DAY", "I-DAY")
OFFSETS = [(0, 0), (0, 2), (3, 5), (6, 8), (9, 11), (12, 14), (0, 0)]


def read(*tags: str, labels: tuple[str, ...] = LABELS) -> tuple:
    logits = np.zeros((1, len(OFFSETS) + 1, len(labels)), np.float32)  # one position more, for padding
    for place, tag in enumerate(tags, start=1):
        logits[0, place, labels.index(tag)] = 1.0
    logits[0, [0, -1, -2], 1] = 9.0  # what is added or padding is never looked at
    return tagging.spans_of(logits, [OFFSETS], labels)[0]


def test_spans_are_read_from_bio():
    assert read("B-CITY", "I-CITY", "O", "B-DAY", "I-DAY") == ((0, 5, 0), (9, 14, 1))
    assert read("B-CITY", "B-CITY", "I-CITY", "O", "O") == ((0, 2, 0), (3, 8, 0))
    # What goes on without having begun, or as another kind, begins there.
    assert read("I-CITY", "I-DAY", "O", "O", "I-DAY") == ((0, 2, 0), (3, 5, 1), (12, 14, 1))
    assert read("O", "O", "O", "O", "O") == ()


def test_spans_are_read_from_bare_labels():
    assert read("CITY", "CITY", "O", "DAY", "CITY", labels=("O", "CITY", "DAY")) == ((0, 5, 0), (9, 11, 1), (12, 14, 0))
    assert tagging.kinds(("CITY", "O", "DAY")) == tagging.kinds(LABELS) == ("CITY", "DAY")


def test_recall_by_kind_knows_kinds_without_a_span():
    share, counts = tagging.recalls([[(0, 2, 0)], [(5, 6, 1)]], [[(0, 2, 0), (3, 4, 0)], []], 2)
    assert counts.tolist() == [2, 0]
    assert share[0] == 0.5
    assert np.isnan(share[1])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_retrieval_is_as_scikit_learn_has_it(seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a reference, not a dependency")
    rng = np.random.default_rng(seed)
    scores, gains = rng.random((4, 15)), rng.integers(0, 4, (4, 15)).astype(np.float64)
    assert retrieval.ndcg(scores, gains, 10) == pytest.approx(metrics.ndcg_score(gains, scores, k=10))
    single = np.eye(15)[rng.integers(0, 15, 4)]
    assert retrieval.mrr(scores, single) == pytest.approx(metrics.label_ranking_average_precision_score(single, scores))
    expected = metrics.top_k_accuracy_score(single.argmax(1), scores, k=3, labels=range(15))
    assert retrieval.recall_at(scores, single, 3) == pytest.approx(expected)


def test_a_model_that_scores_everything_alike_finds_nothing():
    scores, wanted = np.ones((3, 20)), np.eye(3, 20)
    assert retrieval.recall_at(scores, wanted, 10) == retrieval.ndcg(scores, wanted, 10) == 0.0
    assert retrieval.mrr(scores, wanted) == pytest.approx(1 / 20)


def test_queries_without_anything_to_find():
    scores, none = np.ones((2, 3)), np.zeros((2, 3))
    assert retrieval.mrr(scores, none) == retrieval.recall_at(scores, none, 1) == retrieval.ndcg(scores, none) == 0.0


def test_a_row_of_zeros_is_like_nothing():
    found = retrieval.cosine(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[6.0, 8.0]]))
    assert found.tolist() == [[0.0], [pytest.approx(1.0)]]
