"""The Redis stores on a real server: exact, one round trip, and what it does to them to stop, freeze or forget."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("redis")

from farthing.budgets.cells import KEPT_SLICES, MOST
from farthing.errors import ConfigError, StoreError
from farthing.ports import Kept
from farthing.schema import Balance, Charge, Claim, Hold, Reply, Resolution, Usage, Verdict
from farthing.stores import redis_link, redis_replies
from farthing.stores.memory_budgets import MemoryBudgets
from farthing.stores.redis_budgets import RedisBudgets
from farthing.stores.redis_idempotency import RedisIdempotency
from farthing.stores.redis_replies import RedisReplies

NOW = 1_790_000_000
DAY = 86_400
SECOND = 10**9
PASSWORD = "canary-password"
REPLY = Reply(
    200, b'{"said": "\xf0\x9f\x91\x8b"}\x00\xff', headers=((b"content-type", b"text/event-stream"),), streamed=True,
    model="m", usage=Usage(input=3, output=5), usage_source="provider", charge=Charge(10**15, None, "v", (("l", 1),)),
)  # fmt: skip


def money(amount: int, limit: int | None = 100, account: str = "b", slice_: int = NOW) -> Claim:
    return Claim(account, "usd", slice_, slice_, amount, limit)


def hold(ident: str, *claims: Claim) -> Hold:
    return Hold(ident, claims, b'{"id": 1}')


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def own_server(redis_server) -> Iterator[Any]:
    """A server of this test alone."""
    server = type(redis_server)()
    server.start()
    yield server
    server.delete()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("farthing")]


# -- what limits count


AMOUNTS = st.integers(0, 3) | st.integers(2**53 - 2, 2**53 + 2) | st.integers(9 * 10**18, MOST) | st.sampled_from(
    [999_999_999, 10**9, 10**9 + 1, 10**18 - 1, 10**21 + 1]
)  # fmt: skip
CLAIMS = st.lists(
    st.builds(
        Claim,
        st.sampled_from("ab"), st.sampled_from(["usd", "tokens"]), st.sampled_from([NOW, NOW + 300]),
        st.sampled_from([NOW, NOW + 300]), AMOUNTS, st.none() | AMOUNTS,
    ),
    max_size=3,
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.lists(st.builds(Resolution, st.sampled_from("12345"), st.none() | AMOUNTS, st.none() | AMOUNTS), max_size=2),
        st.lists(st.builds(Hold, st.sampled_from("12345"), CLAIMS.map(tuple)), max_size=3),
    ),
    max_size=6,
)


def test_large_amounts_are_reckoned_to_the_last_unit(redis_server, run):
    url = redis_server.database()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(AMOUNTS, STEPS)
    def same(seed: int, steps: list[tuple[list[Resolution], list[Hold]]]) -> None:
        async def story() -> None:
            redis_server.run("FLUSHDB", url=url)
            stores = [RedisBudgets(url, "me", 20.0), MemoryBudgets("me")]
            for store in stores:
                await store.seed("a", {NOW: seed, NOW + 300: 1})
                await store.seed("b", {})
            for resolutions, holds in steps:
                said, expected = [await store.apply(resolutions, holds) for store in stores]
                assert said == expected
            for account in "ab":
                mine, expected = [await store.balance(account, NOW) for store in stores]
                assert mine == expected
            await stores[0].close()

        run(story())

    same()


def test_a_batch_is_one_round_trip(redis_server, redis_url, run):
    def asked() -> int:
        return sum(
            figures["calls"]
            for name, figures in redis_server.run("INFO", "commandstats").items()
            if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_script", "cmdstat_multi")
        )

    async def story() -> None:
        store = RedisBudgets(redis_url, "me")
        await store.seed("b", {})
        await store.apply([], [])
        before = asked()
        for number in range(10):
            await store.apply(
                [Resolution(f"{number - 1}.{place}", 1) for place in range(16)],
                [hold(f"{number}.{place}", money(5, 10**6)) for place in range(16)],
            )
        assert asked() - before == 10
        assert await store.balance("b", NOW) == Balance(9 * 16, 80)
        await store.close()

    run(story())


def test_a_server_that_forgot_its_scripts_is_sent_them_again(redis_server, redis_url, run):
    async def story() -> None:
        store = RedisBudgets(redis_url, "me")
        await store.seed("b", {})
        redis_server.run("SCRIPT FLUSH")
        assert await store.apply([], [hold("1", money(5))]) == [Verdict(True, (Balance(),))]
        await store.close()

    run(story())


def test_a_very_large_batch_is_taken(redis_url, run):
    async def story() -> None:
        store = RedisBudgets(redis_url, "me", 20.0)
        await store.seed("b", {})
        verdicts = await store.apply([], [hold(f"{n}", money(1, 2500)) for n in range(3000)])
        assert sum(verdict.granted for verdict in verdicts) == 2500
        assert len(await store.orphans()) == 2500
        await store.apply([Resolution(f"{n}", 1) for n in range(3000)], [])
        assert await store.balance("b", NOW) == Balance(2500)
        await store.close()

    run(story())


def test_old_slices_go_where_nothing_is_held(redis_server, redis_url, run):
    slices = [NOW + number * 300 for number in range(KEPT_SLICES + 4)]

    async def story() -> None:
        store = RedisBudgets(redis_url, "me")
        await store.seed("b", {slices[0]: 7})
        await store.apply([], [hold("old", money(1, None, slice_=slices[1]))])
        for number, slice_ in enumerate(slices):
            await store.apply([Resolution(f"{number}", 1)], [hold(f"{number}", money(1, None, slice_=slice_))])
            await store.apply([Resolution(f"{number}", 1)], [])
        kept = redis_server.run("HKEYS", "{farthing}:account:b", url=redis_url)
        assert sorted(kept) == sorted([b"known", *(b"%d" % at for at in (slices[1], *slices[-KEPT_SLICES:]))])
        assert await store.balance("b", slices[2]) == Balance(KEPT_SLICES)
        await store.close()

    run(story())


def test_what_can_no_longer_count_is_forgotten_and_a_lifetime_never(redis_server, redis_url, run):
    async def story() -> None:
        store = RedisBudgets(redis_url, "me")
        await store.seed("month", {NOW: 5})
        await store.seed("life", {})
        claims = money(1, None, "month"), money(1, None, "life", 0), Claim("once", "concurrent", 0, 0, 1, 3)
        await store.apply([], [hold("1", *claims)])
        await store.beat()
        ttl = {
            name.decode().removeprefix("{farthing}:"): redis_server.run("TTL", name, url=redis_url)
            for name in redis_server.run("KEYS", "*", url=redis_url)
        }
        shared = {name for name, seconds in ttl.items() if seconds == -1}
        assert shared == {"account:life", "accounts", "owners"}
        assert all(61 * DAY < seconds <= 62 * DAY for name, seconds in ttl.items() if name not in shared)
        redis_server.run("ZADD", "{farthing}:accounts", 5, "long ago", url=redis_url)
        await store.beat()
        assert sorted(await store.accounts()) == ["life", "month", "once"]
        await store.close()

    run(story())


def test_resolved_holds_leave_nothing_behind(redis_server, redis_url, run):
    async def story() -> None:
        store = RedisBudgets(redis_url, "me")
        await store.seed("b", {})
        await store.apply([], [hold(f"{number}", money(5)) for number in range(10)])
        await store.apply([Resolution(f"{number}", 5) for number in range(10)], [])
        await store.close()

    run(story())
    assert sorted(redis_server.run("KEYS", "*", url=redis_url)) == [
        b"{farthing}:account:b", b"{farthing}:accounts", b"{farthing}:fence:me", b"{farthing}:owners",
    ]  # fmt: skip


# -- a server that stops, freezes, forgets


@pytest.fixture(params=["stopped", "paused"])
def outage(request, own_server) -> tuple[Callable[[], None], Callable[[], None]]:
    """How a server goes away, and how it comes back with what it had."""
    if request.param == "paused":
        return own_server.pause, own_server.resume
    own_server.stop()
    own_server.start(appendonly="yes")
    return own_server.stop, own_server.start


def test_an_outage_is_told_in_time_logged_once_and_over_without_a_new_client(own_server, outage, run, caplog):
    leave, come_back = outage
    caplog.set_level(logging.INFO)

    async def story() -> None:
        store = RedisBudgets(own_server.url(), "me", 0.3)
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60))])
        leave()
        begun = time.monotonic()
        with pytest.raises(StoreError, match="What limits count in Redis at"):
            await store.apply([], [hold("2", money(10))])
        assert time.monotonic() - begun < 2
        begun = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreError) as caught:
                await store.apply([], [hold("3", money(10))])
            assert caught.value.retry_after == 1.0
        assert time.monotonic() - begun < 1.5, "the breaker lets one through now and then, the rest fail at once"
        assert len(messages(caplog)) == 1
        come_back()
        deadline = time.monotonic() + 10
        while True:
            with suppress(StoreError):
                await store.apply([Resolution("1", 7), Resolution("2"), Resolution("3")], [])
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert await store.balance("b", NOW) == Balance(7)
        await store.beat()
        assert len(messages(caplog)) == 2
        assert messages(caplog)[1].endswith("can be used again.")
        await store.close()

    run(story())


def test_many_that_ask_while_it_freezes_are_all_told_in_time(own_server, run, caplog):
    async def story() -> None:
        store = RedisBudgets(own_server.url(), "me", 0.3)
        await store.seed("b", {})
        own_server.pause()
        begun = time.monotonic()
        many = [store.apply([], [hold(f"{n}", money(1))]) for n in range(50)] + [
            store.balance("b", 0) for _ in range(50)
        ]
        said = await asyncio.gather(*many, return_exceptions=True)
        assert {type(one) for one in said} == {StoreError}
        assert time.monotonic() - begun < 3
        own_server.resume()
        await store.close()

    run(story())
    assert len(messages(caplog)) == 1


def test_a_client_is_not_disturbed_by_a_restart_between_two_calls(own_server, run, caplog):
    async def story() -> None:
        store = RedisBudgets(own_server.url(), "me", 5.0)
        await store.seed("b", {})
        own_server.stop()
        own_server.start()
        await asyncio.sleep(0.05)
        assert await store.apply([], [hold("1", money(5))]) == [Verdict(False, unknown=("b",))]
        await store.close()

    run(story())
    assert messages(caplog) == []


def test_a_server_that_forgot_everything_knows_no_account(own_server, run):
    async def story() -> None:
        store = RedisBudgets(own_server.url(), "me", 5.0)
        await store.seed("b", {NOW: 20})
        await store.apply([], [hold("1", money(60))])
        own_server.run("FLUSHALL")
        assert await store.apply([Resolution("1", 50)], [hold("2", money(10))]) == [Verdict(False, unknown=("b",))]
        assert await store.balance("b", 0) == Balance()
        assert await store.orphans() == []
        await store.seed("b", {NOW: 90})
        assert [v.granted for v in await store.apply([], [hold("2", money(10)), hold("3", money(1))])] == [True, False]
        await store.close()

    run(story())


class Detour:
    """A way to a server, on which what is sent waits while the gate is closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: list[asyncio.Task[None] | None] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(asyncio.current_task())
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(self._pour(from_server, writer))
        while data := await reader.read(65536):
            await self.gate.wait()
            to_server.write(data)
        to_server.write_eof()
        await answers
        to_server.close()

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def ended(self, connections: slice = slice(None)) -> None:
        """Wait until the server has read some connections to their end."""
        await asyncio.wait_for(asyncio.gather(*self._connections[connections]), 10)


