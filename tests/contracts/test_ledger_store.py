"""Every ledger store: takes each record once, forgets no sum, and tells what is wrong with it."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from farthing.errors import LedgerError
from farthing.ledger.tally import Tally
from farthing.ports import LedgerStore, Stored
from farthing.schema import HOUR, METERS, Decision, Entry, Usage
from farthing.stores import sqlite_ledger
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.postgres_ledger import PostgresLedger
from farthing.stores.sqlite_ledger import SqliteLedger

EVER = 2**63 - 1


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


Reopen = Callable[[], LedgerStore]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def reopen(request, tmp_path) -> Iterator[Reopen]:
    """Opens the store, again each time it is called; what is in memory is still there."""
    if request.param == "memory":
        store = MemoryLedger()
        yield lambda: store
        return
    opened: list[LedgerStore] = []
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgres" else ""

    def open_again() -> LedgerStore:
        for each in opened:
            each.close()
        opened.append(PostgresLedger(dsn) if dsn else SqliteLedger(tmp_path / "some dir#1" / "ledger.sqlite"))
        return opened[-1]

    yield open_again
    opened[-1].close()


@pytest.fixture
def store(reopen: Reopen) -> LedgerStore:
    return reopen()


def test_a_new_store_is_empty_and_sound(store):
    assert store.position() == 0
    assert list(store.entries()) == []
    assert list(store.rollups()) == []
    assert store.group("g1") == []
    assert store.check() == []


def test_entries_come_by_arrival_and_then_as_they_were_taken(store):
    some = [entry(0, at=7), entry(1, at=5), entry(2, at=7), entry(3, at=6)]
    store.ingest(stored(*some), 4)
    assert [e.group for e in store.entries()] == ["g1", "g3", "g0", "g2"]
    assert [e.group for e in store.entries(newest_first=True)] == ["g2", "g0", "g3", "g1"]
    assert [e.group for e in store.entries(6, 7)] == ["g3"]
    assert [e.group for e in store.entries(limit=2)] == ["g1", "g3"]
    assert [e.group for e in store.entries(6, limit=1, newest_first=True)] == ["g2"]
    assert list(store.entries(limit=0)) == []


def test_a_record_is_taken_once_however_often_it_is_handed_over(store):
    some = [entry(number) for number in range(5)]
    store.ingest(stored(*some[:3]), 3)
    store.ingest(stored(*some[:3]), 3)
    store.ingest(stored(*some[1:5]), 5)
    store.ingest(stored(*some[:2]), 2)
    assert store.position() == 5
    assert list(store.entries()) == some
    assert by_cell(store.rollups()) == sums(some)
    assert store.check() == []


def test_a_gap_is_refused_and_changes_nothing(store):
    store.ingest(stored(entry(0)), 1)
    with pytest.raises(LedgerError, match="holds 1 records"):
        store.ingest(stored(entry(2)), 3)
    assert (store.position(), list(store.entries())) == (1, [entry(0)])


def test_an_exchange_is_found_whole_and_in_order(store):
    some = [
        entry(1, superseded=True, status=503),
        entry(2),
        entry(1, id="g1.2", attempt=2),
        entry(1, id="g1.1~1", corrects="g1.1", cost=0, list_cost=0),
    ]
    store.ingest(stored(*some), 4)
    assert [e.id for e in store.group("g1")] == ["g1.1", "g1.2", "g1.1~1"]
    assert store.check() == []


def test_every_field_comes_back_as_it_was(store):
    full = Entry(
        id="é\n.1", group="é\n", attempt=1, at=EVER - 1, endpoint="messages", model="=m", served="s",
        upstream="u", provider="p", tier="flex", tenant='"t"', team="'t'", key="k", feature="\U0001f600\u0000",
        tags=(("a", "b"),), usage=Usage(**{meter: 10**15 + n for n, meter in enumerate(METERS)}),
        usage_source="provider", unknown_usage=("x",), cost=10**17, list_cost=10**18, saved=(("tier", 9 * 10**17),),
        missing_prices=("input",), price_version="v", policy="p", cache="coalesced", status=200, error="e",
        finish="stop", stream=True, ttft=1, latency=2, overhead=3,
        decisions=(Decision("route", "x", {"n": 1, "f": 0.5, "b": True, "none": None}),), simulated=True,
    )  # fmt: skip
    store.ingest(stored(full), 1)
    assert list(store.entries()) == store.group(full.group) == [full]


def test_sums_beyond_64_bits_are_exact(reopen):
    store = reopen()
    some = [entry(number, at=0, cost=2**63 - 1, list_cost=2**63 - 1) for number in range(40)]
    for number, one in enumerate(some):
        store.ingest(stored(one), number + 1)
    assert [rollup.sums.cost for rollup in reopen().rollups()] == [40 * (2**63 - 1)]


def test_rollups_are_asked_for_by_the_hour_they_begin_in(store):
    store.ingest(stored(*(entry(number, at=number * HOUR + 5) for number in range(4))), 4)
    assert sorted(rollup.hour // HOUR for rollup in store.rollups(HOUR, 3 * HOUR)) == [1, 2]
    assert sorted(rollup.hour // HOUR for rollup in store.rollups(HOUR + 1)) == [2, 3]


def test_pruning_forgets_entries_but_not_what_they_came_to(store):
    some = [entry(number, at=number * HOUR // 2) for number in range(9)]
    store.ingest(stored(*some), 9)
    assert store.prune(3 * HOUR // 2 + 1) == 4
    assert list(store.entries()) == some[4:]
    assert store.group("g0") == []
    assert by_cell(store.rollups()) == sums(some)
    assert store.check() == []
    store.ingest(stored(*some[5:], entry(9, at=9 * HOUR)), 10)
    assert store.position() == 10
    assert store.check() == []


def test_a_reader_sees_whole_batches_while_another_thread_writes(store):
    batch = 20
    some = [entry(number, at=0, cost=1) for number in range(40 * batch)]
    written = threading.Event()

    def write() -> None:
        for start in range(0, len(some), batch):
            store.ingest(stored(*some[start : start + batch]), start + batch)
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    while not written.is_set():
        calls = sum(rollup.sums.calls for rollup in store.rollups())
        assert calls % batch == 0
        assert calls >= seen
        seen = calls
    thread.join()
    assert sum(rollup.sums.calls for rollup in store.rollups()) == len(some)


class Model(RuleBasedStateMachine):
    """Whatever is done to the SQLite store, it holds what the store in memory holds."""

    path: Path

    @initialize(roll_up_every=st.sampled_from([1, 3, 10, 1000]))
    def begin(self, roll_up_every: int) -> None:
        self.path.unlink(missing_ok=True)
        sqlite_ledger.ROLL_UP_EVERY = roll_up_every
        self.store, self.model = SqliteLedger(self.path), MemoryLedger()
        self.taken: list[Stored] = []

    @rule(
        hours=st.lists(st.integers(0, 3), max_size=6),
        again=st.integers(0, 4),
        tenant=st.sampled_from(["", "acme"]),
    )
    def ingest(self, hours: list[int], again: int, tenant: str) -> None:
        begin = max(0, len(self.taken) - again)
        fresh = [entry(len(self.taken) + n, at=hour * HOUR, tenant=tenant) for n, hour in enumerate(hours)]
        self.taken += stored(*fresh)
        for store in (self.store, self.model):
            store.ingest(self.taken[begin:], len(self.taken))

    @rule(before=st.integers(0, 4))
    def prune(self, before: int) -> None:
        assert self.store.prune(before * HOUR) == self.model.prune(before * HOUR)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = SqliteLedger(self.path)

    @rule()
    def prune_from_another_process(self) -> None:
        other = SqliteLedger(self.path)
        assert other.prune(HOUR) == self.model.prune(HOUR)
        other.close()

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def find(self, data) -> None:
        group = data.draw(st.sampled_from(self.taken)).entry.group
        assert self.store.group(group) == self.model.group(group)

    @invariant()
    def same(self) -> None:
        assert self.store.position() == self.model.position()
        assert list(self.store.entries()) == list(self.model.entries())
        assert list(self.store.entries(newest_first=True)) == list(self.model.entries(newest_first=True))
        assert by_cell(self.store.rollups()) == by_cell(self.model.rollups())
        assert by_cell(self.store.rollups(HOUR, 3 * HOUR)) == by_cell(self.model.rollups(HOUR, 3 * HOUR))

    def teardown(self) -> None:
        assert self.store.check() == []
        self.store.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def test_the_sqlite_store_does_what_the_one_in_memory_does(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_ledger, "ROLL_UP_EVERY", sqlite_ledger.ROLL_UP_EVERY)
    monkeypatch.setattr(sqlite_ledger, "PRUNE_CHUNK", 2)
    Model.path = tmp_path / "ledger.sqlite"
    machine = Model.TestCase
    machine.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
    machine("runTest").runTest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_records_and_position_are_taken_together_or_not_at_all(path):
    store = SqliteLedger(path)
    store.ingest(stored(entry(0)), 1)
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TRIGGER crash BEFORE UPDATE ON progress WHEN new.name = 'taken'"
            " BEGIN SELECT RAISE(ABORT, 'power'); END"
        )
    with pytest.raises(LedgerError, match="power"):
        store.ingest(stored(entry(1)), 2)
    assert (store.position(), list(store.entries())) == (1, [entry(0)])
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER crash")
    store.ingest(stored(entry(1)), 2)
    assert by_cell(store.rollups()) == sums([entry(0), entry(1)])
    assert store.check() == []
    store.close()


def test_rollups_that_cannot_be_written_are_made_up_for(path, monkeypatch):
    monkeypatch.setattr(sqlite_ledger, "ROLL_UP_EVERY", 2)
    store = SqliteLedger(path)
    store.ingest(stored(entry(0), entry(1)), 2)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER crash BEFORE UPDATE ON progress WHEN new.name = 'rolled_up' AND new.value = 4"
                   " BEGIN SELECT RAISE(ABORT, 'power'); END")  # fmt: skip
    with pytest.raises(LedgerError, match="power"):
        store.ingest(stored(entry(2), entry(3)), 4)
    assert store.position() == 4
    assert by_cell(store.rollups()) == sums([entry(number) for number in range(4)])
    store.ingest(stored(entry(4)), 5)
    assert by_cell(store.rollups()) == sums([entry(number) for number in range(5)])
    assert store.check() == []
    store.close()


@given(cuts=st.lists(st.integers(0, 60), max_size=5), roll_up_every=st.integers(1, 70))
@settings(max_examples=15, deadline=None)
def test_a_process_that_dies_between_batches_loses_no_sum(tmp_path_factory, cuts, roll_up_every):
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    some = [entry(number, at=number * HOUR // 7) for number in range(60)]
    usual = sqlite_ledger.ROLL_UP_EVERY
    sqlite_ledger.ROLL_UP_EVERY = roll_up_every
    try:
        for end in [*sorted(cuts), 60]:
            store = SqliteLedger(path)  # the one before is not closed: its process is dead
            store.ingest(stored(*some[store.position() : end]), max(end, store.position()))
        assert by_cell(store.rollups()) == sums(some)
        assert store.check() == []
    finally:
        sqlite_ledger.ROLL_UP_EVERY = usual


def test_analysts_see_calls_as_columns(path):
    store = SqliteLedger(path)
    store.ingest(stored(entry(3, cost=None, usage=Usage(input=4, cache_read=5), saved=(("tier", 0),))), 1)
    with sqlite3.connect(path) as db:
        query = "SELECT id, tenant, cost, list_cost, input_used, cache_read_used, output_used, cache, stream FROM calls"
        assert db.execute(query).fetchall() == [("g3.1", "", None, 3, 4, 5, 0, "off", 0)]
        columns = {row[1] for row in db.execute("PRAGMA table_info(calls)")}
    assert columns >= set(Entry.__struct_fields__) - {"usage"}
    store.close()


def alter(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM entries WHERE seq = 1", "holds 2"),
        ("UPDATE entries SET doc = replace(doc, '\"cost\":2', '\"cost\":1')", "levers account for 0"),
        ("DELETE FROM rollups", "roll-up"),
        ("UPDATE rollups SET doc = replace(doc, '\"calls\":3', '\"calls\":4')", "roll-up"),
        ("INSERT INTO entries SELECT 9, at, grp, doc FROM entries WHERE seq = 1", "record 9"),
        ("INSERT INTO entries SELECT 9, at, grp, doc FROM entries WHERE seq = 1", "twice"),
    ],
)
def test_what_was_altered_behind_its_back_is_told(path, monkeypatch, statement, told):
    monkeypatch.setattr(sqlite_ledger, "ROLL_UP_EVERY", 1)
    store = SqliteLedger(path)
    store.ingest(stored(*(entry(number) for number in range(3))), 3)
    assert store.check() == []
    alter(path, statement)
    assert any(told in problem for problem in store.check()), store.check()
    store.close()


def test_a_damaged_file_is_refused_with_what_to_do(path):
    path.write_bytes(b"this was a ledger once " * 400)
    with pytest.raises(LedgerError, match=r"damaged: .*[Rr]estore"):
        SqliteLedger(path)


def test_damage_inside_is_told_by_check_or_refused(path):
    store = SqliteLedger(path)
    store.ingest(stored(*(entry(number, feature="x" * 500) for number in range(200))), 200)
    store.close()
    data = bytearray(path.read_bytes())
    for offset in range(3 * 4096, len(data), 4096):
        data[offset : offset + 64] = b"\xff" * 64
    path.write_bytes(data)
    assert "damaged" in told_or_refused(path)


def told_or_refused(path: Path) -> str:
    try:
        problems = SqliteLedger(path).check()
    except LedgerError as error:
        return str(error)
    return "damaged" if problems else "sound"


def test_a_file_of_a_later_format_is_refused(path):
    SqliteLedger(path).close()
    alter(path, "PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="format 99"):
        SqliteLedger(path)


def test_a_locked_file_is_an_error_and_then_none(path, monkeypatch):
    monkeypatch.setattr(sqlite_ledger, "BUSY_SECONDS", 0.01)
    store = SqliteLedger(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked"):
        store.ingest(stored(entry(0)), 1)
    holder.execute("ROLLBACK")
    holder.close()
    store.ingest(stored(entry(0)), 1)
    assert list(store.entries()) == [entry(0)]
    store.close()


def test_pruning_gives_space_back(path):
    store = SqliteLedger(path)
    store.ingest(stored(*(entry(number, feature="x" * 2000) for number in range(3000))), 3000)
    store.prune(0)
    store.close()
    full = path.stat().st_size
    store = SqliteLedger(path)
    assert store.prune(2900) == 2900
    store.close()
    assert path.stat().st_size < full / 3


def test_each_journal_is_taken_exactly_once_and_all_are_added_up(reopen):
    store = reopen()
    ours, theirs = [entry(number) for number in range(6)], [entry(number) for number in range(10, 14)]
    store.ingest(stored(*ours[:3]), 3, "a")
    store.ingest(stored(*theirs), 4, "b")
    store.ingest(stored(*ours[1:]), 6, "a")
    store.ingest(stored(*theirs[2:]), 4, "b")
    with pytest.raises(LedgerError):
        store.ingest(stored(entry(20)), 6, "b")

    store = reopen()
    assert (store.position("a"), store.position("b"), store.position("c")) == (6, 4, 0)
    assert sorted(one.id for one in store.entries()) == sorted(one.id for one in ours + theirs)
    assert by_cell(store.rollups()) == sums(ours + theirs)
    assert store.check() == []


def test_two_processes_may_feed_one_file(path):
    """Two stores over one file, as two workers have them, in turns: nothing is added up twice or forgotten."""
    one, two = SqliteLedger(path), SqliteLedger(path)
    entries = [entry(number) for number in range(40)]
    for number in range(20):
        one.ingest(stored(entries[2 * number]), number + 1, "")
        two.ingest(stored(entries[2 * number + 1]), number + 1, "1")
    assert by_cell(one.rollups()) == by_cell(two.rollups()) == sums(entries)
    assert one.check() == two.check() == []
    one.close()
    two.close()


def test_a_file_of_format_1_goes_on(path):
    store = SqliteLedger(path)
    store.ingest(stored(*(entry(number) for number in range(5))), 5)
    store.close()
    with sqlite3.connect(path) as db:  # as the first format had it
        db.executescript(
            "DROP TABLE journals; UPDATE progress SET name = 'position' WHERE name = 'taken'; PRAGMA user_version = 1;"
        )
    store = SqliteLedger(path)
    assert store.position() == 5
    store.ingest(stored(entry(4), entry(5)), 6)
    assert by_cell(store.rollups()) == sums([entry(number) for number in range(6)])
    assert store.check() == []
    store.close()
