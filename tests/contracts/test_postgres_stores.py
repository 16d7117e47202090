"""The PostgreSQL stores on a real server: what it does to them when it stops, freezes, or loses an answer."""

import asyncio
import logging
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

pytest.importorskip("asyncpg")

from farthing.errors import ConfigError, LedgerError, StoreError, Unavailable
from farthing.ledger.tally import Tally
from farthing.ports import Stored
from farthing.schema import HOUR, METERS, Balance, Claim, Entry, GatewayKey, Hold, Resolution, Usage
from farthing.stores import postgres_ledger
from farthing.stores.postgres_budgets import PostgresBudgets
from farthing.stores.postgres_keys import PostgresKeys
from farthing.stores.postgres_ledger import PostgresLedger
from farthing.stores.postgres_link import place
from farthing.stores.postgres_schema import FORMAT

DAY = 24 * HOUR
NOVEMBER = 1_793_491_200 * 10**9
"""2026-11-01, 00:00 UTC."""
PASSWORD = "canary-password"


def entry(number: int, at: int | None = None, **changes) -> Entry:
    fields = {
        "id": f"g{number}.1", "group": f"g{number}", "attempt": 1, "at": number if at is None else at,
        "endpoint": "chat", "model": "m", "cost": number, "list_cost": number, "status": 200,
    }  # fmt: skip
    return Entry(**{**fields, **changes})


def stored(*entries: Entry) -> list[Stored]:
    return [Stored(entry, msgspec.json.encode(entry)) for entry in entries]


def sums(entries) -> list:
    tally = Tally()
    for one in entries:
        tally.add(one)
    return tally.rollups()


def by_cell(rollups) -> list:
    return sorted(rollups, key=lambda rollup: rollup.cell)


def hold(ident: str, amount: int, limit: int | None = 100, *accounts: str) -> Hold:
    return Hold(ident, tuple(Claim(account, "calls", 0, 0, amount, limit) for account in accounts or ("b",)))


@pytest.fixture
def ledger_at() -> Iterator[Callable[..., PostgresLedger]]:
    """Opens ledgers; all are closed at the end."""
    opened: list[PostgresLedger] = []

    def open_ledger(dsn: str, deadline: float = 5.0) -> PostgresLedger:
        opened.append(PostgresLedger(dsn, deadline))
        return opened[-1]

    yield open_ledger
    for each in opened:
        each.close()


@pytest.fixture
def ledger(ledger_at, postgres_dsn) -> PostgresLedger:
    return ledger_at(postgres_dsn)


