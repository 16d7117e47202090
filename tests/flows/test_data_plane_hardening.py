"""What strange clients send: every call keeps its own answer and exactly one entry, and no memory is theirs to fill."""

import asyncio
import json
import socket
import threading
import time
from contextlib import closing, suppress

import pytest

from farthing.config import Ledger, Server, Settings, Upstream
from farthing.server import service
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.wiring.serving import running

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}


def post(body: object, headers: str = "", path: str = "/v1/chat/completions", version: str = "1.1") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"POST {path} HTTP/{version}\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n{headers}\r\n".encode() + data
    )


def chunked(body: object, trailers: bytes) -> bytes:
    data = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n%b" % (len(data), data, trailers)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def slow_stub(monkeypatch, speed: float = 20) -> None:
    """Make the stub take its time, as a provider does."""
    from farthing.providers import stub

    original = stub.StubUpstream.__init__
    monkeypatch.setattr(
        stub.StubUpstream, "__init__", lambda self, name: original(self, name, speed=speed), raising=True
    )


# Requests that are read wrongly


def test_trailers_are_no_headers(gateway):
    received = gateway.raw(chunked(CHAT, b"x-farthing-feature: smuggled\r\nauthorization: Bearer late\r\n\r\n"), 2)

    assert received.startswith(b"HTTP/1.1 200 OK")
    (entry,) = gateway.entries()
    assert (entry.feature, entry.key) == ("", "")


@pytest.mark.parametrize("trailers", [b"a: b\r\n" * 100_000, b"a: " + b"b" * 200_000], ids=["many", "one without end"])
def test_endless_trailers_are_cut_off(gateway, trailers):
    received = gateway.raw(chunked(CHAT, trailers), 3)

    assert received.startswith(b"HTTP/1.1 413")
    assert [entry.error for entry in gateway.entries()] == ["request_too_large"]


