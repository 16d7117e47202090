"""Perplexities with their intervals, and decoders asked token by token."""

from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from farthing.compress.generative import scoring
from farthing.compress.generative.job import Relearn, Shrink, Weights
from farthing.compress.generative.line import gentler, units
from farthing.compress.generative.record import GenerativeReport, Row, card, table
from farthing.compress.generative.speaking import Logits, greedy
from farthing.errors import RequestError


def figures(losses: Sequence[float], tokens: Sequence[int]) -> scoring.Figures:
    return scoring.Figures("none", list(losses), list(tokens), [], 0, 0.0, 0, 1.0, 1.0, 1.0)


class Counting:
    """A decoder that always says the next number, and ends after a certain one."""

    engine = "counting"

    def __init__(self, last: int) -> None:
        self.last, self.read = last, []

    def begin(self, ids: Sequence[int], room: int) -> Logits:
        self.read = list(ids)
        return np.stack([self._after(token) for token in ids])

    def follow(self, token: int) -> Logits:
        self.read.append(token)
        return self._after(token)

    def _after(self, token: int) -> Logits:
        logits = np.zeros(10, np.float32)
        logits[0 if token == self.last else token + 1] = 5
        return logits


def test_greedy_says_what_is_likeliest_until_the_text_ends() -> None:
    assert greedy(Counting(7), [3, 4], most=20, end=0) == [5, 6, 7]
    assert greedy(Counting(9), [3], most=3, end=0) == [4, 5, 6]
    asked = Counting(9)
    greedy(asked, [3], most=3, end=0)
    assert asked.read == [3, 4, 5]  # what is not needed any more is not asked


def test_perplexity_weighs_tokens_and_the_ratio_is_paired() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 50, 200)
    before = tokens * rng.uniform(0.5, 3, 200)
    found = scoring.compared(figures(before + 0.1 * tokens, tokens), figures(before, tokens), rng)
    assert found.perplexity == pytest.approx(np.exp((before.sum() + 0.1 * tokens.sum()) / tokens.sum()))
    assert (found.times, found.times_low, found.times_high) == pytest.approx((np.exp(0.1),) * 3)
    assert found.low < found.perplexity < found.high


def test_the_interval_of_a_ratio_covers_what_it_estimates() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(10, 30, 80)
        before = tokens * rng.uniform(1, 2, 80)
        after = before + tokens * rng.normal(0.05, 0.3, 80)
        found = scoring.compared(figures(after, tokens), figures(before, tokens), rng)
        covered += found.times_low <= np.exp(0.05) <= found.times_high
    assert 51 <= covered <= 60


def test_other_texts_are_not_compared() -> None:
    with pytest.raises(RequestError):
        scoring.compared(figures([1.0], [3]), figures([1.0], [4]), np.random.default_rng(0))


def test_what_is_tried_next_is_gentler_and_ends() -> None:
    assert gentler((Weights(bits=4),), 2) == (Weights(bits=8),)
    assert gentler((Weights(bits=8),), 2) == (Weights(bits=8, activations=32),)
    assert gentler((Weights(bits=8, activations=32),), 2) is None
    assert gentler((Shrink(layers=3), Relearn()), 2) == (Shrink(layers=2), Relearn())
    assert gentler((Relearn(),), 2) is None


def test_learning_belongs_to_the_cut_before_it_only() -> None:
    stages = (Relearn(), Shrink(layers=1), Relearn(), Relearn(), Weights())
    assert [len(unit) for unit in units(stages)] == [1, 2, 1, 1]


def test_the_table_has_a_cell_for_every_head() -> None:
    measured = replace(figures([3.0], [2]), right=[True, False], agreed=1, places=2, apart=0.5)
    row = Row("one", "kept", "", 10, 0.5, measured, scoring.Ratio(1.5, 1.4, 1.6, 1.1, 1.0, 1.2))
    report = GenerativeReport("n", (row, Row("two", "given up")), 0, 1.1, 1, {"threads": "1"}, "")
    lines = table(report).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "50.0 %" in lines[2]
    assert "two (given up)" in lines[3]
    assert table(report) in card(report)