@pytest.mark.parametrize("next_step", ["resolved", "adopted"])
def test_a_batch_given_up_does_nothing_when_it_arrives_late(redis_server, redis_url, run, next_step):
    async def story() -> None:
        detour = Detour(redis_server.port)
        url = redis_url.replace(str(redis_server.port), str(await detour.open()))
        store = RedisBudgets(url, "me", 0.3)
        await store.seed("b", {})
        await store.apply([], [hold("0", money(1))])
        late = detour.gate
        late.clear()
        with pytest.raises(StoreError, match="does not answer"):
            await store.apply([Resolution("0", 1)], [hold("1", money(60))])
        detour.gate = asyncio.Event()
        detour.gate.set()
        if next_step == "resolved":
            await asyncio.sleep(redis_link.REST * 1.1)
            await store.apply([Resolution("0", 1), Resolution("1")], [])
        else:  # the process died, and its successor looks at what it left
            await store.close()
            store = RedisBudgets(redis_url, "me", 5.0)
            assert [one.id for one in await store.orphans()] == ["0"]
            await store.apply([Resolution("0", 1)], [])
        late.set()
        await detour.ended(slice(1))
        assert await store.balance("b", NOW) == Balance(1)
        assert await store.orphans() == []
        await store.close()
        await detour.ended()

    run(story())


