"""Budgets and rate limits as callers meet them: held before, posted after, refused with the whole arithmetic."""

import asyncio
import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.conftest import serving, settings_for

from farthing.config import Budget, ExactCache, Fallback, Key, RateLimit, Route, Upstream

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}], "max_completion_tokens": 50}
MESSAGES = {"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}
NO_CACHE = ExactCache(enabled=False)


def worst(body: dict, output: int) -> int:
    """What a call to gpt-6-luna can cost: $0.10 and $0.50 a million tokens, its cache writes at $0.125."""
    return len(json.dumps(body).encode()) * 125_000 + output * 500_000


def dollars(pico: int) -> str:
    return f"{pico / 10**12:.12f}"


def test_a_call_that_fits_is_answered_and_leaves_nothing_held(gateway_with):
    gateway = gateway_with(budgets={"all": Budget(usd="1")}, cache=NO_CACHE)

    for _ in range(3):
        assert gateway.post("/v1/chat/completions", CHAT).status == 200

    (account,) = gateway.accounts()
    assert account.balance.spent == sum(entry.cost for entry in gateway.entries()) > 0
    assert account.balance.held == account.balance.expired == 0


def test_a_call_whose_worst_case_does_not_fit_is_refused_with_the_arithmetic(gateway_with):
    gateway = gateway_with(budgets={"all": Budget(usd=dollars(worst(CHAT, 50) + 1000))}, cache=NO_CACHE)

    assert gateway.post("/v1/chat/completions", CHAT).status == 200
    refused = gateway.post("/v1/chat/completions", CHAT)

    assert refused.status == 402
    error = refused.json["error"]
    assert error["code"] == "budget_exceeded"
    assert error["details"]["budget"] == "all"
    assert set(error["details"]) >= {
        "limit_usd",
        "spent_usd",
        "held_usd",
        "worst_case_usd",
        "shortfall_usd",
        "resets_at",
    }
    assert error["details"]["held_usd"] == "$0.00"
    spent = gateway.entries()[0].cost
    assert error["details"]["shortfall_usd"] == f"${(spent - 1000) / 10**12:.12f}".rstrip("0")
    assert int(refused.headers["retry-after"]) > 0
    _, entered = gateway.entries()
    assert (entered.status, entered.error, entered.cost, entered.attempt) == (402, "budget_exceeded", 0, 0)


def test_a_refusal_speaks_the_dialect_it_was_asked_in(gateway_with):
    gateway = gateway_with(budgets={"all": Budget(usd="0.000000000001")}, cache=NO_CACHE)

    said = gateway.post("/v1/messages", MESSAGES).json

    assert said["type"] == "error"
    assert said["error"]["type"] == "billing_error"
    assert said["error"]["details"]["worst_case_usd"].startswith("$0.0")


def test_many_at_once_never_overspend(gateway_with):
    gateway = gateway_with(budgets={"all": Budget(usd=dollars(worst(CHAT, 50) * 4))}, cache=NO_CACHE)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: gateway.post("/v1/chat/completions", CHAT).status, range(120)))

    assert set(answers) == {200, 402}
    (account,) = gateway.accounts()
    assert account.balance.spent == sum(entry.cost for entry in gateway.entries())
    assert account.balance.spent <= account.limit.amount
    assert account.balance.held == 0


def test_a_budget_is_spent_to_its_last_possible_call(gateway_with):
    """No false refusal: one by one, calls are answered for as long as their worst case fits."""
    limit = worst(CHAT, 50) * 3
    gateway = gateway_with(budgets={"all": Budget(usd=dollars(limit))}, cache=NO_CACHE)

    while gateway.post("/v1/chat/completions", CHAT).status == 200:
        pass

    spent = sum(entry.cost for entry in gateway.entries())
    assert limit - worst(CHAT, 50) < spent <= limit


def test_an_answer_from_the_cache_needs_no_budget(gateway_with):
    whole = {**CHAT, "max_completion_tokens": 500}
    gateway = gateway_with(budgets={"all": Budget(usd=dollars(worst(whole, 500)))})

    assert [gateway.post("/v1/chat/completions", whole).status for _ in range(3)] == [200, 200, 200]
    assert gateway.post("/v1/chat/completions", {**whole, "seed": 1}).status == 402


