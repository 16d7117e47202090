"""Generated customers' texts: the same for the same dice, of every label, hard as claimed, and a world apart from others."""

import random
import re
from collections import Counter
from string import Formatter

import pytest

from farthing.simulation.intent_wordings import ASIDES, CLOSINGS, FRAMES, INTENTS, SLOTS, UNCLEAR
from farthing.simulation.intents import LABELS, Difficulty, intents, outside
from farthing.simulation.outside_wordings import DOMAINS
from farthing.simulation.outside_wordings import SLOTS as OUTSIDE_SLOTS

MONEY = re.compile(
    r"\b(bank\w*|cards?|pay\w*|paid|money|price\w*|cash|transfer\w*|account\w*|charge\w*|refund\w*|bill\w*|fee|fees|cost\w*|"
    r"top.?up\w*|pin|passport|identit\w*|verif\w*|password\w*|atm|currenc\w*|exchange\w*|balance|credit|debit|limit|loan|"
    r"salary|wallet|phone\w*|order\w*|parcel\w*|deliver\w*|internet|sim|contract\w*|return\w*|buy|bought|euros?|dollars?|"
    r"pounds?|age|direct|cheque|check|statement|withdraw\w*|deposit\w*|spend\w*|visa|mastercard)\b"
)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[str, str]]:
    return intents(random.Random(7), 5_000)


@pytest.fixture(scope="module")
def strangers() -> list[str]:
    return outside(random.Random(7), 5_000)


def test_equal_dice_give_equal_texts():
    assert intents(random.Random(1), 300) == intents(random.Random(1), 300)
    assert intents(random.Random(1), 300) != intents(random.Random(2), 300)
    assert outside(random.Random(1), 300) == outside(random.Random(1), 300)
    assert outside(random.Random(1), 300) != outside(random.Random(2), 300)


def test_texts_are_as_many_as_asked_distinct_and_whole(drawn, strangers):
    for texts in ([text for text, _ in drawn], strangers):
        assert len(set(texts)) == len(texts) == 5_000
        assert all(text.strip() == text and text for text in texts)
        assert not any(mark in text for text in texts for mark in "{}\0")


def test_none_are_drawn_where_none_are_asked_for():
    assert intents(random.Random(1), 0) == []
    assert outside(random.Random(1), 0) == []


def test_every_label_comes_about_equally_often(drawn):
    counts = Counter(label for _, label in drawn)

    assert set(counts) == set(LABELS)
    assert len(LABELS) == 24
    assert min(counts.values()) > 0.6 * 5_000 / 24
    assert max(counts.values()) < 1.6 * 5_000 / 24


def test_labels_named_as_close_are_labels_and_no_intent_is_close_to_itself():
    for intent in INTENTS:
        assert set(intent.close) <= set(LABELS) - {intent.label}
    for labels, _ in UNCLEAR:
        assert set(labels) <= set(LABELS)
        assert len(labels) == 2


def slots_in(wordings) -> set[str]:
    return {name for wording in wordings for _, name, _, _ in Formatter().parse(wording) if name}


def test_every_slot_has_fillings_and_every_filling_a_use():
    own = [wording for intent in INTENTS for wording in (*intent.wants, *intent.says, *intent.matter)]
    own += [wording for _, wordings in UNCLEAR for wording in wordings]

    assert slots_in([*own, *CLOSINGS]) == set(SLOTS)
    assert slots_in([*ASIDES, *FRAMES]) == {"main", "want", "matter"}
    assert slots_in(wording for wordings in DOMAINS.values() for wording in wordings) == set(OUTSIDE_SLOTS)


def test_without_difficulty_texts_are_clear_and_cleanly_typed():
    clean = intents(random.Random(3), 2_000, Difficulty(asides=0.0, slips=0.0, unclear=0.0))
    words = set(re.findall(r"[a-z]+", " ".join(text for text, _ in clean).lower()))
    slipped = set(re.findall(r"[a-z]+", " ".join(text for text, _ in intents(random.Random(3), 2_000)).lower()))

    assert len(words) < 900
    assert len(slipped) > 1.3 * len(words)


def test_an_unclear_text_has_either_of_two_labels():
    drawn = intents(random.Random(3), 4_000, Difficulty(asides=0.0, slips=0.0, unclear=1.0))

    by_said: dict[str, set[str]] = {}
    for text, label in drawn:
        if "i want to cancel" in text.lower():
            by_said.setdefault("cancel", set()).add(label)
    assert by_said == {"cancel": {"cancel_order", "cancel_contract"}}


def test_remarks_bring_the_words_of_a_close_matter():
    drawn = intents(random.Random(3), 2_000, Difficulty(asides=1.0, slips=0.0, unclear=0.0))
    wants_signal = [text.lower() for text, label in drawn if label == "sim_activation"]

    assert any("coverage" in text or "signal" in text for text in wants_signal)


def test_texts_of_other_worlds_are_of_many_and_of_none_of_ours(strangers):
    assert len(DOMAINS) >= 15
    for text in outside(random.Random(11), 20_000, slips=0.0):
        found = MONEY.search(text.lower())
        assert not found, (found, text)


def test_no_text_of_other_worlds_is_one_of_ours(drawn, strangers):
    assert not {text for text, _ in drawn} & set(strangers)


def test_a_linear_model_on_words_gets_about_nine_in_ten_right(drawn):
    pipeline = pytest.importorskip("sklearn.pipeline", reason="needs scikit-learn, to be measured against")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    model = pipeline.make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=200)
    )
    texts, labels = zip(*drawn, strict=True)
    model.fit(texts[:2_500], labels[:2_500])

    assert 0.86 < model.score(texts[2_500:], labels[2_500:]) < 0.95
