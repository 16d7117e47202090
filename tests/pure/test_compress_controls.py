"""What has to be beaten is as good as it gets without a network."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.compress.controls import (
    STRENGTH,
    Weighing,
    character_runs,
    logistic_regression,
    tfidf_control,
    word_runs,
)
from farthing.compress.examples import Examples
from farthing.errors import ConfigError

BANKING = Path(__file__).parents[2].parent / "shared" / "data" / "banking77"
LABELS = ("card", "refund", "rate")
TEXTS = (
    "My card is lost",
    "where is my CARD, please?",
    "the card was stolen",
    "I want a refund",
    "refund the money I paid, a refund!",
    "give me my money back",
    "what exchange rate do you use",
    "the rate was wrong",
    "your rates are bad",
)
TARGETS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
EXAMPLES = Examples(TEXTS, TARGETS)


def test_runs_of_words_and_of_characters():
    assert list(word_runs("A lost Card!")) == ["lost", "card", "lost card"]
    found = list(character_runs("a card"))
    assert found[:2] == [" a", "a "]
    assert " a " in found
    assert " card" in found
    assert not any(" " in run.strip() for run in found)


@given(st.lists(st.text(alphabet="ab cé!", max_size=12), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_weights_are_those_that_everybody_means_by_them(texts):
    reference = pytest.importorskip("sklearn.feature_extraction.text", reason="a reference to compare with")
    for runs, given_options in (
        (word_runs, {"ngram_range": (1, 2)}),
        (character_runs, {"ngram_range": (2, 5), "analyzer": "char_wb"}),
    ):
        vectorizer = reference.TfidfVectorizer(sublinear_tf=True, **given_options)
        weighing = Weighing(runs, texts)
        try:
            expected = vectorizer.fit_transform(texts).toarray()
        except ValueError:
            assert not weighing.columns
            continue
        columns = [weighing.columns[name] for name in vectorizer.get_feature_names_out()]
        assert len(columns) == len(weighing.columns)
        np.testing.assert_allclose(weighing.fitted.toarray()[:, columns], expected, atol=1e-5)


def test_unseen_runs_weigh_nothing_and_empty_texts_are_rows_too():
    weighing = Weighing(word_runs, TEXTS)
    found = weighing.rows(["", "unheard of", "card unheard"])
    assert found.shape == (3, len(weighing.columns))
    assert found.toarray()[:2].sum() == 0
    assert np.linalg.norm(found.toarray()[2]) == pytest.approx(1)


def test_the_regression_is_at_its_minimum():
    models = pytest.importorskip("sklearn.linear_model", reason="a reference to compare with")
    weighing = Weighing(word_runs, TEXTS)
    weights, bias = logistic_regression(weighing.fitted, TARGETS, 3)
    expected = models.LogisticRegression(C=STRENGTH, tol=1e-8, max_iter=1000).fit(weighing.fitted, TARGETS)
    np.testing.assert_allclose(weights, expected.coef_.T, atol=0.02)
    np.testing.assert_allclose(bias - bias.mean(), expected.intercept_ - expected.intercept_.mean(), atol=0.02)


def test_texts_like_those_learned_from_are_told_apart():
    found = tfidf_control(EXAMPLES, ["a stolen card", "money back", "exchange rates"], LABELS, 7)
    assert found.logits.shape == (3, 3)
    assert found.logits.dtype == np.float32
    assert found.logits.argmax(1).tolist() == [0, 1, 2]
    assert found.cpu_ms > 0
    assert found.fit_cpu_s > 0
    columns = len(Weighing(word_runs, TEXTS).columns) + len(Weighing(character_runs, TEXTS).columns)
    assert found.mb > 4 * columns * 3 / 1e6


def test_texts_of_no_known_label_are_not_learned_from():
    with_unknown = Examples((*TEXTS, "a stolen card"), np.array([*TARGETS, -1]))
    asked = ["a stolen card", "money"]
    np.testing.assert_array_equal(
        tfidf_control(with_unknown, asked, LABELS, 7).logits, tfidf_control(EXAMPLES, asked, LABELS, 7).logits
    )
    with pytest.raises(ConfigError, match="no labelled texts"):
        tfidf_control(Examples(TEXTS, np.full(len(TEXTS), -1)), asked, LABELS, 7)


def test_a_label_without_texts_is_the_least_likely():
    found = tfidf_control(EXAMPLES, ["card", ""], (*LABELS, "unheard"), 7)
    assert found.logits[0].argmin() == 3
    assert np.isfinite(found.logits).all()


def test_no_text_is_asked_about():
    assert tfidf_control(EXAMPLES, [], LABELS, 7).logits.shape == (0, 3)


@pytest.mark.skipif(not BANKING.exists(), reason="needs ../shared/data/banking77 beside the repository")
def test_a_quarter_of_banking77():
    def read(name):
        with (BANKING / f"{name}.csv").open(newline="") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    train, test = read("train")[::4], read("test")
    labels = sorted({label for _, label in train})
    examples = Examples(tuple(text for text, _ in train), np.array([labels.index(label) for _, label in train]))
    found = tfidf_control(examples, [text for text, _ in test], labels, 7)
    right = found.logits.argmax(1) == [labels.index(label) for _, label in test]
    assert right.mean() > 0.83
    assert found.fit_cpu_s < 60