def test_each_key_has_a_budget_of_its_own(gateway_with):
    keys = {name: Key(secret=f"env:{name.upper()}") for name in ("ann", "bob")}
    budgets = {"each": Budget(usd=dollars(worst(CHAT, 50)), per="key")}
    gateway = gateway_with({"ANN": "key-of-ann", "BOB": "key-of-bob"}, keys=keys, budgets=budgets, cache=NO_CACHE)

    def ask(key):
        return gateway.post("/v1/chat/completions", CHAT, {"authorization": f"Bearer {key}"}).status

    assert [ask("key-of-ann"), ask("key-of-ann"), ask("key-of-bob"), ask("key-of-bob")] == [200, 402, 200, 402]


def test_a_tag_can_have_a_budget(gateway_with):
    budgets = {"customer": Budget(usd=dollars(worst(CHAT, 50)), per="tag:customer", of="acme")}
    gateway = gateway_with(budgets=budgets, cache=NO_CACHE)

    def ask(customer):
        return gateway.post("/v1/chat/completions", CHAT, {"x-farthing-tag-customer": customer}).status

    assert [ask("acme"), ask("acme"), ask("other"), ask("other")] == [200, 402, 200, 200]


def test_an_unknown_price_is_refused_under_a_hard_budget_and_let_through_under_a_soft_one(gateway_with):
    unknown = {**CHAT, "model": "nobody-knows-its-price"}

    hard = gateway_with(budgets={"all": Budget(usd="100")}).post("/v1/chat/completions", unknown)
    soft = gateway_with(budgets={"all": Budget(usd="100", mode="soft")}).post("/v1/chat/completions", unknown)

    assert hard.status == 402
    assert "price" in hard.json["error"]["message"]
    assert soft.status == 200


def test_a_soft_budget_warns_once_at_each_share(gateway_with, caplog):
    caplog.set_level(logging.WARNING)
    gateway = gateway_with(budgets={"all": Budget(usd="0.0000001", mode="soft", warn_at=(0.5, 1.0))}, cache=NO_CACHE)

    statuses = {gateway.post("/v1/chat/completions", CHAT).status for _ in range(4)}

    assert statuses == {200}
    said = [record.getMessage() for record in caplog.records if "budget all" in record.getMessage()]
    assert len(said) == 2


def test_a_cap_is_cut_down_to_what_is_left(gateway_with):
    room = worst(CHAT, 30)
    gateway = gateway_with(budgets={"all": Budget(usd=dollars(room), clamp=True)}, cache=NO_CACHE)
    long = {**CHAT, "messages": [{"role": "user", "content": "Tell a long story"}], "max_completion_tokens": 500}

    answer = gateway.post("/v1/chat/completions", long)

    assert answer.status == 200
    (entry,) = gateway.entries()
    (clamped,) = [decision for decision in entry.decisions if decision.verdict == "clamped"]
    assert 16 <= clamped.facts["max_output"] < 40
    assert entry.usage.output_tokens <= clamped.facts["max_output"]
    assert entry.cost <= room


def test_a_cheaper_model_is_asked_instead(gateway_with):
    sol = {**CHAT, "model": "gpt-6-sol"}
    budgets = {"all": Budget(usd=dollars(worst(sol, 50)), downgrade={"gpt-6-sol": "gpt-6-luna"})}
    gateway = gateway_with(budgets=budgets, cache=NO_CACHE)

    answer = gateway.post("/v1/chat/completions", sol)

    assert answer.status == 200
    assert answer.json["model"] == "gpt-6-luna"
    (entry,) = gateway.entries()
    assert (entry.model, entry.served) == ("gpt-6-sol", "gpt-6-luna")
    assert [decision.verdict for decision in entry.decisions if decision.lever == "budget"] == ["downgraded"]


