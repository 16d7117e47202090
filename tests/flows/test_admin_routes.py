"""The control plane denies by default: every route is asked for without the admin token, and with it."""

import re
import time
from collections.abc import Callable

import msgspec
import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from farthing.config import Server, Settings
from farthing.config.agreement import disagreements
from farthing.dashboard.app import create_app
from farthing.dashboard.guard import Guard
from farthing.dashboard.login import COOKIE, SESSION_SECONDS, Login
from farthing.errors import ConfigError

TOKEN = "an-admin-token-of-some-length"
OPEN = {"/healthz", "/readyz", "/assets/{name}"}


class Clock:
    def __init__(self) -> None:
        self.at = time.time_ns()

    def now(self) -> int:
        return self.at


class Panel(msgspec.Struct):
    """As much of one as the guard and the log-in look at: what lies behind them must not be reached."""

    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    version: str = "1.2.3"
    policy: str = "3f9c"
    clock: Clock = msgspec.field(default_factory=Clock)
    rungs: Callable[[], tuple] = tuple
    stale: Callable[[], tuple] = tuple


def client_with(token: str, clock: Clock | None = None, host: str = "127.0.0.1") -> TestClient:
    panel = Panel(clock=clock or Clock())
    return TestClient(create_app(panel, token), f"http://{host}:8787", client=(host, 5), follow_redirects=False)


ROUTES = [route for route in create_app(Panel(), TOKEN).routes if isinstance(route, Route)]
CLOSED = [route.path for route in ROUTES if route.path not in OPEN]


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "farthing.css" if path.startswith("/assets") else "call-0", path)


@pytest.fixture
def gateway(gateway_with):
    return gateway_with({"ADMIN": TOKEN}, server=Server(port=0, admin_token="env:ADMIN"))


