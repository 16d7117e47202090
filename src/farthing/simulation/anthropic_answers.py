"""Simulated answers in Anthropic's wire format, plain and as server-sent events."""

import msgspec

from farthing.schema import Usage
from farthing.simulation.answers import Answer, Finish, pieces

_encode = msgspec.json.encode
_STOP_REASON: dict[Finish, str] = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}


def message(answer: Answer) -> bytes:
    """A whole message."""
    body = _message(answer) | {"content": [_block(answer)], "stop_reason": _STOP_REASON[answer.finish]}
    return _encode(body | {"usage": _usage(answer.usage, answer.tier)} if answer.usage else body)


def message_frames(answer: Answer) -> list[bytes]:
    """The events of a streamed message: input usage at the start, the running output total at the end."""
    opening = _message(answer) | {"content": [], "stop_reason": None}
    closing: dict[str, object] = {
        "type": "message_delta",
        "delta": {"stop_reason": _STOP_REASON[answer.finish], "stop_sequence": None},
    }
    if answer.usage:
        begun = _usage(answer.usage, answer.tier)
        closing["usage"] = {"output_tokens": begun["output_tokens"]}
        opening["usage"] = begun | {"output_tokens": min(1, answer.usage.output_tokens)}
    return [
        _event({"type": "message_start", "message": opening}),
        _begin_block(_empty_block(answer)) if answer.tool else _BEGIN_TEXT,
        _PING,
        *(_event({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in _deltas(answer)),
        _END_BLOCK,
        _event(closing),
        _END,
    ]


def token_count(tokens: int) -> bytes:
    """The answer of the token counting endpoint."""
    return _encode({"input_tokens": tokens})


def error(message: str, kind: str) -> bytes:
    """An error body in Anthropic's shape."""
    return _encode({"type": "error", "error": {"type": kind, "message": message}})


def error_frame(message: str, kind: str) -> bytes:
    """An error sent inside a stream."""
    return b"event: error\ndata: %b\n\n" % error(message, kind)


def _event(value: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(value["type"]).encode(), _encode(value))


def _begin_block(block: dict[str, object]) -> bytes:
    return _event({"type": "content_block_start", "index": 0, "content_block": block})


def _message(answer: Answer) -> dict[str, object]:
    return {
        "id": f"msg_{answer.mark}_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "stop_sequence": None,
    }


def _block(answer: Answer) -> dict[str, object]:
    if answer.tool is None:
        return {"type": "text", "text": answer.text}
    return _empty_block(answer) | {"input": msgspec.Raw(answer.tool.arguments.encode())}


def _empty_block(answer: Answer) -> dict[str, object]:
    if answer.tool is None:
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": f"toolu_{answer.id}", "name": answer.tool.name, "input": {}}


def _deltas(answer: Answer) -> list[dict[str, object]]:
    if answer.tool is None:
        return [{"type": "text_delta", "text": piece} for piece in pieces(answer.text, answer.tokens_per_frame)]
    parts = pieces(answer.tool.arguments, answer.tokens_per_frame)
    return [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _usage(usage: Usage, tier: str) -> dict[str, object]:
    """Anthropic counts cache reads and writes beside `input_tokens`, where everything else of the input goes."""
    brief = usage.cache_write_5m + usage.cache_write_30m
    lasting = usage.cache_write_1h + usage.cache_write_12h
    counts: dict[str, object] = {
        "input_tokens": usage.input_tokens - usage.cache_read - brief - lasting,
        "cache_creation_input_tokens": brief + lasting,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": brief, "ephemeral_1h_input_tokens": lasting},
        "output_tokens": usage.output_tokens,
        "service_tier": "standard" if tier == "default" else tier,
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.web_search or usage.web_fetch:
        tools = {"web_search_requests": usage.web_search, "web_fetch_requests": usage.web_fetch}
        counts["server_tool_use"] = tools
    return counts


_BEGIN_TEXT = _begin_block({"type": "text", "text": ""})
_PING = _event({"type": "ping"})
_END_BLOCK = _event({"type": "content_block_stop", "index": 0})
_END = _event({"type": "message_stop"})
