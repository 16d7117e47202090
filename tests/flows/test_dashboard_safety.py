"""The control plane is safe to leave open: it only reads, knows its own names, and obeys nothing that it shows."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import quote

import msgspec
import pytest
from starlette.testclient import TestClient

from farthing.dashboard.app import create_app
from farthing.dashboard.pages import load_assets
from farthing.dashboard.panel import Panel
from farthing.ports import Stored
from farthing.schema import Call, Caller, Decision, Entry, Exchange, Usage
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.worker_totals import Totals

NOW = 1_795_000_000 * 10**9
PAGES = ("/", "/?range=24h", "/calls/call-0")
API = ("/api/summary", "/api/series", "/api/calls", "/api/calls/call-0")
OTHERS = ("/openapi.json", "/healthz", "/readyz", "/metrics", "/assets/farthing.css")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></svg><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</textarea><iframe srcdoc='<script>alert(1)</script>'>",
    "\x00\u2028&lt;b&gt;&#x22;",
    "../../../etc/passwd?a=b#c",
)


class StoppedClock:
    def now(self) -> int:
        return NOW


def client_over(entry: Entry, in_flight: Sequence[Exchange] = ()) -> TestClient:
    ledger = MemoryLedger()
    ledger.ingest([Stored(entry, msgspec.json.encode(entry))], 1)
    panel = Panel(
        ledger=ledger,
        edition=lambda version: None,
        tally=ledger.rollups,
        in_flight=lambda: in_flight,
        accounts=list,
        shed=lambda: 0,
        elsewhere=Totals,
        journal_lag=lambda: 0,
        not_ready=list,
        clock=StoppedClock(),
        version="1.2.3",
        policy="3f9c2a1b77d0",
        allowed_hosts=("127.0.0.1", "localhost", "[::1]"),
    )
    return TestClient(create_app(panel), base_url="http://127.0.0.1:8787")


def settled(**changes: object) -> Entry:
    entry = Entry(
        id="call-0.1", group="call-0", attempt=1, at=NOW, endpoint="chat", model="m", status=200, cost=1, list_cost=3,
        saved=(("provider_cache", 2),), usage=Usage(input=5, output=5), usage_source="provider", cache="miss",
        latency=9_000, overhead=200, ttft=900,
    )  # fmt: skip
    return msgspec.structs.replace(entry, **changes)


@pytest.fixture
def client() -> TestClient:
    return client_over(settled())


def test_it_only_reads(client: TestClient) -> None:
    for path in (*PAGES, *API, *OTHERS):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
        assert client.head(path).status_code == client.get(path).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8787", "", "[::2]"])
def test_a_foreign_host_name_is_refused(client: TestClient, host: str) -> None:
    for path in (*PAGES, *API, "/metrics", "/openapi.json", "/nothing"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 421, path
        assert "server.allowed_hosts" in answer.json()["error"]["hint"]
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8787", "127.0.0.1:1", "[::1]", "[::1]:8787", "localhost."])
def test_its_own_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/api/summary", headers={"host": host}).status_code == 200


def test_every_answer_is_protected(client: TestClient) -> None:
    answers = [client.get(path) for path in (*PAGES, *API, *OTHERS, "/nothing", "/api/summary?range=x")]
    answers += [client.post("/"), client.get("/", headers={"host": "evil.example"})]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        kept = str(answer.url).endswith(".css")
        assert answer.headers["cache-control"] == ("public, max-age=31536000, immutable" if kept else "no-store")


class Markup(HTMLParser):
    """What a browser makes of a page: its elements with the names of their attributes, its links, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[str | None] = []
        self.elements: list[tuple[str, ...]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pages_hold_no_inline_script_style_or_handler_and_ask_nobody_else(client: TestClient) -> None:
    for path in (*PAGES, "/calls/nope"):
        markup = Markup(client.get(path).text)
        assert len(markup.scripts) == 1
        assert (markup.scripts[0] or "").startswith("/assets/farthing.js?v=")
        tags, attributes = (
            {tag for tag, *_ in markup.elements},
            {name for _, *names in markup.elements for name in names},
        )
        assert not tags & {"style", "iframe", "object", "embed", "base", "form"}
        assert not {name for name in attributes if name.startswith("on") or name == "style"}
        assert all(link.startswith(("/", "#")) for link in markup.links)


def client_quoting(text: str) -> TestClient:
    """A dashboard where a caller or a provider wrote `text` wherever either can write."""
    entry = settled(
        model=text, served=text, tenant=text, team=text, feature=text, key=text, error=text, finish=text, tier=text,
        upstream=text, provider=text, policy=text, price_version=text, status=400, tags=((text, text),),
        unknown_usage=(text,), missing_prices=(text,), saved=((text, 2),), decisions=(Decision(text, text, {text: text}),),
    )  # fmt: skip
    call, caller = Call(endpoint="chat", model=text, body=b""), Caller(tenant=text, feature=text)
    under_way = Exchange(id=text, call=call, caller=caller, arrived=NOW).noting(text, text)
    return client_over(entry, [under_way])


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_callers_write_is_shown_and_never_obeyed(text: str) -> None:
    hostile, harmless = client_quoting(text), client_quoting("harmless")
    for path in ("/", "/?range=24h", "/calls/call-0"):
        shown, usual = Markup(hostile.get(path).text), Markup(harmless.get(path).text)
        assert shown.elements == usual.elements
        assert shown.links == usual.links
        assert text.replace("_", " ") in shown.text
    assert hostile.get("/api/summary").json()["models"][0]["name"] == text
    missing = hostile.get(f"/calls/{quote(text, safe='')}")
    assert missing.status_code == 404
    if missing.headers["content-type"].startswith("text/html"):
        assert Markup(missing.text).elements == Markup(hostile.get("/calls/nope").text).elements
    else:
        assert missing.headers["content-type"] == "application/json"


def test_the_assets_are_small_and_named_by_their_content(client: TestClient) -> None:
    assets = load_assets()
    assert set(assets) == {"farthing.css", "farthing.js", "coin.svg"}
    assert sum(len(asset.body) for asset in assets.values()) < 60 * 1024
    for asset in assets.values():
        elsewhere = re.findall(rb"https?://[^\"'\s)]+", asset.body)
        assert set(elsewhere) <= {b"http://www.w3.org/2000/svg"}
    page = client.get("/").text
    for name, asset in assets.items():
        assert f"/assets/{name}?v={asset.digest}" in page