def test_calls_per_minute(gateway_with):
    gateway = gateway_with(limits={"free": RateLimit(per="total", calls_per_minute=2)}, cache=NO_CACHE)

    answers = [gateway.post("/v1/chat/completions", CHAT) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json["error"]["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60


def test_tokens_per_minute_count_what_was_used(gateway_with):
    gateway = gateway_with(limits={"free": RateLimit(per="total", tokens_per_minute=400)}, cache=NO_CACHE)

    statuses = [gateway.post("/v1/chat/completions", CHAT).status for _ in range(40)]

    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 429
    used = sum(entry.usage.tokens for entry in gateway.entries() if entry.usage)
    assert 100 < used <= 400


def test_calls_at_once(gateway_with, upstream_that):
    go = threading.Event()

    def slowly(client: socket.socket, request: bytes) -> None:
        go.wait(20)
        body = b'{"id":"c","object":"chat.completion","model":"gpt-6-luna","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
        client.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    upstream = upstream_that(slowly)
    gateway = gateway_with(
        upstreams={"slow": Upstream(base_url=f"http://127.0.0.1:{upstream.port}/v1", models=("*",))},
        limits={"narrow": RateLimit(per="total", concurrent=2)},
        cache=NO_CACHE,
    )
    with ThreadPoolExecutor(2) as pool:
        under_way = [pool.submit(gateway.post, "/v1/chat/completions", CHAT) for _ in range(2)]
        while len(upstream.requests) < 2:
            pass
        third = gateway.post("/v1/chat/completions", CHAT)
        go.set()
        assert [call.result().status for call in under_way] == [200, 200]

    assert third.status == 429
    assert gateway.post("/v1/chat/completions", CHAT).status == 200


def test_what_failed_and_what_answered_are_both_entered_and_only_what_was_used_is_posted(gateway_with, upstream_that):
    def fail(client: socket.socket, request: bytes) -> None:
        client.sendall(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"
        )

    upstream = upstream_that(fail)
    gateway = gateway_with(
        upstreams={
            "broken": Upstream(base_url=f"http://127.0.0.1:{upstream.port}/v1"),
            "stub": Upstream(kind="stub"),
        },
        routes=(
            Route(model="gpt-6-luna", upstream="broken"),
            Route(model="gpt-6-luna", upstream="stub", rank=2),
        ),
        limits={"rates": RateLimit(per="total", calls_per_minute=10)},
        cache=NO_CACHE,
        fallback=Fallback(backoff=0.01),
    )

    answer = gateway.post("/v1/chat/completions", CHAT)

    assert answer.status == 200
    first, second = gateway.entries()
    assert (first.upstream, first.attempt, first.superseded, first.cost) == ("broken", 1, True, 0)
    assert (second.upstream, second.attempt, second.superseded) == ("stub", 2, False)
    assert second.cost > 0
    (account,) = gateway.accounts()
    assert (account.balance.spent, account.balance.held) == (2, 0)


def test_a_budget_counts_what_the_ledger_has_from_before_it_was_set(tmp_path):
    before = settings_for(tmp_path, cache=NO_CACHE)
    with serving(before) as gateway:
        assert gateway.post("/v1/chat/completions", CHAT).status == 200
        spent = gateway.entries()[0].cost

    budget = Budget(usd=dollars(worst(CHAT, 50) + spent - 1))
    with serving(msgspec.structs.replace(before, budgets={"all": budget})) as gateway:
        refused = gateway.post("/v1/chat/completions", CHAT)
        assert refused.status == 402
        assert refused.json["error"]["details"]["shortfall_usd"] == "$0.000000000001"


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_failed_store_leaves_unsaid_is_not_asked(gateway_with, stream):
    gateway = gateway_with(budgets={"all": Budget(usd="1")}, cache=NO_CACHE)
    assert gateway.post("/v1/chat/completions", CHAT).status == 200
    closing = gateway.running.holds._store.close()
    asyncio.run_coroutine_threadsafe(closing, gateway.loop).result(5)

    refused = gateway.post("/v1/chat/completions", {**CHAT, "stream": stream})

    assert refused.status == 503
    assert refused.json["error"]["code"] == "store_unavailable"
    assert [entry.attempt for entry in gateway.entries()] == [1, 0]


def test_a_soft_budget_lets_calls_through_while_its_store_is_away(gateway_with):
    gateway = gateway_with(budgets={"all": Budget(usd="1", mode="soft")}, cache=NO_CACHE)
    closing = gateway.running.holds._store.close()
    asyncio.run_coroutine_threadsafe(closing, gateway.loop).result(5)

    assert gateway.post("/v1/chat/completions", CHAT).status == 200
