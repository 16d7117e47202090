"""An answer kept in one form and given in another: official types accept it, official accumulators rebuild it."""

import json
from typing import Any, cast

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from farthing.dialects import StreamReader, decode, read, render
from farthing.dialects.sse import data_of, split
from farthing.dialects.usage import completion_report
from farthing.errors import UpstreamGarbage
from farthing.schema import Call, Endpoint, Reply, Usage

RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
Json = dict[str, Any]


def asked(endpoint: Endpoint, *, stream: bool, wants_usage: bool = False) -> Call:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    body = {"model": "m", "stream": stream, **options}
    return decode(endpoint, json.dumps(body).encode(), method="POST", path="/v1/x")


def kept(endpoint: Endpoint, body: Json) -> Reply:
    raw = json.dumps(body).encode()
    reading = read(asked(endpoint, stream=False), 200, raw)
    assert reading.error == ""
    return Reply(200, raw, headers=((b"content-type", b"application/json"),), model=reading.model, usage=reading.usage)


def events(body: bytes) -> list[Json]:
    return [json.loads(data) for frame in split(body) if (data := data_of(frame)) not in (None, b"[DONE]")]


def streamed(endpoint: Endpoint, body: Json, *, wants_usage: bool = False) -> bytes:
    reply = render(asked(endpoint, stream=True, wants_usage=wants_usage), kept(endpoint, body))
    assert reply.streamed
    assert reply.headers == ((b"content-type", b"text/event-stream; charset=utf-8"),)
    return reply.body


def back(endpoint: Endpoint, frames: bytes, usage: Usage | None = None) -> Json:
    reply = Reply(200, frames, headers=((b"content-type", b"text/event-stream"),), streamed=True, usage=usage)
    plain = render(asked(endpoint, stream=False), reply)
    assert not plain.streamed
    assert plain.headers == ((b"content-type", b"application/json"),)
    return cast("Json", json.loads(plain.body))


def read_again(endpoint: Endpoint, frames: bytes, *, wants_usage: bool = False) -> StreamReader:
    """A rendered stream is one that the gateway itself could have been sent."""
    reader = StreamReader(asked(endpoint, stream=True, wants_usage=wants_usage), 1 << 20)
    assert reader.feed(frames) + reader.tail() == frames
    assert reader.finished
    return reader


# Chat

text = st.text(max_size=20)
tool_call = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=8), "arguments": text}),
    }
)
logprob = st.fixed_dictionaries(
    {
        "token": text,
        "bytes": st.none() | st.lists(st.integers(0, 255), max_size=3),
        "logprob": st.floats(-20, 0),
        "top_logprobs": st.just([]),
    }
)
message = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | text},
    optional={
        "refusal": st.none() | text,
        "reasoning_content": text,
        "tool_calls": st.lists(tool_call, min_size=1, max_size=3),
        "annotations": st.just([]),
    },
)
choice = st.fixed_dictionaries(
    {
        "message": message,
        "finish_reason": st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
        "logprobs": st.none()
        | st.fixed_dictionaries({"content": st.none() | st.lists(logprob, max_size=3), "refusal": st.none()}),
    }
)
tokens = st.integers(0, 10_000)
usages = st.builds(Usage, input=tokens, cache_read=tokens, output=tokens, reasoning=tokens)


@st.composite
def chats(draw: st.DrawFn) -> Json:
    choices = draw(st.lists(choice, min_size=1, max_size=3))
    answer: Json = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_762_646_400,
        "model": "gpt-6-luna-2026-09-01",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": [{"index": index, **one} for index, one in enumerate(choices)],
    }
    if draw(st.booleans()):
        answer["usage"] = completion_report(draw(usages))
    return answer


@given(chats(), st.booleans())
def test_a_chat_survives_the_way_there_and_back(answer: Json, wants_usage: bool) -> None:
    frames = streamed("chat", answer, wants_usage=wants_usage)
    usage = kept("chat", answer).usage
    assert frames.endswith(b"data: [DONE]\n\n")
    assert sum("usage" in event for event in events(frames)) == (wants_usage and "usage" in answer)
    assert back("chat", frames, usage) == answer


