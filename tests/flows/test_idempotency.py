"""Calls with an Idempotency-Key, as callers see them: asked and charged once, answered alike, refused for another body."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from farthing.config import Budget, Fallback, Key, RateLimit, Upstream
from farthing.gateway import repeats as repeating

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}], "temperature": 1}
PATH = "/v1/chat/completions"
KEY = {"idempotency-key": "order-17"}
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-6-luna",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
COST = 10 * 100_000 + 2 * 500_000
FRAME = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[{"index":0,"delta":{"content":"Hello."},"finish_reason":%b}]}\n\n'
USAGE = b'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-6-luna","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}\n\n'
STREAM = FRAME % b"null" + FRAME % b'"stop"' + USAGE + b"data: [DONE]\n\n"


def plain(body: object, status: str = "200 OK") -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def stream(frames: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    return head % len(STREAM) + frames


def error(status: str) -> bytes:
    return plain({"error": {"message": "no", "type": "error", "code": "no"}}, status)


class Script:
    """An upstream script: gives its answers in turn, the last one for ever, each only when told to."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self, client: socket.socket, request: bytes) -> None:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        self.open.wait(10)
        client.sendall(answer)
        if b"content-length: %d\r\n" % len(answer.partition(b"\r\n\r\n")[2]) not in answer:
            client.close()


@pytest.fixture
def over(gateway_with, upstream_that):
    """A gateway over an upstream that follows a script."""

    def start(script, **changes):
        up = Upstream(
            provider="openai",
            base_url=f"http://127.0.0.1:{upstream_that(script).port}/v1",
            models=("*",),
            on_disconnect="abort",
        )
        return gateway_with(**{"upstreams": {"up": up}, **changes})

    return start


def post(gateway, body=CHAT, key=KEY):
    return gateway.post(PATH, body, key)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_flight(gateway) -> int:
    return len(gateway.running.service.pipeline.in_flight)


# Once


@pytest.mark.parametrize("streamed", [False, True])
def test_a_hundred_at_once_are_one_call_one_charge_and_a_hundred_equal_answers(over, streamed):
    script = Script(stream(STREAM) if streamed else plain(GOOD))
    script.open.clear()
    gateway = over(script)
    body = {**CHAT, "stream": streamed}
    with ThreadPoolExecutor(100) as pool:
        calls = [pool.submit(post, gateway, body) for _ in range(100)]
        wait_until(lambda: in_flight(gateway) == 100)
        script.open.set()
        answers = [call.result(20) for call in calls]

    assert script.asked == 1
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert len({answer.headers["content-type"] for answer in answers}) == 1
    assert answers[0].body == (STREAM.replace(USAGE, b"") if streamed else json.dumps(GOOD).encode())
    assert sorted(answer.headers.get("idempotent-replayed", "false") for answer in answers) == ["false"] + ["true"] * 99
    entries = gateway.entries()
    assert len(entries) == 100
    assert sorted(entry.cost for entry in entries) == [0] * 99 + [COST]
    repeats = [entry for entry in entries if entry.attempt == 0]
    assert {(entry.list_cost, entry.saved, entry.usage, entry.cache) for entry in repeats} == {(0, (), None, "off")}
    assert {decision.verdict for entry in repeats for decision in entry.decisions} == {"replayed"}
    assert {entry.served for entry in entries} == {"gpt-6-luna"}


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_stream_is_repeated_byte_for_byte(over, wants_usage):
    gateway = over(Script(stream(STREAM)))
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": wants_usage}}
    first, again = post(gateway, body), post(gateway, body)
    assert first.body == again.body == (STREAM if wants_usage else STREAM.replace(USAGE, b""))
    assert again.headers["content-type"] == "text/event-stream"
    assert again.headers["x-farthing-cost"] == "0"


def test_a_cached_answer_is_repeated_though_the_cache_forgets_it(over):
    script = Script(plain(GOOD), plain({**GOOD, "id": "another"}))
    gateway = over(script)
    shared = {**CHAT, "temperature": 0}
    assert post(gateway, shared, {}).headers["x-farthing-cache"] == "miss"
    assert post(gateway, shared).headers["x-farthing-cache"] == "hit"
    again = post(gateway, shared)
    assert "x-farthing-cache" not in again.headers
    assert again.json == GOOD
    assert sum(dict(entry.saved).get("exact_cache", 0) for entry in gateway.entries()) == COST