@pytest.mark.parametrize("fault", ["killed", "frozen", "disconnected"])
def test_nothing_is_overspent_lost_or_leaked_while_the_server_fails_again_and_again(own_server, run, fault):
    own_server.stop()
    own_server.start(appendonly="yes")
    limit, amount = 40 * 10**15, 10**15 + 1
    spent: list[int] = []
    dice = random.Random(5)

    async def insist(store: RedisBudgets, resolution: Resolution) -> None:
        while True:
            with suppress(StoreError):
                await store.apply([resolution], [])
                return
            await asyncio.sleep(0.05)

    async def caller(store: RedisBudgets, name: str) -> None:
        for number in range(8):
            one = hold(f"{name}.{number}", money(amount, limit))
            used = 0
            with suppress(StoreError):
                (verdict,) = await store.apply([], [one])
                used = dice.randint(0, amount) if verdict.granted else 0
            await asyncio.sleep(dice.random() / 20)
            spent.append(used)
            await insist(store, Resolution(one.id, used))

    async def fail() -> None:
        while True:
            await asyncio.sleep(0.2)
            if fault == "killed":
                await asyncio.to_thread(own_server.stop)
                await asyncio.to_thread(own_server.start)
            elif fault == "frozen":
                own_server.pause()
                await asyncio.sleep(0.3)
                own_server.resume()
            else:
                await asyncio.to_thread(own_server.run, "CLIENT", "KILL", "TYPE", "normal")

    async def story() -> None:
        stores = [RedisBudgets(own_server.url(), f"owner{n}", 0.2) for n in range(3)]
        await stores[0].seed("b", {})
        failing = asyncio.create_task(fail())
        await asyncio.gather(*(caller(stores[n % 3], f"{n}") for n in range(24)))
        failing.cancel()
        await asyncio.gather(failing, return_exceptions=True)
        own_server.ensure_running()
        await asyncio.sleep(1)
        assert await stores[0].balance("b", 0) == Balance(sum(spent))
        assert 0 < sum(spent) <= limit
        for store in stores:
            assert await store.orphans() == []
            await store.close()

    run(story())


