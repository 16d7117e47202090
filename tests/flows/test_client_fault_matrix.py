"""Clients that leave, dawdle or crowd in at any point: the upstream is hung up on, an entry is made, others are served."""

import contextlib
import json
import resource
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from farthing.config import ExactCache, Fallback, Upstream

CHUNKS = 12
SOON = 1.0
"""Seconds in which a busy machine gets round to what takes milliseconds; the figures themselves are printed."""

IDLE = 5_000
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-6-luna", "choices": [choice]}
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def request(number: int, *, stream: bool = True, padding: int = 0) -> bytes:
    """A request whose upstream knows it by its number."""
    said = {"role": "user", "content": f"#{number} {'x' * padding}"}
    body = json.dumps({"model": "gpt-6-luna", "messages": [said], "stream": stream, "temperature": 1}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Leash(msgspec.Struct):
    """What an upstream was asked once: it sends as many chunks as it is let, and notes when it was hung up on."""

    client: socket.socket
    hung_up: threading.Event = msgspec.field(default_factory=threading.Event)
    hung_up_at: float = 0.0

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def watch(self) -> None:
        with contextlib.suppress(OSError):
            while self.client.recv(65536):
                pass
        self.hung_up_at = time.monotonic()
        self.hung_up.set()


class LeashedUpstream:
    """Answers nothing by itself: a test has each question in hand."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._asked: dict[int, Leash] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def asked(self, number: int, within: float = 5) -> Leash | None:
        """The question of that number, once it was asked."""
        with self._news:
            self._news.wait_for(lambda: number in self._asked, within)
            return self._asked.get(number)

    @property
    def total(self) -> int:
        return len(self._asked)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            data = b""
            while not data.endswith(b"}"):
                received = client.recv(65536)
                if not received:
                    return
                data += received
            leash = Leash(client)
            with self._news:
                self._asked[int(data.partition(b'"#')[2].split()[0])] = leash
                self._news.notify_all()
            leash.watch()


@pytest.fixture
def upstream() -> Iterator[LeashedUpstream]:
    started = LeashedUpstream()
    yield started
    started.close()


@pytest.fixture
def gateway(gateway_with, upstream):
    """A gateway over an engine that is hung up on when the caller leaves, and a stub for everybody else."""
    return gateway_with(
        cache=ExactCache(enabled=False),
        fallback=Fallback(attempts=1, failures=10_000),
        upstreams={
            "engine": Upstream(
                provider="vllm", base_url=f"http://127.0.0.1:{upstream.port}/v1", models=("gpt-6-luna",)
            ),
            "stub": Upstream(kind="stub", models=("*",)),
        },
    )


def others_are_served(gateway) -> float:
    """Seconds until somebody else was answered."""
    began = time.monotonic()
    said = {"model": "somebody-else", "messages": [{"role": "user", "content": "Hi."}]}
    assert gateway.post("/v1/chat/completions", said).status == 200
    return time.monotonic() - began


def connect(gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def leave(client: socket.socket, how: str) -> float:
    """Close or reset a connection; the instant of it."""
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = time.monotonic()
    client.close()
    return left


def entered(gateway, number: int) -> list:
    """The engine's entries, once there are so many."""
    deadline = time.monotonic() + 10
    while True:
        found = [entry for entry in gateway.entries() if entry.model == "gpt-6-luna"]
        if len(found) >= number or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def read_until(client: socket.socket, words: bytes) -> bytes:
    received = b""
    while words not in received:
        piece = client.recv(65536)
        assert piece, received
        received += piece
    return received


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_may_leave_at_every_byte_of_its_request(gateway, upstream, how):
    whole = request(0)
    for cut in range(len(whole)):
        client = connect(gateway)
        client.sendall(whole[:cut])
        leave(client, how)

    assert others_are_served(gateway) < SOON
    assert upstream.total == 0
    assert entered(gateway, 0) == []


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
def test_a_client_that_leaves_once_it_has_asked_is_entered_every_time(gateway, upstream, how, stream):
    """It may be gone before its call was so much as looked at."""
    asks = 40
    for number in range(asks):
        client = connect(gateway)
        client.sendall(request(number, stream=stream))
        if number % 2:
            assert upstream.asked(number)
        leave(client, how)

    found = entered(gateway, asks) if how == "close" else entered(gateway, upstream.total)
    # a reset takes back what was not read yet: those calls may never have come
    assert len(found) == asks if how == "close" else asks // 2 <= len(found) <= asks
    assert {entry.error for entry in found} == {"client_disconnected"}
    for number in range(asks):
        leash = upstream.asked(number, 0)
        assert leash is None or leash.hung_up.wait(SOON)
    assert others_are_served(gateway) < SOON


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_may_leave_at_every_chunk_of_its_answer(gateway, upstream, how):
    took = []
    for number in range(CHUNKS + 1):
        client = connect(gateway)
        client.sendall(request(number))
        leash = upstream.asked(number)
        leash.send(SSE_HEAD)
        for part in range(number):
            leash.send(chunk(f"<{part}>"))
            read_until(client, f"<{part}>".encode())
        left = leave(client, how)
        assert leash.hung_up.wait(5), f"the upstream was not hung up on after {number} chunks"
        took.append(leash.hung_up_at - left)

    found = sorted(entered(gateway, CHUNKS + 1), key=lambda entry: entry.at)
    assert [entry.error for entry in found] == ["client_disconnected"] * (CHUNKS + 1)
    assert [entry.usage_source for entry in found] == ["estimated"] * (CHUNKS + 1)
    assert [entry.usage.output > 0 for entry in found] == [False] + [True] * CHUNKS
    print(
        f"{how}: upstream hung up on after {1000 * statistics.median(took):.1f} ms, {1000 * max(took):.1f} ms at most"
    )
    assert max(took) < SOON
    assert others_are_served(gateway) < SOON


def test_half_a_connection_is_none(gateway, upstream):
    """Who says that it will send no more has left, as with most servers; it is entered."""
    client = connect(gateway)
    client.sendall(request(0))
    leash = upstream.asked(0)
    client.shutdown(socket.SHUT_WR)

    assert leash.hung_up.wait(5)
    assert client.recv(1) == b""
    (entry,) = entered(gateway, 1)
    assert entry.error == "client_disconnected"
    client.close()


def test_a_slow_reader_holds_up_nobody_and_may_still_leave(gateway, upstream):
    client = connect(gateway)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(request(0))
    leash = upstream.asked(0)
    big, sent = SSE_HEAD + chunk("x" * 50_000) * 400, 0
    stuck = 0
    while sent < len(big) and stuck < 20:  # until nobody takes any more
        try:
            sent += leash.client.send(big[sent : sent + 65536], socket.MSG_DONTWAIT)
            stuck = 0
        except BlockingIOError:
            stuck += 1
            time.sleep(0.02)
    assert sent < len(big)
    for _ in range(5):
        assert others_are_served(gateway) < SOON
        client.recv(1)

    left = leave(client, "reset")
    assert leash.hung_up.wait(5)
    print(f"slow reader: upstream hung up on after {1000 * (leash.hung_up_at - left):.1f} ms")
    (entry,) = entered(gateway, 1)
    assert entry.error == "client_disconnected"
    assert entry.usage.output > 0


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
def test_who_asks_ahead_and_leaves_is_noticed(gateway, upstream, how, stream):
    """Requests that wait in line must not hide that nobody waits for their answers."""
    client = connect(gateway)
    client.sendall(b"".join(request(number, stream=stream) for number in range(4)))
    leash = upstream.asked(0)
    if stream:
        leash.send(SSE_HEAD + chunk("<0>"))
        read_until(client, b"<0>")
    left = leave(client, how)

    assert leash.hung_up.wait(5), "the upstream was not hung up on"
    print(f"pipelined, {how}: upstream hung up on after {1000 * (leash.hung_up_at - left):.1f} ms")
    assert leash.hung_up_at - left < SOON
    assert others_are_served(gateway) < SOON
    assert len(entered(gateway, 1)) == upstream.total
    assert {entry.error for entry in entered(gateway, 1)} == {"client_disconnected"}


def room_for_files(wanted: int) -> int:
    """Raise the limit on open files as far as allowed; how many are left for a test."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed) - 512


def test_thousands_of_idle_connections_are_in_nobodys_way(gateway):
    """Half of them said nothing, half of them half a request; both ends are in this process."""
    number = min(IDLE, room_for_files(2 * IDLE + 1024) // 2)
    quiet = others_are_served(gateway)
    crowd = []
    for turn in range(number):
        crowd.append(connect(gateway))
        if turn % 2:
            crowd[-1].sendall(request(0)[:60])
    deadline = time.monotonic() + 10
    while len(gateway.running.service.connections) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(gateway.running.service.connections) >= number

    crowded = [others_are_served(gateway) for _ in range(20)]
    print(f"{number} idle connections: others answered in {1000 * statistics.median(crowded):.1f} ms "
          f"({1000 * quiet:.1f} ms without them)")  # fmt: skip
    assert max(crowded) < SOON

    for client in crowd:
        client.close()
    deadline = time.monotonic() + 10
    while len(gateway.running.service.connections) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(gateway.running.service.connections) <= 1
