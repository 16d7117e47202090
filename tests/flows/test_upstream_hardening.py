"""What strange upstreams do to the connections that carry the next call's question."""

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from farthing.config import Upstream
from farthing.ports import Outcome, Question
from farthing.providers.http import HttpSettings, HttpUpstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}


def good(text: str = "Hello.", extra: str = "") -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-6-luna",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        }
    ).encode()
    return (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode()
        + body
    )


def over(port: int, **changes: object) -> dict[str, Upstream]:
    base = {"provider": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "models": ("*",), "deadline": 4.0}
    return {"up": Upstream(**{**base, **changes})}


def test_an_upstream_that_answers_twice_never_answers_another_caller(gateway_with, upstream_that):
    """Its second answer could go to anybody, and its connection could be lent to two callers at once."""
    upstream = upstream_that(lambda client, request: client.sendall(good("first") + good("stray")))
    gateway = gateway_with(upstreams=over(upstream.port))

    for round_ in range(3):
        with ThreadPoolExecutor(4) as pool:
            asked = [{**CHAT, "seed": 10 * round_ + number} for number in range(4)]
            answers = list(pool.map(lambda body: gateway.post("/v1/chat/completions", body), asked))
        assert [answer.status for answer in answers] == [200] * 4
        assert all(b"first" in answer.body for answer in answers)


def test_half_an_answer_too_many_does_not_become_the_next_ones_head(gateway_with, upstream_that):
    upstream = upstream_that(
        lambda client, request: client.sendall(
            good() + b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-stray: "
        )
    )
    gateway = gateway_with(upstreams=over(upstream.port))

    for number in range(3):
        answer = gateway.post("/v1/chat/completions", {**CHAT, "seed": number})
        assert (answer.status, "x-stray" in answer.headers) == (200, False)


def test_a_connection_whose_question_was_answered_too_early_is_not_used_again(gateway_with):
    """The rest of the question is still in the way of the next one."""
    connections = []

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            connections.append(client)
            client.recv(65536)
            client.sendall(good())  # and reads no more

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        gateway = gateway_with(upstreams=over(listener.getsockname()[1]))
        for number in range(3):
            body = {**CHAT, "seed": number, "padding": "x" * 15_000_000}
            assert gateway.post("/v1/chat/completions", body).status == 200
    assert len(connections) == 3
    for client in connections:
        client.close()


INFORMATION = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"


def test_what_an_upstream_says_before_its_answer_is_skipped(gateway_with, upstream_that):
    gateway = gateway_with(upstreams=over(upstream_that(lambda c, r: c.sendall(INFORMATION * 3 + good())).port))

    answer = gateway.post("/v1/chat/completions", CHAT)

    assert answer.status == 200
    assert "link" not in answer.headers


