"""The control plane over a ledger: every figure is the ledger's, and every page shows it."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from farthing.dashboard.app import create_app
from farthing.dashboard.panel import Panel
from farthing.ports import LedgerStore, Stored
from farthing.pricing import charge
from farthing.schema import HOUR, Call, Caller, Decision, Entry, Exchange, Usage
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.price_files import packaged_book
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.stores.worker_totals import Totals

BOOK = packaged_book()
NOW = 1_795_000_000 * 10**9
HOME = "http://127.0.0.1:8787"
SECOND = 10**9


class StoppedClock:
    def now(self) -> int:
        return NOW


def ledger_of(entries: Sequence[Entry]) -> MemoryLedger:
    ledger = MemoryLedger()
    ledger.ingest([Stored(entry, msgspec.json.encode(entry)) for entry in entries], len(entries))
    return ledger


def panel_over(ledger: LedgerStore, **changes: object) -> Panel:
    panel = Panel(
        ledger=ledger,
        edition=lambda version: BOOK if version == BOOK.version else None,
        tally=ledger.rollups,
        in_flight=list,
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
    return msgspec.structs.replace(panel, **changes)


def client_of(panel: Panel) -> TestClient:
    return TestClient(create_app(panel), base_url=HOME)


def client_over(entries: Sequence[Entry], **changes: object) -> TestClient:
    return client_of(panel_over(ledger_of(entries), **changes))


def bought(name: str, at: int, *, usage: Usage | None = None, model: str = "gpt-6-sol", **changes: object) -> Entry:
    """One call that was asked of its provider and answered, priced by the packaged book."""
    usage = usage or Usage(input=1000, cache_read=400, output=200, reasoning=50)
    paid = charge(BOOK, provider="openai", model=model, tier=None, usage=usage, at=at)
    entry = Entry(
        id=f"{name}.1",
        group=name,
        attempt=1,
        at=at,
        endpoint="chat",
        model=model,
        served=model,
        upstream="openai",
        provider="openai",
        tenant="acme",
        feature="search",
        usage=usage,
        usage_source="provider",
        cost=paid.amount,
        list_cost=paid.list_amount,
        saved=paid.saved,
        missing_prices=paid.missing,
        price_version=paid.price_version,
        policy="3f9c2a1b77d0",
        cache="miss",
        status=200,
        finish="stop",
        ttft=90_000,
        latency=450_000,
        overhead=640,
        decisions=(Decision("exact_cache", "miss"), Decision("route", "openai", {"model": model})),
    )
    return msgspec.structs.replace(entry, **changes)


def given_again(name: str, at: int) -> Entry:
    """The same call, answered by the gateway's cache."""
    first = bought(name, at)
    assert first.cost is not None
    return msgspec.structs.replace(
        first,
        id=f"{name}.0",
        attempt=0,
        upstream="",
        provider="",
        cost=0,
        saved=(*first.saved, ("exact_cache", first.cost)),
        cache="hit",
        ttft=None,
        latency=700,
        overhead=700,
        decisions=(Decision("exact_cache", "hit"),),
    )


DAY_OF_CALLS = [
    bought("call-0", NOW - 3 * SECOND),
    given_again("call-1", NOW - 2 * HOUR),
    bought("call-2", NOW - 5 * HOUR, model="gpt-5.4-mini", tenant="globex", feature=""),
]


def pico(money: dict[str, str]) -> int:
    assert set(money) == {"pico_usd", "usd"}
    return int(money["pico_usd"])


amounts = st.one_of(st.none(), st.integers(min_value=0, max_value=10**19))
some_entries = st.lists(
    st.builds(
        lambda back, model, tenant, cost, saved: (back, model, tenant, cost, saved),
        st.integers(min_value=0, max_value=23 * HOUR),
        st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
        st.sampled_from(["acme", "globex", ""]),
        amounts,
        st.integers(min_value=-(10**15), max_value=10**15),
    ),
    max_size=30,
)


