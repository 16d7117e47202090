"""Calls with an Idempotency-Key, between processes: asked once while who asks lives, whatever becomes of the store."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farthing.errors import StoreError
from farthing.gateway import Pipeline, Settlement
from farthing.gateway import repeats as repeating
from farthing.gateway.repeats import Repeats, lasting
from farthing.ports import IdempotencyStore
from farthing.schema import Attempt, Call, Caller, Charge, Exchange, Reply
from farthing.stores.journal import FileJournal
from farthing.stores.memory_idempotency import MemoryIdempotency
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.sqlite_idempotency import SqliteIdempotency

SECOND = 10**9
BODY = b'{"model": "m"}'
ANSWER = Reply(200, b'{"said": "hello"}', headers=((b"content-type", b"application/json"),), charge=Charge(7, 7, "v"))


class Clock:
    now = staticmethod(time.time_ns)


class Process:
    """One of the processes that serve: a pipeline of its own, over a store that others share."""

    def __init__(self, path: Path, name: str, store: IdempotencyStore, patience: float) -> None:
        self.name = name
        self.asked = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.answer: Callable[[], Reply] = lambda: ANSWER
        self.ledger = MemoryLedger()
        self.journal = FileJournal(path / name, self.ledger)
        self.repeats = Repeats(store, self.journal, Clock(), int(patience * SECOND))
        settlement = Settlement(
            self.journal, Clock(), "policy", keep=lambda exchange: None, watchers=[self.repeats.settled]
        )
        self._pipeline = Pipeline([self.repeats, lasting(self._buy)], settlement, self.repeats.recorded)
        self._calls = 0

    async def _buy(self, exchange: Exchange, outlet: object) -> Exchange:
        self.asked += 1
        began = time.time_ns()
        await self.answering.wait()
        reply = self.answer()
        attempt = Attempt("up", reply, began, time.time_ns(), None)
        return msgspec.structs.replace(exchange, attempts=(attempt,), reply=reply)

    def handle(self, key: bytes = b"k", body: bytes = BODY) -> Coroutine[Any, Any, Exchange]:
        self._calls += 1
        call = Call("chat", "m", body, path="/v1/chat/completions", idempotency_key=key)
        return self._pipeline.handle(Exchange(f"{self.name}-{self._calls}", call, Caller(), time.time_ns()))

    async def close(self) -> None:
        await self.repeats.close()
        self.journal.close()


@pytest.fixture
def processes(tmp_path):
    """Start processes over one file, or over the store given; all are closed at the end of the block."""

    @asynccontextmanager
    async def start(
        count: int = 2, *, patience: float = 20, deadline: float = 2.0, store: IdempotencyStore | None = None
    ) -> AsyncIterator[list[Process]]:
        started = [
            Process(
                tmp_path,
                f"process-{n}",
                store or SqliteIdempotency(tmp_path / "idempotency.sqlite", deadline=deadline),
                patience,
            )
            for n in range(count)
        ]
        try:
            yield started
        finally:
            for process in started:
                process.answering.set()
                await process.close()

    return start


@contextmanager
def held_by_another(path: Path):
    """A file that another process has locked for as long as the block lasts."""
    holder = sqlite3.connect(path / "idempotency.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield holder
    finally:
        holder.execute("COMMIT")
        holder.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def is_replay(exchange: Exchange) -> bool:
    return any(decision.verdict == "replayed" for decision in exchange.decisions)


def test_a_hundred_callers_of_three_processes_have_one_answer(processes):
    async def story() -> None:
        async with processes(3) as started:
            for process in started:
                process.answering.clear()
            calls = [asyncio.create_task(started[n % 3].handle()) for n in range(100)]
            await until(lambda: any(process.asked for process in started))
            await asyncio.sleep(0.1)
            for process in started:
                process.answering.set()
            answered = await asyncio.gather(*calls)
        assert sum(process.asked for process in started) == 1
        assert {exchange.reply.body for exchange in answered} == {ANSWER.body}
        assert sum(map(is_replay, answered)) == 99
        entries = [entry for process in started for entry in process.ledger.entries()]
        assert sorted(entry.cost for entry in entries) == [0] * 99 + [7]
        assert not any(entry.saved or entry.list_cost for entry in entries if entry.attempt == 0)

    asyncio.run(story())


def test_an_answer_that_went_out_is_known_to_all(processes):
    async def story() -> None:
        async with processes(2, patience=0) as (one, other):  # who finds it under way is refused at once
            for n in range(20):
                await one.handle(b"%d" % n)
                assert is_replay(await other.handle(b"%d" % n))
            assert other.asked == 0

    asyncio.run(story())


def test_another_body_is_refused_wherever_it_arrives(processes):
    async def story() -> None:
        async with processes(2) as (one, other):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            meanwhile = [await one.handle(body=b"{}"), await other.handle(body=b"{}")]
            one.answering.set()
            await first
            for exchange in [*meanwhile, await one.handle(body=b"{}"), await other.handle(body=b"{}")]:
                assert (exchange.reply.status, exchange.reply.error) == (409, "idempotency_conflict")
            assert (one.asked, other.asked) == (1, 0)

    asyncio.run(story())


def test_of_two_requests_under_one_key_the_second_is_refused_though_both_come_at_once(processes):
    async def story() -> None:
        async with processes(1) as (one,):
            for n in range(20):
                both = await asyncio.gather(*(one.handle(b"%d" % n, body) for body in (b"a", b"b")))
                assert sorted(exchange.reply.status for exchange in both) == [200, 409]

    asyncio.run(story())


def test_a_claim_is_renewed_for_as_long_as_it_takes(processes, monkeypatch):
    monkeypatch.setattr(repeating, "LEASE", SECOND // 2)
    monkeypatch.setattr(repeating, "RENEWAL_SECONDS", 0.1)

    async def story() -> None:
        async with processes(2) as (one, other):
            one.answering.clear()
            calls = [asyncio.create_task(one.handle())]
            await until(lambda: one.asked == 1)
            calls.append(asyncio.create_task(other.handle()))
            await asyncio.sleep(1.5)
            assert not any(call.done() for call in calls)
            one.answering.set()
            assert [is_replay(exchange) for exchange in await asyncio.gather(*calls)] == [False, True]
            assert (one.asked, other.asked) == (1, 0)

    asyncio.run(story())


def test_the_key_of_a_process_that_gives_no_sign_of_life_is_free_again(processes, monkeypatch):
    monkeypatch.setattr(repeating, "LEASE", SECOND // 2)

    async def story() -> None:
        async with processes(2) as (frozen, other):
            frozen.answering.clear()
            first = asyncio.create_task(frozen.handle())
            await until(lambda: frozen.asked == 1)

            answered = await other.handle()  # waits for the claim to lapse

            assert not is_replay(answered)
            assert answered.reply == ANSWER
            assert answered.waited > 0.3 * SECOND
            frozen.answer = lambda: Reply(200, b'"late"', charge=Charge(8, 8, "v"))
            frozen.answering.set()  # it had not died: what it bought is entered, and nobody's answer changes
            assert (await first).reply.body == b'"late"'
            assert (await other.handle()).reply.body == ANSWER.body
        assert [entry.cost for entry in frozen.ledger.entries()] == [8]

    asyncio.run(story())


def test_patience_ends(processes):
    async def story() -> None:
        async with processes(2, patience=0.3) as (one, other):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            for refused in await asyncio.gather(one.handle(), other.handle(), other.handle()):
                assert (refused.reply.status, refused.reply.error) == (503, "unavailable")
                assert dict(refused.reply.headers)[b"retry-after"] == b"5"
            one.answering.set()
            assert (await first).reply == ANSWER
            assert is_replay(await other.handle())

    asyncio.run(story())


def test_who_waits_and_leaves_stops_nobody(processes):
    async def story() -> None:
        async with processes(2) as (one, other):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            waiting = [asyncio.create_task(process.handle()) for process in (one, one, other, other)]
            await asyncio.sleep(0.05)
            for leaver in (waiting[0], waiting[2]):
                leaver.cancel()
            await asyncio.sleep(0.05)
            one.answering.set()
            assert (await first).reply == ANSWER
            for stayer in (waiting[1], waiting[3]):
                assert is_replay(await stayer)
                assert (await stayer).waited > 0.03 * SECOND
            assert waiting[0].cancelled()
            assert (one.asked, other.asked) == (1, 0)

    asyncio.run(story())


def test_a_first_caller_that_leaves_is_entered_and_its_answer_kept(processes):
    async def story() -> None:
        async with processes(2) as (one, other):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            first.cancel()
            await asyncio.sleep(0.05)
            one.answering.set()
            assert is_replay(await other.handle())
            assert is_replay(await one.handle())
            assert one.asked == 1
        assert sorted(entry.cost for entry in one.ledger.entries()) == [0, 7]

    asyncio.run(story())


def test_a_bug_is_taken_for_a_purchase(processes):
    async def story() -> None:
        async with processes(1) as (one,):
            one.answer = lambda: 1 / 0
            with pytest.raises(ZeroDivisionError):
                await one.handle()
            one.answer = lambda: ANSWER
            await until(lambda: not one.repeats._claimed)
            assert (await one.handle()).reply.status == 409
            assert one.asked == 1

    asyncio.run(story())


class Watched(MemoryIdempotency):
    """A store that looks, when a reply comes to be kept, whether its entry is written."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self._journal = journal
        self.entered: list[bool] = []

    async def complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        self.entered.append(any(owner.encode() in file.read_bytes() for file in self._journal.iterdir()))
        await super().complete(key, owner, reply, until)


