"""Simulated answers in OpenAI's wire formats, plain and as server-sent events."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from farthing.dialects.usage import completion_report
from farthing.schema import Usage
from farthing.simulation.answers import Answer, Finish, pieces

_encode = msgspec.json.encode
_CHAT_FINISH: dict[Finish, str] = {"stop": "stop", "length": "length", "tool": "tool_calls"}

DONE = b"data: [DONE]\n\n"


def chat(answer: Answer) -> bytes:
    """A chat completion."""
    finish = _CHAT_FINISH[answer.finish]
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
    if answer.tool:
        message |= {"content": None, "tool_calls": [_chat_tool(answer)]}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        for index in range(answer.choices)
    ]
    return _encode(_chat_envelope(answer, "chat.completion", choices) | _chat_usage_field(answer.usage))


def chat_frames(answer: Answer, include_usage: bool) -> list[bytes]:
    """A streamed chat completion; the usage frame only comes when asked for."""
    head, tail = _frame_around(_chat_envelope(answer, "chat.completion.chunk", []), include_usage)
    finish = _CHAT_FINISH[answer.finish]
    frames = []
    for index in range(answer.choices):
        frames.append(head + _opening_choice(index, answer.tool is not None) + tail)
        for delta in _chat_deltas(answer):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            frames.append(head + _encode(choice) + tail)
        frames.append(head + _closing_choice(index, finish) + tail)
    if include_usage and answer.usage is not None:
        frames.append(_usage_frame(head, tail, answer.usage))
    frames.append(DONE)
    return frames


def completion(answer: Answer) -> bytes:
    """A legacy text completion."""
    choices = [_text_choice(index, answer.text, _CHAT_FINISH[answer.finish]) for index in range(answer.choices)]
    return _encode(_text_envelope(answer, choices) | _chat_usage_field(answer.usage))


def completion_frames(answer: Answer, include_usage: bool) -> list[bytes]:
    """A streamed text completion; the usage frame only comes when asked for."""
    head, tail = _frame_around(_text_envelope(answer, []), include_usage)
    frames = []
    for index in range(answer.choices):
        frames += [
            head + _encode(_text_choice(index, piece, None)) + tail
            for piece in pieces(answer.text, answer.tokens_per_frame)
        ]
        frames.append(head + _encode(_text_choice(index, "", _CHAT_FINISH[answer.finish])) + tail)
    if include_usage and answer.usage is not None:
        frames.append(_usage_frame(head, tail, answer.usage))
    frames.append(DONE)
    return frames


def response(answer: Answer) -> bytes:
    """A finished Responses object."""
    return _encode(_response(answer, [_response_item(answer, answer.text, "completed")]))


def response_frames(answer: Answer) -> list[bytes]:
    """The events of a streamed response; the last one carries the whole object and its usage."""
    return [
        b"event: %b\n" % str(event["type"]).encode() + _data(event | {"sequence_number": number})
        for number, event in enumerate(_response_events(answer))
    ]


def embeddings(answer: Answer) -> bytes:
    """A list of embeddings."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(answer.vectors)]
    return _encode({"object": "list", "data": data, "model": answer.model, **_reading_usage(answer)})


def classification(answer: Answer) -> bytes:
    """A yes or a no for each text, as vLLM tells labels."""
    data = []
    for at, vector in enumerate(answer.vectors):
        yes = (1 + _first(vector)) / 2
        shares = {"label": "yes" if yes >= 0.5 else "no", "probs": [yes, 1 - yes], "num_classes": 2}
        data.append({"index": at, **shares})
    envelope = {"id": f"classify-{answer.id}", "object": "list", "created": answer.created, "model": answer.model}
    return _encode({**envelope, "data": data, **_reading_usage(answer)})


def ranking(answer: Answer) -> bytes:
    """Documents by relevance."""
    scores = [(1 + _first(vector)) / 2 for vector in answer.vectors]
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    results = [{"index": at, "relevance_score": scores[at]} for at in order]
    return _encode({"id": f"rerank-{answer.id}", "model": answer.model, "results": results, **_reading_usage(answer)})


def _first(vector: list[float] | str) -> float:
    return vector[0] if isinstance(vector, list) and vector else 0.0


