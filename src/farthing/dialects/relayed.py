"""How many tokens of output were relayed, for an answer that came without its usage."""

from collections.abc import Iterable, Iterator
from typing import Final

from farthing.dialects import sse, wire
from farthing.prompts.estimate import estimate_tokens
from farthing.schema import Endpoint

_HIDDEN: Final = ("reasoning_content", "reasoning", "thinking")
_VISIBLE: Final = ("content", "text", "refusal", "partial_json")

Piece = tuple[bool, str]
"""A piece of output, and whether it is reasoning."""


def relayed_tokens(endpoint: Endpoint, frames: Iterable[bytes]) -> tuple[int, int]:
    """About how many tokens of visible output and of reasoning some relayed frames hold."""
    visible: list[str] = []
    hidden: list[str] = []
    for chunk in frames:
        for frame in sse.split(chunk):
            data = sse.data_of(frame)
            for reasoning, text in _pieces(endpoint, data):
                (hidden if reasoning else visible).append(text)
    return estimate_tokens("".join(visible)), estimate_tokens("".join(hidden))


def answered_tokens(body: bytes) -> tuple[int, int]:
    """About how many tokens of visible output and of reasoning a plain answer holds."""
    said: dict[bool, list[str]] = {False: [], True: []}
    waiting = [wire.ANY.decode(body)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            for name, value in part.items():
                if not isinstance(value, str):
                    waiting.append(value)
                elif name in _HIDDEN or name in _VISIBLE or name == "arguments":
                    said[name in _HIDDEN].append(value)
    return estimate_tokens("".join(said[False])), estimate_tokens("".join(said[True]))


def _pieces(endpoint: Endpoint, data: bytes | None) -> Iterator[Piece]:
    try:
        event = wire.ANY.decode(data or b"null")
    except wire.NOT_JSON:
        return
    if not isinstance(event, dict):
        return
    if endpoint == "responses":
        yield from _response_pieces(event)
    elif endpoint == "messages":
        yield from _said(event.get("delta"))
    else:
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            yield from _said(choice)
            if isinstance(choice, dict):
                yield from _said(choice.get("delta"))


def _response_pieces(event: dict[str, object]) -> Iterator[Piece]:
    kind, text = event.get("type"), event.get("delta")
    if isinstance(kind, str) and isinstance(text, str):
        yield kind.startswith("response.reasoning"), text


def _said(delta: object) -> Iterator[Piece]:
    """The text in a delta, wherever its family puts it."""
    if not isinstance(delta, dict):
        return
    for names, reasoning in ((_HIDDEN, True), (_VISIBLE, False)):
        found = next((delta[name] for name in names if isinstance(delta.get(name), str)), None)
        if found is not None:
            yield reasoning, found
    called = delta.get("tool_calls")
    for call in called if isinstance(called, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield False, f"{function.get('name') or ''}{function.get('arguments') or ''}"
