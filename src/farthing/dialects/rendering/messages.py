"""Anthropic messages, whole and as events."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from farthing.dialects import sse, wire
from farthing.dialects.usage import merged
from farthing.dialects.wire import Json
from farthing.schema import Usage

_SAID_LAST: Final = ("stop_reason", "stop_sequence", "stop_details", "container")
_OUTPUT_SIDE: Final = ("output_tokens", "output_tokens_details")


def message_frames(message: Json, _: bool) -> list[bytes]:
    """A message as a stream: its start, each block with its deltas, its end with the totals."""
    usage = message.get("usage") or {}
    before = {name: count for name, count in usage.items() if name not in _OUTPUT_SIDE}
    ending = {name: message.get(name) for name in _SAID_LAST if name in message}
    unsaid: Json = dict.fromkeys(ending)
    start = {**message, **unsaid, "content": [], "usage": {**before, "output_tokens": 0}}
    frames = [_event("message_start", message=start)]
    for index, block in enumerate(message["content"]):
        opening, deltas = _told(block)
        frames.append(_event("content_block_start", index=index, content_block=opening))
        frames += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        frames.append(_event("content_block_stop", index=index))
    frames.append(_event("message_delta", delta=ending, usage=usage))
    frames.append(_event("message_stop"))
    return frames


def _event(kind: str, **said: object) -> bytes:
    return sse.frame(msgspec.json.encode({"type": kind, **said}), kind)


def _told(block: Json) -> tuple[Json, list[Json]]:
    """How a block begins, and the deltas that fill it; a block of a kind that has no deltas begins whole."""
    kind = block.get("type")
    if kind == "text":
        cited = block.get("citations") or []
        opening = {**block, "text": "", **({"citations": []} if cited else {})}
        deltas = [{"type": "text_delta", "text": block["text"]}]
        return opening, deltas + [{"type": "citations_delta", "citation": citation} for citation in cited]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
        signature = {"type": "signature_delta", "signature": block.get("signature", "")}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signature]
    if isinstance(block.get("input"), dict):
        given = msgspec.json.encode(block["input"]).decode()
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": given}]
    return block, []


def message_whole(events: Sequence[Json], _: Usage | None) -> Json:
    """A stream of events as one message."""
    message: Json = {}
    blocks: dict[int, Json] = {}
    inputs: dict[int, list[str]] = {}
    for event in events:
        kind = event.get("type")
        if kind == "message_start":
            message = dict(event["message"])
        elif kind == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"])
        elif kind == "content_block_delta":
            _fill(blocks[event["index"]], event["delta"], inputs.setdefault(event["index"], []))
        elif kind == "message_delta":
            message |= event["delta"]
            message["usage"] = merged(message.get("usage") or {}, event.get("usage") or {})
    for index, parts in _given(inputs):
        blocks[index]["input"] = wire.ANY.decode(parts)
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return message


def _given(inputs: dict[int, list[str]]) -> Iterator[tuple[int, str]]:
    """The tool inputs that were streamed; a tool that takes none may stream none."""
    for index, parts in inputs.items():
        if given := "".join(parts):
            yield index, given


def _fill(block: Json, delta: Json, given: list[str]) -> None:
    kind = delta.get("type")
    if kind == "text_delta":
        block["text"] = block.get("text", "") + delta["text"]
    elif kind == "thinking_delta":
        block["thinking"] = block.get("thinking", "") + delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = delta["signature"]
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    elif kind == "input_json_delta":
        given.append(delta["partial_json"])
