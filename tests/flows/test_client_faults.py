"""Whatever a client sends, it gets a clear refusal in its own dialect, and the ledger an entry."""

import json
import socket
import threading
import time

import pytest

from farthing.config import Key, Server, Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}


def raw(path: str, body: bytes, headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def read_until(client: socket.socket, words: bytes) -> None:
    received = b""
    while words not in received:
        chunk = client.recv(65536)
        assert chunk, received
        received += chunk


BODIES = {
    "malformed JSON": b'{"model": "gpt-6-luna", "messages": [}',
    "not an object": b"[1, 2]",
    "empty": b"",
    "no model": b'{"messages": []}',
    "depth bomb": b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "invalid UTF-8": b'{"model": "\xff"}',
    "stream is no boolean": b'{"model": "m", "stream": "yes"}',
}


@pytest.mark.parametrize("what", BODIES)
def test_a_bad_body_is_refused_in_the_callers_dialect(gateway, what):
    openai = gateway.post("/v1/chat/completions", BODIES[what])
    anthropic = gateway.post("/v1/messages", BODIES[what])

    assert openai.status == anthropic.status == 400
    assert openai.json["error"]["code"] == "invalid_request"
    assert anthropic.json["error"]["type"] == "invalid_request_error"
    assert [entry.error for entry in gateway.entries()] == ["invalid_request", "invalid_request"]
    assert [entry.cost for entry in gateway.entries()] == [0, 0]


def test_an_unknown_endpoint_is_named_and_entered(gateway):
    answer = gateway.post("/v1/chat/complete", CHAT)

    assert answer.status == 404
    assert "/v1/chat/complete" in answer.json["error"]["message"]
    assert [entry.error for entry in gateway.entries()] == ["unknown_endpoint"]


def test_an_unknown_model_is_refused_with_the_nearest_name(gateway_with):
    gateway = gateway_with(upstreams={"stub": Upstream(kind="stub", models=("gpt-6-luna", "gpt-6-sol"))})

    answer = gateway.post("/v1/chat/completions", {**CHAT, "model": "gpt-6-lunar"})

    assert answer.status == 404
    assert 'Did you mean "gpt-6-luna"?' in answer.json["error"]["message"]
    assert [entry.error for entry in gateway.entries()] == ["model_not_found"]


def test_a_wrong_key_is_refused_and_the_right_one_names_the_tenant(gateway_with):
    gateway = gateway_with(
        environ={"SEARCH_KEY": "s3cret"}, keys={"search": Key(secret="env:SEARCH_KEY", tenant="acme")}
    )

    refused = gateway.post("/v1/chat/completions", CHAT, {"authorization": "Bearer wrong"})
    none = gateway.post("/v1/chat/completions", CHAT)
    right = gateway.post(
        "/v1/messages", {**CHAT, "max_tokens": 9}, {"x-api-key": "s3cret", "x-farthing-tenant": "other"}
    )

    assert (refused.status, none.status, right.status) == (401, 401, 200)
    entries = gateway.entries()
    assert [entry.error for entry in entries] == ["invalid_api_key", "invalid_api_key", ""]
    assert (entries[2].tenant, entries[2].key) == ("acme", "search")


def test_a_body_over_the_limit_is_refused_while_it_is_still_being_sent(gateway_with):
    gateway = gateway_with(server=Server(port=0, max_body=1_000_000))
    body = json.dumps({**CHAT, "padding": "x" * 30_000_000}).encode()

    answer = gateway.post("/v1/chat/completions", body)

    assert answer.status == 413
    assert "30000" in answer.json["error"]["message"].replace(",", "")
    assert [entry.error for entry in gateway.entries()] == ["request_too_large"]


def test_an_endless_chunked_body_is_cut_off(gateway_with):
    gateway = gateway_with(server=Server(port=0, max_body=100_000))
    chunk = b"%x\r\n%b\r\n" % (60_000, b"x" * 60_000)

    received = gateway.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunk * 3
        + b"0\r\n\r\n"
    )

    assert received.startswith(b"HTTP/1.1 413")


MALFORMED = {
    "two lengths": b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    "bare CR in a header": b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: b\rx-c: d\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in a header": b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: b\x00c\r\ncontent-length: 2\r\n\r\n{}",
    "space in a header name": b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx a: b\r\ncontent-length: 2\r\n\r\n{}",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "negative length": b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: -2\r\n\r\n{}",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_http_is_refused_and_entered(gateway, what):
    received = gateway.raw(MALFORMED[what], timeout=3)

    assert received.startswith(b"HTTP/1.1 400 Bad Request")
    assert received.count(b"HTTP/1.1 ") == 1
    assert [entry.status for entry in gateway.entries()] == [400]


def test_headers_over_the_limit_are_refused(gateway):
    received = gateway.raw(raw("/v1/chat/completions", b"{}", f"x-long: {'a' * 40_000}\r\n"), timeout=3)

    assert received.startswith(b"HTTP/1.1 413")


def test_an_endless_header_is_cut_off(gateway):
    received = gateway.raw(
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-endless: " + b"a" * 1_000_000, timeout=3
    )

    assert received.startswith(b"HTTP/1.1 413")


def test_pipelined_requests_are_answered_in_order(gateway):
    bodies = [json.dumps({**CHAT, "seed": number}).encode() for number in range(5)]

    received = gateway.raw(b"".join(raw("/v1/chat/completions", body) for body in bodies), timeout=2)

    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert len(gateway.entries()) == 5


def test_a_client_that_leaves_is_entered_and_its_upstream_is_hung_up(gateway_with, upstream_that):
    gone = threading.Event()

    def endless(client: socket.socket, request: bytes) -> None:
        frame = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                client.sendall(b"%x\r\n%b\r\n" % (len(frame), frame))
                time.sleep(0.005)
        except OSError:
            gone.set()
            raise

    port = upstream_that(endless).port
    gateway = gateway_with(
        upstreams={"engine": Upstream(provider="vllm", base_url=f"http://127.0.0.1:{port}/v1", models=("*",))}
    )
    body = json.dumps({**CHAT, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(raw("/v1/chat/completions", body))
        read_until(client, b"word")

    assert gone.wait(5), "the upstream was not hung up on"
    deadline = time.monotonic() + 5
    while not (entries := gateway.entries()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [entry.error for entry in entries] == ["client_disconnected"]
    assert entries[0].usage.output > 0


def test_a_provider_that_bills_anyway_is_read_to_its_end(gateway_with, upstream_that):
    usage = b'"usage":{"prompt_tokens":5,"completion_tokens":40,"total_tokens":45}'

    def slow(client: socket.socket, request: bytes) -> None:
        frame = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(40):
            client.sendall(b"%x\r\n%b\r\n" % (len(frame), frame))
            time.sleep(0.01)
        last = frame.replace(b'"delta":{"content":"word "},"finish_reason":null', b'"delta":{},"finish_reason":"stop"')
        last += (
            b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[],' + usage + b"}\n\n"
        )
        last += b"data: [DONE]\n\n"
        client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))

    port = upstream_that(slow).port
    gateway = gateway_with(
        upstreams={"provider": Upstream(provider="openai", base_url=f"http://127.0.0.1:{port}/v1", models=("*",))}
    )
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(raw("/v1/chat/completions", json.dumps({**CHAT, "stream": True}).encode()))
        read_until(client, b"word")

    deadline = time.monotonic() + 5
    while not (entries := gateway.entries()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert entries[0].usage_source == "provider"
    assert entries[0].usage.output == 40