def test_messages_are_answered_in_their_own_dialect(gateway):
    body = {"model": "claude-opus-5-5", "max_tokens": 20, "messages": [{"role": "user", "content": "Say hello."}]}
    answers = [gateway.post("/v1/messages", body, KEY) for _ in range(2)]
    assert answers[0].body == answers[1].body
    refused = gateway.post("/v1/messages", {**body, "max_tokens": 21}, KEY)
    assert (refused.status, refused.json["type"]) == (409, "error")


# Whose key it is


def test_another_request_under_the_same_key_is_refused(over):
    script = Script(plain(GOOD))
    script.open.clear()
    gateway = over(script)
    others = [
        lambda: gateway.post(PATH, {**CHAT, "max_tokens": 5}, KEY),
        lambda: gateway.post(PATH, json.dumps(CHAT).encode() + b" ", KEY),
        lambda: gateway.post(PATH + "?x=1", CHAT, KEY),
        lambda: gateway.post("/v1/completions", CHAT, KEY),
    ]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, gateway)
        wait_until(lambda: script.asked == 1)
        early = [other() for other in others]
        script.open.set()
        assert first.result(10).status == 200
    for refused in [*early, *(other() for other in others)]:
        assert refused.status == 409
        assert refused.json["error"]["code"] == "idempotency_conflict"
        assert "order-17" not in refused.json["error"]["message"]
    assert script.asked == 1
    assert sum(entry.cost for entry in gateway.entries()) == COST


def test_each_caller_has_keys_of_its_own(over):
    script = Script(plain(GOOD))
    keys = {name: Key(secret=f"env:{name}", tenant=tenant) for name, tenant in (("A", "t"), ("B", "t"), ("C", "u"))}
    gateway = over(script, keys=keys, environ={"A": "a" * 32, "B": "b" * 32, "C": "c" * 32})
    for secret in ("a" * 32, "b" * 32, "c" * 32, "a" * 32):
        post(gateway, key={**KEY, "authorization": f"Bearer {secret}"})
    assert script.asked == 3


def test_without_gateway_keys_a_callers_credential_tells_it_apart(over):
    script = Script(plain(GOOD))
    gateway = over(script)
    for credential in ("one", "other", "one"):
        post(gateway, key={**KEY, "authorization": f"Bearer {credential}"})
    assert script.asked == 2


def test_calls_without_a_key_are_not_held_together(over):
    script = Script(plain(GOOD))
    gateway = over(script)
    for key in ({}, {"idempotency-key": ""}, {"idempotency-key": "1"}, {"idempotency-key": "2"}):
        assert "idempotent-replayed" not in post(gateway, key=key).headers
    assert script.asked == 4


# What is kept, and what is not


def test_an_answer_that_is_an_error_of_the_callers_is_repeated(over):
    script = Script(error("400 Bad Request"), plain(GOOD))
    gateway = over(script)
    first, again = post(gateway), post(gateway)
    assert (first.status, again.status) == (400, 400)
    assert first.body == again.body
    assert script.asked == 1


@pytest.mark.parametrize("status", ["500 Internal", "429 Too Many", "503 Unavailable", "401 Unauthorized", "402 Pay"])
def test_a_failure_that_cost_nothing_may_be_tried_again(over, status):
    script = Script(error(status), plain(GOOD))
    gateway = over(script)
    assert [post(gateway).status for _ in range(3)] == [int(status[:3]), 200, 200]
    assert script.asked == 2
    assert sum(entry.cost for entry in gateway.entries()) == COST


def test_a_failure_that_may_have_cost_something_is_repeated(over):
    script = Script(plain(GOOD)[:-5], plain(GOOD))
    gateway = over(script)
    first, again = post(gateway), post(gateway)
    assert (first.status, again.status, first.body) == (502, 502, again.body)
    assert script.asked == 1


