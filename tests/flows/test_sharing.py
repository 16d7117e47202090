"""Which answers are given again, after what changed, and in which form."""

import json
from pathlib import Path

import pytest

from farthing.config import ExactCache, Key, Route, Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
MESSAGE = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Say hello."}]}


def http(status: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


def completion(finish: str = "stop", **choice: object) -> dict:
    said = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": finish, **choice}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return {"id": "c", "object": "chat.completion", "model": "gpt-6-luna", "choices": [said], "usage": usage}


@pytest.fixture
def provider(upstream_that):
    """Upstreams that say something; `provider(body).requests` is what they were asked."""

    def start(body: dict, status: str = "200 OK"):
        upstream = upstream_that(lambda client, request: client.sendall(http(status, body)))
        upstream.settings = Upstream(
            provider="openrouter", base_url=f"http://127.0.0.1:{upstream.port}/v1", models=("*",)
        )
        return upstream

    return start


@pytest.fixture
def serve_in():
    """Gateways one after another in the same directory."""
    from tests.conftest import serving, settings_for

    def serve(path: Path, **changes: object):
        return serving(settings_for(path, **changes))

    return serve


def verdicts(gateway, *bodies: dict, headers: dict | None = None) -> list[str]:
    return [gateway.post("/v1/chat/completions", body, headers).headers["x-farthing-cache"] for body in bodies]


def test_what_a_simulation_said_is_never_given_as_a_providers_answer(serve_in, provider, tmp_path):
    """Both kept under one name, in one directory: trying it out first is what people do."""
    with serve_in(tmp_path, upstreams={"llm": Upstream(kind="stub", models=("*",))}) as gateway:
        assert verdicts(gateway, CHAT, CHAT) == ["miss", "hit"]
    real = provider(completion())
    with serve_in(tmp_path, upstreams={"llm": real.settings}) as gateway:
        assert verdicts(gateway, CHAT, CHAT) == ["miss", "hit"]
        assert not any(entry.simulated for entry in gateway.entries() if entry.provider)
    assert len(real.requests) == 1


def test_a_route_to_elsewhere_finds_nothing_of_what_was_kept_before(serve_in, provider, tmp_path):
    one, other = provider(completion()), provider(completion())
    upstreams = {"one": one.settings, "other": other.settings}
    with serve_in(tmp_path, upstreams=upstreams, routes=(Route("gpt-6-luna", "one"),)) as gateway:
        assert verdicts(gateway, CHAT, CHAT) == ["miss", "hit"]
    with serve_in(tmp_path, upstreams=upstreams, routes=(Route("gpt-6-luna", "one"),)) as gateway:
        assert verdicts(gateway, CHAT) == ["hit"]
    with serve_in(tmp_path, upstreams=upstreams, routes=(Route("gpt-6-luna", "other"),)) as gateway:
        assert verdicts(gateway, CHAT) == ["miss"]
    with serve_in(tmp_path, upstreams=upstreams, routes=(Route("gpt-6-luna", "one", served_as="m"),)) as gateway:
        assert verdicts(gateway, CHAT) == ["miss"]


def test_what_stricter_rules_would_not_have_kept_is_not_given(serve_in, provider, tmp_path):
    cut_off = provider(completion("length"))
    for truncated, expected in ((True, ["miss", "hit"]), (False, ["miss", "miss"])):
        cache = ExactCache(truncated=truncated)
        with serve_in(tmp_path, upstreams={"up": cut_off.settings}, cache=cache) as gateway:
            assert verdicts(gateway, CHAT, CHAT) == expected


def test_headers_that_change_the_answer_are_part_of_the_question(gateway):
    def ask(**headers: str) -> str:
        return gateway.post("/v1/messages", MESSAGE, headers).headers["x-farthing-cache"]

    dated = {"anthropic-version": "2023-06-01"}
    assert ask(**dated) == "miss"
    assert ask(**dated, **{"anthropic-beta": "context-1m-2025-08-07"}) == "miss"
    assert ask(**dated, **{"user-agent": "another/1.0", "x-request-id": "7"}) == "hit"
    padded = {**MESSAGE, "system": "x" * 10_000}
    for headers in ({}, {"anthropic-beta": "b"}):
        assert gateway.post("/v1/messages", padded, headers).headers["x-farthing-cache"] == "miss"


def test_tenants_never_share_whatever_they_say_they_are(gateway_with):
    environ = {"A": "secret-a", "B": "secret-b", "C": "secret-c"}
    keys = {
        "a": Key(secret="env:A", tenant="acme"),
        "b": Key(secret="env:B", tenant="bolt"),
        "c": Key(secret="env:C", tenant="acme"),
    }
    gateway = gateway_with(environ=environ, keys=keys)

    def ask(secret: str, **headers: str) -> str:
        return verdicts(gateway, CHAT, headers={"authorization": f"Bearer {secret}", **headers})[0]

    assert ask("secret-a") == "miss"
    assert ask("secret-b", **{"x-farthing-tenant": "acme"}) == "miss"
    assert ask("secret-c") == "hit"


UNSHARED = {
    "an error": (completion(), "500 Internal Server Error"),
    "cut off": (completion("length"), "200 OK"),
    "filtered": (completion("content_filter"), "200 OK"),
    "unfinished": (completion(None), "200 OK"),
    "unmetered": ({**completion(), "usage": None}, "200 OK"),
    "an error under status 200": ({"error": {"message": "no", "code": "no"}}, "200 OK"),
    "another success": (completion(), "201 Created"),
}


@pytest.mark.parametrize("what", UNSHARED)
def test_what_is_no_whole_answer_is_never_given_again(gateway_with, provider, what):
    upstream = provider(*UNSHARED[what])
    gateway = gateway_with(upstreams={"up": upstream.settings})

    assert verdicts(gateway, CHAT, CHAT) == ["miss", "miss"]
    assert len(upstream.requests) == 2


def test_an_answer_that_cannot_be_given_as_a_stream_is_asked_for_again(gateway_with, provider):
    odd = completion(message={"role": "assistant", "content": "Hello.", "tool_calls": [7]})
    upstream = provider(odd)
    gateway = gateway_with(upstreams={"up": upstream.settings})

    plain = gateway.post("/v1/chat/completions", CHAT)
    streamed = gateway.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert (plain.status, streamed.status) == (200, 200)
    assert streamed.headers["x-farthing-cache"] == "miss"
    assert len(upstream.requests) == 2