@given(some_entries)
@settings(max_examples=40, deadline=None)
def test_every_breakdown_adds_up_to_the_ledger(drawn: list[tuple[int, str, str, int | None, int]]) -> None:
    entries = [
        bought(f"c{number}", NOW - back, model=model, tenant=tenant, cost=cost, saved=(("provider_cache", saved),))
        for number, (back, model, tenant, cost, saved) in enumerate(drawn)
    ]
    client = client_over(entries)
    summary = client.get("/api/summary?range=24h").json()
    series = client.get("/api/series?range=24h").json()
    paid = sum(entry.cost or 0 for entry in entries)
    assert pico(summary["cost"]) == paid
    assert summary["calls"] == len(entries)
    assert summary["unpriced"] == sum(entry.cost is None for entry in entries)
    assert pico(summary["saved"]) == sum(amount for entry in entries for _, amount in entry.saved)
    for breakdown in ("models", "tenants", "features"):
        assert sum(pico(row["cost"]) for row in summary[breakdown]) == paid
        assert sum(row["calls"] for row in summary[breakdown]) == len(entries)
    assert sum(pico(cost) for track in series["tracks"] for cost in track["costs"]) == paid
    assert all(len(track["costs"]) == len(track["calls"]) == len(series["starts"]) for track in series["tracks"])
    assert len(series["tracks"]) <= 6


def test_money_is_exact_and_safe_for_javascript() -> None:
    client = client_over([bought("call-0", NOW, cost=12_345_678_901_234_567_891)])
    cost = client.get("/api/calls/call-0").json()["call"]["cost"]
    assert cost == {"pico_usd": "12345678901234567891", "usd": "12345678.901234567891"}
    numbers = re.findall(r"[:\[,](-?\d+)(?=[,\]}])", client.get("/api/summary").text)
    assert numbers
    assert all(abs(int(number)) < 2**53 for number in numbers)


def test_the_summary_knows_cache_provider_cache_errors_and_overhead() -> None:
    failed = bought("call-3", NOW - HOUR, usage=Usage(), status=429, error="rate_limited", cache="off", cost=0)
    summary = client_over([*DAY_OF_CALLS, failed]).get("/api/summary?range=24h").json()
    assert summary["gateway_cache"] == {"hits": 1, "lookups": 3, "ratio": 0.3333}
    assert summary["errors"] == 1
    assert 600 < summary["overhead_us"]["p50"] < 720
    assert summary["provider_cache"]["read_tokens"] == 800
    assert {row["lever"] for row in summary["levers"]} == {"exact_cache", "provider_cache"}


def test_the_change_compares_with_the_same_hours_a_week_before() -> None:
    week = 7 * 24 * HOUR
    before = [bought("old", NOW - week, cost=100)]
    now = [bought("new", NOW, cost=150), bought("newer", NOW, cost=100)]
    change = client_over([*before, *now]).get("/api/summary?range=24h").json()["cost_per_1k_change"]
    assert change == 0.25
    assert client_over(now).get("/api/summary?range=24h").json()["cost_per_1k_change"] is None


def test_without_a_range_the_hour_is_shown_until_there_is_more() -> None:
    assert client_over([]).get("/api/summary").json()["range"] == "1h"
    assert client_over(DAY_OF_CALLS[:1]).get("/api/summary").json()["range"] == "1h"
    assert client_over(DAY_OF_CALLS).get("/api/summary").json()["range"] == "24h"


def test_an_hour_too_busy_to_read_says_from_when_it_counts() -> None:
    entries = [bought(f"c{n}", NOW - n * 10**8, usage=Usage(input=1)) for n in range(10_500)]
    client = client_over(entries)
    summary = client.get("/api/summary?range=1h").json()
    assert summary["partial"]
    assert summary["calls"] == 10_000
    assert summary["since"] == "2026-11-18T10:50:00.100Z"
    assert "A busy hour" in client.get("/?range=1h").text
    assert not client.get("/api/summary?range=24h").json()["partial"]