@given(chats())
def test_a_chat_as_a_stream_is_one_to_the_official_sdk(answer: Json) -> None:
    frames = streamed("chat", answer, wants_usage=True)
    state: Any = ChatCompletionStreamState()
    for event in events(frames):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    rebuilt = state.current_completion_snapshot.to_dict()
    original = ChatCompletion.model_validate(answer).to_dict()
    for ours, theirs in zip(original["choices"], rebuilt["choices"], strict=True):
        assert theirs["finish_reason"] == ours["finish_reason"]
        assert theirs["message"].get("content") == ours["message"].get("content")
        assert theirs["message"].get("reasoning_content") == ours["message"].get("reasoning_content")
        for called, there in zip(
            ours["message"].get("tool_calls") or [], theirs["message"].get("tool_calls") or [], strict=True
        ):
            assert (there["id"], there["function"]["name"]) == (called["id"], called["function"]["name"])
            assert there["function"]["arguments"] == called["function"]["arguments"]
    assert rebuilt.get("usage") == original.get("usage")


@given(chats(), st.booleans())
def test_a_rendered_chat_is_read_like_the_original(answer: Json, wants_usage: bool) -> None:
    reader = read_again("chat", streamed("chat", answer, wants_usage=wants_usage), wants_usage=wants_usage)
    assert reader.close().model == answer["model"]
    if wants_usage and "usage" in answer:
        assert reader.close().usage == kept("chat", answer).usage


def fragments(value: str, size: int) -> list[str]:
    return [value[at : at + size] for at in range(0, len(value), size)]


def test_a_chat_streamed_in_fragments_is_put_together() -> None:
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m", "system_fingerprint": "fp"}

    def say(delta: Json, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
        one = {"index": index, "delta": delta, "finish_reason": finish, **more}
        return b"data: " + json.dumps({**shared, "choices": [one], "obfuscation": "xyz"}).encode() + b"\n\n"

    def call_tool(index: int, **more: Any) -> Json:
        return {"tool_calls": [{"index": index, **more}]}

    lp = [{"token": t, "bytes": None, "logprob": -0.5, "top_logprobs": []} for t in ("He", "llo")]
    frames = (
        b": comment\n\n"
        + say({"role": "assistant", "content": ""})
        + say({"role": "assistant", "content": None}, 1)
        + say({"content": "He"}, logprobs={"content": [lp[0]], "refusal": None})
        + say({"content": "llo"}, logprobs={"content": [lp[1]], "refusal": None})
        + say({"reasoning_content": "Hm, "}, 1)
        + say({"reasoning_content": "well."}, 1)
        + say(call_tool(0, id="call_a", type="function", function={"name": "f", "arguments": ""}), 1)
        + say(call_tool(0, function={"arguments": '{"x"'}), 1)
        + say(call_tool(0, function={"arguments": ": 1}"}), 1)
        + say(call_tool(1, id="call_b", type="function", function={"name": "g", "arguments": "{}"}), 1)
        + say({}, finish="stop", content_filter_results={"hate": {"filtered": False}})
        + say({}, 1, "tool_calls")
        + b"data: [DONE]\n\n"
    )
    whole = back("chat", frames, Usage(input=7, cache_read=3, output=4, reasoning=2))
    assert ChatCompletion.model_validate(whole)
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "logprobs": {"content": lp, "refusal": None},
            "finish_reason": "stop",
            "content_filter_results": {"hate": {"filtered": False}},
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm, well.",
                "tool_calls": [
                    {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                    {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        },
    ]
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["total_tokens"]) == (10, 16)
    assert "obfuscation" not in whole


def test_a_tool_call_named_bit_by_bit_has_one_name() -> None:
    """Some providers send an empty id first, some repeat the role and the name in every chunk."""
    parts = [("", "rate", '{"a"'), ("call_a", "rate", ": 1"), ("", "rate", "}")]
    frames = b""
    for name, function, arguments in parts:
        called = {"index": 0, "id": name, "type": "function", "function": {"name": function, "arguments": arguments}}
        delta = {"role": "assistant", "tool_calls": [called]}
        frames += b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"
    (only,) = back("chat", frames)["choices"]
    assert only["message"]["role"] == "assistant"
    assert only["message"]["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "rate", "arguments": '{"a": 1}'}}
    ]


@given(usages, st.booleans())
def test_usage_taken_out_for_the_first_caller_is_there_for_the_next(usage: Usage, nulls: bool) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    content: Json = {**chunk, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
    first = json.dumps(content | ({"usage": None} if nulls else {}), separators=(",", ":")).encode()
    closing = {**chunk, "choices": [], "usage": completion_report(usage)}
    bare = b"data: " + first.replace(b',"usage":null', b"") + b"\n\ndata: [DONE]\n\n"
    full = b"data: " + first + b"\n\ndata: " + json.dumps(closing).encode() + b"\n\ndata: [DONE]\n\n"
    wanting, not_wanting = asked("chat", stream=True, wants_usage=True), asked("chat", stream=True)
    for body in (bare, full):
        reply = Reply(200, body, streamed=True, usage=usage)
        given_back = render(wanting, reply)
        assert events(given_back.body)[-1] == closing
        reader = StreamReader(wanting, 1 << 20)
        reader.feed(given_back.body)
        assert reader.close().usage == usage
        assert render(not_wanting, reply).body == bare


def test_what_already_has_the_right_form_is_the_very_same_reply() -> None:
    frame = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    bare = Reply(200, frame + b"data: [DONE]\n\n", streamed=True, usage=Usage(input=1))
    plain = Reply(200, b'{"choices":[]}')
    refused = Reply(429, b'{"error":{}}')
    unread = msgspec.structs.replace(bare, usage=None)
    empty = Reply(200, b"", streamed=True)
    vectors = Reply(200, b'{"data":[]}')
    assert render(asked("chat", stream=True), bare) is bare
    assert render(asked("chat", stream=False), plain) is plain
    assert render(asked("chat", stream=True), refused) is refused
    assert render(asked("chat", stream=True, wants_usage=True), unread) is unread
    assert render(asked("chat", stream=False), empty) is empty
    assert render(asked("embeddings", stream=True), vectors) is vectors


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"choices":[{}]}', b'{"choices":5}', b'{"choices":[{"message":[],"index":0}]}']
)
def test_what_is_not_as_documented_is_not_guessed_at(body: bytes) -> None:
    with pytest.raises(UpstreamGarbage, match="cannot be given as a stream"):
        render(asked("chat", stream=True), Reply(200, body, model="m"))


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses", "messages"])
def test_a_stream_that_is_not_as_documented_is_not_guessed_at(endpoint: Endpoint) -> None:
    with pytest.raises(UpstreamGarbage, match="cannot be given in one piece"):
        render(asked(endpoint, stream=False), Reply(200, b"data: {broken\n\n", streamed=True, model="m"))