def _reading_usage(answer: Answer) -> dict[str, object]:
    """The usage of an endpoint that writes no tokens."""
    tokens = answer.usage.tokens if answer.usage else 0
    return {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if answer.usage else {}


def models(names: Sequence[str], mark: str) -> bytes:
    """A list of models, with the fields that both OpenAI's and Anthropic's clients read."""
    return _encode({"object": "list", "data": [_model(name, mark) for name in names], "has_more": False})


def model(name: str, mark: str) -> bytes:
    """One model's card."""
    return _encode(_model(name, mark))


def error(message: str, kind: str, code: str | None) -> bytes:
    """An error body in OpenAI's shape."""
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def error_frame(message: str, kind: str, code: str | None) -> bytes:
    """An error sent inside a stream."""
    return b"data: %b\n\n" % error(message, kind, code)


def _data(value: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % _encode(value)


def _frame_around(envelope: dict[str, object], quiet_usage: bool) -> tuple[bytes, bytes]:
    """What comes before and after the one choice of every frame: only the choice differs from frame to frame."""
    whole = _data(envelope | {"usage": None} if quiet_usage else envelope)
    head, choices, tail = whole.partition(b'"choices":[')
    return head + choices, tail


def _usage_frame(head: bytes, tail: bytes, usage: Usage) -> bytes:
    """The frame without a choice, whose usage is not `null`."""
    return b"%b%b%b}\n\n" % (head, tail.removesuffix(b"null}\n\n"), _encode(completion_report(usage)))


@lru_cache(64)
def _opening_choice(index: int, tool: bool) -> bytes:
    opening = {"role": "assistant", "content": None if tool else ""}
    return _encode({"index": index, "delta": opening, "logprobs": None, "finish_reason": None})


@lru_cache(64)
def _closing_choice(index: int, finish: str) -> bytes:
    return _encode({"index": index, "delta": {}, "logprobs": None, "finish_reason": finish})


def _model(name: str, mark: str) -> dict[str, object]:
    openai = {"id": name, "object": "model", "created": 0, "owned_by": mark}
    return openai | {"type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _chat_envelope(answer: Answer, kind: str, choices: object) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        "service_tier": answer.tier,
        "system_fingerprint": answer.mark,
    }


def _text_envelope(answer: Answer, choices: object) -> dict[str, object]:
    return {
        "id": f"cmpl-{answer.id}",
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        "system_fingerprint": answer.mark,
    }


def _text_choice(index: int, text: str, finish: str | None) -> dict[str, object]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _chat_tool(answer: Answer) -> dict[str, object]:
    assert answer.tool is not None
    function = {"name": answer.tool.name, "arguments": answer.tool.arguments}
    return {"id": f"call_{answer.id}", "type": "function", "function": function}


def _chat_deltas(answer: Answer) -> Iterator[dict[str, object]]:
    if answer.tool is None:
        for piece in pieces(answer.text, answer.tokens_per_frame):
            yield {"content": piece}
        return
    opening = _chat_tool(answer) | {"index": 0, "function": {"name": answer.tool.name, "arguments": ""}}
    yield {"tool_calls": [opening]}
    for piece in pieces(answer.tool.arguments, answer.tokens_per_frame):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _chat_usage_field(usage: Usage | None) -> dict[str, object]:
    return {} if usage is None else {"usage": completion_report(usage)}


def _response_usage(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    brief, half_day = usage.cache_write_30m, usage.cache_write_12h
    read: dict[str, object] = {
        "cached_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write_5m + brief + usage.cache_write_1h + half_day,
        "cache_write_tokens_details": {"ttl_30m_tokens": brief, "ttl_12h_tokens": half_day},
    }
    written: dict[str, object] = {"reasoning_tokens": usage.reasoning}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": read | _used(audio_tokens=usage.input_audio, image_tokens=usage.input_image),
        "output_tokens": usage.output_tokens,
        "output_tokens_details": written | _used(audio_tokens=usage.output_audio, image_tokens=usage.output_image),
        "total_tokens": usage.tokens,
    }


def _used(**tokens: int) -> dict[str, object]:
    return {name: count for name, count in tokens.items() if count}


def _response(answer: Answer, output: Sequence[object], status: str = "") -> dict[str, object]:
    status = status or ("incomplete" if answer.finish == "length" else "completed")
    searched = answer.usage.web_search if answer.usage and output else 0
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {"system_fingerprint": answer.mark},
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "service_tier": answer.tier,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": _response_usage(answer.usage) if output else None,
        **({"tool_usage": {"web_search": {"num_requests": searched}}} if searched else {}),
    }


def _response_item(answer: Answer, content: str, status: str) -> dict[str, object]:
    if answer.tool:
        call = {
            "call_id": f"call_{answer.id}",
            "name": answer.tool.name,
            "arguments": content and answer.tool.arguments,
        }
        return {"type": "function_call", "id": f"fc_{answer.id}", "status": status, **call}
    parts = [_response_part(content)] if content else []
    return {"type": "message", "id": f"msg_{answer.id}", "status": status, "role": "assistant", "content": parts}


def _response_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_events(answer: Answer) -> Iterator[dict[str, object]]:
    started = _response(answer, [], "in_progress")
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": _response_item(answer, "", "in_progress"),
    }
    yield from _tool_events(answer) if answer.tool else _text_events(answer)
    item = _response_item(answer, answer.text or "{}", "completed")
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    finished = _response(answer, [item])
    yield {"type": f"response.{finished['status']}", "response": finished}


def _text_events(answer: Answer) -> Iterator[dict[str, object]]:
    place: dict[str, object] = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": _response_part("")}
    for piece in pieces(answer.text, answer.tokens_per_frame):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": answer.text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": _response_part(answer.text)}


def _tool_events(answer: Answer) -> Iterator[dict[str, object]]:
    assert answer.tool is not None
    place: dict[str, object] = {"item_id": f"fc_{answer.id}", "output_index": 0}
    for piece in pieces(answer.tool.arguments, answer.tokens_per_frame):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    whole = {"name": answer.tool.name, "arguments": answer.tool.arguments}
    yield {"type": "response.function_call_arguments.done", **place, **whole}
