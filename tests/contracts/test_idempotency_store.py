"""Every idempotency store: a key is one caller's until it is answered, given back or lapsed; then its answer stays."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from farthing.errors import StoreError
from farthing.ports import IdempotencyStore, Repeated
from farthing.schema import Charge, Reply, Usage
from farthing.stores import sqlite_idempotency
from farthing.stores.memory_idempotency import MemoryIdempotency
from farthing.stores.sqlite_idempotency import SqliteIdempotency

SECOND = 10**9
KEY = bytes(range(32))
WHOLE = Reply(
    200, b'{"said": "\xf0\x9f\x91\x8b"}\x00\xff', headers=((b"content-type", b"text/event-stream"),), streamed=True,
    model="m", tier="flex", usage=Usage(input=3, output=5), usage_source="provider", finish="stop", error="e",
    unknown_usage=("x",), provider="openai", charge=Charge(10**15, None, "v", (("l", 1),)), simulated=True,
)  # fmt: skip


class Place:
    """Where a store is kept; run what it does on one event loop. All that it opens share what is kept."""

    def __init__(self, module: str, name: str, *address: object) -> None:
        self._module, self._name, self._address = module, name, address
        self._stores: list[IdempotencyStore] = []
        self.run: Callable[[Coroutine[Any, Any, Any]], Any]

    def __call__(self) -> IdempotencyStore:
        if not self._address:
            self._stores = self._stores or [MemoryIdempotency()]
            return self._stores[0]
        self._stores.append(getattr(import_module(self._module), self._name)(*self._address))
        return self._stores[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def fixture_of(request: pytest.FixtureRequest, module: str, name: str) -> Any:
    """The address of an empty database, where its adapter and its server are there."""
    pytest.importorskip(f"farthing.stores.{module}")
    try:
        return request.getfixturevalue(name)
    except pytest.FixtureLookupError:
        pytest.skip(f"needs the fixture {name}")


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path) -> Iterator[Place]:
    if request.param == "memory":
        place = Place("farthing.stores.memory_idempotency", "MemoryIdempotency")
    elif request.param == "sqlite":
        path = tmp_path / "some dir#1" / "idempotency.sqlite"
        place = Place("farthing.stores.sqlite_idempotency", "SqliteIdempotency", path)
    elif request.param == "redis":
        url = fixture_of(request, "redis_idempotency", "redis_url")
        place = Place("farthing.stores.redis_idempotency", "RedisIdempotency", url)
    else:
        dsn = fixture_of(request, "postgres_idempotency", "postgres_dsn")
        place = Place("farthing.stores.postgres_idempotency", "PostgresIdempotency", dsn)
    with asyncio.Runner() as runner:
        place.run = runner.run
        yield place
        runner.run(place.close())


@pytest.fixture
def run(open_store: Place) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    return open_store.run


@pytest.fixture
def store(open_store: Place) -> IdempotencyStore:
    return open_store()


async def claim(
    store: IdempotencyStore, owner: str = "me", *, key: bytes = KEY, digest: bytes = b"a", seconds: float = 60
) -> Repeated | None:
    now = time.time_ns()
    return await store.claim(key, digest, owner, now, now + int(seconds * SECOND))


async def complete(
    store: IdempotencyStore, owner: str = "me", reply: Reply = WHOLE, *, key: bytes = KEY, seconds: float = 60
) -> None:
    await store.complete(key, owner, reply, time.time_ns() + int(seconds * SECOND))


def test_who_comes_first_has_the_key_until_its_reply_is_there(open_store, run):
    mine, theirs = open_store(), open_store()

    async def story() -> list[Repeated | None]:
        first = await claim(mine)
        meanwhile = await claim(theirs, "you")
        await complete(mine)
        return [first, meanwhile, await claim(theirs, "you"), await claim(mine)]

    assert run(story()) == [None, Repeated(b"a", None), Repeated(b"a", WHOLE), Repeated(b"a", WHOLE)]


def test_another_request_is_told_what_the_key_stands_for(store, run):
    async def story() -> list[Repeated | None]:
        await claim(store, digest=b"a")
        meanwhile = await claim(store, "you", digest=b"b")
        await complete(store)
        return [meanwhile, await claim(store, "you", digest=b"b")]

    assert run(story()) == [Repeated(b"a", None), Repeated(b"a", WHOLE)]


def test_keys_stand_alone(store, run):
    async def story() -> list[Repeated | None]:
        return [await claim(store, "you", key=key) for key in (b"\0", b"\0\0", b"\xff" * 32, b"'; --", KEY)]

    assert run(story()) == [None] * 5


def test_one_of_many_claims_it(open_store, run):
    stores = [open_store() for _ in range(4)]

    async def story() -> list[Repeated | None]:
        return await asyncio.gather(*(claim(stores[n % 4], f"owner {n}") for n in range(40)))

    claimed = run(story())
    assert claimed.count(None) == 1
    assert claimed.count(Repeated(b"a", None)) == 39


def test_its_owner_keeps_it_for_longer(open_store, run):
    mine, theirs = open_store(), open_store()

    async def story() -> list[Repeated | None]:
        found = [await claim(mine, seconds=0.3)]
        for _ in range(4):
            await asyncio.sleep(0.1)
            found += [await claim(mine, seconds=0.3), await claim(theirs, "you")]
        return found

    assert run(story()) == [None, *([None, Repeated(b"a", None)] * 4)]


def test_what_lapses_is_free_for_any_request(open_store, run):
    mine, theirs = open_store(), open_store()

    async def story() -> list[Repeated | None]:
        await claim(mine, seconds=0.05)
        await asyncio.sleep(0.1)
        taken = await claim(theirs, "you", digest=b"b")
        await complete(mine)  # too late: it is another's
        await mine.release(KEY, "me")
        return [taken, await claim(mine)]

    assert run(story()) == [None, Repeated(b"b", None)]


def test_what_was_kept_is_forgotten_in_its_time(store, run):
    async def story() -> list[Repeated | None]:
        await claim(store)
        await complete(store, seconds=0.2)
        kept = await claim(store, "you")
        await asyncio.sleep(0.25)
        return [kept, await claim(store, "you", digest=b"b"), await claim(store)]

    assert run(story()) == [Repeated(b"a", WHOLE), None, Repeated(b"b", None)]


def test_what_is_given_back_is_free(open_store, run):
    mine, theirs = open_store(), open_store()

    async def story() -> list[Repeated | None]:
        await claim(mine)
        await theirs.release(KEY, "you")  # not theirs to give
        kept = await claim(theirs, "you")
        await mine.release(KEY, "me")
        await mine.release(KEY, "me")
        return [kept, await claim(theirs, "you", digest=b"b")]

    assert run(story()) == [Repeated(b"a", None), None]


def test_an_answer_stays_whatever_is_said_of_it_later(store, run):
    async def story() -> list[Repeated | None]:
        await claim(store)
        await complete(store)
        await complete(store, reply=Reply(500))
        await complete(store, "you", Reply(500))
        await store.release(KEY, "me")
        await store.release(b"never claimed", "me")
        await complete(store, key=b"never claimed")
        return [await claim(store, "you"), await claim(store, "you", key=b"never claimed")]

    assert run(story()) == [Repeated(b"a", WHOLE), None]


def test_large_and_empty_replies_come_back(store, run):
    async def story() -> list[Repeated | None]:
        found = []
        for name, body in ((b"large", b"x\0" * 2 * 1024 * 1024), (b"empty", b"")):
            await claim(store, key=name)
            await complete(store, reply=Reply(200, body), key=name)
            found.append(await claim(store, "you", key=name))
        return found

    assert [len(known.reply.body) for known in run(story())] == [4 * 1024 * 1024, 0]


def test_nothing_can_be_asked_of_it_once_it_is_closed(store, run):
    async def story() -> None:
        await claim(store)
        await store.close()
        await store.close()
        for asked in (claim(store), complete(store), store.release(KEY, "me")):
            with pytest.raises(StoreError):
                await asked

    run(story())


class Model(RuleBasedStateMachine):
    """A store beside the plainest one that can be right, while nothing lapses."""

    place: Place
    keys = st.sampled_from([b"k1", b"k2"])
    calls = st.sampled_from([("me", b"a"), ("you", b"a"), ("them", b"b")])
    rounds = iter(range(10**9))

    @initialize()
    def begin(self) -> None:
        self.store = self.place()
        self.prefix = b"%d " % next(self.rounds)
        self.held: dict[bytes, tuple[str, Repeated]] = {}

    def is_claimed(self, key: bytes, owner: str) -> bool:
        return key in self.held and self.held[key][0] == owner and self.held[key][1].reply is None

    @rule(key=keys, call=calls)
    def claims(self, key: bytes, call: tuple[str, bytes]) -> None:
        owner, digest = call
        known = self.place.run(claim(self.store, owner, key=self.prefix + key, digest=digest))
        if key not in self.held or self.is_claimed(key, owner):
            assert known is None
            self.held[key] = owner, Repeated(digest, None)
        else:
            assert known == self.held[key][1]

    @rule(key=keys, call=calls, status=st.integers(200, 599))
    def completes(self, key: bytes, call: tuple[str, bytes], status: int) -> None:
        owner, digest = call
        self.place.run(complete(self.store, owner, Reply(status), key=self.prefix + key))
        if self.is_claimed(key, owner):
            self.held[key] = owner, Repeated(digest, Reply(status))

    @rule(key=keys, call=calls)
    def releases(self, key: bytes, call: tuple[str, bytes]) -> None:
        self.place.run(self.store.release(self.prefix + key, call[0]))
        if self.is_claimed(key, call[0]):
            del self.held[key]


def test_it_agrees_with_the_plainest_store(open_store):
    class Here(Model):
        place = open_store

    quick = settings(
        max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Here, settings=quick)


# In a file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "idempotency.sqlite"


def test_a_file_outlives_its_process(path):
    async def keep() -> None:
        store = SqliteIdempotency(path)
        await claim(store)
        await complete(store)
        await claim(store, key=b"under way")
        await store.close()

    async def find() -> list[Repeated | None]:
        store = SqliteIdempotency(path)
        found = [await claim(store, "you"), await claim(store, "you", key=b"under way")]
        await store.close()
        return found

    asyncio.run(keep())
    assert path.stat().st_mode & 0o777 == 0o600
    assert asyncio.run(find()) == [Repeated(b"a", WHOLE), Repeated(b"a", None)]


def test_processes_that_share_a_file_claim_a_key_once(path):
    program = """
