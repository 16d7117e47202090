"""When the caller leaves: hang up, or read the rest for its meter, within bounds."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from farthing.ports import Flow, Outcome, Question
from farthing.providers import http
from farthing.providers.http import HttpSettings, HttpUpstream

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b"9\r\ndata: 1\n\n\r\n"


class Basin:
    """A sink that says when something came."""

    def __init__(self) -> None:
        self.flow: Flow | None = None
        self.came = asyncio.Event()

    def begin(self, status, headers, flow) -> None:
        self.flow = flow

    def chunk(self, data: bytes) -> None:
        self.came.set()


class Talker:
    """An upstream that says one thing, then another every 10 ms for so long, and notes when it is hung up on."""

    def __init__(self, seconds: float, first: bytes = SSE_HEAD + PIECE) -> None:
        self._seconds = seconds
        self._first = first
        self.hung_up_at = 0.0
        self.hung_up = threading.Event()

    def __call__(self, client: socket.socket, request: bytes) -> None:
        watcher = threading.Thread(target=self._watch, args=(client,), daemon=True)
        watcher.start()
        client.sendall(self._first)
        ends = time.monotonic() + self._seconds
        while time.monotonic() < ends:
            time.sleep(0.01)
            client.sendall(PIECE)
        client.sendall(b"0\r\n\r\n")
        watcher.join(5)

    def _watch(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.recv(1)
        self.hung_up_at = time.monotonic()
        self.hung_up.set()


def question(path: str = "/chat/completions", **changes: object) -> Question:
    return Question(**{"method": "POST", "path": path, "headers": (), "body": b"{}", "stream": True, **changes})


def upstream_at(port: int, **changes: object) -> HttpUpstream:
    return HttpUpstream(
        HttpSettings(**{"name": "up", "provider": "", "base_url": f"http://127.0.0.1:{port}/v1", **changes})
    )


async def leave(upstream: HttpUpstream, asked: Question, *, once_answered: bool = True) -> tuple[Outcome, float, float]:
    """Ask, leave when the answer has begun (or as soon as it was asked), and tell the outcome, when one left and how
    long it then took.
    """
    basin = Basin()
    task = asyncio.ensure_future(upstream.ask(asked, basin))
    if once_answered:
        await asyncio.wait_for(basin.came.wait(), 5)
    else:
        await asyncio.sleep(0.1)
    left = time.monotonic()
    task.cancel()
    outcome = await task
    return outcome, left, time.monotonic() - left


def test_under_abort_the_upstream_is_hung_up_on_at_once(upstream_that):
    talker = Talker(5)
    port = upstream_that(talker).port

    async def scene() -> tuple[Outcome, float, float]:
        upstream = upstream_at(port, on_disconnect="abort")
        left = await leave(upstream, question())
        await asyncio.to_thread(talker.hung_up.wait, 5)
        await upstream.close()
        return left

    outcome, left, _ = asyncio.run(scene())

    assert (outcome.ending, outcome.sent, outcome.drained) == ("disconnected", True, False)
    print(f"hung up {1000 * (talker.hung_up_at - left):.1f} ms after the caller left")
    assert talker.hung_up_at - left < 0.5


def test_a_drain_reads_to_the_end_and_frees_the_connection(upstream_that):
    upstream_here = upstream_that(Talker(0.2))

    async def scene() -> tuple[Outcome, Outcome]:
        upstream = upstream_at(upstream_here.port, on_disconnect="drain", connections=1)
        outcome, _, _ = await leave(upstream, question())
        again = await upstream.ask(question(), Basin())
        await upstream.close()
        return outcome, again

    outcome, again = asyncio.run(scene())

    assert outcome == Outcome("complete", drained=True)
    assert again == Outcome("complete")


def test_a_drain_that_takes_too_long_is_hung_up_on(upstream_that):
    talker = Talker(20)
    port = upstream_that(talker).port

    async def scene() -> tuple[Outcome, float, float]:
        upstream = upstream_at(port, on_disconnect="drain", drain_seconds=0.3)
        left = await leave(upstream, question())
        await asyncio.to_thread(talker.hung_up.wait, 5)
        await upstream.close()
        return left

    outcome, _, took = asyncio.run(scene())

    assert (outcome.ending, outcome.drained) == ("disconnected", False)
    assert "did not end its answer within 0.3 s" in outcome.detail
    assert 0.25 < took < 2
    assert talker.hung_up.is_set()


def test_what_is_dear_is_not_drained(upstream_that):
    talker = Talker(5)
    port = upstream_that(talker).port

    async def scene() -> Outcome:
        upstream = upstream_at(port, on_disconnect="drain")
        outcome, _, took = await leave(upstream, question(drainable=lambda: False))
        assert took < 1
        await upstream.close()
        return outcome

    assert asyncio.run(scene()).ending == "disconnected"


def test_only_so_many_are_drained_at_once(upstream_that, monkeypatch):
    monkeypatch.setattr(http, "DRAINS", 3)
    port = upstream_that(Talker(0.8)).port

    async def scene() -> list[Outcome]:
        upstream = upstream_at(port, on_disconnect="drain")
        left = await asyncio.gather(*(leave(upstream, question()) for _ in range(5)))
        more, _, _ = await leave(upstream, question())  # those have ended, so there is room again
        await upstream.close()
        return [*(outcome for outcome, _, _ in left), more]

    *crowd, more = asyncio.run(scene())

    assert sorted(outcome.drained for outcome in crowd) == [False, False, True, True, True]
    assert more.drained


def test_a_drain_is_cut_off_by_a_stall_and_by_the_deadline(upstream_that):
    port = upstream_that(lambda client, request: (client.sendall(SSE_HEAD + PIECE), time.sleep(5))).port

    async def scene(**bounds: float) -> tuple[Outcome, float, float]:
        upstream = upstream_at(port, on_disconnect="drain", **bounds)
        left = await leave(upstream, question())
        await upstream.close()
        return left

    for bounds in ({"stall_timeout": 0.5}, {"deadline": 0.5}):
        outcome, _, took = asyncio.run(scene(**bounds))
        assert (outcome.ending, outcome.drained) == ("timeout", True)
        assert took < 0.5 + 1


def test_a_shutdown_ends_a_drain(upstream_that):
    port = upstream_that(Talker(20)).port

    async def scene() -> Outcome:
        upstream = upstream_at(port, on_disconnect="drain")
        draining = asyncio.ensure_future(leave(upstream, question()))
        await asyncio.sleep(0.3)
        await upstream.close()
        outcome, _, _ = await asyncio.wait_for(draining, 2)
        return outcome

    assert asyncio.run(scene()).ending == "disconnected"


CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}\n\n'
)


def created(data: bytes = CREATED) -> bytes:
    return SSE_HEAD + b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("asked", "answered", "drained"),
    [
        (question("/responses"), True, False),  # its id is known: ask for it afterwards
        (question("/responses"), False, True),  # it is not
        (question("/responses", stream=False), False, True),
        (question("/chat/completions"), True, True),  # nothing is kept
    ],
)
def test_what_can_be_asked_for_afterwards_is_hung_up_on(upstream_that, asked, answered, drained):
    talker = (
        Talker(0.4, created())
        if answered
        else lambda client, _: (time.sleep(0.4), client.sendall(created() + b"0\r\n\r\n"))
    )
    port = upstream_that(talker).port

    async def scene() -> Outcome:
        upstream = upstream_at(port, on_disconnect="retrieve")
        outcome, _, _ = await leave(upstream, asked, once_answered=answered)
        await upstream.close()
        return outcome

    assert asyncio.run(scene()).drained is drained


@pytest.mark.parametrize("ends_after", [0.1, 0.25])
def test_a_drain_that_ends_just_as_its_time_is_up_leaves_its_connection_to_the_next(upstream_that, ends_after):
    port = upstream_that(Talker(ends_after)).port

    async def scene() -> tuple[Outcome, Outcome]:
        upstream = upstream_at(port, on_disconnect="drain", drain_seconds=0.2, connections=1)
        leaving = asyncio.ensure_future(leave(upstream, question()))
        await asyncio.sleep(0.1)
        time.sleep(0.4)  # the answer ended and the time was up while the loop looked away
        again = await upstream.ask(question(), Basin())
        outcome, _, _ = await leaving
        await upstream.close()
        return outcome, again

    outcome, again = asyncio.run(scene())

    assert outcome.ending in ("complete", "disconnected")
    assert again == Outcome("complete")


def test_a_caller_that_reads_no_further_is_to_blame_for_the_deadline(upstream_that):
    port = upstream_that(Talker(20)).port

    async def scene() -> Outcome:
        upstream = upstream_at(port, on_disconnect="abort", deadline=0.5)
        basin = Basin()
        asking = asyncio.ensure_future(upstream.ask(question(), basin))
        await asyncio.wait_for(basin.came.wait(), 5)
        basin.flow.pause()
        outcome = await asyncio.wait_for(asking, 0.5 + 1)
        await upstream.close()
        return outcome

    outcome = asyncio.run(scene())

    assert outcome.ending == "disconnected"
    assert "the caller took longer" in outcome.detail