class Relay:
    """Stands between stores and their server, and once, when a store says `word`, does what it is told to.

    "lose": lets the server act on it, and cuts the store off before the answer. "freeze": passes nothing on any more,
    and leaves both ends open; `thaw` lets the server have what was held back.
    """

    def __init__(self, dsn: str) -> None:
        where = place(dsn)
        self.server = int(where.partition(":")[2].partition("/")[0])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = dsn.replace(f":{self.server}/", f":{self.listener.getsockname()[1]}/")
        self.word, self.deed = b"", ""
        self.connections = 0
        self._ends: list[socket.socket] = []
        self._held_back: list[tuple[socket.socket, bytes]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def once(self, word: bytes, deed: str) -> None:
        self.word, self.deed = word, deed

    def thaw(self) -> None:
        for server, data in self._held_back:
            server.sendall(data)

    def close(self) -> None:
        for end in [self.listener, *self._ends]:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server))
            self.connections += 1
            self._ends += client, server
            cut = threading.Event()
            threading.Thread(target=self._up, args=(client, server, cut), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, cut), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        try:
            while data := client.recv(65536):
                if self.word and self.word in data:
                    self.word = b""
                    cut.set()
                    if self.deed == "freeze":
                        self._held_back.append((server, data))
                        return
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _down(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        try:
            while (data := server.recv(65536)) and not cut.is_set():
                client.sendall(data)
            if not (cut.is_set() and self.deed == "freeze"):
                client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.fixture
def relay(postgres_dsn) -> Iterator[Relay]:
    between = Relay(postgres_dsn)
    yield between
    between.close()


# -- answers that are lost


def test_a_batch_whose_commit_was_not_answered_is_taken_once(relay, ledger_at):
    ledger = ledger_at(relay.dsn)
    some = [entry(number, at=NOVEMBER + number) for number in range(6)]
    ledger.ingest(stored(*some[:3]), 3)
    relay.once(b"COMMIT", "lose")
    ledger.ingest(stored(*some), 6)
    assert relay.connections == 2
    assert ledger.position() == 6
    assert list(ledger.entries()) == some
    assert by_cell(ledger.rollups()) == sums(some)
    assert ledger.check() == []


def test_a_hold_whose_commit_was_not_answered_is_made_once(relay):
    async def story() -> None:
        store = PostgresBudgets(relay.dsn, "me")
        await store.balance("b", 0)
        relay.once(b"COMMIT", "lose")
        (verdict,) = await store.apply([], [hold("1", 60)])
        assert verdict.granted
        assert relay.connections == 2
        assert await store.balance("b", 0) == Balance(0, 60)
        relay.once(b"COMMIT", "lose")
        await store.apply([Resolution("1", calls=7)], [hold("2", 5)])
        assert await store.balance("b", 0) == Balance(7, 5)
        await store.close()

    asyncio.run(story())


def test_a_key_whose_commit_was_not_answered_is_added_once(relay):
    store = PostgresKeys(relay.dsn)
    assert store.revision() == 0
    relay.once(b"COMMIT", "lose")
    store.add(GatewayKey("app", "ab" * 32))
    assert (store.revision(), [key.name for key in store.keys()]) == (1, ["app"])  # noqa: SIM118
    store.close()


def test_a_gateway_that_freezes_in_the_middle_keeps_others_out_for_its_deadline_only(relay, postgres_dsn):
    async def story() -> None:
        frozen, other = PostgresBudgets(relay.dsn, "frozen", 0.5), PostgresBudgets(postgres_dsn, "other", 10.0)
        await frozen.apply([], [hold("0", 1)])
        relay.once(b"COMMIT", "freeze")
        with pytest.raises(StoreError, match=r"no answer within 0.5 s"):
            await frozen.apply([], [hold("1", 60)])
        (verdict,) = await other.apply([], [hold("2", 99)])
        assert verdict.granted
        assert verdict.balances == (Balance(0, 1),)
        await frozen.close()
        await other.close()

    asyncio.run(story())


def test_a_resolution_waits_for_its_hold_that_is_still_on_its_way(relay, postgres_dsn):
    async def story() -> None:
        dying, successor = PostgresBudgets(relay.dsn, "me", 10.0), PostgresBudgets(postgres_dsn, "me", 10.0)
        await dying.apply([], [])
        await successor.apply([], [])
        relay.once(b"COMMIT", "freeze")
        holding = asyncio.create_task(dying.apply([], [hold("1", 60)]))
        while relay.word:
            await asyncio.sleep(0.01)
        resolving = asyncio.create_task(successor.apply([Resolution("1")], []))
        await asyncio.sleep(0.2)
        relay.thaw()
        await resolving
        assert await successor.orphans() == []
        assert await successor.balance("b", 0) == Balance()
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await dying.close()
        await successor.close()

    asyncio.run(story())


# -- a server that stops, freezes, and loses its clients


@pytest.fixture
def outage(request, postgres_server) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """How the server goes away, and comes back."""
    begin, end = {
        "stopped": (postgres_server.stop, postgres_server.start),
        "paused": (postgres_server.pause, postgres_server.resume),
    }[request.param]
    yield begin, end
    postgres_server.ensure_running()


@pytest.mark.parametrize("outage", ["stopped", "paused"], indirect=True)
def test_an_outage_is_told_in_time_and_at_once_after_and_ends_without_a_restart(outage, postgres_dsn, caplog):
    begin, end = outage
    ledger, keys = PostgresLedger(postgres_dsn, 0.5), PostgresKeys(postgres_dsn, 0.5)
    some = [entry(number) for number in range(3)]
    ledger.ingest(stored(some[0]), 1)
    keys.add(GatewayKey("app", "ab" * 32))

    async def story() -> None:
        budgets = PostgresBudgets(postgres_dsn, "me", 0.5)
        await budgets.apply([], [hold("1", 60)])
        await asyncio.to_thread(begin)
        actions = [
            lambda: asyncio.to_thread(ledger.ingest, stored(*some), 3),
            lambda: asyncio.to_thread(keys.revision),
            lambda: budgets.apply([Resolution("1", calls=2)], [hold("2", 98)]),
        ]
        for action, error in zip(actions, (LedgerError, StoreError, StoreError), strict=True):
            started = time.monotonic()
            with pytest.raises(error) as told:
                await action()
            assert time.monotonic() - started < 3
            assert told.value.retry_after == 1.0
        started = time.monotonic()
        refused = await asyncio.gather(*(actions[2]() for _ in range(50)), return_exceptions=True)
        assert time.monotonic() - started < 0.4
        assert {type(one) for one in refused} == {StoreError}
        await asyncio.to_thread(end)
        for action in actions:
            assert await until_it_works(action) is not StoreError
        assert await budgets.balance("b", 0) == Balance(2, 98)
        await budgets.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    assert list(ledger.entries()) == some
    assert by_cell(ledger.rollups()) == sums(some)
    assert [key.name for key in keys.keys()] == ["app"]  # noqa: SIM118
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("farthing")]
    assert sorted(line.partition(" in PostgreSQL")[0] for line in lines) == sorted(
        2 * ["The ledger", "The key store", "What limits count"]
    )
    assert PASSWORD not in caplog.text
    ledger.close()
    keys.close()