STRANGE = {
    "it changes the protocol": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n",
    "redirect with a body": b"HTTP/1.1 302 Found\r\nlocation: http://evil.example/\r\ncontent-length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_answers_that_are_none_are_garbage(gateway_with, upstream_that, what, stream):
    gateway = gateway_with(upstreams=over(upstream_that(lambda c, r: c.sendall(STRANGE[what])).port))

    answer = gateway.post("/v1/chat/completions", {**CHAT, "stream": stream})

    assert answer.status == 502
    assert "location" not in answer.headers
    assert [entry.error for entry in gateway.entries()] == ["upstream_garbage"]


ENDLESS = {
    "header": (b"HTTP/1.1 200 OK\r\nx: ", b"a"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    "trailers": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"x: y\r\n"),
    "hints": (b"", INFORMATION),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_endless_head_is_cut_off_before_the_deadline(gateway_with, upstream_that, what):
    sent = [0]

    def flood(client: socket.socket, request: bytes) -> None:
        first, more = ENDLESS[what]
        client.sendall(first)
        piece = more * (60_000 // len(more))
        while True:
            client.sendall(piece)
            sent[0] += len(piece)

    gateway = gateway_with(upstreams=over(upstream_that(flood).port, deadline=20.0))

    answer = gateway.post("/v1/chat/completions", CHAT)

    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_garbage")
    assert sent[0] < 20_000_000


def test_an_upstream_cannot_speak_for_this_gateway(gateway_with, upstream_that):
    spoof = "x-farthing-cost: 0\r\nx-farthing-cache: hit\r\nx-farthing-call: spoofed\r\n"
    gateway = gateway_with(upstreams=over(upstream_that(lambda c, r: c.sendall(good(extra=spoof))).port))

    answer = gateway.post("/v1/chat/completions", CHAT)

    assert (answer.headers["x-farthing-cache"], answer.headers["x-farthing-cost"]) == ("miss", "0.000002")
    assert "spoofed" not in answer.headers["x-farthing-call"]


# The pool, without a gateway around it


class Cup:
    """A sink that counts."""

    def __init__(self) -> None:
        self.size = 0

    def begin(self, status, headers, flow) -> None: ...

    def chunk(self, data: bytes) -> None:
        self.size += len(data)


QUESTION = Question("POST", "/chat/completions", (), b"{}", stream=False)


def pool_of(port: int, host: str = "127.0.0.1", **changes: object) -> HttpUpstream:
    return HttpUpstream(
        HttpSettings(
            **{"name": "up", "provider": "", "base_url": f"http://{host}:{port}/v1", "deadline": 5.0, **changes}
        )
    )


def endings(outcomes: list[Outcome]) -> list[str]:
    return [outcome.ending for outcome in outcomes]


def test_callers_that_give_up_waiting_leave_the_pool_to_the_others(upstream_that):
    upstream = upstream_that(lambda client, request: (time.sleep(0.02), client.sendall(good())))

    async def crowd() -> list[Outcome]:
        pool = pool_of(upstream.port, connections=2)
        tasks = [asyncio.ensure_future(pool.ask(QUESTION, Cup())) for _ in range(60)]
        await asyncio.sleep(0.01)
        for task in tasks[10:50]:
            task.cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 10)
        await pool.close()
        return outcomes

    outcomes = asyncio.run(crowd())

    assert endings(outcomes[:10] + outcomes[50:]) == ["complete"] * 20
    assert endings(outcomes[10:50]) == ["disconnected"] * 40
    assert not any(outcome.sent for outcome in outcomes[10:50])


def test_who_waits_for_a_connection_is_not_overtaken(upstream_that):
    upstream = upstream_that(lambda client, request: (time.sleep(0.002), client.sendall(good())))

    async def crowd() -> int:
        pool = pool_of(upstream.port, connections=1)
        served = 0

        async def push() -> None:
            nonlocal served
            while served < 200:
                await pool.ask(QUESTION, Cup())
                served += 1

        pushing = asyncio.ensure_future(push())
        while not served:
            await asyncio.sleep(0)
        before = served
        await pool.ask(QUESTION, Cup())
        overtaken = served - before
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        await pool.close()
        return overtaken

    assert asyncio.run(crowd()) <= 2


def test_an_address_that_cannot_be_looked_up_costs_no_connection():
    async def knock() -> list[Outcome]:
        pool = pool_of(1, host="a" * 70 + ".example", connections=1)
        return [await pool.ask(QUESTION, Cup()) for _ in range(3)]

    assert endings(asyncio.run(knock())) == ["unreachable"] * 3


@pytest.mark.parametrize("policy", ["abort", "drain"])
def test_an_answer_that_ends_just_as_its_caller_leaves_is_complete_and_frees_its_connection(upstream_that, policy):
    answered = threading.Event()

    def script(client: socket.socket, request: bytes) -> None:
        client.sendall(good())
        answered.set()

    port = upstream_that(script).port

    async def leave() -> list[Outcome]:
        loop = asyncio.get_running_loop()
        pool = pool_of(port, connections=1, on_disconnect=policy)
        leaver = asyncio.ensure_future(pool.ask(QUESTION, Cup()))
        while not answered.is_set():
            await asyncio.sleep(0)
            if pool._busy:  # asked: let the answer come in while the loop looks away
                answered.wait(5)
                time.sleep(0.05)
                loop.call_soon(leaver.cancel)
        waiting = asyncio.ensure_future(pool.ask(QUESTION, Cup()))
        outcomes = await asyncio.wait_for(asyncio.gather(leaver, waiting), 5)
        await pool.close()
        return outcomes

    assert endings(asyncio.run(leave())) == ["complete", "complete"]