def test_an_answer_is_entered_before_it_is_kept(processes, tmp_path):
    async def story() -> None:
        store = Watched(tmp_path / "process-0")
        async with processes(1, store=store) as (one,):
            await asyncio.gather(*(one.handle(b"%d" % n) for n in range(10)))
        assert store.entered == [True] * 10

    asyncio.run(story())


def test_of_an_answer_only_what_callers_see_is_kept(processes):
    async def story() -> None:
        async with processes(1) as (one,):
            headers = (*ANSWER.headers, (b"x-request-id", b"17"), (b"retry-after", b"3"))
            one.answer = lambda: msgspec.structs.replace(ANSWER, headers=headers, tail=b"end", provider="openai")
            await one.handle()
            again = (await one.handle()).reply
            assert again == msgspec.structs.replace(
                ANSWER, headers=(*ANSWER.headers, (b"idempotent-replayed", b"true")), provider="openai", charge=None
            )

    asyncio.run(story())


@pytest.mark.parametrize(
    ("charge", "ending", "asked"),
    [
        (None, "reset", 1),  # what it cost is not known
        (Charge(None, None, "v"), "timeout", 1),
        (Charge(3, 3, "v"), "disconnected", 1),
        (Charge(0, 0, ""), "disconnected", 2),
        (Charge(0, 0, ""), "unreachable", 2),
    ],
)
def test_a_failure_is_repeated_only_where_it_may_have_cost_something(processes, charge, ending, asked):
    async def story() -> None:
        async with processes(1) as (one,):
            one.answer = lambda: Reply(499, b"{}", ending=ending, error="e", charge=charge)
            assert [is_replay(await one.handle()) for _ in range(2)] == [False, asked == 1]
            assert one.asked == asked

    asyncio.run(story())