async def until_it_works(action):
    deadline = time.monotonic() + 20
    while True:
        try:
            return await action()
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(error.retry_after or 0)


def test_clients_that_are_thrown_out_all_the_time_lose_and_repeat_nothing(postgres_server, postgres_dsn, ledger_at):
    """Two gateways fill one ledger and spend one budget, while every connection is ended again and again."""
    stop = threading.Event()
    name = postgres_dsn.rpartition("/")[2]
    kill = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )

    def throw_out() -> None:
        dice = random.Random(7)
        while not stop.wait(dice.random() / 20):
            postgres_server.run(kill)

    batches = {
        journal: [[entry(1000 * n + m, at=NOVEMBER + m % 2 * HOUR, feature=journal) for m in range(20)] for n in range(30)]
        for journal in ("one", "two")
    }  # fmt: skip

    def fill(journal: str) -> None:
        ledger = ledger_at(postgres_dsn)
        for number, batch in enumerate(batches[journal]):
            while True:
                try:
                    ledger.ingest(stored(*batch), 20 * (number + 1), journal)
                    break
                except LedgerError:
                    time.sleep(0.05)

    async def spend(owner: str) -> int:
        store = PostgresBudgets(postgres_dsn, owner)
        won = 0
        for number in range(40):
            held = hold(f"{owner}{number}", 7, 280)
            (verdict,) = await until_it_works(lambda held=held: store.apply([], [held]))
            won += verdict.granted
            if number % 2:
                await until_it_works(lambda held=held: store.apply([Resolution(held.id, calls=3)], []))
        await store.close()
        return won

    async def both() -> tuple[int, Balance]:
        won = sum(await asyncio.gather(spend("x"), spend("y")))
        store = PostgresBudgets(postgres_dsn, "z")
        balance = await until_it_works(lambda: store.balance("b", 0))
        await store.close()
        return won, balance

    thrower = threading.Thread(target=throw_out)
    thrower.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            filling = [pool.submit(fill, journal) for journal in batches]
            won, balance = asyncio.run(both())
            for each in filling:
                each.result()
    finally:
        stop.set()
        thrower.join()
    ledger = ledger_at(postgres_dsn)
    every = [one for journal in batches.values() for batch in journal for one in batch]
    assert (ledger.position("one"), ledger.position("two"), ledger.position()) == (600, 600, 0)
    assert by_cell(ledger.rollups()) == sums(every)
    assert sorted(one.id + one.feature for one in ledger.entries()) == sorted(one.id + one.feature for one in every)
    assert balance.total <= 280
    assert balance.spent % 3 == 0
    assert balance.held == 7 * (won - balance.spent // 3)


# -- many gateways at once


def test_two_journals_with_the_same_cells_add_up(postgres_dsn, ledger_at):
    """Each takes its batches forwards or backwards through the hours, so that what they change is locked crosswise."""
    hours = [NOVEMBER + hour * HOUR for hour in range(6)]

    def fill(journal: str) -> list[Entry]:
        ledger, taken = ledger_at(postgres_dsn), []
        for batch in range(15):
            order = hours if journal == "up" else hours[::-1]
            fresh = [entry(len(taken) + n, at=at, group=f"{journal}{batch}.{n}") for n, at in enumerate(order)]
            taken += fresh
            ledger.ingest(stored(*fresh), len(taken), journal)
        return taken

    with ThreadPoolExecutor(2) as pool:
        up, down = pool.map(fill, ["up", "down"])
    ledger = ledger_at(postgres_dsn)
    assert by_cell(ledger.rollups()) == sums(up + down)
    assert [one for one in ledger.entries() if one.group.startswith("up")] == sorted(up, key=lambda one: one.at)
    assert (ledger.position("up"), ledger.position("down")) == (90, 90)


def test_a_process_and_its_successor_take_each_record_once(postgres_dsn, ledger_at):
    some = [entry(number, at=NOVEMBER + number) for number in range(200)]
    ledgers = [ledger_at(postgres_dsn) for _ in range(3)]

    def fill(ledger: PostgresLedger) -> None:
        for end in range(5, 205, 5):
            ledger.ingest(stored(*some[max(end - 9, 0) : end]), end)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fill, ledgers))
    assert list(ledgers[0].entries()) == some
    assert by_cell(ledgers[0].rollups()) == sums(some)
    assert ledgers[0].check() == []


