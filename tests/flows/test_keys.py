"""Keys at a running gateway: made, scoped, revoked, rotated and expired while calls go on; labels and repeat keys."""

import http.client
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farthing.config import Key, Ledger, Upstream
from farthing.gateway.issuing import Issuer, Wish
from farthing.stores.pepper import kept_pepper
from farthing.stores.sqlite_keys import SqliteKeys

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
MESSAGES = {**CHAT, "max_tokens": 9}
WITHIN = 1.0
"""Seconds within which a change of keys is in force."""


class Desk:
    """Makes keys beside a running gateway, as `farthing key` does in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.file = path / "keys.sqlite"
        self.issuer = Issuer(SqliteKeys(self.file), kept_pepper(path / "pepper"))

    def make(self, name: str, *, lasts: float | None = None, **wanted: object) -> str:
        now = time.time_ns()
        expires = None if lasts is None else now + int(lasts * 10**9)
        return self.issuer.make(Wish(name, expires=expires, **wanted), now)[1]

    def revoke(self, name: str) -> None:
        self.issuer.revoke(name, time.time_ns())

    def rotate(self, name: str, grace: float) -> str:
        return self.issuer.rotate(name, time.time_ns(), int(grace * 10**9))[1]


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def desk(place) -> Desk:
    return Desk(place)


@pytest.fixture
def gateway(gateway_with, place):
    return gateway_with(ledger=Ledger(path=str(place)))


def bearing(secret: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}", **more}


def becomes(status: int, ask: Callable[[], int]) -> float:
    """Seconds until a call is answered with a status."""
    began = time.monotonic()
    while ask() != status:
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    return time.monotonic() - began


def knowing(gateway, secret: str) -> "Client":
    """A client whose key the gateway has come to know."""
    becomes(401, lambda: gateway.post("/v1/chat/completions", CHAT).status)
    client = Client(gateway.port, secret)
    becomes(200, client.ask)
    return client


class Client:
    """One connection that stays open, so that what the gateway remembers of it is put to the test."""

    def __init__(self, port: int, secret: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.headers = {"content-type": "application/json", **(bearing(secret) if secret else {})}

    def ask(self, body: object = CHAT, path: str = "/v1/chat/completions") -> int:
        self.connection.request("POST", path, json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


def test_the_first_key_closes_a_running_gateway_and_names_the_caller(gateway, desk):
    assert gateway.post("/v1/chat/completions", CHAT).status == 200
    secret = desk.make("app", tenant="acme", team="search")
    becomes(401, lambda: gateway.post("/v1/chat/completions", CHAT).status)

    assert gateway.post("/v1/messages", MESSAGES, {"x-api-key": secret, "x-farthing-tenant": "globex"}).status == 200
    entry = gateway.entries()[-1]
    assert (entry.key, entry.tenant, entry.team) == ("app", "acme", "search")


def test_a_revoked_key_is_refused_within_a_second_on_connections_that_used_it(gateway, desk):
    keep, drop = desk.make("keep"), desk.make("drop")
    becomes(401, lambda: gateway.post("/v1/chat/completions", CHAT).status)
    clients = [Client(gateway.port, drop) for _ in range(8)]
    other = Client(gateway.port, keep)
    assert {client.ask() for client in (*clients, other)} == {200}

    desk.revoke("drop")
    took = [becomes(401, client.ask) for client in clients]
    print(f"revoked on 8 open connections after {max(took):.2f} s at most")
    assert max(took) < WITHIN
    assert other.ask() == 200


def test_a_key_that_expires_is_refused_from_that_instant_on_a_connection_that_used_it(gateway, desk):
    secret = desk.make("brief", lasts=2.0)
    client = knowing(gateway, secret)
    while time.time_ns() < SqliteKeys(desk.file).keys()[0].expires:
        client.ask()
    assert client.ask() == 401
    answer = gateway.post("/v1/chat/completions", CHAT, bearing(secret))
    assert 'The key "brief" has expired.' in answer.json["error"]["message"]


def test_what_ends_a_parent_ends_its_children(gateway, desk):
    desk.make("top")
    desk.make("middle", parent="top")
    client = knowing(gateway, desk.make("low", parent="middle"))
    desk.revoke("top")
    assert becomes(401, client.ask) < WITHIN


def test_both_values_of_a_rotated_key_are_entered_as_one(gateway, desk):
    old = desk.make("app")
    new = desk.rotate("app", grace=60)
    newest = desk.rotate("app", grace=0)
    clients = [knowing(gateway, secret) for secret in (old, newest)]
    began = time.time_ns()
    assert [client.ask() for client in clients] == [200, 200]
    assert Client(gateway.port, new).ask() == 401
    assert [entry.key for entry in gateway.entries() if entry.at >= began] == ["app", "app", ""]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", CHAT, 200),
        ("/v1/chat/completions", {**CHAT, "stream": True}, 200),
        ("/v1/chat/completions", {**CHAT, "model": "o9"}, 403),
        ("/v1/chat/completions", {**CHAT, "model": "stub/gpt-6-luna"}, 403),
        ("/v1/messages", MESSAGES, 403),
        ("/v1/messages/count_tokens", CHAT, 403),
        ("/v1/embeddings", {"model": "gpt-6-luna", "input": "x"}, 403),
    ],
)
@pytest.mark.parametrize("kept", ["in the store", "in the configuration"])
def test_a_key_may_ask_for_what_its_scope_says_and_nothing_else(gateway_with, place, desk, kept, path, body, status):
    scope = {"models": ("gpt-*",), "endpoints": ("chat", "models")}
    if kept == "in the store":
        secret = desk.make("app", **scope)
        gateway = gateway_with(ledger=Ledger(path=str(place)))
    else:
        secret = "configured-secret"
        gateway = gateway_with({"APP": secret}, keys={"app": Key("env:APP", **scope)})

    answer = gateway.post(path, body, bearing(secret))

    assert answer.status == status
    if status == 403:
        said = answer.json["error"]["message"]
        assert '"app"' in said
        assert "it may use" in said
        (entry,) = gateway.entries()
        assert (entry.error, entry.attempt, entry.cost) == ("forbidden", 0, 0)
        assert (answer.json.get("type") == "error") is path.startswith("/v1/messages")
    assert gateway.get("/v1/models", bearing(secret)).status == 200
    assert gateway.get("/v1/models/o9", bearing(secret)).status == 403


def test_while_the_store_cannot_be_read_known_keys_go_on_and_others_get_503(gateway, desk):
    unused, known = desk.make("unused"), knowing(gateway, desk.make("known"))
    content = desk.file.read_bytes()
    desk.file.write_bytes(b"damaged" * 1000)
    stranger = Client(gateway.port, "fk-" + "x" * 43)

    becomes(503, stranger.ask)
    assert known.ask() == Client(gateway.port, unused).ask() == 200
    answer = gateway.post("/v1/chat/completions", CHAT, bearing("fk-stranger"))
    assert answer.json["error"]["code"] == "store_unavailable"
    assert str(desk.file) not in answer.body.decode()
    desk.file.write_bytes(content)
    becomes(401, stranger.ask)


def test_a_store_that_was_deleted_or_emptied_does_not_open_a_running_gateway(gateway, desk):
    client = knowing(gateway, desk.make("app"))
    desk.file.unlink()
    becomes(401, client.ask)
    assert gateway.post("/v1/chat/completions", CHAT).status == 401
    desk.file.touch()
    time.sleep(0.5)
    assert gateway.post("/v1/chat/completions", CHAT).status in (401, 503)


def test_a_gateway_that_starts_on_an_emptied_store_lets_nobody_in(gateway_with, place, desk):
    secret = desk.make("app")
    desk.file.write_bytes(b"")
    gateway = gateway_with(ledger=Ledger(path=str(place)))
    assert {gateway.post("/v1/chat/completions", CHAT, headers).status for headers in ({}, bearing(secret))} == {503}


def test_gateways_that_share_pepper_and_store_know_the_same_keys(gateway_with, tmp_path, desk, place):
    secret = desk.make("app")
    shutil.copytree(place, tmp_path / "other")
    for path in (place, tmp_path / "other"):
        gateway = gateway_with(ledger=Ledger(path=str(path)))
        assert gateway.post("/v1/chat/completions", CHAT, bearing(secret)).status == 200


def test_a_gateway_without_keys_answers_only_under_its_own_names(gateway_with, gateway, desk):
    foreign = {"host": "evil.example:8787"}
    refused = gateway.post("/v1/chat/completions", CHAT, foreign)
    assert refused.status == 401
    assert "evil.example" in refused.json["error"]["message"]
    for name in ("localhost", "127.0.0.1:1", "[::1]:8787", "LOCALHOST."):
        assert gateway.post("/v1/chat/completions", CHAT, {"host": name}).status == 200
    client = knowing(gateway, desk.make("app"))
    client.headers |= foreign
    assert client.ask() == 200


# Labels


@pytest.mark.parametrize(
    ("path", "metadata", "tags"),
    [
        ("/v1/chat/completions", {"customer": "c-17", "Plan": "pro"}, {"customer": "c-17", "plan": "pro"}),
        ("/v1/messages", {"user_id": "u-5"}, {"user_id": "u-5"}),
        ("/v1/chat/completions", {"n": 1, "deep": {"a": "b"}, "ok": "yes"}, {"ok": "yes"}),
        ("/v1/chat/completions", None, {}),
        ("/v1/chat/completions", ["a"], {}),
        ("/v1/chat/completions", {"long": "ä" * 300}, {"long": "ä" * 128}),
        ("/v1/chat/completions", {"x" * 65: "y"}, {}),
        ("/v1/chat/completions", {f"k{n:02}": "v" for n in range(40)}, {f"k{n:02}": "v" for n in range(16)}),
        ("/v1/chat/completions", {"k": "v" * 70_000}, {}),
    ],
)
def test_metadata_in_the_body_labels_the_call(gateway, path, metadata, tags):
    answer = gateway.post(path, {**MESSAGES, "metadata": metadata})
    assert answer.status == 200
    (entry,) = gateway.entries()
    assert dict(entry.tags) == tags


def test_labels_in_headers_win_and_bound_those_in_the_body(gateway):
    body = {**CHAT, "metadata": {"customer": "body", "other": "body", **{f"k{n}": "v" for n in range(14)}}}
    headers = {"x-farthing-tag-customer": "header", "x-farthing-tag-first": "header"}
    assert gateway.post("/v1/chat/completions", body, headers).status == 200
    (entry,) = gateway.entries()
    assert entry.tags[:3] == (("customer", "header"), ("first", "header"), ("other", "body"))
    assert len(entry.tags) == 16


# Idempotency-Key


def test_an_idempotency_key_stays_here(gateway_with, upstream_that):
    seen = upstream_that(lambda client, request: client.close())
    gateway = gateway_with(
        upstreams={"up": Upstream(provider="openai", base_url=f"http://127.0.0.1:{seen.port}/v1", models=("*",))}
    )
    gateway.post("/v1/chat/completions", CHAT, {"Idempotency-Key": "order-17"})
    assert seen.requests
    assert not [request for request in seen.requests if b"order-17" in request or b"idempotency" in request.lower()]


@pytest.mark.parametrize("key", ["x" * 256, "tab\there", "caf\xe9"])
def test_an_idempotency_key_that_is_none_is_refused(gateway, key):
    answer = gateway.post("/v1/chat/completions", CHAT, {"idempotency-key": key.encode("latin-1")})
    assert answer.status == 400
    assert "Idempotency-Key" in answer.json["error"]["message"]
    assert gateway.post("/v1/chat/completions", CHAT, {"idempotency-key": "x" * 255}).status == 200


def test_two_idempotency_keys_are_refused(gateway):
    body = json.dumps(CHAT).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    )
    for second, status in ((b"a", b"200"), (b"b", b"400")):
        received = gateway.raw(head.encode() + b"idempotency-key: a\r\nIdempotency-Key: %b\r\n\r\n" % second + body, 5)
        assert received.startswith(b"HTTP/1.1 " + status)
