"""Texts made from texts: more for a teacher to label, and the same ones mistyped, to see what a model makes of them."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from farthing.compress.job import Augment

_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Scripts written without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han."""

_PIECE: Final = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")
"""A word, or a character of an unspaced script, with the white space before it."""

_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_DELETED: Final = 0.1
_CUT: Final = (0.3, 0.7)
"""A crossover cuts its texts between these shares of their words."""


def _neighbours() -> dict[str, str]:
    """The keys around each on a QWERTY keyboard, whose rows are each shifted by about half a key."""
    found: dict[str, str] = {}
    for row, keys in enumerate(_ROWS):
        for place, key in enumerate(keys):
            near = [(row, place - 1), (row, place + 1), (row - 1, place), (row - 1, place + 1)]
            near += [(row + 1, place - 1), (row + 1, place)]
            found[key] = "".join(_ROWS[r][p] for r, p in near if 0 <= r < len(_ROWS) and 0 <= p < len(_ROWS[r]))
    return found


_NEAR: Final = _neighbours()


class _Source:
    """The texts that new ones are made from, cut into pieces once."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = [text for text in texts if text.strip()]
        self.pieces = [_PIECE.findall(text) for text in self.texts]


def augmented(texts: Sequence[str], augment: Augment, rng: np.random.Generator) -> list[str]:
    """New texts, up to `augment.copies` from each of `texts`, each by one of `augment.operations`.

    None of them is empty, one of the given, or there twice; a text that no operation can change yields none. Equal
    generators give equal texts.
    """
    source = _Source(texts)
    known = set(texts)
    made: list[str] = []
    for number in range(len(source.texts)):
        for _ in range(augment.copies):
            for choice in rng.permutation(len(augment.operations)):
                text = _OPERATIONS[augment.operations[choice]](source, number, rng).strip()
                if text and text not in known:
                    known.add(text)
                    made.append(text)
                    break
    return made


def with_typos(texts: Sequence[str], rng: np.random.Generator, rate: float) -> list[str]:
    """The texts in their order, mistyped: about one typo per 1 / `rate` letters, none where that makes less than one.

    A typo is a neighbouring key, a letter left out or doubled, or two letters the wrong way round. Digits, signs and
    spaces stay. No text becomes empty.
    """
    return [_mistyped(text, int(rate * sum(map(str.isalpha, text)) + rng.random()), rng) for text in texts]


def _mistyped(text: str, count: int, rng: np.random.Generator) -> str:
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    if not count or not letters:
        return text
    cells = list(text)  # a typo changes what is in a cell, so that places stay where they are
    for place in rng.choice(letters, size=min(count, len(letters)), replace=False):
        _mistype(cells, int(place), rng)
    return "".join(cells) if any(cell.strip() for cell in cells) else text


def _mistype(cells: list[str], place: int, rng: np.random.Generator) -> None:
    kind = int(rng.integers(4))
    letter = cells[place]
    near = _NEAR.get(letter.lower(), "")
    following = cells[place + 1] if place + 1 < len(cells) else ""
    if kind == 0 and near:
        key = near[int(rng.integers(len(near)))]
        cells[place] = key.upper() if letter.isupper() else key
    elif kind == 1 and following.isalpha() and following != letter:
        cells[place], cells[place + 1] = following, letter
    elif kind == 2:
        cells[place] = letter * 2
    else:
        cells[place] = ""


def _typo(source: _Source, number: int, rng: np.random.Generator) -> str:
    return _mistyped(source.texts[number], 1 + int(rng.integers(2)), rng)


def _crossover(source: _Source, number: int, rng: np.random.Generator) -> str:
    other = int(rng.integers(len(source.texts)))
    first, second = source.pieces[number], source.pieces[other]
    if other == number or min(len(first), len(second)) < 2:
        return ""
    return "".join(first[: _cut(len(first), rng)] + second[_cut(len(second), rng) :])


def _cut(pieces: int, rng: np.random.Generator) -> int:
    """Where a text of so many pieces is cut: at least one stays on either side."""
    return min(max(round(pieces * float(rng.uniform(*_CUT))), 1), pieces - 1)


def _delete(source: _Source, number: int, rng: np.random.Generator) -> str:
    pieces = source.pieces[number]
    if len(pieces) < 3:
        return ""
    gone = 1 + int(rng.binomial(len(pieces) - 2, _DELETED))
    kept = sorted(rng.choice(len(pieces), size=len(pieces) - gone, replace=False))
    return "".join(pieces[place] for place in kept)


def _swap(source: _Source, number: int, rng: np.random.Generator) -> str:
    pieces = source.pieces[number]
    if len(pieces) < 2:
        return ""
    at = int(rng.integers(len(pieces) - 1))
    before, after = pieces[at], pieces[at + 1]
    first, second = before.lstrip(), after.lstrip()
    swapped = [before.removesuffix(first) + second, after.removesuffix(second) + first]
    return "".join(pieces[:at] + swapped + pieces[at + 2 :])


def _case(source: _Source, number: int, rng: np.random.Generator) -> str:
    text = source.texts[number]
    forms = [form for form in (text.lower(), text.upper(), text.capitalize()) if form != text]
    return forms[int(rng.integers(len(forms)))] if forms else ""


_OPERATIONS: Final[dict[str, Callable[[_Source, int, np.random.Generator], str]]] = {
    "crossover": _crossover,
    "delete": _delete,
    "swap": _swap,
    "typo": _typo,
    "case": _case,
}