def test_a_check_sees_one_instant_while_others_write(postgres_dsn, ledger_at, monkeypatch):
    monkeypatch.setattr(postgres_ledger, "PAGE", 7)
    ledger = ledger_at(postgres_dsn)
    ledger.ingest(stored(*(entry(number) for number in range(50))), 50)
    stop = threading.Event()

    def write() -> None:
        position = 50
        while not stop.is_set():
            ledger.ingest(stored(*(entry(position + n) for n in range(5))), position + 5)
            position += 5

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert [ledger.check() for _ in range(5)] == [[]] * 5
    finally:
        stop.set()
        thread.join()


def test_accounts_locked_crosswise_make_nobody_wait_for_ever(postgres_dsn):
    async def story() -> None:
        stores = [PostgresBudgets(postgres_dsn, f"owner{number}", 10.0) for number in range(4)]
        names = [f"account{number}" for number in range(8)]

        async def spend(owner: int) -> None:
            dice = random.Random(owner)
            for number in range(25):
                some = dice.sample(names, 4)
                ident = f"{owner}.{number}"
                (verdict,) = await stores[owner].apply([], [hold(ident, 1, None, *some)])
                assert verdict.granted
                await stores[owner].apply([Resolution(ident, calls=1)], [])

        await asyncio.gather(*map(spend, range(4)))
        balances = [await stores[0].balance(name, 0) for name in names]
        assert sum(balance.spent for balance in balances) == 4 * 25 * 4
        assert {balance.held for balance in balances} == {0}
        assert sorted(await stores[1].accounts()) == names
        for store in stores:
            await store.close()

    asyncio.run(story())


def test_gateways_that_start_at_once_make_the_tables_once(postgres_server, postgres_dsn, ledger_at):
    ledgers = [ledger_at(postgres_dsn) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(PostgresLedger.position, ledgers)) == [0] * 8
    rows = postgres_server.run("SELECT number FROM farthing.migrations ORDER BY number", postgres_dsn)
    assert [row["number"] for row in rows] == list(range(1, FORMAT + 1))


# -- months


def months(postgres_server, dsn: str) -> list[str]:
    rows = postgres_server.run(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'farthing.entries'::regclass ORDER BY relname",
        dsn,
    )
    return [row["relname"] for row in rows]