# When the store cannot be used


def test_without_its_store_only_calls_without_a_key_are_answered(processes, tmp_path):
    async def story() -> None:
        async with processes(1, deadline=0.2) as (one,):
            with held_by_another(tmp_path):
                refused, answered = await asyncio.gather(one.handle(), one.handle(key=b""))
            assert (refused.reply.status, refused.reply.error) == (503, "store_unavailable")
            assert answered.reply == ANSWER
            assert one.asked == 1
            await asyncio.sleep(0.3)
            assert (await one.handle()).reply == ANSWER  # what may have been claimed was given back, or never was

    asyncio.run(story())


def test_an_answer_that_cannot_be_kept_goes_out_and_is_kept_later(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(repeating, "RETRY_SECONDS", 0.05)

    async def story() -> None:
        async with processes(2, deadline=0.3) as (one, other):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            with held_by_another(tmp_path):
                one.answering.set()
                assert (await first).reply == ANSWER
                assert is_replay(await one.handle())
                assert (await other.handle()).reply.status == 503
            assert is_replay(await other.handle())
            assert (one.asked, other.asked) == (1, 0)

    asyncio.run(story())


def test_an_outage_longer_than_the_lease_does_not_free_a_key(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(repeating, "LEASE", SECOND // 2)
    monkeypatch.setattr(repeating, "RETRY_SECONDS", 0.05)

    async def story() -> None:
        async with processes(2, deadline=0.2) as (one, other):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            with held_by_another(tmp_path) as holder:
                one.answering.set()
                await first
                await asyncio.sleep(1)
                holder.execute("DELETE FROM claims")  # as it lapsed, it may be gone
            await until(lambda: not one.repeats._tasks)
            assert is_replay(await other.handle())

    asyncio.run(story())


def test_closing_keeps_what_is_not_kept_yet(processes, tmp_path):
    async def story() -> None:
        async with processes(1, deadline=0.2) as (one,):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            with held_by_another(tmp_path):
                one.answering.set()
                await first
                closing = asyncio.create_task(one.repeats.close())
                await asyncio.sleep(0.2)
            await closing
        async with processes(1) as (successor,):
            assert is_replay(await successor.handle())

    asyncio.run(story())


def test_closing_does_not_wait_for_ever(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(repeating, "CLOSING", 0.3)

    async def story() -> None:
        async with processes(1, deadline=0.1) as (one,):
            one.answering.clear()
            first = asyncio.create_task(one.handle())
            await until(lambda: one.asked == 1)
            with held_by_another(tmp_path):
                one.answering.set()
                await first
                async with asyncio.timeout(5):
                    await one.repeats.close()
                await asyncio.sleep(0)
                assert not one.repeats._tasks

    asyncio.run(story())


def test_a_store_that_was_closed_refuses(processes):
    async def story() -> None:
        store = MemoryIdempotency()
        async with processes(1, store=store) as (one,):
            await store.close()
            assert (await one.handle()).reply.status == StoreError.status

    asyncio.run(story())
