"""Simulated answers against the official SDKs' own types, and against the reader of real ones."""

import json

import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from farthing import dialects
from farthing.schema import Call, Usage
from farthing.simulation import openai_answers, wire
from farthing.simulation.answers import Answer, ToolUse

USAGE = Usage(input=10, cache_read=4, output=20, reasoning=3)
TEXT = Answer(id="1f", model="gpt-6-luna", text="One farthing is a quarter of a penny.", usage=USAGE)
TOOL = Answer(
    id="2f",
    model="gpt-6-luna",
    text="",
    usage=USAGE,
    finish="tool",
    tool=ToolUse("weigh", '{"coin":"farthing","grams":3}'),
)
CUT = Answer(id="3f", model="gpt-6-luna", text="One farthing is", usage=USAGE, finish="length")
PAIR = Answer(id="4f", model="gpt-6-luna", text="Two of them.", usage=USAGE, choices=2)
UNMETERED = Answer(id="5f", model="gpt-6-luna", text="Unmetered.", usage=None)

PLAIN = {
    "chat": TypeAdapter(ChatCompletion),
    "responses": TypeAdapter(Response),
    "completions": TypeAdapter(Completion),
    "messages": TypeAdapter(Message),
}
STREAMED = {
    "chat": TypeAdapter(ChatCompletionChunk),
    "responses": TypeAdapter(ResponseStreamEvent),
    "completions": TypeAdapter(Completion),
    "messages": TypeAdapter(RawMessageStreamEvent),
}


def events(frames: list[bytes]) -> list[dict]:
    lines = [line for frame in frames for line in frame.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line[6:]) for line in lines if line != b"data: [DONE]"]


ANSWERS = {"text": TEXT, "tool": TOOL, "cut": CUT, "pair": PAIR}
POSSIBLE = [(endpoint, name) for endpoint in PLAIN for name in ANSWERS if (endpoint, name) != ("completions", "tool")]


@pytest.mark.parametrize(("endpoint", "name"), POSSIBLE)
def test_a_plain_answer_is_what_the_sdk_expects(endpoint, name):
    PLAIN[endpoint].validate_json(wire.plain(endpoint, ANSWERS[name]))


@pytest.mark.parametrize(("endpoint", "name"), POSSIBLE)
def test_every_event_of_a_stream_is_what_the_sdk_expects(endpoint, name):
    for event in events(wire.frames(endpoint, ANSWERS[name])):
        if event.get("type") == "ping":
            continue  # sent by the provider, dropped by its SDK before typing
        for choice in event.get("choices", ()) if endpoint == "completions" else ():
            choice["finish_reason"] = (
                choice["finish_reason"] or "stop"
            )  # null until the last, which the type leaves out
        STREAMED[endpoint].validate_python(event)


@pytest.mark.parametrize("endpoint", PLAIN)
def test_an_answer_without_usage_reports_none(endpoint):
    plain = json.loads(wire.plain(endpoint, UNMETERED))
    streamed = [event for event in events(wire.frames(endpoint, UNMETERED)) if event.get("usage")]

    assert plain.get("usage") is None
    assert streamed == []


def test_embeddings_and_counts_and_models_are_what_the_sdks_expect():
    embedded = Answer(id="6f", model="m", text="", usage=Usage(input=3), vectors=([0.5, -0.5], "AAAAPw=="))
    assert (
        len(
            TypeAdapter(CreateEmbeddingResponse)
            .validate_python(json.loads(wire.plain("embeddings", embedded)) | {"data": []})
            .data
        )
        == 0
    )
    TypeAdapter(MessageTokensCount).validate_json(wire.plain("count_tokens", embedded))
    TypeAdapter(Model).validate_json(openai_answers.model("gpt-6-luna", "farthing-stub"))


def test_the_pieces_of_a_stream_make_the_text_and_the_tool_call():
    chat = "".join(
        event["choices"][0]["delta"].get("content") or ""
        for event in events(wire.frames("chat", TEXT))
        if event["choices"]
    )
    tool = [
        call
        for event in events(wire.frames("chat", TOOL))
        if event["choices"]
        for call in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    responses = "".join(
        event["delta"]
        for event in events(wire.frames("responses", TEXT))
        if event["type"] == "response.output_text.delta"
    )
    messages = "".join(
        event["delta"]["text"]
        for event in events(wire.frames("messages", TEXT))
        if event["type"] == "content_block_delta"
    )

    assert chat == responses == messages == TEXT.text
    assert tool[0]["function"]["name"] == "weigh"
    assert "".join(call["function"]["arguments"] for call in tool) == TOOL.tool.arguments


def test_usage_is_streamed_only_when_asked_for():
    assert all("usage" not in event for event in events(wire.frames("chat", TEXT, include_usage=False)))
    assert events(wire.frames("chat", TEXT))[-1]["usage"]["total_tokens"] == USAGE.tokens


COUNT = st.integers(0, 10**6)
REPORTABLE = {
    "chat": ("input", "cache_read", "cache_write_30m", "input_audio", "input_image", "output", "reasoning", "output_audio", "rejected_prediction"),
    "completions": ("input", "cache_read", "output", "reasoning"),
    "responses": ("input", "cache_read", "cache_write_30m", "cache_write_12h", "input_audio", "input_image", "output", "reasoning", "web_search"),
    "messages": ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "web_search", "web_fetch"),
    "embeddings": ("input",),
}  # fmt: skip


@st.composite
def metered(draw: st.DrawFn) -> tuple[str, Usage]:
    endpoint = draw(st.sampled_from(sorted(REPORTABLE)))
    return endpoint, Usage(**{meter: draw(COUNT) for meter in REPORTABLE[endpoint]})


def reading_of_stream(call: Call, frames: list[bytes]) -> dialects.Reading:
    reader = dialects.StreamReader(call, 1 << 20)
    for frame in frames:
        reader.feed(frame)
    return reader.close()


@given(metered())
@settings(deadline=None)
def test_what_a_simulated_answer_reports_is_read_back_to_the_token(case):
    endpoint, usage = case
    answer = Answer(id="7f", model="gpt-6-luna", text="It is so.", usage=usage, vectors=([0.0],))

    reading = dialects.read(Call(endpoint, "gpt-6-luna", b"{}"), 200, wire.plain(endpoint, answer))

    assert reading.usage == usage
    assert reading.model == "gpt-6-luna"
    assert not reading.error
    assert not reading.unknown_usage


@given(metered().filter(lambda case: case[0] != "embeddings"))
@settings(deadline=None)
def test_what_a_simulated_stream_reports_is_read_back_to_the_token(case):
    endpoint, usage = case
    answer = Answer(id="8f", model="gpt-6-luna", text="It is so.", usage=usage)
    call = Call(endpoint, "gpt-6-luna", b"{}", stream=True, wants_usage=True)

    reading = reading_of_stream(call, wire.frames(endpoint, answer))

    assert reading.usage == usage
    assert reading.usage_source == "provider"
    assert not reading.error


@pytest.mark.parametrize("endpoint", ["chat", "messages"])
def test_a_refusal_is_read_as_an_error(endpoint):
    reading = dialects.read(Call(endpoint, "m", b"{}"), 429, wire.refusal(endpoint, 429, "slow down"))

    assert "rate_limit" in reading.error