def test_whole_months_are_dropped_and_the_rest_goes_row_by_row(postgres_server, postgres_dsn, ledger, monkeypatch):
    monkeypatch.setattr(postgres_ledger, "PRUNE_CHUNK", 3)
    days = [-40, -31, -1, 0, 1, 2, 3, 29, 30, 45]
    some = [entry(number, at=NOVEMBER + day * DAY) for number, day in enumerate(days)]
    ledger.ingest(stored(*some), len(some))
    assert months(postgres_server, postgres_dsn) == [f"entries_2026_{month:02}" for month in (9, 10, 11, 12)]
    assert ledger.prune(NOVEMBER - 1) == 3
    assert months(postgres_server, postgres_dsn) == ["entries_2026_10", "entries_2026_11", "entries_2026_12"]
    assert ledger.prune(NOVEMBER) == 0
    assert ledger.prune(NOVEMBER + 29 * DAY) == 4
    assert months(postgres_server, postgres_dsn) == ["entries_2026_11", "entries_2026_12"]
    assert list(ledger.entries()) == some[7:]
    assert by_cell(ledger.rollups()) == sums(some)
    assert ledger.check() == []
    late = entry(10, at=NOVEMBER - DAY)
    ledger.ingest(stored(late), 11)
    assert list(ledger.entries()) == [late, *some[7:]]
    assert ledger.prune(NOVEMBER) == 1
    assert ledger.prune(NOVEMBER + 99 * DAY) == 3
    assert months(postgres_server, postgres_dsn) == []
    assert (list(ledger.entries()), ledger.check()) == ([], [])


def test_entries_of_any_instant_find_a_month(ledger):
    some = [entry(number, at=at) for number, at in enumerate([0, 1, NOVEMBER - 1, NOVEMBER, 2**63 - 2])]
    ledger.ingest(stored(*some), 5)
    assert list(ledger.entries()) == some
    assert list(ledger.entries(newest_first=True, limit=2)) == [some[4], some[3]]


def test_pages_join_without_a_seam(ledger, monkeypatch):
    monkeypatch.setattr(postgres_ledger, "PAGE", 3)
    some = [entry(number, at=number // 5 * HOUR, tenant=f"t{number}") for number in range(20)]
    ledger.ingest(stored(*some), 20)
    assert list(ledger.entries()) == some
    assert list(ledger.entries(HOUR, 3 * HOUR)) == some[5:15]
    assert list(ledger.entries(limit=7)) == some[:7]
    newest = list(ledger.entries(newest_first=True))
    assert newest == some[::-1]
    assert list(ledger.entries(HOUR, 3 * HOUR, 4, True)) == some[11:15][::-1]
    assert by_cell(ledger.rollups()) == sums(some)
    assert [rollup.hour for rollup in ledger.rollups()] == sorted(one.at for one in some)
    assert sorted(rollup.tenant for rollup in ledger.rollups(HOUR, 2 * HOUR)) == ["t5", "t6", "t7", "t8", "t9"]


# -- what analysts and checks see


def test_analysts_see_calls_as_columns(postgres_server, postgres_dsn, ledger):
    odd = entry(3, cost=None, feature="a\0b", usage=Usage(input=4, cache_read=5), saved=(("tier", 0),), stream=True)
    ledger.ingest(stored(odd, entry(4)), 2, "gateway-1")
    query = (
        "SELECT journal, record, id, tenant, feature, cost, list_cost, input_used, cache_read_used, output_used, cache,"
        " stream, saved FROM farthing.calls ORDER BY seq"
    )
    rows = [tuple(row) for row in postgres_server.run(query, postgres_dsn)]
    assert rows == [
        ("gateway-1", 0, "g3.1", "", "a\ufffdb", None, 3, 4, 5, 0, "off", True, '[["tier", 0]]'),
        ("gateway-1", 1, "g4.1", "", "", 4, 4, 0, 0, 0, "off", False, "[]"),
    ]
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'calls'"
    shown = {row["column_name"] for row in postgres_server.run(columns, postgres_dsn)}
    assert shown >= set(Entry.__struct_fields__) - {"usage"} | {f"{meter}_used" for meter in METERS}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM farthing.entries WHERE record = 1", "holds 2"),
        ("UPDATE farthing.entries SET doc = replace(doc, '\"cost\":2', '\"cost\":1')", "levers account for 0"),
        ("DELETE FROM farthing.rollups", "roll-up"),
        ("UPDATE farthing.rollups SET doc = replace(doc, '\"calls\":3', '\"calls\":4')", "roll-up"),
        ("INSERT INTO farthing.entries SELECT at, 9, journal, 9, grp, doc FROM farthing.entries LIMIT 1", "record 9"),
        ("INSERT INTO farthing.entries SELECT at, 9, journal, 9, grp, doc FROM farthing.entries LIMIT 1", "twice"),
    ],
)
def test_what_was_altered_behind_its_back_is_told(postgres_server, postgres_dsn, ledger, statement, told):
    ledger.ingest(stored(*(entry(number) for number in range(3))), 3)
    assert ledger.check() == []
    postgres_server.run(statement, postgres_dsn)
    assert any(told in problem for problem in ledger.check()), ledger.check()


