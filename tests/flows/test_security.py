"""What an attacker tries: requests inside requests, headers inside values, other hosts, keys by the clock, secrets."""

import json
import logging
import random
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import mean, variance
from time import perf_counter_ns

import pytest

from farthing.config import ExactCache, Fallback, Key, KeyStore, Ledger, Server, Upstream, load
from farthing.errors import ConfigError, Unauthorized
from farthing.gateway.issuing import Issuer, Wish
from farthing.gateway.keyring import Keyring
from farthing.stores.sqlite_keys import SqliteKeys

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}
ANSWER = b'{"id":"c","object":"chat.completion","model":"gpt-6-luna","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
INNER = json.dumps({**CHAT, "user": "smuggled"}).encode()
SMUGGLED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-farthing-feature: smuggled\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(INNER), INNER)
)


def answers(status: str = "200 OK", body: bytes = ANSWER, headers: str = "") -> Callable[[socket.socket, bytes], None]:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return lambda client, _: client.sendall(head.encode() + body)


def asking(port: int, **more: object) -> dict[str, Upstream]:
    return {"up": Upstream(provider="openai", base_url=f"http://127.0.0.1:{port}/v1", models=("*",), **more)}


def request(headers: bytes, body: bytes = b"", line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    return line + b"\r\nhost: localhost\r\n" + headers + b"\r\n" + body


# Requests inside requests

PLAIN = json.dumps(CHAT).encode()
SIZE = str(len(PLAIN)).encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PLAIN), PLAIN)
REFUSED = {
    "two lengths": request(b"content-length: 0\r\ncontent-length: %b\r\n" % SIZE, PLAIN),
    "two equal lengths": request(b"content-length: %b\r\ncontent-length: %b\r\n" % (SIZE, SIZE), PLAIN),
    "a list of lengths": request(b"content-length: %b, %b\r\n" % (SIZE, SIZE), PLAIN),
    "a signed length": request(b"content-length: +%b\r\n" % SIZE, PLAIN),
    "a hexadecimal length": request(b"content-length: 0x5\r\n", PLAIN),
    "two words of length": request(b"content-length: 1 2\r\n", PLAIN),
    "a length beyond 64 bits": request(b"content-length: 18446744073709551617\r\n", PLAIN),
    "length and chunks": request(b"content-length: 4\r\ntransfer-encoding: chunked\r\n", CHUNKED),
    "chunks and length": request(b"transfer-encoding: chunked\r\ncontent-length: 4\r\n", CHUNKED),
    "an unknown coding": request(b"transfer-encoding: xchunked\r\n", CHUNKED),
    "chunked, then identity": request(b"transfer-encoding: chunked, identity\r\n", CHUNKED),
    "identity": request(b"transfer-encoding: identity\r\n", CHUNKED),
    "a coding with a vertical tab": request(b"transfer-encoding: \x0bchunked\r\n", CHUNKED),
    "a coding with a NUL": request(b"transfer-encoding: chunked\x00\r\n", CHUNKED),
    "space before a colon": request(b"transfer-encoding : chunked\r\n", CHUNKED),
    "space before a name": request(b" transfer-encoding: chunked\r\n", CHUNKED),
    "a folded header": request(b"x-a: b\r\n transfer-encoding: chunked\r\n", CHUNKED),
    "a folded coding": request(b"transfer-encoding:\r\n chunked\r\n", CHUNKED),
    "a bare CR in a value": request(b"x-a: b\rcontent-length: 5\r\n", PLAIN),
    "a bare CR after a value": request(b"x-a: b\r\rcontent-length: 5\r\n", PLAIN),
    "a bare LF after a value": request(b"x-a: b\ncontent-length: 0\r\n", PLAIN),
    "bare LF throughout": request(b"content-length: %b\r\n" % SIZE).replace(b"\r\n", b"\n") + PLAIN,
    "a NUL in a name": request(b"x\x00a: b\r\n", PLAIN),
    "a NUL in a value": request(b"x-a: b\x00c\r\n", PLAIN),
    "a NUL in the target": request(b"", line=b"POST /v1/chat\x00/completions HTTP/1.1"),
    "no colon": request(b"content-length\r\n", PLAIN),
    "no name": request(b": 5\r\n", PLAIN),
    "a hexadecimal prefix of a chunk": request(b"transfer-encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a signed chunk": request(b"transfer-encoding: chunked\r\n", b"-5\r\nhello\r\n0\r\n\r\n"),
    "an endless chunk size": request(b"transfer-encoding: chunked\r\n", b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"),
    "a bare LF after a chunk size": request(b"transfer-encoding: chunked\r\n", b"5\nhello\r\n0\r\n\r\n"),
    "a chunk longer than its size": request(b"transfer-encoding: chunked\r\n", b"2\r\nhello\r\n0\r\n\r\n"),
    "a bare LF in an extension": request(b"transfer-encoding: chunked\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "a long method": request(b"", line=b"POSTS" * 99 + b" /v1/models HTTP/1.1"),
    "too large a head": request(b"x-a: " + b"b" * 40_000 + b"\r\n", PLAIN),
    "too large a body": request(b"content-length: 99999999999\r\n", PLAIN),
}  # fmt: skip
READ = {
    "two spaces in the first line": request(b"content-length: %b\r\n" % SIZE, PLAIN, b"POST /v1/chat/completions  HTTP/1.1"),
    "another protocol": request(b"content-length: %b\r\n" % SIZE, PLAIN, b"POST /v1/chat/completions HTTP/2.0"),
    "underscores for dashes": request(b"content_length: 0\r\ntransfer_encoding: chunked\r\ncontent-length: %b\r\n" % SIZE, PLAIN),
    "capitals": request(b"Transfer-Encoding: CHUNKED\r\n", CHUNKED),
    "an extension": request(b"transfer-encoding: chunked\r\n", CHUNKED.replace(b"\r\n", b";a=b\r\n", 1)),
    "another address in the target": request(b"content-length: 0\r\n", line=b"POST http://evil.example/v1/chat/completions HTTP/1.1"),
    "an answer to a question not asked": request(b"content-length: %b\r\nexpect: 200-ok\r\n" % SIZE, PLAIN),
}  # fmt: skip
"""Read in one way only, and so do no harm."""


@pytest.mark.parametrize("what", [*REFUSED, *READ])
def test_a_request_is_read_in_one_way_or_not_at_all(gateway_with, upstream_that, what):
    upstream = upstream_that(answers())
    gateway = gateway_with(upstreams=asking(upstream.port))

    received = gateway.raw((REFUSED | READ)[what] + (SMUGGLED if what in REFUSED else b""), timeout=1)

    if what in REFUSED:
        assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413")), received[:80]
        assert received.count(b"HTTP/1.1 ") == 1
        assert upstream.requests == []
    assert not any(entry.feature for entry in gateway.entries())
    for asked in upstream.requests:
        head, _, body = asked.lower().partition(b"\r\n\r\n")
        assert head.count(b"content-length:") == 1
        assert b"transfer-encoding" not in head
        assert b"_" not in head.partition(b"\r\n")[2]
        assert body == PLAIN.lower()


def test_all_the_ways_to_smuggle_were_tried():
    print(f"{len(REFUSED)} malformed requests refused, {len(READ)} odd ones read in one way")
    assert len(REFUSED) >= 35


# Headers inside values

INJECTION = "x\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 OK\r\nx-evil: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "change", "headers"),
    [
        ("/v1/chat/completions", {"model": INJECTION}, {}),
        ("/v1/chat/completions", {"service_tier": INJECTION}, {}),
        ("/v1/chat/completions", {"user": INJECTION, "metadata": {INJECTION: INJECTION}}, {}),
        ("/v1/chat/completions?a=%0d%0ax-evil:%201", {}, {}),
        ("/v1/chat/completions", {}, {"x-farthing-feature": "a%0d%0ax-evil: 1"}),
        ("/v1/chat/completions", {}, {"accept": "a\tb", "x-b": "\x85x-evil: 1"}),
        ("/v1/models/a%0d%0ax-evil:%201", {}, {}),
        ("/v1/%0d%0ax-evil:%201", {}, {}),
    ],
)
def test_no_value_becomes_a_header(gateway_with, upstream_that, path, change, headers):
    upstream = upstream_that(answers())
    gateway = gateway_with(upstreams=asking(upstream.port))
    for stream in (False, True):
        answer = gateway.post(path, {**CHAT, **change, "stream": stream}, headers)
        assert "x-evil" not in answer.headers
    for asked in upstream.requests:
        lines = asked.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        assert not any(line.lower().startswith(b"x-evil") for line in lines)


# Other hosts


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """Listens where nobody has any business."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def visits(listener: socket.socket) -> int:
    listener.setblocking(False)
    seen = 0
    try:
        while True:
            listener.accept()[0].close()
            seen += 1
    except BlockingIOError:
        return seen


ADDRESS_FIELDS = ("api_base", "base_url", "url", "endpoint", "api_url", "proxy", "host", "webhook", "callback_url")
ADDRESS_HEADERS = (
    "x-api-base", "x-base-url", "x-upstream", "x-original-url", "x-rewrite-url", "x-forwarded-host", "x-host", "forwarded",
    "x-farthing-upstream", "x-farthing-base-url", "proxy", "x-http-host-override", "destination",
)  # fmt: skip


def test_no_request_makes_the_gateway_ask_another_host(gateway_with, upstream_that, canary):
    evil = f"http://127.0.0.1:{canary.getsockname()[1]}/steal"
    upstream = upstream_that(answers())
    gateway = gateway_with(upstreams=asking(upstream.port), cache=ExactCache(enabled=False))
    tried = 0

    def ask(body: dict, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None) -> None:
        nonlocal tried
        tried += 1
        gateway.post(path, body, headers)

    for field in ADDRESS_FIELDS:
        ask({**CHAT, field: evil})
        ask(CHAT, f"/v1/chat/completions?{field}={evil}")
    for name in ADDRESS_HEADERS:
        ask(CHAT, headers={name: evil})
    for model in (evil, f"openai/{evil}", f"up@{evil}", f"up/{evil}"):
        ask({**CHAT, "model": model})
    for target in (evil, "file:///etc/passwd", "http://169.254.169.254/latest/meta-data/", "gopher://127.0.0.1:25/"):
        parts = [{"type": "image_url", "image_url": {"url": target}}]
        ask({**CHAT, "messages": [{"role": "user", "content": parts}]})
        assert json.loads(upstream.requests[-1].partition(b"\r\n\r\n")[2])["messages"][0]["content"] == parts
    for line in (
        f"POST {evil}",
        "POST //127.0.0.1/v1/chat/completions",
        f"POST /v1/../{evil}",
        f"POST /v1/models/{evil}",
    ):
        tried += 1
        gateway.raw(request(b"content-length: %b\r\n" % SIZE, PLAIN, line.encode() + b" HTTP/1.1"), 0.5)

    print(f"{tried} ways to name another host, {visits(canary)} connections to it")
    assert visits(canary) == 0
    assert tried > 40


@pytest.mark.parametrize(
    "status",
    ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"],
)
def test_no_answer_makes_the_gateway_ask_another_host(gateway_with, upstream_that, canary, status):
    evil = f"http://127.0.0.1:{canary.getsockname()[1]}/steal"
    sent = f'location: {evil}\r\nrefresh: 0; url={evil}\r\nlink: <{evil}>; rel=preload\r\nalt-svc: h2="{evil}"\r\n'
    upstream = upstream_that(answers(status, headers=sent))
    gateway = gateway_with(upstreams=asking(upstream.port))

    assert gateway.post("/v1/chat/completions", CHAT).status >= 400
    assert visits(canary) == 0


# Keys by the clock


def test_a_nearly_right_key_takes_no_other_time_to_refuse_than_a_wrong_one(tmp_path):
    """Welch's t over interleaved samples; what the machine made slow (the slowest twentieth) is left out.

    A machine's own rhythm may show once; a difference that an attacker could use shows every time.
    """
    store = SqliteKeys(tmp_path / "keys.sqlite")
    _, secret = Issuer(store, b"p" * 32).make(Wish("app"), 1)

    class Clock:
        now = staticmethod(lambda: 5)

    identify = Keyring([], b"p" * 32, store, Clock()).identify
    dice = random.Random(7)
    near = [(secret[:-4] + secrets.token_urlsafe(3)).encode() for _ in range(500)]
    far = [f"fk-{secrets.token_urlsafe(32)}".encode() for _ in range(500)]

    def statistic() -> float:
        times: tuple[list[int], list[int]] = ([], [])
        for turn in range(20_000):
            for which in (0, 1) if dice.random() < 0.5 else (1, 0):
                credential = (near, far)[which][turn % 500]
                began = perf_counter_ns()
                try:
                    identify(credential)
                except Unauthorized:
                    ended = perf_counter_ns()
                times[which].append(ended - began)
        slow = sorted(times[0] + times[1])[38_000]
        usual = [[sample for sample in one if sample <= slow] for one in times]
        spread = sum(variance(one) / len(one) for one in usual)
        return (mean(usual[0]) - mean(usual[1])) / spread**0.5

    found = abs(statistic())
    for _ in range(4):
        if found >= 4.5:
            found = min(found, abs(statistic()))
    print(f"near miss against far miss, 20,000 of each: |t| = {found:.2f}")
    assert found < 4.5


# Secrets


class Canaries:
    """Secrets that must not come out anywhere, each known by where it was put."""

    def __init__(self) -> None:
        self.put: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        return self.put.setdefault(where, f"canary-{len(self.put):02}-{secrets.token_hex(8)}")

    def found_in(self, text: bytes) -> set[str]:
        return {where for where, secret in self.put.items() if secret.encode() in text}


def bodies(secret: Canaries) -> Iterator[tuple[str, object]]:
    """Bodies that hold a secret each where none is kept, and the path they go to."""
    chat, messages = "/v1/chat/completions", "/v1/messages"

    def said(where: str, **more: object) -> dict:
        return {**CHAT, "messages": [{"role": "user", "content": secret(where), **more}]}

    yield chat, said("a prompt")
    yield chat, {**said("a streamed prompt"), "stream": True}
    yield messages, {**CHAT, "max_tokens": 5, "system": secret("a system prompt")}
    yield chat, {**CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": secret("a part")}]}]}
    yield chat, said("an image", name="x") | {"user": secret("user")}
    yield chat, {**CHAT, "messages": [{"role": "tool", "tool_call_id": "1", "content": secret("a tool's answer")}]}
    arguments = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": secret("tool arguments")}}]
    yield chat, {**CHAT, "messages": [{"role": "assistant", "tool_calls": arguments}]}
    yield chat, {**CHAT, "tools": [{"type": "function", "function": {"name": "f", "description": secret("a tool")}}]}
    yield chat, {**CHAT, "metadata": {"deep": {"a": secret("metadata that is no text")}}}
    yield chat, {**CHAT, "api_key": secret("api_key in the body")}
    yield chat, {**CHAT, secret("the name of a field"): 1}
    yield chat, {**CHAT, "temperature": secret("a text for a number")}
    yield chat, {**CHAT, "max_tokens": {"a": secret("an object for a number")}}
    yield chat, {**CHAT, "model": {"a": secret("an object for a model")}}
    yield chat, {**CHAT, "model": "m" * 300 + secret("an endless model")}
    yield chat, {**CHAT, "service_tier": "t" * 300 + secret("an endless tier")}
    yield chat, json.dumps(said("broken JSON")).encode()[:-3]
    yield chat, json.dumps(said("trailing text")).encode() + b"}"
    yield chat, json.dumps(said("broken UTF-8")).encode().replace(b"canary", b"\xff canary", 1)
    yield chat, b"[" * 5000 + secret("deep nesting").encode()
    yield chat, secret("no JSON at all").encode()
    yield chat, {**CHAT, "messages": [{"role": "user", "content": secret("a huge value") * 40_000}]}
    yield "/v1/embeddings", {"model": "gpt-6-luna", "input": secret("an embedded text")}
    yield "/v1/responses", {"model": "gpt-6-luna", "input": secret("a response's input")}
    yield "/v1/completions", {"model": "gpt-6-luna", "prompt": secret("a completion's prompt")}
    yield "/v1/messages/count_tokens", {**CHAT, "system": secret("a counted prompt")}
    yield f"{chat}?api_key={secret('a query')}", CHAT
    yield f"{chat}?token={secret('a query of a call that is refused')}", {**CHAT, "temperature": "x"}
    yield f"/v1/nothing?key={secret('a query of no endpoint')}", CHAT


HEADERS = (
    "authorization", "x-api-key", "api-key", "cookie", "proxy-authorization", "referer", "user-agent", "x-custom-token",
    "x-forwarded-for", "content-type", "openai-organization", "x-amz-security-token", "x-goog-api-key",
)  # fmt: skip


def ask_everything(gateway, secret: Canaries, good: str) -> Iterator[bytes]:
    """Send each secret in; gives the answers of the gateway's own making."""
    allowed = {"authorization": f"Bearer {good}"}
    for path, body in bodies(secret):
        yield gateway.post(path, body, allowed).body
    for name in HEADERS:
        scheme = "Bearer " if name == "authorization" else ""
        yield gateway.post("/v1/chat/completions", CHAT, {name: scheme + secret(f"the header {name}")}).body
        yield gateway.post(
            "/v1/chat/completions", CHAT, {**allowed, f"{name}": scheme + secret(f"the header {name}")}
        ).body
    basic = {"authorization": f"Basic {secret('basic credentials')}"}
    yield gateway.post("/v1/chat/completions", CHAT, basic).body
    for name in ("x-farthing-tag-long", "idempotency-key"):
        long = {**allowed, name: "x" * 300 + secret(f"an endless {name}")}
        yield gateway.post("/v1/chat/completions", CHAT, long).body
    for where in ("a malformed header", "a trailer", "a method", "a version", "an extension of a chunk"):
        yield gateway.raw(malformed(where, secret(where).encode()), 1)
    for where, headers in (
        ("an admin token", {"authorization": f"Bearer {secret('an admin token')}"}),
        ("a session", {"cookie": f"farthing_admin=9.{secret('a session')}"}),
    ):
        for path in ("/", "/metrics", "/api/calls", f"/api/summary?token={secret(where)}"):
            yield gateway.get(path, headers).body
    yield gateway.post("/login", f"token={secret('a log-in')}".encode()).body


def malformed(where: str, secret: bytes) -> bytes:
    if where == "a malformed header":
        return request(b"x y: %b\r\n" % secret)
    if where == "a trailer":
        return request(b"transfer-encoding: chunked\r\n", CHUNKED[:-2] + b"authorization: %b\r\n\r\n" % secret)
    if where == "an extension of a chunk":
        return request(b"transfer-encoding: chunked\r\n", CHUNKED.replace(b"\r\n", b";k=%b\r\n" % secret, 1))
    return request(b"", line=secret + b" / HTTP/1.1" if where == "a method" else b"GET /v1/models " + secret)


def misbehaving(secret: Canaries) -> Callable[[socket.socket, bytes], None]:
    """An upstream that tells secrets in each kind of answer, one after another; some are no HTTP."""
    echo = json.dumps({"error": {"message": f"Incorrect API key: {secret('a refusal by the provider')}"}}).encode()
    turns = iter(
        [
            answers("401 Unauthorized", echo),
            answers("500 Oops", secret("an error page").encode()),
            answers(f"503 {secret('a reason phrase')}", b"{}"),
            answers("200 OK", secret("garbage for an answer").encode()),
            answers("302 Found", b"", f"location: http://u:{secret('a redirect')}@evil.example/\r\n"),
            answers("429 Slow down", b"{}", f"x-request-id: {secret('a header of the provider')}\r\n"),
            lambda client, _: client.sendall(secret("no HTTP from the provider").encode() + b"\r\n\r\n"),
            lambda client, _: client.sendall(
                b"HTTP/1.1 200 OK\r\nx y: " + secret("a broken header").encode() + b"\r\n\r\n"
            ),
        ]
    )

    def script(client: socket.socket, asked: bytes) -> None:
        next(turns, answers())(client, asked)
        client.close()

    return script


def speaking(words: bytes) -> socket.socket:
    """Says the same to everyone who connects, before it is asked anything."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as client:
                    client.sendall(words)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def everything_shown(gateway, admin: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """All pages, figures and metrics, with every receipt."""
    groups = {entry.group for entry in gateway.entries()}
    paths = ["/", "/metrics", "/api/summary", "/api/series", "/api/calls?limit=200", "/openapi.json", "/readyz"]
    for path in [*paths, *(f"/calls/{group}" for group in groups), *(f"/api/calls/{group}" for group in groups)]:
        yield path, gateway.get(path, admin).body


def files_under(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in path.rglob("*"):
        if file.is_file():
            yield file.name, file.read_bytes()


def test_no_secret_comes_out_anywhere(gateway_with, upstream_that, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    secret = Canaries()
    own = {
        "PROVIDER": secret("the provider's key"),
        "APP": secret("a caller's key"),
        "ADMIN": secret("the admin token in force"),
        "PEPPER": secret("the pepper"),
    }
    settings = {
        "server": Server(port=0, admin_token="env:ADMIN"),
        "keys": {"app": Key("env:APP", tenant="acme")},
        "ledger": Ledger(path=str(tmp_path / "ledger")),
        "cache": ExactCache(disk=0),
        "key_store": KeyStore(pepper="env:PEPPER"),
    }
    admin = {"authorization": f"Bearer {own['ADMIN']}"}
    found: dict[str, set[str]] = {}
    tried = 0

    def look(where: str, content: bytes) -> None:
        if leaked := secret.found_in(content):
            found[where] = found.get(where, set()) | leaked

    gateway = gateway_with(own, **settings)
    for said in ask_everything(gateway, secret, own["APP"]):
        tried += 1
        look("an answer", said)
    for where, content in everything_shown(gateway, admin):
        look(where, content)
    for name, content in files_under(tmp_path / "ledger"):
        look(name, content)

    upstream = upstream_that(misbehaving(secret))
    plain = speaking(secret("an answer without TLS").encode())
    settings["ledger"] = Ledger(path=str(tmp_path / "second"))
    settings["fallback"] = Fallback(attempts=1, failures=100)
    upstreams = asking(upstream.port, api_key="env:PROVIDER", deadline=5.0)
    address = f"https://127.0.0.1:{plain.getsockname()[1]}/v1"
    upstreams["tls"] = Upstream(provider="openai", base_url=address, models=("tls-*",), api_key="env:PROVIDER")
    gateway = gateway_with(own, **settings, upstreams=upstreams)
    for turn in range(9):
        tried += 1
        model = "tls-1" if turn == 8 else "gpt-6-luna"
        gateway.post("/v1/chat/completions", {**CHAT, "model": model, "seed": turn}, {"x-api-key": own["APP"]})
    plain.close()
    for where, content in everything_shown(gateway, admin):
        look(where, content)
    for name, content in files_under(tmp_path / "second"):
        look(name, content)

    for setting in ("server.admin_token", "key_store.pepper", "shared.postgres", "shared.redis", "upstreams.a.api_key"):
        tried += 1
        variable = f"FARTHING__{setting.upper().replace('.', '__')}"
        with pytest.raises(ConfigError) as caught:
            load(None, {variable: secret(f"{setting} in the open")})
        look("a fault of the configuration", str(caught.value).encode())
    look("the log", "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records).encode())
    look("stdout and stderr", "".join(capfd.readouterr()).encode())

    print(f"{len(secret.put)} secrets put in {tried} requests, {sum(map(len, found.values()))} came out")
    assert found == {}
    assert len(secret.put) >= 40


def test_the_canaries_are_found_where_they_are(tmp_path):
    secret = Canaries()
    (tmp_path / "file").write_text(f"before {secret('x')} after")
    assert [secret.found_in(content) for _, content in files_under(tmp_path)] == [{"x"}]


def test_the_canary_host_counts_its_visitors(canary):
    for _ in range(2):
        socket.create_connection(canary.getsockname()).close()
    assert visits(canary) == 2
