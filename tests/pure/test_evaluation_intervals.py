"""Intervals: against scipy, and by how often they hold what they should."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import RequestError
from farthing.evaluation.intervals import FEW, mcnemar, paired_bootstrap, ratio_draws, spread, wilson


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_as_scipy_has_it(counts):
    right, n = counts
    expected = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    for right, n in ((3, 2), (-1, 2)):
        with pytest.raises(RequestError):
            wilson(right, n)


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 50))
def test_mcnemar_is_the_exact_binomial_test(lost, won, same):
    before = np.array([True] * lost + [False] * won + [True] * same, dtype=bool)
    after = np.array([False] * lost + [True] * won + [True] * same, dtype=bool)
    expected = scipy.stats.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar(before, after) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(after, before) == mcnemar(before, after)


def test_the_bootstrap_of_few_values_is_that_of_many():
    """Few different values are resampled by their counts: the same distribution, to the noise of drawing."""
    rng = np.random.default_rng(5)
    after = (rng.random(900) < 0.92).astype(float)
    before = (rng.random(900) < 0.94).astype(float)
    noise = rng.normal(0, 1e-9, 900)
    assert len(np.unique(after - before + noise)) > FEW
    by_counts = paired_bootstrap(before, after, np.random.default_rng(1), 20_000)
    by_draws = paired_bootstrap(before, after + noise, np.random.default_rng(1), 20_000)
    for name in ("mean", "low", "high", "bound"):
        assert getattr(by_counts, name) == pytest.approx(getattr(by_draws, name), abs=0.0008), name
    deviation = np.std(after - before) / math.sqrt(900)
    assert by_counts.high - by_counts.low == pytest.approx(2 * 1.96 * deviation, rel=0.05)
    assert by_counts.bound == pytest.approx(by_counts.mean - 1.645 * deviation, abs=0.1 * deviation)


def test_the_bootstrap_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(11)
    held = above = 0
    for _ in range(400):
        before = (rng.random(300) < 0.90).astype(float)
        after = np.where(rng.random(300) < 0.1, (rng.random(300) < 0.7).astype(float), before)
        found = paired_bootstrap(before, after, rng, 1000)
        held += found.low <= -0.02 <= found.high
        above += found.bound <= -0.02
    assert 0.91 <= held / 400 <= 0.98
    assert 0.91 <= above / 400 <= 0.98


def test_the_bootstrap_is_reproducible_and_needs_pairs():
    scores = np.random.default_rng(2).random(40)
    first, again = (paired_bootstrap(scores, scores[::-1], np.random.default_rng(3), 500) for _ in range(2))
    assert first == again
    for before, after in ((scores, scores[:5]), (scores[:0], scores[:0])):
        with pytest.raises(RequestError, match="scores"):
            paired_bootstrap(before, after, np.random.default_rng(3))


def test_nothing_changed_is_certain():
    scores = np.ones(30)
    found = paired_bootstrap(scores, scores, np.random.default_rng(0))
    assert (found.mean, found.low, found.high, found.bound) == (0.0, 0.0, 0.0, 0.0)


def test_ratios_are_resampled_together():
    rng = np.random.default_rng(4)
    part, whole = rng.integers(0, 3, (200, 1)).astype(float), np.full((200, 1), 3.0)
    drawn = ratio_draws(np.hstack([part, part]), np.hstack([whole, whole]), rng, 3000)
    assert drawn.shape == (3000, 2)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert spread(0.0, drawn[:, 1] - drawn[:, 0]).low == 0.0
    assert drawn[:, 0].mean() == pytest.approx(part.sum() / whole.sum(), abs=0.003)
    assert drawn[:, 0].std() == pytest.approx(np.std(part / 3) / math.sqrt(200), rel=0.1)
    assert (ratio_draws(np.zeros((5, 1)), np.zeros((5, 1)), rng, 7) == 1.0).all()
