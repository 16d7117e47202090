"""Confidence: calibration that is recovered, ties that do not matter, thresholds that keep what they promise."""

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import RequestError
from farthing.evaluation.confidence import (
    auroc,
    coverage,
    each_probability,
    ece,
    fit_temperature,
    probabilities,
    reliability,
    threshold_for,
)
from farthing.evaluation.intervals import wilson

few = st.lists(st.integers(0, 6).map(lambda v: v / 6), min_size=1, max_size=25)
graded = st.lists(st.tuples(st.integers(1, 8).map(lambda v: v / 8), st.booleans()), min_size=1, max_size=60)


def test_probabilities_are_those_of_scipy_however_large_the_logits():
    logits = np.array([[1e4, -1e4, 3.0], [0.0, 0.0, 0.0]], np.float32)
    assert probabilities(logits, 2.0) == pytest.approx(scipy.special.softmax(logits / 2.0, axis=1))
    assert each_probability(logits, 2.0) == pytest.approx(scipy.special.expit(logits / 2.0))
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(RequestError, match="temperature"):
            probabilities(logits, temperature)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_that_logits_were_spoilt_with_is_found(true):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (6000, 5))
    sure = probabilities(logits)
    labels = (sure.cumsum(1) > rng.random((6000, 1))).argmax(1)
    assert fit_temperature((logits * true).astype(np.float32), labels) == pytest.approx(true, rel=0.06)
    marks = (rng.random((6000, 5)) < each_probability(logits)).astype(np.float32)
    assert fit_temperature((logits * true).astype(np.float32), marks) == pytest.approx(true, rel=0.06)


def test_calibration_lowers_the_error_of_calibration():
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2, (3000, 4))
    labels = (probabilities(logits).cumsum(1) > rng.random((3000, 1))).argmax(1)
    right = logits.argmax(1) == labels
    before = ece(probabilities(3 * logits).max(1), right)
    after = ece(probabilities(3 * logits, fit_temperature(3 * logits, labels)).max(1), right)
    assert after < 0.03 < 0.1 < before
    with pytest.raises(RequestError):
        fit_temperature(logits[:0], labels[:0])


def test_the_error_of_calibration_by_hand():
    confidence, right = np.array([1.0, 1.0, 0.62, 0.64]), np.array([True, False, True, True])
    bins = reliability(confidence, right, 10)
    assert [(one.n, one.right, round(one.confidence, 2)) for one in bins] == [(2, 1.0, 0.63), (2, 0.5, 1.0)]
    assert ece(confidence, right, 10) == pytest.approx(0.5 * 0.37 + 0.5 * 0.5)
    assert ece(confidence[:0], right[:0]) == 0.0


@given(few, few)
def test_auroc_counts_pairs_and_half_of_ties(inside, outside):
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    found = auroc(np.array(inside), np.array(outside))
    assert found == pytest.approx(sum(pairs) / len(pairs))
    assert found + auroc(np.array(outside), np.array(inside)) == pytest.approx(1.0)


def test_auroc_needs_both_kinds():
    with pytest.raises(RequestError, match="0 that do not"):
        auroc(np.ones(3), np.zeros(0))


@given(graded, st.floats(0.05, 1.0), st.integers(0, 1000))
def test_coverage_does_not_hang_on_the_order(answers, share, seed):
    confidence, right = (np.array(column) for column in zip(*answers, strict=True))
    order = np.random.default_rng(seed).permutation(len(answers))
    found = coverage(confidence, right, (share, 1.0))
    assert found == pytest.approx(coverage(confidence[order], right[order], (share, 1.0)))
    assert found[1] == pytest.approx(right.mean())
    assert -1e-12 <= found[0] <= 1 + 1e-12


def test_coverage_of_distinct_answers_is_the_mean_of_the_first():
    confidence, right = np.linspace(1, 0, 10), np.array([True] * 7 + [False] * 3)
    assert coverage(confidence, right, (0.7, 0.8, 0.01)) == pytest.approx((1.0, 7 / 8, 1.0))
    assert math.isnan(coverage(confidence[:0], right[:0], (0.8,))[0])


@given(graded, st.floats(0.1, 0.95))
def test_the_threshold_is_the_lowest_that_keeps_the_floor(answers, floor):
    confidence, right = (np.array(column) for column in zip(*answers, strict=True))
    found = threshold_for(confidence, right, floor)
    keeping = [
        value
        for value in np.unique(confidence)
        if wilson(int(right[confidence >= value].sum()), int((confidence >= value).sum()))[0] >= floor
    ]
    if not keeping:
        assert found is None
        return
    assert found.value == min(keeping)
    accepted = confidence >= found.value
    assert found.share == pytest.approx(accepted.mean())
    assert found.right == pytest.approx(right[accepted].mean())
    assert found.low == pytest.approx(wilson(int(right[accepted].sum()), int(accepted.sum()))[0])


def test_too_few_answers_promise_nothing():
    assert threshold_for(np.ones(5), np.ones(5, bool), 0.98) is None
    assert threshold_for(np.zeros(0), np.zeros(0, bool), 0.5) is None
    assert threshold_for(np.ones(500), np.ones(500, bool), 0.98).share == 1.0