def test_an_upstream_that_is_not_reached_releases_the_key(gateway_with):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up = Upstream(provider="openai", base_url=f"http://127.0.0.1:{port}/v1", models=("*",))
    gateway = gateway_with(upstreams={"up": up})
    assert post(gateway).status == 502
    with socket.create_server(("127.0.0.1", port)) as listener, ThreadPoolExecutor(1) as pool:
        call = pool.submit(post, gateway)
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(plain(GOOD))
            assert call.result(10).status == 200


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (402, {"budgets": {"small": Budget(usd="0.000001")}}),
        (429, {"limits": {"few": RateLimit(per="total", calls_per_minute=1)}}),
        (404, {"upstreams": {"up": Upstream(kind="stub", models=("another",))}}),
    ],
)
def test_what_this_gateway_refuses_releases_the_key(over, status, changes):
    script = Script(plain(GOOD))
    gateway = over(script, **changes)
    if status == 429:
        assert post(gateway, key={}).status == 200
    for number in range(3):
        refused = post(gateway, {**CHAT, "n": 1 + number})  # another body each time: the key is free
        assert refused.status == status
        assert "idempotent-replayed" not in refused.headers
    assert script.asked == (1 if status == 429 else 0)


def test_of_attempts_in_a_row_the_last_answer_is_repeated(over):
    script = Script(error("500 Internal Server Error"), plain(GOOD), plain({**GOOD, "id": "another"}))
    gateway = over(script, fallback=Fallback(attempts=2, backoff=0.01))
    assert post(gateway).body == post(gateway).body == json.dumps(GOOD).encode()
    assert script.asked == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_too_long_to_keep_is_not_asked_for_again(over, streamed, monkeypatch):
    monkeypatch.setattr(repeating, "LARGEST", 100)
    script = Script(stream(STREAM) if streamed else plain(GOOD))
    gateway = over(script)
    body = {**CHAT, "stream": streamed}
    assert post(gateway, body).status == 200
    refused = post(gateway, body)
    assert (refused.status, refused.json["error"]["code"]) == (409, "idempotency_conflict")
    assert "not kept" in refused.json["error"]["message"]
    assert script.asked == 1


def test_a_stream_that_broke_off_is_not_asked_for_again(over):
    script = Script(stream(FRAME % b"null"), stream(STREAM))
    gateway = over(script)
    body = {**CHAT, "stream": True}
    assert b"Hello." in post(gateway, body).body
    refused = post(gateway, body)
    assert refused.status == 409
    assert "not kept" in refused.json["error"]["message"]
    assert script.asked == 1


# Callers who leave


def leave_after_asking(gateway, script, body=CHAT) -> None:
    """Ask, and hang up once the upstream is asked."""
    asked, data = script.asked, json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as leaver:
        leaver.sendall(
            b"POST %b HTTP/1.1\r\nhost: localhost\r\nidempotency-key: order-17\r\ncontent-length: %d\r\n\r\n%b"
            % (PATH.encode(), len(data), data)
        )
        wait_until(lambda: script.asked == asked + 1)


@pytest.mark.parametrize("streamed", [False, True])
def test_who_leaves_and_comes_back_gets_the_answer_that_was_bought(over, streamed):
    script = Script(stream(STREAM) if streamed else plain(GOOD))
    script.open.clear()
    gateway = over(script)
    body = {**CHAT, "stream": streamed}
    leave_after_asking(gateway, script, body)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(post, gateway, body)
        wait_until(lambda: in_flight(gateway) == 2)
        time.sleep(0.1)
        script.open.set()
        assert again.result(10).body == (STREAM.replace(USAGE, b"") if streamed else json.dumps(GOOD).encode())
    assert script.asked == 1
    wait_until(lambda: len(gateway.entries()) == 2)
    assert sorted((entry.cost, entry.error) for entry in gateway.entries()) == [(0, ""), (COST, "")]


def test_who_leaves_for_good_is_charged_for_what_was_bought(over):
    script = Script(plain(GOOD))
    script.open.clear()
    gateway = over(script)
    leave_after_asking(gateway, script)
    script.open.set()
    wait_until(lambda: len(gateway.entries()) == 1)
    assert gateway.entries()[0].cost == COST


# Across a restart


def test_a_restart_forgets_nothing(tmp_path, upstream_that):
    from tests.conftest import serving, settings_for

    script = Script(plain(GOOD))
    up = Upstream(provider="openai", base_url=f"http://127.0.0.1:{upstream_that(script).port}/v1", models=("*",))
    answers = []
    for _ in range(2):
        with serving(settings_for(tmp_path, upstreams={"up": up})) as gateway:
            answers.append(post(gateway))
    assert answers[0].body == answers[1].body
    assert "idempotent-replayed" in answers[1].headers
    assert script.asked == 1