def test_names_of_any_length_and_character_are_kept_apart(postgres_dsn, ledger):
    long = [secrets.token_hex(8000) for _ in range(2)]
    some = [entry(n, group=f"{name}\0", id=f"{name}\0.1", feature=name) for n, name in enumerate(long)]
    ledger.ingest(stored(*some), 2)
    assert [ledger.group(f"{name}\0") for name in long] == [[one] for one in some]
    assert ledger.group(f"{long[0]}\ufffd") == []
    assert by_cell(ledger.rollups()) == sums(some)

    async def story() -> None:
        store = PostgresBudgets(postgres_dsn, "me")
        verdicts = await store.apply([], [hold("1", 60, 100, long[0]), hold("2", 70, 100, long[1])])
        assert [verdict.granted for verdict in verdicts] == [True, True]
        assert await store.balance(long[1], 0) == Balance(0, 70)
        assert sorted(await store.accounts()) == sorted(long)
        await store.close()

    asyncio.run(story())


# -- formats, addresses, secrets


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("INSERT INTO farthing.migrations VALUES (99, '')", "format 99"),
        ("UPDATE farthing.migrations SET checksum = 'other' WHERE number = 2", "Format 2 .* other statements"),
    ],
)
def test_tables_of_another_format_are_refused(postgres_server, postgres_dsn, ledger, statement, told):
    assert ledger.position() == 0
    postgres_server.run(statement, postgres_dsn)
    later = PostgresLedger(postgres_dsn)
    with pytest.raises(LedgerError, match=told):
        later.position()
    later.close()
    keys = PostgresKeys(postgres_dsn)
    with pytest.raises(StoreError, match=told):
        keys.keys()
    keys.close()


def test_keys_that_are_gone_are_an_error_and_not_a_store_without_keys(postgres_server, postgres_dsn):
    keys = PostgresKeys(postgres_dsn)
    keys.add(GatewayKey("app", "ab" * 32))
    postgres_server.run("DROP SCHEMA farthing CASCADE", postgres_dsn)
    with pytest.raises(StoreError):
        keys.revision()
    time.sleep(1.1)
    with pytest.raises(StoreError, match=r"tables are gone.*backup"):
        keys.revision()
    keys.close()


@pytest.mark.parametrize(
    "dsn",
    [
        "", "sqlite:///x", "host=h password=canary-password", "postgresql://me:canary-password@h:port/db",
        "postgresql://me:1/canary-password@h/db", "postgresql://me:1#canary-password@h/db",
        "postgresql://me:1?canary-password@h/db",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(dsn):
    with pytest.raises(ConfigError) as told:
        PostgresBudgets(dsn, "me")
    assert PASSWORD not in "".join(map(str, chain(told.value)))


def test_a_server_that_is_not_there_is_told_without_the_password(caplog):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    dsn = f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/db"
    ledger = PostgresLedger(dsn)
    with pytest.raises(LedgerError, match=f"The ledger in PostgreSQL at 127.0.0.1:{port}/db cannot be used") as told:
        ledger.position()
    ledger.close()
    assert PASSWORD not in "".join(map(str, chain(told.value))) + caplog.text


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_a_closed_store_says_so(postgres_dsn):
    ledger = PostgresLedger(postgres_dsn)
    assert ledger.position() == 0
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.position()