@given(st.lists(st.integers(min_value=0, max_value=12), max_size=25), st.integers(min_value=1, max_value=7))
@settings(max_examples=40, deadline=None)
def test_paging_visits_every_call_once_newest_first(backs: list[int], limit: int) -> None:
    client = client_over([bought(f"c{n}", NOW - back, usage=Usage(input=1)) for n, back in enumerate(backs)])
    seen: list[dict] = []
    query = f"/api/calls?limit={limit}"
    before = ""
    while True:
        page = client.get(query + before).json()
        seen += page["calls"]
        if page["next_before"] is None:
            break
        assert len(page["calls"]) >= limit
        before = f"&before={page['next_before']}"
    assert sorted(call["id"] for call in seen) == sorted(f"c{n}" for n in range(len(backs)))
    assert [call["at"] for call in seen] == sorted((call["at"] for call in seen), reverse=True)


def test_a_retried_call_is_one_line_with_the_cost_of_all_its_attempts() -> None:
    first = bought("call-0", NOW, status=500, error="server_error", cost=7, superseded=True)
    second = bought("call-0", NOW, id="call-0.2", attempt=2, cost=11)
    client = client_over([first, second])
    (call,) = client.get("/api/calls").json()["calls"]
    assert (pico(call["cost"]), call["attempts"], call["status"]) == (18, 2, 200)
    receipt = client.get("/api/calls/call-0").json()
    assert [part["superseded"] for part in receipt["parts"]] == [True, False]


def test_a_correction_changes_the_amounts_of_its_call() -> None:
    wrong = bought("call-0", NOW, cost=100)
    right = Entry(
        id="call-0.1~2", group="call-0", attempt=1, at=NOW, endpoint="chat", model="m", cost=-40, corrects="call-0.1"
    )
    client = client_over([wrong, right])
    (call,) = client.get("/api/calls").json()["calls"]
    assert pico(call["cost"]) == 60
    assert "Correction of call-0.1" in client.get("/calls/call-0").text


def test_a_receipt_lists_every_bucket_and_its_lines_add_up_to_what_was_paid() -> None:
    receipt = client_over(DAY_OF_CALLS).get("/api/calls/call-0").json()
    (part,) = receipt["parts"]
    assert {line["meter"]: line["quantity"] for line in part["lines"]} == {
        "input": 1000, "cache_read": 400, "output": 200, "reasoning": 50,
    }  # fmt: skip
    for line in part["lines"]:
        assert pico(line["amount"]) == line["quantity"] * pico(line["unit_price"])
    assert sum(pico(line["amount"]) for line in part["lines"]) == pico(part["cost"]) == pico(part["lines_total"])
    assert part["priced_alike"]
    saved = sum(pico(saving["saved"]) for saving in receipt["savings"])
    assert pico(receipt["call"]["list_cost"]) - saved == pico(receipt["call"]["cost"])


def test_a_receipt_of_a_hit_shows_what_the_answer_cost_when_it_was_bought() -> None:
    client = client_over(DAY_OF_CALLS)
    (part,) = client.get("/api/calls/call-1").json()["parts"]
    assert part["priced_alike"]
    assert pico(part["cost"]) == 0
    assert "Answered by the gateway's cache" in client.get("/calls/call-1").text.replace("&#39;", "'")


def test_an_unknown_price_is_unknown_and_never_zero() -> None:
    unpriced = bought("call-0", NOW, model="nobody-sells-this", usage=Usage(input=10, output=5))
    assert unpriced.cost is None
    client = client_over([unpriced])
    receipt = client.get("/api/calls/call-0").json()
    assert receipt["call"]["cost"] is None
    assert [line["amount"] for line in receipt["parts"][0]["lines"]] == [None, None]
    assert client.get("/calls/call-0").text.count("unknown") >= 5
    overview = client.get("/").text
    assert "1 without a price" in overview
    assert not re.search(r"\$0(\.0*)?\b(?!\.)", text_of(overview, "models"))