def test_the_route_table_is_what_is_asked_below():
    assert {route.path for route in ROUTES} >= OPEN
    assert len(CLOSED) >= 8
    assert all(isinstance(route, Route) for route in create_app(Panel(), TOKEN).routes)


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer another-token"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": "Bearer "},
        {"x-api-key": TOKEN},
        {"cookie": f"{COOKIE}={TOKEN}"},
        {"cookie": f"{COOKIE}=99999999999.{'0' * 64}"},
        {"cookie": f"{COOKIE}="},
        {"cookie": f"{COOKIE}=.."},
        {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"},
    ],
    ids=lambda headers: ", ".join(headers) or "nothing",
)
def test_every_route_needs_the_token(path, headers):
    client = client_with(TOKEN)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = client.request(method, filled(path), headers=headers)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "admin_token_needed"
        assert TOKEN not in answer.text
    assert client.get(filled(path), params={"token": TOKEN}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/api/summary", "/api/calls", "/metrics", "/openapi.json", "/calls/nope"])
def test_with_the_token_a_gateway_answers_under_any_name(gateway, path):
    assert gateway.get(path).status == 401
    answer = gateway.get(path, {"authorization": f"bearer {TOKEN}", "host": "gateway.internal"})
    assert answer.status == (404 if "nope" in path else 200)


@pytest.mark.parametrize("path", ["/nothing", "//metrics", "/healthz/", "/assets/../metrics", "/metrics%00", "/LOGIN"])
def test_a_path_that_is_no_route_tells_nothing_either(gateway, path):
    answer = gateway.get(path)
    assert answer.status in (401, 404)
    assert b"# TYPE" not in answer.body


def test_probes_and_assets_are_open_and_the_data_plane_keeps_its_own_rules(gateway):
    for path in map(filled, OPEN):
        assert gateway.get(path, {"host": "gateway.internal"}).status == 200
    chat = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hi."}]}
    assert gateway.post("/v1/chat/completions", chat).status == 200


# The log-in


def log_in(client: TestClient, token: str):
    return client.post(
        "/login", content=f"token={token}", headers={"content-type": "application/x-www-form-urlencoded"}
    )


def test_a_person_gets_the_form_and_the_form_a_session():
    client = client_with(TOKEN)
    for path, status in (("/", 401), ("/calls/x", 401), ("/login", 200)):
        page = client.get(path, headers={"accept": "text/html"})
        assert page.status_code == status
        assert 'action="/login"' in page.text
        assert "form-action 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "<script" not in page.text

    answer = log_in(client, TOKEN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert {part.strip().lower() for part in cookie.split(";")[1:]} >= {"httponly", "samesite=strict", "path=/"}
    assert TOKEN not in cookie
    assert client.get("/openapi.json").status_code == 200


def test_a_wrong_token_gets_no_session():
    client = client_with(TOKEN)
    for body in ("", "token=", "token=wrong", f"token={TOKEN}x", "x" * 100_000, "token=" + "&token=" * 50, "\xff\xfe"):
        answer = client.post("/login", content=body.encode("latin-1"))
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    assert client.put("/login").status_code == 405


def test_a_session_ends_in_time_with_its_token_and_when_it_is_altered():
    clock = Clock()
    client = client_with(TOKEN, clock)
    session = log_in(client, TOKEN).cookies[COOKIE]
    assert (
        client_with("another-token-of-some-length")
        .get("/openapi.json", headers={"cookie": f"{COOKIE}={session}"})
        .status_code
        == 401
    )
    ends, _, proof = session.partition(".")
    for altered in (f"{int(ends) + 1}.{proof}", f"{ends}.{proof[:-1]}", f"{ends}.", f".{proof}", f"{ends}.{proof}0"):
        headers = {"cookie": f"{COOKIE}={altered}"}
        assert client_with(TOKEN, clock).get("/openapi.json", headers=headers).status_code == 401
    clock.at += SESSION_SECONDS * 10**9 - 10**9
    assert client.get("/openapi.json").status_code == 200
    clock.at += 10**9
    assert client_with(TOKEN, clock).get("/openapi.json", headers={"cookie": f"{COOKIE}={session}"}).status_code == 401


def test_there_is_nothing_to_log_in_to_without_a_token():
    assert client_with("").get("/login").status_code == 404


# Without a token


@pytest.mark.parametrize(("peer", "inside"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
    ("10.0.0.5", False), ("192.168.1.9", False), ("2001:db8::1", False), ("::ffff:10.0.0.5", False),
    ("fe80::1%eth0", False),
])  # fmt: skip
def test_without_a_token_only_this_machine_gets_in(peer, inside):
    app = create_app(Panel(), "")
    client = TestClient(app, "http://127.0.0.1:8787", client=(peer, 5))
    for path in map(filled, ("/openapi.json", *CLOSED)):
        if not inside:
            assert client.get(path).status_code == 403, path
    assert client.get("/openapi.json").status_code == (200 if inside else 403)
    assert client.get("/healthz").status_code == 200


def test_the_guard_stands_before_the_whole_application():
    app = create_app(Panel(), TOKEN)
    assert app.user_middleware[0].cls is Guard
    assert isinstance(Login(TOKEN, Clock()), Login)


# The configuration


def faults(**server: object) -> list[str]:
    return [fault.message for fault in disagreements(Settings(server=Server(**server)))]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "gateway.internal", ""])
def test_no_host_beyond_this_machine_without_a_token(host):
    (message,) = faults(host=host)
    assert "server.admin_token" in message
    assert faults(host=host, admin_token="env:ADMIN") == []


def test_a_gateway_beyond_this_machine_needs_keys_from_its_first_call(gateway_with):
    gateway = gateway_with({"ADMIN": TOKEN}, server=Server(host="0.0.0.0", port=0, admin_token="env:ADMIN"))
    assert gateway.post("/v1/chat/completions", {"model": "gpt-6-luna", "messages": []}).status == 401
    assert gateway.get("/readyz").status == 200


def test_a_token_that_could_be_guessed_is_refused(gateway_with):
    with pytest.raises(ConfigError, match="16 or more"):
        gateway_with({"ADMIN": "hunter2"}, server=Server(port=0, admin_token="env:ADMIN"))
