"""Plain answers that are not what they should be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.dialects import decode, is_object, read
from farthing.dialects.answers import error_code
from farthing.schema import Call, Endpoint, Usage

ENDPOINTS: list[Endpoint] = [
    "chat",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "count_tokens",
    "classify",
    "rerank",
]


def asked(endpoint: Endpoint) -> Call:
    return decode(endpoint, b'{"model":"m"}', method="POST", path="/v1/x")


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "models"])
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"text"', b"{}", b"{", b"<html>", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_answer_is_garbage(endpoint: Endpoint, body: bytes) -> None:
    call = asked(endpoint) if endpoint != "models" else decode("models", b"", method="GET", path="/v1/models")
    reading = read(call, 200, body)
    assert (reading.error, reading.usage, reading.usage_source) == ("upstream_garbage", None, "none")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@given(st.binary(max_size=40))
def test_reading_never_fails(endpoint: Endpoint, body: bytes) -> None:
    assert read(asked(endpoint), 200, body).error != ""
    assert read(asked(endpoint), 500, body).error == "http_500"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, "c"),
        ({"error": {"message": "m", "type": "t", "code": None}}, "t"),
        ({"error": {"message": "m", "code": 429, "status": "RESOURCE_EXHAUSTED"}}, "RESOURCE_EXHAUSTED"),
        ([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], "RESOURCE_EXHAUSTED"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "BadRequestError"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "overloaded_error"),
        ({"error": "model not found"}, "http_429"),
        ({"detail": "Not Found"}, "http_429"),
        ({"error": {"code": "has spaces and\nlines"}}, "http_429"),
        ({"error": {"code": "x" * 65}}, "http_429"),
        ([], "http_429"),
        ("text", "http_429"),
    ],
)
def test_an_error_is_named_by_its_provider(body: object, code: str) -> None:
    assert read(asked("chat"), 429, json.dumps(body).encode()).error == code


def test_an_error_with_status_200_is_an_error() -> None:
    for endpoint in ENDPOINTS:
        assert read(asked(endpoint), 200, b'{"error":{"type":"server_error"}}').error == "server_error"
    assert read(asked("chat"), 200, b'{"error":"busy"}').error == "upstream_error"
    assert error_code(None) == "upstream_error"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"status": "failed", "error": {"code": "server_error"}}, "server_error"),
        ({"status": "failed", "error": None}, "upstream_error"),
        ({"status": "incomplete", "error": {"code": "cut"}}, "cut"),
        ({"status": "incomplete", "error": None, "incomplete_details": {"reason": "content_filter"}}, ""),
    ],
)
def test_a_response_fails_by_its_status_or_its_error(said: dict[str, object], error: str) -> None:
    assert read(asked("responses"), 200, json.dumps({"output": [], **said}).encode()).error == error


@pytest.mark.parametrize("error", ["null", "{}", '""', "false"])
def test_an_empty_error_beside_an_answer_is_none(error: str) -> None:
    body = b'{"choices":[{"finish_reason":"stop"}],"error":%b}' % error.encode()
    assert read(asked("chat"), 200, body).error == ""


def test_an_error_beside_an_answer_is_told_with_its_usage() -> None:
    body = b'{"choices":[{"finish_reason":"error"}],"error":{"code":"cut"},"usage":{"prompt_tokens":3}}'
    reading = read(asked("chat"), 200, body)
    assert (reading.error, reading.finish) == ("cut", "error")
    assert reading.usage is not None
    assert reading.usage.input == 3


def test_of_several_choices_the_one_that_was_cut_off_is_told() -> None:
    body = b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}'
    assert read(asked("chat"), 200, body).finish == "length"


@pytest.mark.parametrize(
    ("body", "is_one"), [(b"{}", True), (b"[]", False), (b"{", False), (b"", False), (b'{"a":"\xff"}', False)]
)
def test_only_an_object_can_be_passed_on(body: bytes, is_one: bool) -> None:
    assert is_object(body) is is_one


@pytest.mark.parametrize(
    ("reported", "tokens"),
    [
        ({"usage": {"total_tokens": 40}}, 40),  # Jina and vLLM
        ({"usage": {"prompt_tokens": 30, "total_tokens": 40}}, 30),
        ({"meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 25}}}, 25),  # Cohere
        ({"meta": {"billed_units": {"input_tokens": 20.0}}}, 20),
        ({"meta": {"billed_units": {"search_units": 1}}}, None),
        ({"usage": {"total_tokens": 0}}, 0),
        ({}, None),
    ],
)
def test_a_ranking_is_metered_by_whoever_reports_it(reported: dict, tokens: int | None) -> None:
    body = {"model": "reranker", "results": [{"index": 0, "relevance_score": 0.9}], **reported}
    reading = read(asked("rerank"), 200, json.dumps(body).encode())

    assert (reading.model, reading.error) == ("reranker", "")
    assert reading.usage == (None if tokens is None else Usage(input=tokens))
    assert reading.usage_source == ("none" if tokens is None else "provider")


def test_labels_are_metered_like_embeddings() -> None:
    body = {"model": "m", "data": [{"index": 0, "label": "a"}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}

    assert read(asked("classify"), 200, json.dumps(body).encode()).usage == Usage(input=7)