def test_unit_prices_are_left_out_when_they_are_not_those_that_were_charged() -> None:
    for strange in (
        bought("call-0", NOW, price_version="2020-01-01+gone"),
        bought("call-0", NOW, cost=31_250_000, list_cost=31_250_000, saved=()),
    ):
        client = client_over([strange])
        assert not client.get("/api/calls/call-0").json()["parts"][0]["priced_alike"]
        page = client.get("/calls/call-0").text
        assert "Unit prices are not shown" in page
        assert "/ 1M" not in page


def test_bad_parameters_are_refused_with_what_is_right() -> None:
    client = client_over(DAY_OF_CALLS)
    for query, hint in (
        ("summary?range=1w", "1h, 24h, 7d, 30d"),
        ("summary?range=", "1h, 24h, 7d, 30d"),
        ("calls?limit=0", "1 to 200"),
        ("calls?limit=201", "1 to 200"),
        ("calls?limit=ten", "1 to 200"),
        ("calls?limit=%D9%A1", "1 to 200"),
        ("calls?limit=1e2", "1 to 200"),
        ("calls?before=yesterday", "next_before"),
        ("calls?before=-1", "next_before"),
    ):
        answer = client.get(f"/api/{query}")
        assert answer.status_code == 400, query
        assert hint in answer.json()["error"]["hint"]


