"""The text of an answer, for whoever wants to know what it says and not how."""

from typing import Final

import msgspec

from farthing.dialects import wire
from farthing.schema import Endpoint

_SPOKEN: Final = frozenset(("text", "output_text"))


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    text: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    content: str | list[_Part] | None = None


class _Answer(msgspec.Struct, gc=False):
    """What any family's answer says, wherever that family puts it."""

    choices: list[_Choice] = []
    output: list[_Item] = []
    content: str | list[_Part] | None = None


class _Made(msgspec.Struct, gc=False):
    system_fingerprint: str | None = None


_MADE: Final = msgspec.json.Decoder(_Made)
_ANSWER: Final = msgspec.json.Decoder(_Answer)


def answer_text(endpoint: Endpoint, body: bytes) -> str | None:
    """What a plain answer says, in its first choice; `None` when it has no text, as when it only calls a tool.

    >>> answer_text("chat", b'{"choices": [{"message": {"content": "Yes."}}]}')
    'Yes.'
    """
    try:
        answer = _ANSWER.decode(body)
    except wire.NOT_JSON:
        return None
    match endpoint:
        case "chat" | "completions":
            first = answer.choices[0] if answer.choices else _Choice()
            return first.text if first.message is None else _text(first.message.content)
        case "responses":
            said = [text for item in answer.output if item.type == "message" and (text := _text(item.content))]
            return "".join(said) or None
        case "messages":
            return _text(answer.content)
        case _:
            return None


def fingerprint(body: bytes) -> str:
    """What a plain answer says of the version of its model that gave it; empty when it says nothing."""
    try:
        return _MADE.decode(body).system_fingerprint or ""
    except wire.NOT_JSON:
        return ""


def _text(content: str | list[_Part] | None) -> str | None:
    if isinstance(content, list):
        content = "".join(part.text for part in content if part.type in _SPOKEN and part.text)
    return content or None