def test_a_client_that_asks_to_continue_is_not_told_so_inside_another_answer(gateway_with, monkeypatch):
    slow_stub(monkeypatch)
    gateway = gateway_with()
    second = json.dumps({**CHAT, "seed": 2}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(post({**CHAT, "stream": True}) + head % len(second))
        received = b""
        while b"100 Continue" not in received:
            chunk = client.recv(65536)
            assert chunk, received
            received += chunk
        first = received.partition(b"HTTP/1.1 100 Continue\r\n\r\n")[0]
        client.sendall(second)
        answer = client.recv(65536)

    assert first.endswith(b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/healthz", "/nowhere"])
def test_an_answer_to_head_has_no_body(gateway, path):
    received = gateway.raw(f"HEAD {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode() * 2, 1)

    assert received.count(b"HTTP/1.1 ") == 2
    for answer in received.split(b"HTTP/1.1 ")[1:]:
        assert answer.endswith(b"\r\n\r\n")


def test_an_offer_to_upgrade_is_ignored(gateway):
    offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"

    received = gateway.raw(post(CHAT, offer) + post({**CHAT, "seed": 2}, offer), 2)

    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert [entry.status for entry in gateway.entries()] == [200, 200]


def test_a_tunnel_is_refused(gateway):
    received = gateway.raw(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n\x16\x03\x01", 2)

    assert received.startswith(b"HTTP/1.1 4")


def test_a_stream_to_a_keep_alive_client_of_http_1_0_ends_with_its_connection(gateway):
    began = time.monotonic()
    received = gateway.raw(post({**CHAT, "stream": True}, "connection: keep-alive\r\n", version="1.0"), 5)

    assert time.monotonic() - began < 4
    assert received.endswith(b"data: [DONE]\n\n")
    assert b"chunked" not in received


def test_a_stream_says_that_its_connection_will_close(gateway):
    received = gateway.raw(post({**CHAT, "stream": True}, "connection: close\r\n"), 5)

    assert b"\r\nconnection: close" in received.partition(b"\r\n\r\n")[0]
    assert received.endswith(b"0\r\n\r\n")


BROKEN = {
    "malformed": (b"NOT HTTP\r\n\r\n", 400),
    "too long": (b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n", 413),
    "too long a head": (b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 400_000, 413),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_follows_a_good_request_cannot_spoil_its_answer(gateway_with, monkeypatch, what):
    slow_stub(monkeypatch)
    gateway = gateway_with()
    rest, status = BROKEN[what]

    received = gateway.raw(post(CHAT) + rest, 5)

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert f"HTTP/1.1 {status} ".encode() in received
    assert [entry.status for entry in gateway.entries()] == [200, status]


def test_what_follows_a_last_request_is_ignored(gateway_with, monkeypatch):
    slow_stub(monkeypatch)
    gateway = gateway_with()

    received = gateway.raw(post(CHAT, "connection: close\r\n") + post(CHAT), 5)

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.count(b"HTTP/1.1 ") == 1


def test_headers_of_the_hop_are_not_passed_on(gateway_with, upstream_that):
    seen = upstream_that(lambda client, request: client.close())
    gateway = gateway_with(
        upstreams={"up": Upstream(provider="openai", base_url=f"http://127.0.0.1:{seen.port}/v1", models=("*",))}
    )

    gateway.post("/v1/chat/completions", CHAT, {"connection": "X-Hop, close", "x-hop": "1", "x-forwarded-for": "10.9.8.7",
                                                "x-real-ip": "10.9.8.7", "openai-project": "p"})  # fmt: skip

    head = seen.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert b"openai-project: p" in head
    assert b"x-hop" not in head
    assert b"10.9.8.7" not in head


@pytest.mark.parametrize("origin", ["https://evil.example", "http://evil.example:8787", "null"])
def test_a_page_elsewhere_cannot_spend_through_a_gateway_without_keys(gateway, origin):
    refused = gateway.post("/v1/chat/completions", CHAT, {"origin": origin})
    own = gateway.post("/v1/chat/completions", CHAT, {"origin": "http://localhost:3000"})

    assert (refused.status, own.status) == (401, 200)
    assert origin in refused.json["error"]["message"]
    assert [entry.error for entry in gateway.entries()] == ["invalid_api_key", ""]


# Memory


def test_a_model_name_without_end_is_refused_and_not_remembered(gateway):
    answer = gateway.post("/v1/chat/completions", {**CHAT, "model": "m" * 1_000_000})

    assert answer.status == 400
    assert len(answer.body) < 2_000
    (entry,) = gateway.entries()
    assert len(entry.model) < 1_000


def test_a_client_that_asks_and_never_reads_is_served_no_further(gateway):
    request = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        sent = 0
        try:
            while sent < 8_000_000:
                sent += client.send(request * 100)
        except TimeoutError:
            pass
        (connection,) = gateway.running.service.connections
        assert connection.transport.get_write_buffer_size() < 1_000_000


def test_a_client_that_stops_reading_is_let_go(gateway_with, monkeypatch):
    monkeypatch.setattr(service, "SWEEP_SECONDS", 0.1)
    gateway = gateway_with(server=Server(port=0, idle_timeout=0.5))
    request = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        try:
            while True:
                client.send(request * 1000)
        except (TimeoutError, OSError):
            pass
        wait_until(lambda: not gateway.running.service.connections)


def test_a_head_that_drips_in_is_let_go(gateway_with, monkeypatch):
    monkeypatch.setattr(service, "SWEEP_SECONDS", 0.1)
    gateway = gateway_with(server=Server(port=0, idle_timeout=0.5))
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(b"POST /v1/messages HTTP/1.1\r\n")
        sent = 0
        with suppress(ConnectionError):
            while sent < 100:
                client.sendall(b"a: b\r\n")
                sent += 1
                time.sleep(0.05)
    assert sent < 100


def test_many_idle_connections_cost_little_and_all_still_serve(gateway):
    clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(400)]
    try:
        for client in clients:
            client.sendall(b"GET /v1/models/gpt-6-luna HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 ")
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: not gateway.running.service.connections)
    assert len(gateway.entries()) == 400


# Leaving


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_that_leaves_after_any_byte_leaves_one_entry(gateway_with, monkeypatch, stream):
    slow_stub(monkeypatch, speed=400)
    gateway = gateway_with()
    whole = len(gateway.raw(post({**CHAT, "stream": stream, "seed": -1}, "connection: close\r\n"), 5))
    places = range(0, whole - 40, max(1, whole // 60))

    for place in places:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as client:
            client.sendall(post({**CHAT, "stream": stream, "seed": place}))
            left = place
            while left:
                left -= len(client.recv(left)) or left
    wait_until(lambda: not gateway.running.service.pipeline.in_flight)

    entries = gateway.entries()
    assert len(entries) == len({entry.group for entry in entries}) == len(places) + 1
    assert {entry.error for entry in entries} <= {"", "client_disconnected"}
    assert {entry.status for entry in entries if entry.error} <= {200, 499}


def test_a_client_that_leaves_inside_its_request_leaves_no_trace(gateway):
    request = post(CHAT)
    for place in range(0, len(request), 7):
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(request[:place])
    wait_until(lambda: not gateway.running.service.connections)

    assert gateway.entries() == []


# Stopping


def hold(opened: threading.Event):
    frame = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'

    def script(client: socket.socket, request: bytes) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        client.sendall(b"%x\r\n%b\r\n" % (len(frame), frame))
        opened.wait(20)

    return script


@pytest.mark.parametrize("policy", ["abort", "drain"])
@pytest.mark.parametrize("leaves", [False, True], ids=["waiting", "left"])
def test_calls_that_a_stop_cuts_off_are_entered(upstream_that, monkeypatch, tmp_path, policy, leaves):
    monkeypatch.setattr(service, "DRAIN_SECONDS", 0.3)
    opened = threading.Event()
    port = upstream_that(hold(opened)).port
    upstream = Upstream(provider="openai", base_url=f"http://127.0.0.1:{port}/v1", models=("*",), on_disconnect=policy)
    settings = Settings(server=Server(port=0), ledger=Ledger(path=str(tmp_path)), upstreams={"up": upstream})

    async def serve() -> None:
        async with running(settings, {}) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
            writer.write(post({**CHAT, "stream": True}))
            await reader.readuntil(b"word")
            if leaves:
                writer.close()
                await asyncio.sleep(0.1)

    asyncio.run(serve())
    opened.set()

    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        (entry,) = ledger.entries()
    assert entry.error == "client_disconnected"
    assert entry.usage.output > 0