def test_what_is_not_there_is_answered_with_what_is() -> None:
    client = client_over(DAY_OF_CALLS)
    answer = client.get("/dashboard")
    assert answer.status_code == 404
    assert "/api/summary" in answer.json()["error"]["hint"]
    assert client.get("/assets/app.py").status_code == 404
    assert client.get("/assets/..%2Fapp.py").status_code == 404
    missing = client.get("/api/calls/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "call_not_found")
    page = client.get("/calls/nope")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "nope" in page.text


def text_of(page: str, section: str) -> str:
    """The text of one section of a page."""
    start = page.index(f'id="{section}"')
    return re.sub(r"<[^>]*>", " ", page[start : page.index("</section>", start)])


def test_the_overview_shows_the_figures_of_the_api() -> None:
    client = client_over(DAY_OF_CALLS)
    page, summary = client.get("/?range=24h").text, client.get("/api/summary?range=24h").json()
    dollars = summary["cost"]["usd"]
    assert f'title="${dollars}"' in page
    assert "33.3 %" in page
    for call in client.get("/api/calls").json()["calls"]:
        assert f'href="/calls/{call["id"]}"' in page
    for name in ("gpt-6-sol", "gpt-5.4-mini", "acme", "globex", "search", "none named"):
        assert name in page


def test_what_is_simulated_says_so_and_what_is_not_does_not() -> None:
    real, simulated = bought("call-0", NOW), bought("call-1", NOW, simulated=True)
    assert "Simulated." not in client_over([real]).get("/").text
    client = client_over([real, simulated])
    assert "Simulated." in client.get("/").text
    assert client.get("/api/summary").json()["simulated"]
    assert "simulated" in client.get("/calls/call-1").text
    assert "simulated" not in client.get("/calls/call-0").text


def test_an_empty_ledger_says_exactly_what_to_run() -> None:
    page = client_over([]).get("/").text
    assert "export OPENAI_BASE_URL=http://127.0.0.1:8787/v1" in page
    assert "export ANTHROPIC_BASE_URL=http://127.0.0.1:8787<" in page
    assert "export OPENAI_BASE_URL" not in client_over(DAY_OF_CALLS).get("/").text
    assert "Nothing was asked in this range" in client_over([bought("old", NOW - 40 * HOUR)]).get("/?range=1h").text


def test_calls_under_way_are_shown_with_their_stage_oldest_first() -> None:
    def under_way(name: str, arrived: int) -> Exchange:
        call = Call(endpoint="chat", model=name, body=b"")
        return Exchange(id=name, call=call, caller=Caller(tenant="acme"), arrived=arrived)

    exchanges = [under_way("newer", NOW - 10**6), under_way("older", NOW - SECOND).noting("exact_cache", "miss")]
    client = client_over(DAY_OF_CALLS, in_flight=lambda: exchanges)
    flying = client.get("/api/summary").json()["in_flight"]
    assert [(call["model"], call["age_us"], call["stage"]) for call in flying] == [
        ("older", 1_000_000, "exact_cache: miss"),
        ("newer", 1_000, "arrived"),
    ]
    assert "exact cache: miss" in text_of(client.get("/").text, "flight")


def test_readiness_tells_the_truth() -> None:
    assert client_over([]).get("/readyz").json() == {"status": "ok", "reasons": []}
    answer = client_over([], not_ready=lambda: ["The journal's disk is full."]).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["The journal's disk is full."]
    assert client_over([], not_ready=lambda: ["x"]).get("/healthz").status_code == 200


def test_metrics_are_scraped_from_the_running_totals_and_the_moment() -> None:
    exchange = Exchange(id="x", call=Call(endpoint="chat", model="m", body=b""), caller=Caller(), arrived=NOW)
    client = client_over(DAY_OF_CALLS, in_flight=lambda: [exchange], journal_lag=lambda: 7, not_ready=lambda: ["why"])
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    metrics = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    assert sum(sample.value for sample in metrics["farthing_requests"]) == 3
    assert [metrics[f"farthing_{name}"][0].value for name in ("in_flight", "journal_lag_records", "ready")] == [1, 7, 0]


def test_a_ledger_that_cannot_be_read_is_an_answer_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    ledger.close()
    path.write_bytes(b"not a database, and long enough to be read as one" * 100)
    client = client_of(panel_over(ledger, tally=list))
    for path_of in ("/api/summary", "/api/calls", "/api/calls/call-0"):
        answer = client.get(path_of)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_error")
    page = client.get("/")
    assert page.status_code == 503
    assert page.headers["content-type"].startswith("text/html")
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200


def test_a_range_is_not_read_again_while_its_reading_is_fresh() -> None:
    ledger = ledger_of([bought("call-0", NOW - HOUR)])
    times = iter([NOW, NOW, NOW + SECOND, NOW + SECOND, NOW + 3 * SECOND, NOW + 3 * SECOND])

    class Hands:
        def now(self) -> int:
            return next(times)

    client = client_of(panel_over(ledger, clock=Hands()))

    def calls() -> int:
        return client.get("/api/summary?range=24h").json()["calls"]

    assert calls() == 1
    late = bought("call-1", NOW)
    ledger.ingest([Stored(late, msgspec.json.encode(late))], 2)
    assert calls() == 1
    assert calls() == 2


def test_the_document_describes_exactly_what_is_served(described: Callable[[], dict]) -> None:
    document = described()
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"
    hint = client_over([]).get("/nothing").json()["error"]["hint"]
    served = set(hint.removeprefix("There are ").removesuffix(".").split(", "))
    pages = {"/", "/calls/{group}", "/assets/{name}", "/openapi.json"}
    assert set(document["paths"]) == served - pages


def test_the_reference_names_every_path_parameter_and_field(described: Callable[[], dict]) -> None:
    text = (Path(__file__).parents[2] / "docs/reference/api.md").read_text()
    document = described()
    for path, operations in document["paths"].items():
        assert f"`{path}`" in text
        for parameter in operations["get"]["parameters"]:
            assert f"`{parameter['name']}`" in text, parameter["name"]
    for name, schema in document["components"]["schemas"].items():
        assert f"### {name}\n" in text, name
        for field in schema["properties"]:
            assert f"`{field}`" in text.split(f"### {name}\n")[1].split("\n### ")[0], f"{name}.{field}"


@pytest.fixture
def described() -> Callable[[], dict]:
    return lambda: json.loads(client_over([]).get("/openapi.json").content)
