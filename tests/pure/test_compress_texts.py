"""Texts made from texts: new, never empty, the same for the same seed, and whatever the script they are written in."""

import time
from difflib import SequenceMatcher
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.compress.data.texts import _NEAR, augmented, with_typos
from farthing.compress.job import Augment

SENTENCES = [
    "Where is the parcel that I was promised for Monday?",
    "Please cancel my contract at the end of the month.",
    "The screen of the tablet came with a crack in it.",
    "My connection has been slow since the storm on Friday.",
    "I would like a copy of the bill for March.",
]
STRANGE = [
    "我想把这件外套退回去可以吗",
    "返品の手続きを教えてください",
    "أين طلبي الذي دفعت ثمنه أمس",
    "👩‍👩‍👧‍👦 where is my 📦⁉️ still waiting 😡",
    "ฉันต้องการยกเลิกคำสั่งซื้อ",
    "cafe\u0301 naïve Straße",
    "\u200b",
    "a",
    "!!!",
    "\ud800 alone",
    "42",
]
OPERATIONS = ("crossover", "delete", "swap", "typo", "case")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(texts: list[str], *operations: str, copies: int = 3, seed: int = 0) -> list[str]:
    return augmented(texts, Augment(copies=copies, operations=operations or OPERATIONS), rng(seed))


def test_every_operation_that_a_job_can_name_makes_something():
    (several, _) = get_args(get_type_hints(Augment)["operations"])

    assert set(get_args(several)) == set(OPERATIONS)
    for operation in OPERATIONS:
        assert made(SENTENCES, operation), operation


@given(st.lists(st.text(), max_size=8), st.integers(0, 4), st.integers(0, 2**32))
def test_what_is_made_is_new_not_empty_and_no_more_than_asked(texts, copies, seed):
    found = made(texts, copies=copies, seed=seed)

    assert all(text.strip() for text in found)
    assert not set(found) & set(texts)
    assert len(set(found)) == len(found) <= copies * len(texts)
    assert found == made(texts, copies=copies, seed=seed)


def test_other_seeds_make_other_texts():
    assert made(SENTENCES, seed=1) != made(SENTENCES, seed=2)


def test_each_text_yields_all_its_copies_where_there_is_enough_to_change():
    assert len(made(SENTENCES, copies=3)) == 3 * len(SENTENCES)


def test_a_crossover_is_the_beginning_of_one_text_and_the_end_of_another():
    found = made(SENTENCES, "crossover", copies=10)

    assert found
    for text in found:
        words = text.split()
        assert any(
            words[:cut] == first.split()[:cut] and words[cut:] == second.split()[-(len(words) - cut) :]
            for cut in range(1, len(words))
            for first in SENTENCES
            for second in SENTENCES
            if first != second
        ), text


def test_a_deletion_leaves_the_order_and_takes_at_least_one_word():
    for text in made(SENTENCES, "delete", copies=10):
        words = text.split()
        assert any(is_part(words, sentence.split()) for sentence in SENTENCES), text


def is_part(few: list[str], many: list[str]) -> bool:
    rest = iter(many)
    return len(few) < len(many) and all(word in rest for word in few)


def test_a_swap_exchanges_two_neighbours_and_nothing_else():
    by_words = {tuple(sorted(sentence.split())): sentence.split() for sentence in SENTENCES}

    for text in made(SENTENCES, "swap", copies=10):
        words = text.split()
        before = by_words[tuple(sorted(words))]
        moved = [place for place, word in enumerate(words) if word != before[place]]
        assert len(moved) == 2
        assert moved[1] == moved[0] + 1


def test_a_change_of_case_is_only_that():
    found = made(SENTENCES, "case", copies=10)

    assert {text.lower() for text in found} <= {sentence.lower() for sentence in SENTENCES}


def test_white_space_within_a_text_stays():
    assert all("\t" in text for text in made(["one\ttwo three  four", "five\tsix seven"], "typo", copies=5))


def test_texts_of_unspaced_scripts_are_cut_between_characters():
    texts = ["我想把这件外套退回去可以吗", "请问我的订单什么时候能送到"]

    for operation in ("crossover", "delete", "swap"):
        found = made(texts, operation, copies=5)
        assert found, operation
        assert not any(" " in text for text in found)


@pytest.mark.parametrize("text", STRANGE)
def test_no_script_breaks_it(text):
    found = made([text, *SENTENCES[:1]], copies=20)
    mistyped = with_typos([text] * 20, rng(), 0.5)

    assert all(one.strip() for one in [*found, *mistyped])


def test_one_word_or_none_is_left_alone_by_what_needs_more():
    assert made(["word", "", "   "], "crossover", "delete", "swap") == []


def test_no_operations_or_no_copies_make_nothing():
    assert augmented(SENTENCES, Augment(operations=()), rng()) == []
    assert made(SENTENCES, copies=0) == []
    assert made([]) == []


@given(st.lists(st.text(), max_size=8), st.floats(0, 1), st.integers(0, 2**32))
def test_mistyped_texts_stay_in_line_with_their_originals(texts, rate, seed):
    found = with_typos(texts, rng(seed), rate)

    assert len(found) == len(texts)
    assert [bool(text.strip()) for text in found] == [bool(text.strip()) for text in texts]
    assert found == with_typos(texts, rng(seed), rate)


def test_typos_come_about_as_often_as_asked():
    texts = SENTENCES * 200
    letters = sum(character.isalpha() for text in texts for character in text)

    for rate in (0.01, 0.05, 0.1):
        found = with_typos(texts, rng(), rate)
        edits = sum(differing(before, after) for before, after in zip(texts, found, strict=True))
        assert edits / letters == pytest.approx(rate, rel=0.25)


def differing(before: str, after: str) -> int:
    """Places where two texts differ; the two of a transposition are one apart, and count once or twice."""
    return sum(
        (max(a - b, c - d) + 1) // 2 if tag == "replace" and a - b > 1 else 1
        for tag, b, a, d, c in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if tag != "equal"
    )


def test_no_rate_no_typos():
    assert with_typos(SENTENCES, rng(), 0.0) == SENTENCES


def test_digits_signs_and_spaces_stay():
    def others(text: str) -> str:
        return "".join(character for character in text if not character.isalpha())

    texts = ["Order 12-34/56 of 7 June: 8 items, 90 cm!"] * 50

    assert [others(text) for text in with_typos(texts, rng(), 0.3)] == [others(text) for text in texts]


def test_neighbouring_keys_are_neighbours_both_ways():
    assert set(_NEAR) == set("abcdefghijklmnopqrstuvwxyz")
    assert all(key in _NEAR[near] for key, several in _NEAR.items() for near in several)
    assert set(_NEAR["s"]) == set("adwezx")


def test_capitals_stay_capitals():
    found = with_typos(["SHOUTING LOUDLY"] * 200, rng(), 0.2)

    assert all(text == text.upper() for text in found)


def test_a_text_of_a_megabyte_takes_no_more_than_seconds():
    text = "where is my order " * 60_000
    began = time.process_time()

    (mistyped,) = with_typos([text], rng(), 0.05)
    found = made([text, text[:-6]], copies=2)

    assert mistyped != text
    assert found
    assert time.process_time() - began < 20
