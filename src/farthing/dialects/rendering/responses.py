"""Responses, whole and as events."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from farthing.dialects import sse
from farthing.dialects.wire import Json
from farthing.schema import Usage

_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")
_UNSAID: Final[Json] = {"status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}


def response_frames(response: Json, _: bool) -> list[bytes]:
    """A response as a stream: created, each output item with its deltas, and the whole at the end."""
    status = response.get("status") or "completed"
    begun = {**response, **_UNSAID}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(response["output"]):
        events += _item_events(index, item)
    end = f"response.{status}"
    events.append({"type": end if end in _ENDS else "response.completed", "response": response})
    return [
        sse.frame(msgspec.json.encode({**event, "sequence_number": number}), event["type"])
        for number, event in enumerate(events)
    ]


def _item_events(index: int, item: Json) -> Iterator[Json]:
    """One output item: added, filled, done."""
    opening, filling = _told(item)
    yield {"type": "response.output_item.added", "output_index": index, "item": opening}
    for event in filling:
        yield {"output_index": index, "item_id": item.get("id") or "", **event}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _told(item: Json) -> tuple[Json, list[Json]]:
    """How an item begins, and the events that fill it; an item of a kind that has none begins whole."""
    kind = item.get("type")
    begun = {**item, "status": "in_progress"} if "status" in item else item
    if kind == "message":
        return {**begun, "content": []}, list(_content_events(item["content"]))
    if kind == "reasoning":
        opening = {**begun, "summary": []}
        if opening.get("content"):
            opening["content"] = []
        return opening, [*_summary_events(item.get("summary") or []), *_content_events(item.get("content") or [])]
    if kind == "function_call":
        told = item["arguments"]
        return {**begun, "arguments": ""}, _text_events("function_call_arguments", "arguments", told)
    if kind == "custom_tool_call":
        return {**begun, "input": ""}, _text_events("custom_tool_call_input", "input", item["input"])
    return item, []


def _text_events(name: str, member: str, text: str, **place: object) -> list[Json]:
    """A text in one delta, and again when done."""
    return [
        {"type": f"response.{name}.delta", **place, "delta": text},
        {"type": f"response.{name}.done", **place, member: text},
    ]


def _content_events(parts: Sequence[Json]) -> Iterator[Json]:
    for index, part in enumerate(parts):
        place = {"content_index": index}
        kind = part.get("type")
        member = "refusal" if kind == "refusal" else "text"
        empty = {**part, member: "", **({"annotations": []} if "annotations" in part else {})}
        if part.get("logprobs"):
            empty["logprobs"] = []
        yield {"type": "response.content_part.added", **place, "part": empty}
        if kind == "output_text":
            said = {"logprobs": part.get("logprobs") or []}
            yield {"type": "response.output_text.delta", **place, "delta": part["text"], **said}
            for number, annotation in enumerate(part.get("annotations") or ()):
                noted = {"annotation_index": number, "annotation": annotation}
                yield {"type": "response.output_text.annotation.added", **place, **noted}
            yield {"type": "response.output_text.done", **place, "text": part["text"], **said}
        elif kind in ("refusal", "reasoning_text"):
            yield from _text_events(kind, member, part[member], **place)
        yield {"type": "response.content_part.done", **place, "part": part}


def _summary_events(parts: Sequence[Json]) -> Iterator[Json]:
    for index, part in enumerate(parts):
        place = {"summary_index": index}
        yield {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
        yield from _text_events("reasoning_summary_text", "text", part["text"], **place)
        yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def response_whole(events: Sequence[Json], _: Usage | None) -> Json:
    """A stream of events as one response: the last event carries it, but some providers leave its output out."""
    response: Json = [event for event in events if event.get("type") in _ENDS][-1]["response"]
    if response.get("output"):
        return response
    done = {
        event["output_index"]: event["item"] for event in events if event.get("type") == "response.output_item.done"
    }
    return {**response, "output": [done[index] for index in sorted(done)]}