# -- a server that will not


async def settles(store: RedisBudgets) -> Balance:
    """What counts, once the server may be asked again."""
    await asyncio.sleep(redis_link.REST * 1.1)
    return await store.balance("b", 0)


def test_a_wrong_password_is_explained_and_told_to_nobody(own_server, run, caplog):
    own_server.run("CONFIG", "SET", "requirepass", "another")

    async def story(url: str) -> str:
        store = RedisBudgets(url, "me")
        with pytest.raises(StoreError) as caught:
            await store.beat()
        await store.close()
        return str(caught.value)

    for user in (":", "somebody:"):
        said = run(story(own_server.url().replace("//", f"//{user}{PASSWORD}@")))
        assert "password" in said
        assert "address" in said
        assert PASSWORD not in said + "".join(messages(caplog))
    assert "password" in run(story(own_server.url()))


def test_the_password_of_the_address_is_used(own_server, run):
    own_server.run("CONFIG", "SET", "requirepass", PASSWORD)

    async def story() -> None:
        store = RedisBudgets(own_server.url().replace("//", f"//:{PASSWORD}@"), "me")
        await store.beat()
        await store.close()

    run(story())


@pytest.mark.parametrize(
    "url", ["", "cache.example", "http://a:canary-password@b", "redis://u:canary-password@h:port/0",
            "redis://u:canary-password@h/0?max_idle=5"],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="redis://") as caught:
        RedisBudgets(url, "me")
    assert PASSWORD not in str(caught.value)


