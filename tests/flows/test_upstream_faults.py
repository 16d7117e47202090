"""Whatever an upstream does, the caller gets a clear error in its own dialect, in time, and the ledger an entry."""

import json
import socket
import time

import pytest

from farthing.config import Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
MESSAGES = {**CHAT, "model": "claude-haiku-5-5", "max_tokens": 50}
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-6-luna",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def answer(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode()
        + body
    )


def last_answer(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    """One after which the connection is closed, and that says so: or else the next question may be on its way."""
    return answer(body, status, f"{extra}connection: close\r\n")


def sse(text: str, finish: str | None = None) -> bytes:
    delta = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    frame = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-6-luna", "choices": [delta]}
    return b"data: " + json.dumps(frame).encode() + b"\n\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sends(*parts: bytes, then_close: bool = True):
    def script(client: socket.socket, request: bytes) -> None:
        for part in parts:
            client.sendall(part)
        if then_close:
            client.close()

    return script


def stalls(*parts: bytes):
    def script(client: socket.socket, request: bytes) -> None:
        for part in parts:
            client.sendall(part)
        time.sleep(30)

    return script


def resets(*parts: bytes):
    def script(client: socket.socket, request: bytes) -> None:
        for part in parts:
            client.sendall(part)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()

    return script


BODY = json.dumps(GOOD).encode()
ERROR = json.dumps(
    {"error": {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}
).encode()
FAULTS = {
    "HTML 503 from a proxy in between": (sends(last_answer(b"<html>busy</html>", "503 Service Unavailable")), 502, "upstream_garbage"),
    "redirect": (sends(last_answer(b"", "307 Temporary Redirect", "location: http://127.0.0.1:1/\r\n")), 502, "upstream_garbage"),
    "redirect with a body": (
        sends(last_answer(ERROR, "302 Found", "location: http://169.254.169.254/\r\n")), 502, "upstream_garbage"
    ),
    "not JSON": (sends(last_answer(b"hello")), 502, "upstream_garbage"),
    "invalid UTF-8": (sends(last_answer(b'{"model": "\xff\xfe"}')), 502, "upstream_garbage"),
    "empty body": (sends(last_answer(b"")), 502, "upstream_garbage"),
    "not HTTP": (sends(b"220 smtp.example ready\r\n"), 502, "upstream_garbage"),
    "reset before the answer": (resets(), 502, "upstream_reset"),
    "stall before the answer": (stalls(), 504, "upstream_timeout"),
    "damaged gzip": (sends(last_answer(b"garbage", extra="content-encoding: gzip\r\n")), 502, "upstream_garbage"),
}  # fmt: skip


def upstreams(port: int) -> dict[str, Upstream]:
    return {
        "faulty": Upstream(
            provider="openrouter",  # speaks both dialects
            base_url=f"http://127.0.0.1:{port}/v1",
            models=("*",),
            stall_timeout=1.0,
            deadline=2.0,
            on_disconnect="abort",
        )
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plain_call_fails_clearly_and_is_entered(gateway_with, upstream_that, fault):
    script, status, code = FAULTS[fault]
    gateway = gateway_with(upstreams=upstreams(upstream_that(script).port))
    began = time.monotonic()

    openai = gateway.post("/v1/chat/completions", CHAT)
    anthropic = gateway.post("/v1/messages", MESSAGES)

    assert time.monotonic() - began < 2 * (2 + 1) + 2  # two calls, each within its deadline and a second
    assert openai.status == anthropic.status == status
    assert openai.json["error"]["message"]
    assert openai.json["error"]["code"]
    assert anthropic.json["type"] == "error"
    entries = gateway.entries()
    assert [entry.error for entry in entries] == [code, code]
    assert [entry.status for entry in entries] == [status, status]


def test_a_refused_connection_costs_nothing(gateway_with):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gateway = gateway_with(upstreams=upstreams(port))

    answer = gateway.post("/v1/chat/completions", CHAT)

    assert answer.status == 502
    assert "cannot connect" in answer.json["error"]["message"]
    (entry,) = gateway.entries()
    assert (entry.error, entry.cost) == ("upstream_unreachable", 0)


def test_an_answer_that_was_lost_is_charged_as_an_estimate_and_says_so(gateway_with, upstream_that):
    gateway = gateway_with(upstreams=upstreams(upstream_that(resets(HEAD + b"content-length: 9\r\n\r\n{")).port))

    gateway.post("/v1/chat/completions", CHAT)

    (entry,) = gateway.entries()
    assert entry.usage_source == "estimated"
    assert entry.usage.input > 0


def test_an_answer_without_usage_is_charged_as_an_estimate(gateway_with, upstream_that):
    silent = {name: value for name, value in GOOD.items() if name != "usage"}
    upstream = upstream_that(sends(answer(json.dumps(silent).encode()), then_close=False))
    gateway = gateway_with(
        upstreams={"up": Upstream(provider="openai", base_url=f"http://127.0.0.1:{upstream.port}/v1", models=("*",))}
    )

    assert gateway.post("/v1/chat/completions", CHAT).status == 200
    gateway.post("/v1/chat/completions", CHAT)

    first, again = gateway.entries()
    assert first.usage_source == "estimated"
    assert first.usage.output > 0
    assert first.cost > 0
    assert again.cache == "miss"  # an answer that was not metered is not shared


STREAM_FAULTS = {
    "reset": (resets(SSE_HEAD + chunked(sse("Hel")) + chunked(sse("lo"))), "upstream_reset"),
    "closed without a last chunk": (sends(SSE_HEAD + chunked(sse("Hello"))), "upstream_reset"),
}


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_stream_that_breaks_off_says_so_and_is_charged(gateway_with, upstream_that, fault):
    script, code = STREAM_FAULTS[fault]
    gateway = gateway_with(upstreams=upstreams(upstream_that(script).port))

    answer = gateway.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert b"Hel" in answer.body
    (entry,) = gateway.entries()
    assert entry.usage_source == "estimated"
    assert entry.usage.output > 0
    assert entry.error == code
    assert b'"error"' in answer.body


def test_garbage_instead_of_a_stream_is_a_plain_error(gateway_with, upstream_that):
    gateway = gateway_with(
        upstreams=upstreams(upstream_that(sends(SSE_HEAD + chunked(b"nonsense\n\n") + b"0\r\n\r\n")).port)
    )

    answer = gateway.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert answer.status == 502
    (entry,) = gateway.entries()
    assert entry.error == "upstream_garbage"


def test_a_connection_is_used_again_and_a_broken_one_is_not(gateway_with, upstream_that):
    upstream = upstream_that(sends(answer(BODY), then_close=False))
    gateway = gateway_with(upstreams=upstreams(upstream.port))

    for number in range(5):
        body = {**CHAT, "seed": number}
        assert gateway.post("/v1/chat/completions", body).status == 200

    assert len(upstream.requests) == 5


def test_headers_of_the_caller_are_passed_on_but_not_those_of_its_hop(gateway_with, upstream_that):
    upstream = upstream_that(sends(answer(BODY)))
    gateway = gateway_with(upstreams=upstreams(upstream.port))

    gateway.post(
        "/v1/chat/completions",
        CHAT,
        {"openai-organization": "org-1", "authorization": "Bearer own", "cookie": "a=b", "x-farthing-tenant": "t",
         "accept-encoding": "gzip"},
    )  # fmt: skip

    head = upstream.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert b"openai-organization: org-1" in head
    assert b"authorization: bearer own" in head
    assert b"accept-encoding: identity" in head
    assert b"cookie" not in head
    assert b"x-farthing" not in head
    assert f"host: 127.0.0.1:{upstream.port}".encode() in head


def test_the_gateways_own_key_replaces_the_callers(gateway_with, upstream_that):
    upstream = upstream_that(sends(answer(BODY)))
    settings = upstreams(upstream.port)
    gateway = gateway_with(environ={"OPENROUTER_API_KEY": "gateway-secret"}, upstreams=settings)

    gateway.post("/v1/chat/completions", CHAT, {"authorization": "Bearer callers-secret"})

    assert b"gateway-secret" in upstream.requests[0]
    assert b"callers-secret" not in upstream.requests[0]
