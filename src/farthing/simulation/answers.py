"""Simulated answers: what a provider says, free of any wire format, and the prose it says it in."""

from typing import Literal

import msgspec

from farthing.schema import Usage

Finish = Literal["stop", "length", "tool"]


class ToolUse(msgspec.Struct, frozen=True, gc=False):
    """One tool the answer asks the caller to run; `arguments` is a JSON object."""

    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One answer to be written in an endpoint's wire format.

    `id` is bare (each format adds its prefix); `created` is Unix seconds; `mark` tells readers of the reply that no
    provider wrote it. `usage` is `None` when nothing is known, and then the reply reports none. `vectors` are
    embeddings, each a list of floats or the base64 of its little-endian float32 values. `tokens_per_frame` tokens
    share a frame of a stream.
    """

    id: str
    model: str
    text: str
    usage: Usage | None
    finish: Finish = "stop"
    tool: ToolUse | None = None
    choices: int = 1
    tier: str = "default"
    created: int = 0
    vectors: tuple[list[float] | str, ...] = ()
    tokens_per_frame: int = 8
    mark: str = "farthing"


CHARACTERS_PER_TOKEN = 4
"""English prose runs at about four characters to the token; simulated text uses exactly that."""

_SUBJECTS = ("The order", "Your account", "The report", "A refund", "The schedule", "This setting", "The invoice")
_VERBS = ("is handled by", "depends on", "was checked against", "moves on to", "is explained in", "can be changed in")
_OBJECTS = ("the billing page", "our returns desk", "the latest figures", "your regional office", "the usual steps")
_ENDINGS = ("and takes two working days", "once the form is complete", "unless it was opened", "as agreed last week")
_PROSE = " ".join(f"{s} {v} {o} {e}." for e in _ENDINGS for v in _VERBS for s in _SUBJECTS for o in _OBJECTS)
_STARTS = tuple(place + 2 for place, character in enumerate(_PROSE) if character == "." and place + 2 < len(_PROSE))


def prose(dice: int, tokens: int) -> str:
    """`tokens` tokens of plain English, always the same for the same `dice`; plain ASCII without quotes."""
    start = _STARTS[dice % len(_STARTS)]
    length = tokens * CHARACTERS_PER_TOKEN
    text = _PROSE[start : start + length]
    while len(text) < length:
        text = f"{text} {_PROSE[: length - len(text)]}"
    return text[:length]


def pieces(text: str, tokens: int) -> list[str]:
    """Cut text into pieces of `tokens` tokens each, the last one shorter.

    >>> pieces("one two three", 1)
    ['one ', 'two ', 'thre', 'e']
    """
    size = tokens * CHARACTERS_PER_TOKEN
    return [text[place : place + size] for place in range(0, len(text), size)]