# Text completions


@given(st.lists(text, min_size=1, max_size=3), st.booleans())
def test_a_completion_survives_the_way_there_and_back(texts: list[str], wants_usage: bool) -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}], "text_offset": [0]}
    answer = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m-1",
        "choices": [
            {"text": said, "index": index, "logprobs": logprobs if index else None, "finish_reason": "stop"}
            for index, said in enumerate(texts)
        ],
        "usage": completion_report(Usage(input=5, output=3)),
    }
    frames = streamed("completions", answer, wants_usage=wants_usage)
    for event in events(frames):
        Completion.model_validate(event)
    assert back("completions", frames, Usage(input=5, output=3)) == answer
    read_again("completions", frames, wants_usage=wants_usage)


def test_a_completion_streamed_in_fragments_is_put_together() -> None:
    parts = [(" a", None), (" pen", None), ("ny.", "length")]
    frames = b"".join(
        b"data: %b\n\n"
        % json.dumps(
            {
                "id": "c",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {"index": 0, "text": said, "finish_reason": why, "logprobs": {"tokens": [said], "text_offset": [0]}}
                ],
            }
        ).encode()
        for said, why in parts
    )
    whole = back("completions", frames + b"data: [DONE]\n\n")
    (only,) = whole["choices"]
    assert (only["text"], only["finish_reason"]) == (" a penny.", "length")
    assert only["logprobs"]["tokens"] == [" a", " pen", "ny."]
    assert "usage" not in whole


# Responses

OUTPUT: list[Json] = [
    {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Counting."}],
        "content": [{"type": "reasoning_text", "text": "Four to the penny."}],
        "encrypted_content": "abc",
    },
    {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "farthing"}},
    {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [
            {
                "type": "output_text",
                "text": "Four.",
                "annotations": [
                    {"type": "url_citation", "url": "https://x.test", "title": "t", "start_index": 0, "end_index": 4}
                ],
                "logprobs": [{"token": "Four", "bytes": [70], "logprob": -0.1, "top_logprobs": []}],
            },
            {"type": "refusal", "refusal": "No more."},
        ],
    },
    {
        "id": "fc_1",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "rate",
        "arguments": '{"unit": "farthing"}',
    },
    {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "ls -l"},
]


def response(output: list[Json], status: str = "completed") -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_762_646_400.0,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": "gpt-6-sol-2026-09-01",
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": "default",
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 15,
        },
    }


outputs = st.lists(st.sampled_from(range(len(OUTPUT))), unique=True).map(lambda which: [OUTPUT[n] for n in which])


