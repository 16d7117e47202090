"""Chat and text completions, whole and as chunks."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from farthing.dialects import sse, wire
from farthing.dialects.usage import completion_report
from farthing.dialects.wire import Json
from farthing.schema import Usage

_CHUNK: Final = "chat.completion.chunk"
_TEXT: Final = "text_completion"
_PER_ANSWER: Final = ("choices", "usage", "object")
_SAID_ONCE: Final = ("id", "type", "role", "name", "expires_at")
_DONE: Final = sse.frame(sse.DONE)
_EMPTY_CHOICES: Final = msgspec.Raw(b"[]")


def chat_frames(answer: Json, wants_usage: bool) -> list[bytes]:
    """A chat completion as a stream: per choice its role, its message, its end; then usage if wanted, then [DONE]."""
    frames: list[bytes] = []
    for choice in answer["choices"]:
        message = {**choice["message"]}
        index = choice["index"]
        opening = {"role": message.pop("role", "assistant"), "content": None if message.get("content") is None else ""}
        if message.get("tool_calls"):
            message["tool_calls"] = [{"index": place, **called} for place, called in enumerate(message["tool_calls"])]
        rest = {name: value for name, value in choice.items() if name not in ("message", "index", "logprobs")}
        quiet = {"index": index, "finish_reason": None}
        frames.append(_chunk(answer, _CHUNK, {**quiet, "delta": opening, "logprobs": None}))
        frames.append(_chunk(answer, _CHUNK, {**quiet, "delta": message, "logprobs": choice.get("logprobs")}))
        frames.append(_chunk(answer, _CHUNK, {"index": index, "delta": {}, "logprobs": None, **rest}))
    return frames + _closing(answer, _CHUNK, wants_usage)


def completion_frames(answer: Json, wants_usage: bool) -> list[bytes]:
    """A text completion as a stream: one chunk for each choice, which says all of it; then usage, then [DONE]."""
    frames = [_chunk(answer, _TEXT, choice) for choice in answer["choices"]]
    return frames + _closing(answer, _TEXT, wants_usage)


def _chunk(answer: Json, kind: str, *choices: Json) -> bytes:
    shared = {name: value for name, value in answer.items() if name not in _PER_ANSWER}
    return sse.frame(msgspec.json.encode({**shared, "object": kind, "choices": choices}))


def _closing(answer: Json, kind: str, wants_usage: bool) -> list[bytes]:
    if not wants_usage or answer.get("usage") is None:
        return [_DONE]
    shared = {name: value for name, value in answer.items() if name not in _PER_ANSWER}
    chunk = {**shared, "object": kind, "choices": [], "usage": answer["usage"]}
    return [sse.frame(msgspec.json.encode(chunk)), _DONE]


def chat_whole(chunks: Sequence[Json], usage: Usage | None) -> Json:
    """A stream of chat chunks as one chat completion; `usage` stands in where the stream does not carry it."""
    answer = _shared(chunks, "chat.completion", usage)
    choices: dict[int, Json] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            whole = choices.setdefault(index, {"index": index, "message": {"role": "assistant", "content": None}})
            _merge(whole["message"], choice.get("delta") or {})
            _finish(whole, choice, "delta")
    for whole in choices.values():
        for called in whole["message"].get("tool_calls") or ():
            called.pop("index", None)
    answer["choices"] = [choices[index] for index in sorted(choices)]
    return answer


def completion_whole(chunks: Sequence[Json], usage: Usage | None) -> Json:
    """A stream of text chunks as one text completion; `usage` stands in where the stream does not carry it."""
    answer = _shared(chunks, _TEXT, usage)
    choices: dict[int, Json] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            whole = choices.setdefault(index, {"index": index, "text": ""})
            whole["text"] += choice.get("text") or ""
            _finish(whole, choice, "text")
    answer["choices"] = [choices[index] for index in sorted(choices)]
    return answer


def _shared(chunks: Sequence[Json], kind: str, usage: Usage | None) -> Json:
    """What chunks say of the answer as a whole: the first that says something of a thing is believed."""
    answer: Json = {}
    reported = None
    for chunk in chunks:
        reported = chunk.get("usage") or reported
        for name, value in chunk.items():
            if name not in _PER_ANSWER and name != "obfuscation" and not answer.get(name):
                answer[name] = value
    answer["object"] = kind
    if reported is not None or usage is not None:
        answer["usage"] = reported if usage is None or reported is not None else completion_report(usage)
    return answer


def _finish(whole: Json, choice: Json, said: str) -> None:
    """Add to a choice what its chunk says besides the text."""
    logprobs = choice.get("logprobs")
    if logprobs is not None:
        whole["logprobs"] = _joined(whole.get("logprobs"), logprobs)
    else:
        whole.setdefault("logprobs", None)
    for name, value in choice.items():
        if name not in ("index", "logprobs", said) and (value is not None or name not in whole):
            whole[name] = value


def _merge(whole: Json, delta: Mapping[str, Any]) -> None:
    """Add one delta to what was said before it."""
    for name, value in delta.items():
        if name == "tool_calls" and value:
            whole["tool_calls"] = _with_calls(whole.get("tool_calls") or [], value)
        elif name not in whole or whole[name] is None or (name in _SAID_ONCE and value):
            whole[name] = value
        elif name not in _SAID_ONCE and value is not None:
            whole[name] = _joined(whole[name], value)


def _with_calls(calls: list[Json], deltas: list[Json]) -> list[Json]:
    by_index = {called["index"]: called for called in calls}
    for place, delta in enumerate(deltas):
        index = delta.get("index", place)
        if index in by_index:
            _merge(by_index[index], delta)
        else:
            by_index[index] = {**delta, "index": index}
    return [by_index[index] for index in sorted(by_index)]


def _joined(before: Any, after: Any) -> Any:
    """Two parts of one value: text and lists are joined, objects member by member, anything else is replaced."""
    if isinstance(before, str) and isinstance(after, str):
        return before + after
    if isinstance(before, list) and isinstance(after, list):
        return before + after
    if isinstance(before, dict) and isinstance(after, dict):
        both = dict(before)
        _merge(both, after)
        return both
    return before if after is None else after


def with_usage_frame(body: bytes, usage: Usage | None, wanted: bool) -> bytes:
    """A kept stream of chunks with its usage frame, or without; the same bytes when it already is so."""
    before, last = sse.closing(body)
    data = sse.data_of(before)
    if data is None or sse.data_of(last) != sse.DONE:
        return body
    has = _is_usage_alone(data)
    if wanted:
        return body if has or usage is None else body[: -len(last)] + _usage_frame(data, usage) + last
    if has:
        body = body[: -len(before) - len(last)] + last
    return body.replace(wire.NULL_USAGE, b"")


def _is_usage_alone(data: bytes) -> bool:
    if b'"usage"' not in data:
        return False
    try:
        chunk = wire.COMPLETION.decode(data)
    except wire.NOT_JSON:
        return False
    return not chunk.choices and chunk.reported != b""


def _usage_frame(chunk: bytes, usage: Usage) -> bytes:
    """The frame a provider would have closed with, made after the stream's last chunk."""
    members = wire.MEMBERS.decode(chunk)
    members.pop("obfuscation", None)
    members["choices"] = _EMPTY_CHOICES
    members["usage"] = msgspec.Raw(msgspec.json.encode(completion_report(usage)))
    return sse.frame(msgspec.json.encode(members))
