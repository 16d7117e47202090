"""Drift: no more false alarms than promised however often it is looked at, and true ones before long."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import RequestError
from farthing.evaluation.drift import Drift, exceeds, log_evidence

counts = st.integers(0, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def alarms(rate: float, gate: float, length: int, watches: int, seed: int) -> list[int]:
    """After how many audits each watch raises its alarm, looking after each; -1 for never."""
    rng = np.random.default_rng(seed)
    known: dict[tuple[int, int], bool] = {}
    found = []
    for _ in range(watches):
        disagreed = np.cumsum(rng.random(length) < rate)
        when = -1
        for audited, count in enumerate(disagreed.tolist(), start=1):
            if count > audited * gate:  # no watch alarms on less than the gate, as another test shows
                if (audited, count) not in known:
                    known[audited, count] = exceeds(audited, count, gate)
                if known[audited, count]:
                    when = audited
                    break
        found.append(when)
    return found


@pytest.mark.parametrize(("rate", "gate"), [(0.05, 0.05), (0.2, 0.2), (0.01, 0.02)])
def test_at_the_gate_few_watches_ever_alarm(rate, gate):
    found = alarms(rate, gate, length=1500, watches=400, seed=1)
    false = sum(when > 0 for when in found)
    assert false <= scipy.stats.binom.ppf(0.999, 400, 0.05)
    if rate == gate:
        assert false  # it does use what it is allowed


def test_twice_the_gate_is_noticed_soon():
    found = alarms(0.10, 0.05, length=1500, watches=100, seed=2)
    assert sum(when > 0 for when in found) >= 99
    assert np.median(found) < 300


@settings(deadline=None)
@given(counts, st.sampled_from([0.004, 0.05, 0.3, 0.77]))
def test_the_evidence_is_the_mixture_it_claims_to_be(given_counts, gate):
    audited, disagreed = given_counts
    weight = max(1, round(1 / gate))
    prior = scipy.stats.beta(1, weight)
    edges = np.linspace(gate, 1, 40_001)
    rates = (edges[1:] + edges[:-1]) / 2
    bets = disagreed * np.log(rates / gate) + (audited - disagreed) * np.log((1 - rates) / (1 - gate))
    whole = scipy.special.logsumexp(bets + prior.logpdf(rates)) + math.log(edges[1] - edges[0]) - prior.logsf(gate)
    assert log_evidence(audited, disagreed, gate) == pytest.approx(whole, rel=1e-4, abs=1e-4)


@given(counts, st.floats(0.01, 0.9))
def test_it_is_a_fair_game_at_the_gate(given_counts, gate):
    """What the next audit is expected to leave is what there is: the next wealth, weighted by its probability."""
    audited, disagreed = given_counts
    now = log_evidence(audited, disagreed, gate)
    nexts = np.logaddexp(
        math.log(gate) + log_evidence(audited + 1, disagreed + 1, gate),
        math.log1p(-gate) + log_evidence(audited + 1, disagreed, gate),
    )
    assert nexts == pytest.approx(now, abs=1e-7)


@given(counts, st.floats(0.001, 0.999))
def test_no_alarm_while_fewer_disagree_than_may(given_counts, gate):
    audited, disagreed = given_counts
    if disagreed <= gate * audited:
        assert not exceeds(audited, disagreed, gate)


def test_large_counts_neither_overflow_nor_take_long():
    assert not exceeds(5_000_000, 249_000, 0.05)
    assert exceeds(5_000_000, 252_500, 0.05)
    assert exceeds(100_000, 100_000, 0.001)
    assert not exceeds(100_000, 0, 0.001)


def test_the_ends():
    assert not exceeds(1000, 0, 0.0)
    assert exceeds(1000, 1, 0.0)
    assert not exceeds(1000, 1000, 1.0)


def test_audits_are_counted():
    assert Drift().noting(True).noting(False) == Drift(audited=2, disagreed=1)


@pytest.mark.parametrize(
    ("audited", "disagreed", "gate", "alpha"),
    [(5, 6, 0.1, 0.05), (5, -1, 0.1, 0.05), (5, 1, 1.2, 0.05), (5, 1, math.nan, 0.05), (5, 1, 0.1, 0.0)],
)
def test_what_makes_no_sense_is_refused(audited, disagreed, gate, alpha):
    with pytest.raises(RequestError) as refused:
        exceeds(audited, disagreed, gate, alpha)
    assert refused.value.hint