def test_keys_of_something_else_are_refused_with_what_to_do(redis_server, redis_url, run):
    redis_server.run("SET", "{farthing}:account:b", "mine", url=redis_url)

    async def story() -> None:
        store = RedisBudgets(redis_url, "me")
        with pytest.raises(StoreError, match="a database to itself"):
            await store.seed("b", {})
        await store.close()

    run(story())
    assert redis_server.run("GET", "{farthing}:account:b", url=redis_url) == b"mine"


def test_a_server_without_memory_does_all_of_a_batch_or_nothing(own_server, run):
    async def story() -> None:
        store = RedisBudgets(own_server.url(), "me")
        await store.seed("b", {})
        await store.apply([], [hold("1", money(60))])
        own_server.run("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError, match="memory"):
            await store.apply([], [hold("2", money(10))])
        assert await settles(store) == Balance(0, 60)
        with suppress(StoreError):
            await store.apply([Resolution("1", 5)], [hold("2", money(10))])
        assert await settles(store) in (Balance(0, 60), Balance(5, 10))
        await store.close()

    run(story())


def test_where_a_cluster_keeps_it_is_found(redis_server, run, caplog):
    nodes = [type(redis_server)(**{"cluster-enabled": "yes", "databases": "1"}) for _ in range(2)]
    try:
        for number, node in enumerate(nodes):
            node.start()
            half = range(8192 * number, 8192 * (number + 1))
            node.run("CLUSTER", "ADDSLOTS", *half)
        nodes[0].run("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        deadline = time.monotonic() + 20
        while any(node.run("CLUSTER INFO")["cluster_state"] != "ok" for node in nodes):
            assert time.monotonic() < deadline
            time.sleep(0.05)

        async def story(port: int) -> None:
            store = RedisBudgets(f"redis://127.0.0.1:{port}", f"{port}", 5.0)
            await store.seed("b", {})
            for number in range(3):
                assert (await store.apply([], [hold(f"{port}.{number}", money(5))]))[0].granted
            await store.beat()
            assert await store.accounts() == ["b"]
            await store.close()

        for node in nodes:
            run(story(node.port))
    finally:
        for node in nodes:
            node.delete()
    assert messages(caplog) == []


# -- the shared level of the cache


def test_replies_are_shared_until_they_expire(redis_url, run):
    async def story() -> None:
        mine, theirs = RedisReplies(redis_url, deadline=5.0), RedisReplies(redis_url, deadline=5.0)
        now = time.time_ns()
        mine.put(b"\0k\xff", REPLY, now + 60 * SECOND)
        mine.put(b"short", REPLY, now + SECOND // 5)
        mine.put(b"gone", REPLY, 5)
        await mine.close()
        assert await theirs.get(b"\0k\xff", now) == Kept(REPLY, now + 60 * SECOND)
        assert await theirs.get(b"\0k\xff", now + 60 * SECOND) is None
        assert await theirs.get(b"other", now) is None
        assert await theirs.get(b"gone", 0) is None
        await asyncio.sleep(0.25)
        assert await theirs.get(b"short", 0) is None
        await theirs.close()

    run(story())


def test_what_is_too_large_or_too_much_at_once_is_not_kept(redis_url, run, monkeypatch):
    monkeypatch.setattr(redis_replies, "WAITING", 10_000)

    async def story() -> None:
        store = RedisReplies(redis_url, deadline=5.0, max_bytes=2000)
        later = time.time_ns() + 60 * SECOND
        store.put(b"large", Reply(200, b"x" * 2000), later)
        for number in range(100):
            store.put(b"%d" % number, Reply(200, b"x" * 900), later)
        await asyncio.sleep(0.5)
        found = [await store.get(b"%d" % number, 0) is not None for number in range(100)]
        assert await store.get(b"large", 0) is None
        assert found == sorted(found, reverse=True)
        assert 5 <= sum(found) <= 10
        store.put(b"again", Reply(200, b"x" * 900), later)
        await asyncio.sleep(0.2)
        assert await store.get(b"again", 0) is not None
        await store.close()

    run(story())


def test_what_another_version_wrote_is_a_miss(redis_server, redis_url, run, caplog):
    redis_server.run("SET", b"{farthing}:reply:k", b"\xc1nonsense", url=redis_url)

    async def story() -> None:
        store = RedisReplies(redis_url, deadline=5.0)
        assert await store.get(b"k", 0) is None
        await store.close()

    run(story())
    assert messages(caplog) == []


def test_a_cache_that_does_not_answer_is_a_miss_in_time_logged_once(own_server, outage, run, caplog):
    leave, come_back = outage

    async def story() -> None:
        store = RedisReplies(own_server.url())
        later = time.time_ns() + 60 * SECOND
        store.put(b"k", REPLY, later)
        await asyncio.sleep(0.2)
        leave()
        begun = time.monotonic()
        for number in range(200):
            assert await store.get(b"k", 0) is None
            store.put(b"%d" % number, REPLY, later)
        assert time.monotonic() - begun < 1.5
        assert len(messages(caplog)) == 1
        come_back()
        deadline = time.monotonic() + 10
        while await store.get(b"k", 0) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert len(messages(caplog)) == 2
        await store.close()

    run(story())


# -- Idempotency-Keys


def test_keys_leave_the_server_when_they_lapse(redis_server, redis_url, run):
    async def story() -> None:
        store = RedisIdempotency(redis_url)
        now = time.time_ns()
        await store.claim(b"claimed", b"d", "me", now, now + SECOND // 10)
        await store.claim(b"done", b"d", "me", now, now + 60 * SECOND)
        await store.complete(b"done", "me", REPLY, now + SECOND // 5)
        await asyncio.sleep(0.3)
        await store.close()

    run(story())
    assert redis_server.run("KEYS", "*", url=redis_url) == []


def test_keys_fail_closed_in_time_and_come_back(own_server, outage, run):
    leave, come_back = outage

    async def story() -> None:
        store = RedisIdempotency(own_server.url(), deadline=0.3)
        now = time.time_ns()
        assert await store.claim(b"k", b"d", "me", now, now + 60 * SECOND) is None
        leave()
        begun = time.monotonic()
        for asked in (store.claim(b"k", b"d", "you", now, now), store.complete(b"k", "me", REPLY, now)):
            with pytest.raises(StoreError, match="Idempotency-Keys"):
                await asked
        with pytest.raises(StoreError):
            await store.release(b"k", "me")
        assert time.monotonic() - begun < 2
        come_back()
        await asyncio.sleep(redis_link.REST * 1.5)
        known = await store.claim(b"k", b"e", "you", now, now + 60 * SECOND)
        assert known is not None
        assert known.digest == b"d"
        await store.close()

    run(story())
