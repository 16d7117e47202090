"""Generates customers' texts with what they want, and texts about other things: data to try small models on.

What is hard about real texts is in them: several wordings of one wish, close wishes in the same words, remarks on
another matter, politeness, slips of the keyboard, and some that nobody could tell. Equal dice, equal texts.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from farthing.simulation.generator import Dice
from farthing.simulation.intent_wordings import (
    ASIDES,
    CLOSINGS,
    FRAMES,
    INTENTS,
    OPENINGS,
    SLOTS,
    UNCLEAR,
    Intent,
)
from farthing.simulation.outside_wordings import CLOSINGS as OUTSIDE_CLOSINGS
from farthing.simulation.outside_wordings import DOMAINS
from farthing.simulation.outside_wordings import SLOTS as OUTSIDE_SLOTS

LABELS: Final = tuple(sorted(intent.label for intent in INTENTS))

_BY_LABEL: Final = {intent.label: intent for intent in INTENTS}
_FRAMED: Final = 0.4
_OPENED, _CLOSED = 0.25, 0.25
_LOWER, _BARE = 0.35, 0.3
_STOPS: Final = (".", ".", ".", "!", "!!", " ...")
_ASKING: Final = frozenset(
    "how what where when which who why is are am can could do does did has have may will would".split()  # noqa: SIM905
)
T = TypeVar("T")

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class Difficulty(msgspec.Struct, frozen=True):
    """Shares of texts from 0 to 1: with a remark on a close matter, with slips of the keyboard, and of an unclear kind.

    An unclear text has one of two labels by chance, so that no model is right about more than 1 - `unclear` / 2.
    """

    asides: float = 0.35
    slips: float = 0.3
    unclear: float = 0.03


def intents(dice: Dice, count: int, difficulty: Difficulty | None = None) -> list[tuple[str, str]]:
    """So many distinct texts of customers, each with one of `LABELS`."""
    difficulty = difficulty or Difficulty()
    found: dict[str, str] = {}
    while len(found) < count:
        if dice.random() < difficulty.unclear:
            labels, wordings = _one_of(dice, UNCLEAR)
            label, said = _one_of(dice, labels), _filled(dice, _one_of(dice, wordings), SLOTS)
        else:
            intent = _one_of(dice, INTENTS)
            label, said = intent.label, _said(dice, intent)
            if dice.random() < difficulty.asides:
                said = _with_aside(dice, intent, said)
        found.setdefault(_written(dice, said, CLOSINGS, difficulty.slips), label)
    return list(found.items())


def outside(dice: Dice, count: int, slips: float = 0.2) -> list[str]:
    """So many distinct texts about anything but orders, telephones, money or accounts: they belong to no such label."""
    names = tuple(DOMAINS)
    found: dict[str, None] = {}
    while len(found) < count:
        said = _filled(dice, _one_of(dice, DOMAINS[_one_of(dice, names)]), OUTSIDE_SLOTS)
        found.setdefault(_written(dice, said, OUTSIDE_CLOSINGS, slips))
    return list(found)


def _said(dice: Dice, intent: Intent) -> str:
    if dice.random() < _FRAMED:
        return _framed(dice, _filled(dice, _one_of(dice, intent.wants), SLOTS))
    return _filled(dice, _one_of(dice, intent.says), SLOTS)


def _framed(dice: Dice, want: str) -> str:
    return _one_of(dice, FRAMES).replace("{want}", want)


def _with_aside(dice: Dice, intent: Intent, main: str) -> str:
    other = _BY_LABEL[_one_of(dice, intent.close)]
    aside = _one_of(dice, ASIDES)
    if aside.startswith("{main}, not to"):
        main = _framed(dice, _filled(dice, _one_of(dice, intent.wants), SLOTS))
    aside = aside.replace("{matter}", _one_of(dice, other.matter)).replace("{want}", _one_of(dice, other.wants))
    return _filled(dice, aside.replace("{main}", "\0"), SLOTS).replace("\0", main)


def _filled(dice: Dice, wording: str, slots: dict[str, tuple[str, ...]]) -> str:
    """A wording with each of its slots filled, no two of one text with the same."""
    used: set[str] = set()
    while (start := wording.find("{")) >= 0:
        end = wording.index("}", start)
        stock = tuple(one for one in slots[wording[start + 1 : end]] if one not in used)
        chosen = _one_of(dice, stock)
        used.add(chosen)
        wording = f"{wording[:start]}{chosen}{wording[end + 1 :]}"
    return wording


def _written(dice: Dice, said: str, closings: tuple[str, ...], slips: float) -> str:
    """As a person in a hurry types it: greeting or none, capitals and stops or none, with slips or without."""
    stop = "?" if said.partition(" ")[0] in _ASKING else _one_of(dice, _STOPS)
    bare = dice.random() < _BARE
    if dice.random() < _OPENED:
        said = f"{_one_of(dice, OPENINGS)}{', ' if dice.random() < 0.7 else ' '}{said}"
    if dice.random() < _CLOSED:
        closing = _filled(dice, _one_of(dice, closings), SLOTS)
        said = f"{said}{',' if bare else stop} {closing}"
        stop = "."
    if dice.random() < slips:
        for _ in range(1 + dice.randrange(2)):
            said = _slipped(dice, said)
    if dice.random() >= _LOWER:
        said = said[:1].upper() + said[1:]
        said = said.replace(" i ", " I ").replace(" i'", " I'")
    return said if bare else said + stop


def _slipped(dice: Dice, text: str) -> str:
    """A text with one slip: two letters swapped, one left out, doubled or mistaken."""
    place = 1 + dice.randrange(max(len(text) - 2, 1))
    before, letter, after = text[:place], text[place : place + 1], text[place + 1 :]
    if not letter.isalpha():
        return text
    match dice.randrange(4):
        case 0:
            return before + after[:1] + letter + after[1:]
        case 1:
            return before + after
        case 2:
            return before + letter * 2 + after
        case _:
            return before + _one_of(dice, _LETTERS) + after


def _one_of(dice: Dice, stock: Sequence[T]) -> T:
    return stock[dice.randrange(len(stock))]