import asyncio, pathlib, sys, time
from farthing.stores.sqlite_idempotency import SqliteIdempotency

async def main():
    store = SqliteIdempotency(pathlib.Path(sys.argv[1]))
    now = time.time_ns()
    for n in range(50):
        if await store.claim(b"%d" % n, b"a", sys.argv[2], now, now + 60 * 10**9) is None:
            print(n)
    await store.close()

asyncio.run(main())
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program, path, f"owner {n}"], stdout=subprocess.PIPE) for n in range(3)
    ]
    claimed = [int(line) for process in started for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sorted(claimed) == list(range(50))


def test_answers_go_before_keys_and_the_oldest_first(path):
    async def story() -> list[bool]:
        store = SqliteIdempotency(path, room=1024 * 1024)
        for n in range(60):
            await claim(store, key=b"%d" % n)
            await complete(store, reply=Reply(200, bytes(50_000)), key=b"%d" % n)
        found = [await claim(store, "you", key=b"%d" % n) for n in range(60)]
        await store.close()
        assert all(known is not None and known.reply is not None for known in found)
        return [bool(known.reply.body) for known in found]

    kept = asyncio.run(story())
    assert kept == sorted(kept)  # none is kept that is older than one that went
    assert 5 <= sum(kept) <= 20
    assert path.stat().st_size <= 1200 * 1024


def test_when_only_keys_are_left_the_oldest_that_are_answered_go(path, monkeypatch):
    monkeypatch.setattr(sqlite_idempotency, "DROP_KEYS", sqlite_idempotency.DROP_KEYS.replace("1000", "10"))

    async def story() -> list[Repeated | None]:
        store = SqliteIdempotency(path, room=100_000)
        await claim(store, key=b"under way", seconds=600)
        for n in range(1000):
            await claim(store, key=b"%032d" % n)
            await complete(store, reply=Reply(204), key=b"%032d" % n)
        found = [await claim(store, "you", key=name) for name in (b"under way", b"%032d" % 0, b"%032d" % 999)]
        await store.close()
        return found

    under_way, oldest, latest = asyncio.run(story())
    assert under_way == Repeated(b"a", None)
    assert oldest is None
    assert latest is not None


def test_what_expired_leaves_the_file(path):
    async def story() -> None:
        store = SqliteIdempotency(path)
        for n in range(100):
            await claim(store, key=b"%d" % n)
            await complete(store, key=b"%d" % n, seconds=0)
        for n in range(20):
            await claim(store, key=b"later %d" % n)
        await store.close()

    asyncio.run(story())
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM claims WHERE answer IS NOT NULL").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM answers").fetchone() == (0,)


