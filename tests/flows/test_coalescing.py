"""Identical calls in flight become one; whoever waits gets the answer, or asks for itself."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from farthing.config import Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-6-luna",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}


def answer(status: str, body: dict) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


class Gate:
    """An upstream script that answers only when told to."""

    def __init__(self, *answers: bytes) -> None:
        self.asked = threading.Semaphore(0)
        self.open = threading.Event()
        self.answers = list(answers)

    def __call__(self, client: socket.socket, request: bytes) -> None:
        self.asked.release()
        self.open.wait(10)
        client.sendall(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def gateway_over(gateway_with, upstream_that, gate):
    port = upstream_that(gate).port
    upstream = Upstream(provider="openai", base_url=f"http://127.0.0.1:{port}/v1", models=("*",), on_disconnect="abort")
    return gateway_with(upstreams={"up": upstream})


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_call_is_asked_and_all_are_answered_plain_or_streamed(gateway_with, upstream_that):
    gate = Gate(answer("200 OK", GOOD))
    gateway = gateway_over(gateway_with, upstream_that, gate)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(gateway.post, "/v1/chat/completions", CHAT)
        assert gate.asked.acquire(timeout=10)
        others = [pool.submit(gateway.post, "/v1/chat/completions", {**CHAT, "stream": n % 2 == 0}) for n in range(10)]
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 11)
        gate.open.set()
        answers = [future.result(10) for future in others]

    assert first.result().status == 200
    assert not gate.asked.acquire(blocking=False)
    for number, got in enumerate(answers):
        assert got.headers["x-farthing-cache"] == "coalesced"
        if number % 2 == 0:
            assert got.body.endswith(b"data: [DONE]\n\n")
            assert b"Hello." in got.body
        else:
            assert got.json == GOOD
    entries = gateway.entries()
    assert sorted(entry.cache for entry in entries) == ["coalesced"] * 10 + ["miss"]
    assert sum(entry.cost for entry in entries) == 10 * 100_000 + 2 * 500_000
    assert all(dict(entry.saved)["exact_cache"] == 2_000_000 for entry in entries if entry.cache == "coalesced")


def test_when_the_first_call_fails_the_others_ask_for_themselves(gateway_with, upstream_that):
    failure = answer("500 Internal Server Error", {"error": {"message": "no", "type": "server_error", "code": "no"}})
    gate = Gate(failure, answer("200 OK", GOOD))
    gateway = gateway_over(gateway_with, upstream_that, gate)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gateway.post, "/v1/chat/completions", CHAT)
        assert gate.asked.acquire(timeout=10)
        other = pool.submit(gateway.post, "/v1/chat/completions", CHAT)
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 2)
        gate.open.set()

        assert first.result(10).status == 500
        assert other.result(10).status == 200


def test_when_the_first_caller_leaves_the_others_ask_for_themselves(gateway_with, upstream_that):
    gate = Gate(answer("200 OK", GOOD))
    gateway = gateway_over(gateway_with, upstream_that, gate)
    body = json.dumps(CHAT).encode()
    with ThreadPoolExecutor(4) as pool:
        leaver = socket.create_connection(("127.0.0.1", gateway.port))
        leaver.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert gate.asked.acquire(timeout=10)
        other = pool.submit(gateway.post, "/v1/chat/completions", CHAT)
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 2)
        leaver.close()
        assert gate.asked.acquire(timeout=10), "nobody asked again"
        gate.open.set()

        assert other.result(10).status == 200
    wait_until(lambda: len(gateway.entries()) == 2)
    assert sorted(entry.error for entry in gateway.entries()) == ["", "client_disconnected"]


def test_a_caller_that_leaves_while_it_waits_is_entered(gateway_with, upstream_that):
    gate = Gate(answer("200 OK", GOOD))
    gateway = gateway_over(gateway_with, upstream_that, gate)
    body = json.dumps(CHAT).encode()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gateway.post, "/v1/chat/completions", CHAT)
        assert gate.asked.acquire(timeout=10)
        with socket.create_connection(("127.0.0.1", gateway.port)) as leaver:
            leaver.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
                + body
            )
            wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 2)
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 1)
        gate.open.set()
        assert first.result(10).status == 200
    assert sorted((entry.error, entry.cost) for entry in gateway.entries()) == [
        ("", 2_000_000),
        ("client_disconnected", 0),
    ]


def test_callers_with_different_credentials_share_nothing(gateway_with, upstream_that):
    gate = Gate(answer("200 OK", GOOD))
    gate.open.set()
    gateway = gateway_over(gateway_with, upstream_that, gate)

    one = gateway.post("/v1/chat/completions", CHAT, {"authorization": "Bearer one"})
    other = gateway.post("/v1/chat/completions", CHAT, {"authorization": "Bearer other"})

    assert [one.headers["x-farthing-cache"], other.headers["x-farthing-cache"]] == ["miss", "miss"]


def test_when_the_first_caller_leaves_one_of_the_others_asks_for_all(gateway_with, upstream_that):
    gate = Gate(answer("200 OK", GOOD))
    gateway = gateway_over(gateway_with, upstream_that, gate)
    body = json.dumps(CHAT).encode()
    with ThreadPoolExecutor(8) as pool:
        leaver = socket.create_connection(("127.0.0.1", gateway.port))
        leaver.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert gate.asked.acquire(timeout=10)
        others = [pool.submit(gateway.post, "/v1/chat/completions", {**CHAT, "stream": n % 2 == 0}) for n in range(6)]
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 7)
        leaver.close()
        assert gate.asked.acquire(timeout=10), "nobody asked again"
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 6)
        gate.open.set()
        answers = [other.result(10) for other in others]

    assert not gate.asked.acquire(blocking=False)
    assert sorted(got.headers.get("x-farthing-cache", "miss") for got in answers) == ["coalesced"] * 5 + ["miss"]
    assert all(b"Hello." in got.body for got in answers)


STREAMED = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{"role":"assistant","content":"Hello."},"finish_reason":null}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}\n\n'
    b"data: [DONE]\n\n"
)


def test_a_stream_is_shared_in_the_form_that_each_asks_for(gateway_with, upstream_that):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(STREAMED)
    gate = Gate(head + STREAMED)
    gateway = gateway_over(gateway_with, upstream_that, gate)
    streamed = {**CHAT, "stream": True}
    with_usage = {**streamed, "stream_options": {"include_usage": True}}
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(gateway.post, "/v1/chat/completions", streamed)
        assert gate.asked.acquire(timeout=10)
        others = [pool.submit(gateway.post, "/v1/chat/completions", body) for body in (streamed, with_usage, CHAT)]
        wait_until(lambda: len(gateway.running.service.pipeline.in_flight) == 4)
        gate.open.set()
        same, metered, plain = (other.result(10) for other in others)

    assert first.result().body == same.body
    assert b'"usage"' not in same.body
    assert same.headers["content-type"].startswith("text/event-stream")
    assert metered.body.count(b'"total_tokens":12') == 1
    assert metered.body.endswith(b"data: [DONE]\n\n")
    assert plain.json["choices"][0]["message"]["content"] == "Hello."
    assert plain.json["usage"]["total_tokens"] == 12
    assert not gate.asked.acquire(blocking=False)