@given(outputs, st.sampled_from(["completed", "incomplete"]))
def test_a_response_survives_the_way_there_and_back(output: list[Json], status: str) -> None:
    answer = response(output, status)
    frames = streamed("responses", answer)
    assert back("responses", frames) == answer
    assert read_again("responses", frames).close().usage == Usage(input=5, cache_read=4, output=4, reasoning=2)


@given(outputs)
def test_a_response_as_a_stream_is_one_to_the_official_sdk(output: list[Json]) -> None:
    answer = response(output)
    told = events(streamed("responses", answer))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    from openai import omit

    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    seen = [one for event in told for one in state.handle_event(RESPONSE_EVENT.validate_python(event))]
    assert seen[-1].type == "response.completed"
    official = Response.model_validate(answer)
    assert seen[-1].response.output_text == official.output_text
    spoken = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert spoken == official.output_text
    assert [event.snapshot for event in seen if event.type == "response.function_call_arguments.delta"] == [
        item["arguments"] for item in output if item["type"] == "function_call"
    ]


@given(outputs)
def test_events_name_themselves_and_their_item(output: list[Json]) -> None:
    frames = split(streamed("responses", response(output)))
    for frame in frames:
        event = json.loads(data_of(frame) or b"")
        assert frame.startswith(f"event: {event['type']}\n".encode())
        if "item_id" in event:
            assert event["item_id"] == output[event["output_index"]]["id"]


def test_an_output_left_out_of_the_last_event_is_put_together_from_the_others() -> None:
    frames = streamed("responses", response(OUTPUT))
    told = events(frames)
    told[-1]["response"]["output"] = []
    again = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told)
    assert back("responses", again) == response(OUTPUT)


# Messages

BLOCKS: list[Json] = [
    {"type": "thinking", "thinking": "Pence to farthings.", "signature": "EqQBCg=="},
    {"type": "redacted_thinking", "data": "b64"},
    {"type": "text", "text": "Four.", "citations": None},
    {
        "type": "text",
        "text": "As is written.",
        "citations": [
            {
                "type": "char_location",
                "cited_text": "Four",
                "document_index": 0,
                "document_title": None,
                "file_id": None,
                "start_char_index": 0,
                "end_char_index": 4,
            }
        ],
    },
    {"type": "tool_use", "id": "toolu_1", "name": "rate", "input": {"unit": "farthing", "n": [1, 2.5, None]}},
    {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "farthing"}},
]


def spoken(content: list[Json]) -> Json:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5-20260801",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 21,
            "cache_creation_input_tokens": 1500,
            "cache_read_input_tokens": 4000,
            "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1000},
            "output_tokens": 305,
            "output_tokens_details": {"thinking_tokens": 250},
            "service_tier": "standard",
        },
    }


contents = st.lists(st.sampled_from(range(len(BLOCKS))), unique=True).map(lambda which: [BLOCKS[n] for n in which])


@given(contents)
def test_a_message_survives_the_way_there_and_back(content: list[Json]) -> None:
    answer = spoken(content)
    frames = streamed("messages", answer)
    assert back("messages", frames) == answer
    reading = read_again("messages", frames).close()
    assert reading.usage == kept("messages", answer).usage
    assert (reading.finish, reading.tier) == ("end_turn", "standard")


def test_a_message_starts_with_nothing_said() -> None:
    start = events(streamed("messages", spoken(BLOCKS)))[0]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 0)
    assert start["usage"]["input_tokens"] == 21


@given(contents)
def test_a_message_as_a_stream_is_one_to_the_official_sdk(content: list[Json]) -> None:
    answer = spoken(content)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events(streamed("messages", answer)):
        snapshot = accumulate_event(
            event=MESSAGE_EVENT.validate_python(event), current_snapshot=snapshot, json_bufs=buffers
        )
    rebuilt, official = snapshot.to_dict(), Message.model_validate(answer).to_dict()
    rebuilt["content"] = [{k: v for k, v in block.items() if k != "parsed_output"} for block in rebuilt["content"]]
    assert rebuilt == official


def test_a_message_streamed_in_fragments_is_put_together() -> None:
    told: list[Json] = [
        {
            "type": "message_start",
            "message": {**spoken([]), "stop_reason": None, "usage": {"input_tokens": 5, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in ("Fo", "ur.")
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}},
        },
        *(
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": part}}
            for part in ("", '{"unit": "far', 'thing"}')
        ),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 30},
        },
        {"type": "message_stop"},
    ]
    frames = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in told)
    whole = back("messages", frames)
    assert whole["content"] == [
        {"type": "text", "text": "Four."},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"unit": "farthing"}},
    ]
    assert (whole["stop_reason"], whole["usage"]) == ("tool_use", {"input_tokens": 5, "output_tokens": 30})
