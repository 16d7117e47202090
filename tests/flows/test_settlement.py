"""Money that was spent is entered, whatever the clock, the disk, the caller or a bug does meanwhile."""

import asyncio
import json
import os
import socket
import time
from contextlib import contextmanager

import pytest

from farthing.config import Upstream
from farthing.stores import journal as journals
from farthing.wiring import serving

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def post(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(data) + data


def frame(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-6-luna", "choices": [choice]}
    data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


USAGE = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":40,"total_tokens":45}}\n\ndata: [DONE]\n\n'
END = frame("", "stop") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(USAGE), USAGE)


def over(port: int, **changes: object) -> dict[str, Upstream]:
    base = {"provider": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "models": ("*",)}
    return {"up": Upstream(**{**base, **changes})}


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def full_disk(gateway):
    """Nothing can be written to the journal, as on a disk that is full."""
    descriptor = gateway.running.journal._descriptor
    real, full = os.dup(descriptor), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor)
    try:
        yield
    finally:
        os.dup2(real, descriptor)
        os.close(real)
        os.close(full)


# The clock


def test_a_clock_that_is_set_back_makes_no_time_and_no_cost_negative(gateway_with, monkeypatch):
    first = time.time_ns()
    readings = iter(range(10_000))
    monkeypatch.setattr(serving.SystemClock, "now", staticmethod(lambda: first - next(readings) * 1_000_000_000))
    gateway = gateway_with(upstreams={"own": Upstream(kind="stub", models=("*",), hourly_usd="3", concurrency=8)})

    statuses = [gateway.post("/v1/chat/completions", {**CHAT, "stream": stream}).status for stream in (False, True)]

    assert statuses == [200, 200]
    for entry in gateway.entries():
        assert entry.error == ""
        assert entry.latency >= 0
        assert entry.overhead >= 0
        assert (entry.ttft or 0) >= 0
        assert entry.cost >= 0


# The disk


def test_nothing_is_bought_that_cannot_be_entered(gateway_with, upstream_that, monkeypatch):
    monkeypatch.setattr(journals, "RETRY", 0.05)
    upstream = upstream_that(lambda client, request: client.sendall(STREAM_HEAD + frame("Hello") + END))
    gateway = gateway_with(upstreams=over(upstream.port))
    gateway.running.journal._queue_bytes = 2_000
    with full_disk(gateway):
        statuses = [gateway.post("/v1/chat/completions", {**CHAT, "stream": True, "seed": n}).status for n in range(20)]
        bought = len(upstream.requests)
    wait_until(lambda: not gateway.running.journal.failure)

    assert statuses == [200] * bought + [503] * (20 - bought)
    assert 0 < bought < 20
    assert len(gateway.entries()) == bought
    assert gateway.post("/v1/chat/completions", {**CHAT, "stream": True, "seed": 99}).status == 200


def test_a_stream_that_cannot_be_entered_does_not_end_as_if_all_were_well(gateway_with, upstream_that, monkeypatch):
    monkeypatch.setattr(journals, "RETRY", 0.05)
    gateways = []

    def script(client: socket.socket, request: bytes) -> None:
        client.sendall(STREAM_HEAD + frame("Hello"))
        wait_until(lambda: any(b"Hello" in piece for piece in got))
        gateways[0].running.journal._queue_bytes = -1
        client.sendall(END)

    got: list[bytes] = []
    gateway = gateway_with(upstreams=over(upstream_that(script).port))
    gateways.append(gateway)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(post({**CHAT, "stream": True}))
        while not got or not got[-1].endswith(b"0\r\n\r\n"):
            got.append(client.recv(65536))
    gateway.running.journal._queue_bytes = journals.QUEUE_BYTES

    received = b"".join(got)
    assert b"[DONE]" not in received
    assert b'"code":"ledger_error"' in received


# A bug


class Bug(RuntimeError):
    """What nobody expected."""


def test_what_an_unexpected_failure_cost_is_unknown_and_not_nothing(gateway_with, monkeypatch):
    from farthing.gateway.relay import Relay

    def fails(self, outcome):
        raise Bug

    monkeypatch.setattr(Relay, "close", fails)
    gateway = gateway_with()

    plain = gateway.post("/v1/chat/completions", CHAT)
    streamed = gateway.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert plain.status == 500
    assert b'"internal_error"' in streamed.body
    assert [(entry.error, entry.cost) for entry in gateway.entries()] == [("internal_error", None)] * 2


# The caller


def test_a_caller_that_left_without_reading_does_not_hold_up_what_is_drained(gateway_with, upstream_that):
    def script(client: socket.socket, request: bytes) -> None:
        client.sendall(STREAM_HEAD + frame("x" * 4_000_000) * 5 + END)

    gateway = gateway_with(upstreams=over(upstream_that(script).port, on_disconnect="drain"))
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(post({**CHAT, "stream": True}))
        assert client.recv(10)
        time.sleep(0.2)
    wait_until(lambda: not gateway.running.service.pipeline.in_flight)

    (entry,) = gateway.entries()
    assert (entry.usage_source, entry.usage.output) == ("provider", 40)


def test_a_reader_that_stands_still_meets_the_deadline(gateway_with, upstream_that):
    def flood(client: socket.socket, request: bytes) -> None:
        client.sendall(STREAM_HEAD)
        while True:
            client.sendall(frame("x" * 60_000))

    gateway = gateway_with(upstreams=over(upstream_that(flood).port, deadline=1.0, stall_timeout=0.3))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(post({**CHAT, "stream": True}))
        wait_until(gateway.entries)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            chunk = client.recv(1 << 20)
            assert chunk
            received = (received + chunk)[-4096:]

    (entry,) = gateway.entries()
    assert entry.error == "client_disconnected"
    assert b"The answer was cut off: the caller took longer than 1 s to read." in received


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_leaves_before_its_answer_is_no_failure_of_the_upstream(gateway_with, upstream_that, stream):
    upstream = upstream_that(lambda client, request: time.sleep(5))
    gateway = gateway_with(upstreams=over(upstream.port, on_disconnect="abort"))
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(post({**CHAT, "stream": stream}))
        wait_until(lambda: upstream.requests)
    wait_until(lambda: not gateway.running.service.pipeline.in_flight)

    (entry,) = gateway.entries()
    assert (entry.status, entry.error) == (499, "client_disconnected")


def test_ids_stay_unique_when_the_clock_stands_still(gateway_with, monkeypatch):
    instant = time.time_ns()
    monkeypatch.setattr(serving.SystemClock, "now", staticmethod(lambda: instant))
    gateway = gateway_with()
    service = gateway.running.service

    async def many() -> set[str]:
        from farthing.schema import Call, Caller

        return {service.exchange(Call("chat", "m", b""), Caller(), instant).id for _ in range(20_000)}

    assert len(asyncio.run_coroutine_threadsafe(many(), gateway.loop).result(30)) == 20_000