@pytest.mark.parametrize("damage", ["not a database", "a later format", "no table", "an answer that is none"])
def test_a_file_that_cannot_be_used_says_so(path, damage):
    async def story() -> None:
        store = SqliteIdempotency(path)
        await claim(store)
        await complete(store)
        await store.close()

    asyncio.run(story())
    if damage == "not a database":
        path.write_bytes(b"x" * 8192)
    else:
        with sqlite3.connect(path) as db:
            db.executescript({
                "a later format": "PRAGMA user_version = 99",
                "no table": "DROP TABLE claims",
                "an answer that is none": "UPDATE answers SET reply = x'c1'",
            }[damage])  # fmt: skip

    async def use() -> None:
        store = SqliteIdempotency(path)
        try:
            await claim(store, "you")
        finally:
            await store.close()

    with pytest.raises(StoreError) as caught:
        asyncio.run(use())
    assert str(path) in caught.value.message
    assert caught.value.status == 503


def test_a_file_that_another_holds_is_given_up_in_time(path):
    async def story() -> None:
        store = SqliteIdempotency(path, deadline=0.2)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreError):
            await claim(store)
        assert time.monotonic() - began < 5
        holder.execute("ROLLBACK")
        holder.close()
        await asyncio.sleep(0.3)  # what had begun has ended
        assert await claim(store) is None
        await store.close()

    asyncio.run(story())


def test_what_is_stored_of_a_reply_has_every_field():
    """A reply that is kept today is read by the next version: fields may be added to it, and none renamed."""
    kept = msgspec.to_builtins(WHOLE)
    assert set(kept) == {
        "status", "body", "tail", "headers", "streamed", "ending", "model", "tier", "usage", "usage_source", "finish",
        "error", "unknown_usage", "provider", "charge", "simulated",
    }  # fmt: skip
