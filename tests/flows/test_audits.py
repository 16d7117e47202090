"""A share of what a small model answers is asked of the next rank too; one that drifts steps aside."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice

import msgspec
import pytest
from click.testing import CliRunner
from tests.cascade_sample import cascade, chat, mistaken, said, sure, unsure
from tests.conftest import Gateway, serving, settings_for

from farthing.budgets import Limits
from farthing.cli.compressing_drift import command
from farthing.config import Budget, Ledger, Settings, Upstream
from farthing.gateway import Holds, ReplyCache, Reserve, Source
from farthing.gateway.attempt import Offer
from farthing.gateway.audits import AT_ONCE
from farthing.ledger.drift import is_audit
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify
from farthing.prompts import Calibration
from farthing.providers.stub import StubUpstream
from farthing.schema import Call, Caller, Decision, Entry, Exchange
from farthing.stores.memory_budgets import MemoryBudgets
from farthing.stores.price_files import current_book
from farthing.stores.tallying import TallyingJournal
from farthing.wiring.parts import Parts, pipeline_of, policy_of
from farthing.wiring.serving import SystemClock
from farthing.wiring.shared import ledger_store_of

PATH = "/v1/chat/completions"
PATIENCE = 10.0


def settled(gateway: Gateway, count: int) -> list[Entry]:
    """The entries, once there are so many."""
    until = time.monotonic() + PATIENCE
    while len(entries := gateway.entries()) < count and time.monotonic() < until:
        time.sleep(0.02)
    assert len(entries) == count, [(entry.id, entry.decisions) for entry in entries]
    assert list(verify(entries)) == []
    return entries


def audits(entries: Sequence[Entry]) -> list[Decision]:
    return [entry.decisions[0] for entry in entries if is_audit(entry)]


def test_an_answer_is_audited_in_the_background_and_entered(gateway_with):
    gateway = gateway_with(**cascade(audit=1.0))
    right, wrong = next(sure()), next(mistaken())

    for body in (right, wrong):
        answer = gateway.post(PATH, body)
        assert answer.json["choices"][0]["message"]["content"] == said(body)[0]

    entries = settled(gateway, 4)
    checked = {decision.verdict: decision.facts for decision in audits(entries)}
    for verdict, body in (("agreed", right), ("disagreed", wrong)):
        label, confidence, reference = said(body)
        assert checked[verdict] == {
            "rung": "student",
            "confidence": confidence,
            "answer": label,
            "reference": reference,
        }
    extra = next(entry for entry in entries if is_audit(entry))
    assert (extra.upstream, extra.attempt, extra.superseded) == ("large", 2, True)
    assert extra.id == f"{extra.group}.2"
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    assert (tally.totals().calls, tally.totals().attempts) == (2, 4)


def test_prose_is_compared_but_its_words_stay_out_of_the_ledger(gateway_with):
    gateway = gateway_with(**cascade(large="gpt-6-luna", audit=1.0))
    gateway.post(PATH, next(sure(max_completion_tokens=60)))
    entries = settled(gateway, 2)
    (decision,) = audits(entries)
    assert (decision.verdict, decision.facts["reference"]) == ("disagreed", "")
    assert entries[1].cost > 0


def test_a_streamed_answer_is_audited_too(gateway_with):
    gateway = gateway_with(**cascade(audit=1.0))
    gateway.post(PATH, next(sure(stream=True)))
    (decision,) = audits(settled(gateway, 2))
    assert decision.verdict == "agreed"


def test_only_answers_of_the_rung_are_audited_and_only_its_share(gateway_with):
    gateway = gateway_with(**cascade(audit=0.25))
    for body in islice(unsure(), 5):
        gateway.post(PATH, body)
    for body in islice(sure(), 100):
        gateway.post(PATH, body)
    time.sleep(0.2)
    count = len(audits(gateway.entries()))
    assert 5 <= count <= 50, "a quarter of a hundred, within six standard deviations"


def test_the_receipt_shows_the_answer_that_was_given_and_its_audit(gateway_with):
    gateway = gateway_with(**cascade(audit=1.0))
    gateway.post(PATH, next(sure()))
    group = settled(gateway, 2)[0].group
    receipt = gateway.get(f"/api/calls/{group}").json
    assert (receipt["call"]["upstream"], receipt["call"]["status"]) == ("student", 200)
    assert [decision["lever"] for decision in receipt["decisions"]][-2:] == ["cascade", "audit"]
    assert gateway.get(f"/calls/{group}").status == 200


# -- money


def test_an_audit_is_held_for_and_counts_against_the_callers_budget(gateway_with):
    settings = {**cascade(large="gpt-6-luna", audit=1.0), "budgets": {"all": Budget(usd="1")}}
    gateway = gateway_with(**settings)
    gateway.post(PATH, next(sure(max_completion_tokens=20)))
    entries = settled(gateway, 2)
    (account,) = gateway.accounts()
    assert account.balance.spent == sum(entry.cost for entry in entries)
    assert account.balance.held == account.balance.expired == 0


def test_an_audit_that_does_not_fit_is_not_made(gateway_with):
    """A budget with room for the student, and none for 131,072 tokens of the larger model."""
    settings = {**cascade(large="gpt-6-luna", audit=1.0), "budgets": {"all": Budget(usd="0.03")}}
    gateway = gateway_with(**settings)
    assert gateway.post(PATH, next(sure())).status == 200
    time.sleep(0.2)
    assert len(gateway.entries()) == 1
    (account,) = gateway.accounts()
    assert account.balance.held == account.balance.expired == 0


def test_an_audit_whose_gateway_died_is_no_second_call():
    """What its successor finds in the store, and enters."""
    settings = Settings(**cascade(audit=1.0, large="gpt-6-luna"), budgets={"all": Budget(usd="1")})
    policy, store = policy_of(settings), MemoryBudgets()
    call = Call("chat", "intent", json.dumps(next(sure())).encode())
    exchange = Exchange("c1", call, Caller(), 10**18)
    offer = Offer(call, policy.routes[1], Source(StubUpstream("large")), audit=True)

    async def held() -> Entry:
        holds = Holds(store, Limits(policy.limits), nothing_spent)
        await Reserve(holds, current_book(""), Calibration(), policy.version).hold(exchange, offer, 2)
        (hold,) = await store.orphans()
        return msgspec.json.decode(hold.entry, type=Entry)

    lost = asyncio.run(held())
    given = Entry(id="c1.1", group="c1", attempt=1, at=10**18, endpoint="chat", model="intent", upstream="student")
    assert (lost.id, lost.error, is_audit(lost)) == ("c1.2", "gateway_died", True)
    assert lost.cost > 0
    assert list(verify([given, lost])) == []


GOOD = json.dumps(
    {
        "id": "c", "object": "chat.completion", "model": "gpt-6-luna",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "card_lost"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
).encode()  # fmt: skip


def slow(seconds: float) -> Callable:
    def script(client, _) -> None:
        time.sleep(seconds)
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(GOOD))
        client.sendall(GOOD)

    return script


def large_at(port: int, key: str = "env:KEY") -> Upstream:
    return Upstream(provider="openai", api_key=key, base_url=f"http://127.0.0.1:{port}/v1")


def test_nobody_waits_for_an_audit_and_a_stop_lets_it_end(tmp_path, upstream_that):
    large = upstream_that(slow(1.5))
    settings = settings_for(tmp_path, **cascade(audit=1.0, large="gpt-6-luna", upstream=large_at(large.port)))
    with serving(settings, {"KEY": "k"}) as gateway:
        began = time.monotonic()
        assert gateway.post(PATH, next(sure())).status == 200
        assert time.monotonic() - began < 1.0
        until = time.monotonic() + PATIENCE
        while not large.requests and time.monotonic() < until:
            time.sleep(0.01)
    with closing(ledger_store_of(settings, {})) as ledger:
        entries = list(ledger.entries())
    assert [is_audit(entry) for entry in entries] == [False, True]
    assert audits(entries)[0].facts["reference"] == "card_lost"
    assert entries[1].cost > 0


def test_no_caller_pays_for_an_audit_with_a_key_of_its_own(gateway_with, upstream_that):
    large = upstream_that(slow(0.0))
    gateway = gateway_with(**cascade(audit=1.0, large="gpt-6-luna", upstream=large_at(large.port, key="")))
    assert gateway.post(PATH, next(sure()), {"authorization": "Bearer mine"}).status == 200
    time.sleep(0.2)
    assert large.requests == []
    assert len(gateway.entries()) == 1


def test_what_the_next_rank_fails_to_answer_teaches_nothing(gateway_with):
    gateway = gateway_with(**cascade(large="stub-500", audit=1.0, gate=0.01))
    for body in islice(sure(), 4):
        assert gateway.post(PATH, body).status == 200
    entries = settled(gateway, 8)
    assert {decision.verdict for decision in audits(entries)} == {"unanswered"}
    assert b"farthing_cascade_audited_total{" not in gateway.get("/metrics").body


def test_audits_at_once_are_bounded():
    """Forty answers at once, and a larger model that takes its time."""
    settings = Settings(**cascade(audit=1.0, large="stub-stall"))
    policy = policy_of(settings)

    async def run() -> tuple[int, int]:
        clock, journal = SystemClock(), TallyingJournal()
        sources = {
            "student": Source(StubUpstream("student"), hourly=1),
            "large": Source(StubUpstream("large", stall=0.2)),
        }
        holds = Holds(MemoryBudgets(), Limits(policy.limits), nothing_spent)
        dice = random.Random(0).random
        pipeline = pipeline_of(
            Parts(
                policy,
                sources,
                current_book(""),
                journal,
                clock,
                ReplyCache([], clock),
                holds,
                dice,
                lambda: False,
                audit_watchers=(),
            )
        )
        for number, body in enumerate(islice(sure(), 40)):
            call = Call("chat", "intent", json.dumps(body).encode(), path="/v1/chat/completions")
            await pipeline.handle(Exchange(f"c{number}", call, Caller(), clock.now()))
        under_way = pipeline.audits.under_way
        await pipeline.audits.finish()
        assert pipeline.audits.under_way == 0
        return under_way, journal.tally.totals().attempts

    assert asyncio.run(run()) == (AT_ONCE, 40 + AT_ONCE)


async def nothing_spent(*_: object) -> dict[int, int]:
    return {}


# -- stepping aside


def test_a_rung_that_drifts_steps_aside_and_is_still_tried(gateway_with):
    gateway, confident = gateway_with(**cascade(large="stub-labeller", audit=1.0, gate=0.05)), mistaken()
    made = 0
    while gateway.get("/healthz").json["reasons"] == []:
        gateway.post(PATH, next(confident))
        made += 1
        settled(gateway, 2 * made)
        assert made < 10
    assert "student has stepped aside for intent" in gateway.get("/healthz").json["reasons"][0]
    assert gateway.get("/readyz").status == 200

    body = next(confident)
    answer = gateway.post(PATH, body)

    assert answer.json["choices"][0]["message"]["content"] == said(body)[2], "the larger model answers"
    *_, given, tried = settled(gateway, 2 * made + 2)
    assert (given.upstream, given.superseded) == ("large", False)
    assert given.decisions[1] == Decision("cascade", "stepped_aside", {"rung": "student"})
    assert (tried.upstream, is_audit(tried), tried.decisions[0].verdict) == ("student", True, "disagreed")
    gateway.post(PATH, next(unsure()))
    assert settled(gateway, 2 * made + 4)[-1].decisions[0].verdict == "declined"
    metrics = gateway.get("/metrics").body.decode()
    labels = '{model="intent",upstream="student"}'
    assert f"farthing_cascade_audited_total{labels} {made + 1}.0" in metrics
    assert f"farthing_cascade_disagreed_total{labels} {made + 1}.0" in metrics
    assert f"farthing_cascade_stepped_aside{labels} 1.0" in metrics


def test_one_that_agrees_does_not(gateway_with):
    gateway = gateway_with(**cascade(audit=1.0, gate=0.05))
    for body in islice(sure(), 30):
        gateway.post(PATH, body)
    settled(gateway, 60)
    assert gateway.get("/healthz").json["reasons"] == []


# -- farthing compress drift


@pytest.fixture
def configured(tmp_path):
    """A gateway's settings, also as a file for the command."""
    path = tmp_path / "ledger"
    config = tmp_path / "farthing.toml"
    config.write_text(
        f"""
        [ledger]
        path = "{path}"
        bodies = true
        [upstreams.student]
        kind = "stub"
        hourly_usd = "0.05"
        [upstreams.large]
        kind = "stub"
        """
    )
    return settings_for(tmp_path, **cascade(audit=1.0), ledger=Ledger(path=str(path), bodies=True)), config


