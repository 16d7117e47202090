"""A request's bytes to a Call, and a Call to the bytes an upstream is sent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.dialects import decode, encode, endpoint_at
from farthing.errors import RequestError
from farthing.schema import Call, Endpoint


def call(body: dict[str, object] | bytes, endpoint: Endpoint = "chat") -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(endpoint, raw, method="POST", path="/v1/x")


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("POST", "/v1/chat/completions", "chat"),
        ("POST", "/v1/responses", "responses"),
        ("POST", "/v1/embeddings", "embeddings"),
        ("POST", "/v1/completions", "completions"),
        ("POST", "/v1/messages", "messages"),
        ("POST", "/v1/messages/count_tokens", "count_tokens"),
        ("GET", "/v1/models", "models"),
        ("GET", "/v1/models/anthropic/claude-sonnet-5-5", "models"),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/models", None),
        ("POST", "/chat/completions", None),
        ("POST", "/v1/chat/completions/", None),
        ("GET", "/v1/modelsx", None),
    ],
)
def test_an_endpoint_is_a_method_and_an_exact_path(method: str, path: str, endpoint: str | None) -> None:
    assert endpoint_at(method, path) == endpoint


def test_the_fields_that_levers_read_are_read() -> None:
    body = {
        "model": "gpt-6-luna",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "temperature": 0,
        "max_tokens": 7,
        "max_completion_tokens": 9,
        "n": 3,
        "tools": [{"type": "function"}],
        "service_tier": "flex",
        "prompt_cache_options": {"mode": "explicit", "ttl": "12h"},
        "previous_response_id": None,
        "a_field_from_next_year": {"deep": [1, 2, {"x": None}]},
    }
    read = decode(
        "chat", json.dumps(body).encode(), method="POST", path="/v1/chat/completions", headers=((b"a", b"b"),)
    )
    assert read == Call(
        "chat",
        "gpt-6-luna",
        json.dumps(body).encode(),
        "POST",
        "/v1/chat/completions",
        ((b"a", b"b"),),
        stream=True,
        wants_usage=True,
        temperature=0.0,
        max_output=9,
        choices=3,
        has_tools=True,
        tier="flex",
        cache_ttl="12h",
    )


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"max_tokens": 7}, "max_output", 7),
        ({"max_output_tokens": 0}, "max_output", 0),
        ({"max_completion_tokens": None, "max_tokens": 5}, "max_output", 5),
        ({"n": None}, "choices", 1),
        ({"n": 2, "best_of": 5}, "choices", 5),
        ({"tools": []}, "has_tools", False),
        ({"tools": None}, "has_tools", False),
        ({"functions": [{"name": "f"}]}, "has_tools", True),
        ({"stream": None}, "stream", False),
        ({"stream_options": None}, "wants_usage", False),
        ({"store": True}, "stateful", True),
        ({"store": False}, "stateful", False),
        ({"previous_response_id": "resp_1"}, "stateful", True),
        ({"conversation": {"id": "conv_1"}}, "stateful", True),
        ({"conversation": None}, "stateful", False),
        ({"background": True}, "stateful", True),
        ({"container": "container_1"}, "stateful", True),
    ],
)
def test_a_field_means_what_its_api_says(body: dict[str, object], field: str, value: object) -> None:
    assert getattr(call({"model": "m", **body}), field) == value


def test_models_are_asked_for_by_path() -> None:
    listed = decode("models", b"", method="GET", path="/v1/models?limit=20")
    one = decode("models", b"ignored", method="GET", path="/v1/models/openai/gpt-6-luna?x=1")
    assert (listed.model, listed.body, one.model, one.body) == ("", b"", "openai/gpt-6-luna", b"")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The request body is empty."),
        (b" \n", "The request body is empty."),
        (b'{"model": "m", }', "not valid JSON: trailing comma"),
        (b'{"model": "m"', "not valid JSON: it ends too early, of 13 bytes"),
        (b'{"model": "m"} {"model": "m"}', "not valid JSON: trailing characters (byte"),
        (b"model=m&stream=true", "not valid JSON: invalid character (byte 0)"),
        (b'[{"model": "m"}]', "The request body must be an object, not an array."),
        (b'"m"', "The request body must be an object, not a string."),
        (b"{}", "does not say which model"),
        (b'{"model": null}', "`model` must be a string, not null."),
        (b'{"model": 5}', "`model` must be a string, not an integer."),
        (b'{"model": "m", "stream": "yes"}', "`stream` must be a boolean, not a string."),
        (b'{"model": "m", "stream": 1}', "`stream` must be a boolean, not an integer."),
        (b'{"model": "m", "max_tokens": -1}', "`max_tokens` must be an integer of at least 0."),
        (b'{"model": "m", "max_tokens": 1.5}', "`max_tokens` must be an integer, not a number."),
        (b'{"model": "m", "n": true}', "`n` must be an integer, not a boolean."),
        (
            b'{"model": "m", "stream_options": {"include_usage": "x"}}',
            "`stream_options.include_usage` must be a boolean, not a string.",
        ),
        (b'{"model": "m", "temperature": 1e999}', "`temperature` is not a value this API takes"),
        (b'{"model": "\xff"}', "not valid UTF-8: byte 0xff at position 11"),
        (b'{"model": "m", "messages": "\xc3("}', "not valid UTF-8: byte 0xc3 at position 28"),
    ],
)
def test_a_bad_body_is_refused_in_words_its_sender_understands(body: bytes, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        call(body)
    assert says in str(refused.value)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "bomb", [b'{"model":"m","x":' + b"[" * 100_000, b'{"a":' * 100_000, b'{"model":"m","n":' + b"9" * 10**6 + b"}"]
)
def test_a_bomb_is_refused_like_any_bad_body(bomb: bytes) -> None:
    with pytest.raises(RequestError):
        call(bomb)


def test_a_body_nothing_changes_in_is_sent_as_it_came() -> None:
    plain = call({"model": "m"})
    asking = call({"model": "m", "stream": True, "stream_options": {"include_usage": True}})
    message = call({"model": "m", "stream": True}, "messages")
    response = call({"model": "m", "stream": True}, "responses")
    for unchanged in (plain, asking, message, response):
        assert encode(unchanged) is unchanged.body
        assert encode(unchanged, model="m") is unchanged.body


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_usage_is_asked_for_by_splicing_and_nothing_else_is_touched(endpoint: Endpoint) -> None:
    body = b'\n { "stream" : true,"model":"m", "x": 1.10E+2 , "text": "say \\"stream_options\\"" }'
    sent = encode(call(body, endpoint))
    assert sent == body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)
    assert json.loads(sent) == {**json.loads(body), "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("options", [None, {}, {"include_obfuscation": False}, {"include_usage": False}])
def test_options_already_there_are_kept(options: dict[str, object] | None) -> None:
    sent = encode(call({"model": "m", "stream": True, "stream_options": options}))
    assert json.loads(sent)["stream_options"] == {**(options or {}), "include_usage": True}


def test_a_stream_options_deeper_down_is_not_the_callers() -> None:
    body = {"model": "m", "stream": True, "metadata": {"stream_options": {"include_usage": True}}}
    assert json.loads(encode(call(body))) == {**body, "stream_options": {"include_usage": True}}


def test_running_usage_is_asked_for_even_of_a_caller_that_wants_the_last() -> None:
    wanting = call({"model": "m", "stream": True, "stream_options": {"include_usage": True}})
    not_wanting = call({"model": "m", "stream": True})
    for asked in (wanting, not_wanting):
        options = json.loads(encode(asked, running_usage=True))["stream_options"]
        assert options == {"include_usage": True, "continuous_usage_stats": True}
    plain = call({"model": "m"})
    assert encode(plain, running_usage=True) is plain.body


def test_a_renamed_model_leaves_every_other_value_byte_for_byte() -> None:
    body = (
        b'{"a": 1.10E+2, "model": "old", "b": [ 1,  2 ], "c": "\\u00e9 \xc3\xa9", "d": 123456789012345678901234567890}'
    )
    sent = encode(call(body), model='new "one"')
    assert json.loads(sent) == {**json.loads(body), "model": 'new "one"'}
    for verbatim in (b"1.10E+2", b"[ 1,  2 ]", b'"\\u00e9 \xc3\xa9"', b"123456789012345678901234567890"):
        assert verbatim in sent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text().map("x_".__add__), json_values, max_size=5),
    st.booleans(),
    st.sampled_from([None, "other"]),
)
def test_whatever_else_a_body_says_reaches_the_upstream(
    extra: dict[str, object], running: bool, model: str | None
) -> None:
    body = {**extra, "model": "m", "stream": True}
    sent = json.loads(encode(call(body), model=model, running_usage=running))
    options = {"include_usage": True} | ({"continuous_usage_stats": True} if running else {})
    assert sent == {**body, "model": model or "m", "stream_options": options}