def drift(config, *arguments: str):
    return CliRunner().invoke(command, ["--config", str(config), *arguments])


def test_drift_is_reported_and_texts_are_exported_to_learn_from(configured, tmp_path):
    settings, config = configured
    right, wrong, doubtful = next(sure()), next(mistaken()), next(unsure())
    with serving(settings) as gateway:
        for body in (right, wrong, doubtful):
            gateway.post(PATH, body)
        settled(gateway, 6)
    file = tmp_path / "taught.jsonl"

    told = drift(config, "--export", str(file))

    assert told.exit_code == 0, told.output
    assert "student for intent: 3 calls" in told.output
    assert "answered 2 (66.7 %), escalated 1 (33.3 %)" in told.output
    assert "1 of 2 audited answers differ: 50.0 %" in told.output
    label, _, reference = said(wrong)
    assert any(line.split() == [label, reference, "1"] for line in told.output.splitlines())
    examples = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(examples, key=lambda one: one["text"]) == sorted(
        ({"text": body["messages"][0]["content"], "label": said(body)[2]} for body in (right, wrong, doubtful)),
        key=lambda one: one["text"],
    )


def test_drift_exits_1_when_the_gate_is_exceeded_and_says_so_in_json(configured):
    settings, config = configured
    with serving(settings) as gateway:
        for body in islice(mistaken(), 6):
            gateway.post(PATH, body)
        settled(gateway, 12)
    told = drift(config, "--json", "--gate", "0.05")
    assert told.exit_code == 1
    (rung,) = msgspec.json.decode(told.stdout)["rungs"]
    assert (rung["audited"], rung["disagreed"], rung["exceeded"]) == (6, 6, True)
    assert drift(config, "--gate", "0.99").exit_code == 0


def test_drift_without_a_cascade_says_so(configured):
    settings, config = configured
    with serving(msgspec.structs.replace(settings, routes=settings.routes[1:])) as gateway:
        gateway.post(PATH, chat("Hello?"))
    told = drift(config)
    assert (told.exit_code, told.output.count("no cascade")) == (0, 1)


def test_without_bodies_there_is_nothing_to_export(configured, tmp_path):
    settings, config = configured
    with serving(msgspec.structs.replace(settings, ledger=Ledger(path=settings.ledger.path))) as gateway:
        gateway.post(PATH, next(sure()))
    told = drift(config, "--export", str(tmp_path / "x.jsonl"))
    assert told.exit_code != 0
    assert "ledger.bodies" in str(told.exception)
