"""Every journal: what is committed is never lost, never there twice, and never altered unnoticed."""

import asyncio
import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.errors import LedgerError
from farthing.ports import Journal, LedgerStore, Stored
from farthing.schema import Entry
from farthing.stores import drain
from farthing.stores.bodies import Bodies
from farthing.stores.journal import FileJournal
from farthing.stores.memory_ledger import MemoryLedger
from farthing.stores.reply_cache import SqliteReplies
from farthing.stores.retention import DAY, Retention
from farthing.stores.segments import list_segments, read_journal, verify_journal
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.stores.tallying import TallyingJournal


def entry(number: int, **changes) -> Entry:
    fields = {
        "id": f"g{number}.1", "group": f"g{number}", "attempt": 1, "at": number, "endpoint": "chat", "model": "m",
        "cost": 1, "list_cost": 1,
    }  # fmt: skip
    return Entry(**{**fields, **changes})


def groups(store: LedgerStore) -> list[str]:
    return [one.group for one in store.entries()]


def named(*numbers: int) -> list[str]:
    return [f"g{number}" for number in numbers]


class Failing(MemoryLedger):
    """A store that can be told to fail, as one on a full or locked disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.works = True
        self.tried = threading.Event()

    def ingest(self, records, position, journal="") -> None:
        self.tried.set()
        if not self.works:
            raise LedgerError("The disk of the ledger is full.")
        super().ingest(records, position, journal)


@pytest.fixture(params=["file", "file always", "tallying"])
def journal(request, tmp_path) -> Iterator[Journal]:
    if request.param == "tallying":
        yield TallyingJournal()
        return
    sync = "always" if request.param == "file always" else "interval"
    opened = FileJournal(tmp_path / "journal", MemoryLedger(), sync=sync)
    yield opened
    opened.close()


def test_callbacks_run_in_order_before_the_tick_after_next(journal):
    ran: list[int] = []

    async def main() -> None:
        for number in range(3):
            journal.append([entry(number)])
            journal.after_commit(lambda number=number: ran.append(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ran == [0, 1, 2]

    asyncio.run(main())
    assert journal.failure == ""


def test_a_callback_with_nothing_before_it_runs_at_once(journal):
    ran = []
    journal.after_commit(lambda: ran.append(1))
    assert ran == [1]


def test_a_callback_that_fails_takes_no_other_with_it(tmp_path):
    journal = FileJournal(tmp_path, MemoryLedger())
    ran, told = [], []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        journal.append([entry(0)])
        journal.after_commit(lambda: ran.append(1 / 0))
        journal.after_commit(lambda: ran.append(2))
        for _ in range(4):
            await asyncio.sleep(0)
        assert ran == [2]

    asyncio.run(main())
    journal.close()
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_one_tick_is_one_write_and_callbacks_come_after_it(tmp_path):
    journal = FileJournal(tmp_path, MemoryLedger())
    segment = list_segments(tmp_path)[0]
    sizes = []

    async def main() -> None:
        before = segment.stat().st_size
        for number in range(5):
            journal.append([entry(number), entry(number, id=f"g{number}.2", attempt=2)])
            assert segment.stat().st_size == before
        journal.after_commit(lambda: sizes.append(segment.stat().st_size))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert len(segment.read_bytes().splitlines()) == 1 + 10
    assert sizes == [segment.stat().st_size]
    journal.close()


def test_what_is_appended_reaches_the_store_in_order(tmp_path):
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store)
    some = [entry(number) for number in range(50)]
    for one in some:
        journal.append([one])
    assert journal.flush(10)
    assert list(store.entries()) == some
    assert (journal.backlog, journal.store_failure) == (0, "")
    journal.close()


def test_closing_hands_everything_to_the_store(tmp_path):
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store)

    async def main() -> None:
        journal.append([entry(0)])
        journal.close()
        journal.close()

    asyncio.run(main())
    assert groups(store) == named(0)


def test_a_closed_journal_takes_nothing_rather_than_lose_it(tmp_path):
    journal = FileJournal(tmp_path, MemoryLedger())
    journal.close()
    with pytest.raises(LedgerError, match="closed"):
        journal.append([entry(0)])


def test_only_the_owner_can_read_what_is_kept(tmp_path):
    store = SqliteLedger(tmp_path / "data" / "ledger.sqlite")
    journal = FileJournal(tmp_path / "data" / "journal", store)
    journal.append([entry(0)])
    assert journal.flush(10)
    replies = SqliteReplies(tmp_path / "data" / "cache.sqlite", 10**6)
    bodies = Bodies(tmp_path / "data" / "bodies.sqlite", Retention(1, FixedClock(0)))
    files = list((tmp_path / "data").rglob("*"))
    assert len(files) > 8
    assert [str(file) for file in files if file.stat().st_mode & 0o077] == []
    for each in (journal, store, replies, bodies):
        each.close()


def written(directory: Path, count: int, first: int = 0) -> Path:
    """A journal with records that no store has; its only segment."""
    store = Failing()
    store.works = False
    if first == 0:
        journal = FileJournal(directory, store)
        for number in range(count):
            journal.append([entry(number)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("farthing.stores.journal.CLOSING", 0.0)
            journal.close()
    return list_segments(directory)[-1]


def test_a_new_process_continues_where_the_last_one_stopped(tmp_path):
    written(tmp_path, 3)
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store)
    journal.append([entry(3)])
    journal.close()
    assert groups(store) == named(0, 1, 2, 3)
    assert verify_journal(tmp_path) == []


def test_a_tail_torn_at_any_byte_costs_no_earlier_record(tmp_path_factory):
    segment = written(tmp_path_factory.mktemp("whole"), 4)
    whole = segment.read_bytes()
    lines = whole.splitlines(keepends=True)
    begin = sum(map(len, lines[:-2]))
    for size in range(begin, len(whole)):
        torn = tmp_path_factory.mktemp("torn")
        (torn / segment.name).write_bytes(whole[:size])
        store = MemoryLedger()
        journal = FileJournal(torn, store)
        journal.append([entry(9)])
        journal.close()
        kept = 2 + (size >= begin + len(lines[-2]))
        assert groups(store) == [*named(*range(kept)), "g9"]
        assert verify_journal(torn) == []


def test_a_tail_of_garbage_is_cut_off_and_kept_aside(tmp_path, caplog):
    segment = written(tmp_path, 3)
    garbage = b"\0" * 5000 + b"\nx\n{}\n"
    segment.write_bytes(segment.read_bytes() + garbage)
    store = MemoryLedger()
    FileJournal(tmp_path, store).close()
    assert groups(store) == named(0, 1, 2)
    assert segment.with_suffix(".cut").read_bytes() == garbage
    assert f"{len(garbage)} unfinished bytes" in caplog.text


def test_a_tail_without_its_line_break_is_no_record(tmp_path):
    segment = written(tmp_path, 3)
    segment.write_bytes(segment.read_bytes()[:-1] + b" ")
    journal = FileJournal(tmp_path, store := MemoryLedger())
    journal.append([entry(9)])
    journal.close()
    assert groups(store) == [*named(0, 1), "g9"]
    assert verify_journal(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 30])
def test_a_segment_whose_creation_was_cut_short_is_made_anew(tmp_path, size):
    segment = written(tmp_path, 0)
    segment.write_bytes(segment.read_bytes()[:size])
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store)
    journal.append([entry(0)])
    journal.close()
    assert groups(store) == named(0)


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def without(place: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:place] + lines[place + 1 :]


def replaced(place: int, old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[:place], lines[place].replace(old, new), *lines[place + 1 :]]


DAMAGES = {
    "a record altered": (replaced(2, b'"cost":1', b'"cost":0'), "line 3"),
    "a checksum altered": (lambda lines: [*lines[:2], b"0" + lines[2][1:] if lines[2][:1] != b"0" else b"1" + lines[2][1:], *lines[3:]], "line 3"),
    "the first record missing": (without(1), "line 2"),
    "a record missing": (without(2), "line 3"),
    "two records swapped": (swapped, "line 2"),
    "a record twice": (lambda lines: [*lines[:3], lines[2], *lines[3:]], "line 4"),
    "a line break lost": (replaced(2, b"\n", b" "), "line 3"),
    "the header altered": (replaced(0, b'"first":0', b'"first":1'), "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_before_sound_records_is_refused_and_told_where(tmp_path, damage):
    alter, place = DAMAGES[damage]
    segment = written(tmp_path, 6)
    segment.write_bytes(b"".join(alter(segment.read_bytes().splitlines(keepends=True))))
    problems = verify_journal(tmp_path)
    assert len(problems) == 1
    assert segment.name in problems[0]
    assert place in problems[0]
    before = segment.read_bytes()
    with pytest.raises(LedgerError, match=f"{segment.name}, {place} .*truncate -s"):
        FileJournal(tmp_path, MemoryLedger())
    assert segment.read_bytes() == before


def test_what_the_message_says_to_do_works(tmp_path):
    segment = written(tmp_path, 6)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:3], b"rubbish\n", *lines[4:]]))
    with pytest.raises(LedgerError) as refused:
        FileJournal(tmp_path, MemoryLedger())
    command = refused.value.hint.partition("`")[2].partition("`")[0]
    subprocess.run(command.split(), check=True)
    store = MemoryLedger()
    FileJournal(tmp_path, store).close()
    assert groups(store) == named(0, 1)


def test_a_journal_is_used_by_one_process_at_a_time(tmp_path):
    journal = FileJournal(tmp_path, MemoryLedger())
    with pytest.raises(LedgerError, match=rf"process {os.getpid()}\) is using {tmp_path}"):
        FileJournal(tmp_path, MemoryLedger())
    journal.close()
    FileJournal(tmp_path, MemoryLedger()).close()


def test_an_opening_that_fails_leaves_the_journal_free(tmp_path):
    written(tmp_path, 1)
    segment = list_segments(tmp_path)[0]
    sound = segment.read_bytes()
    segment.write_bytes(sound.replace(b'"first":0', b'"first":1') + b"x\n")
    with pytest.raises(LedgerError):
        FileJournal(tmp_path, MemoryLedger())
    segment.write_bytes(sound)
    FileJournal(tmp_path, MemoryLedger()).close()


def test_segments_follow_one_another_and_go_once_the_store_has_them(tmp_path):
    store = Failing()
    store.works = False
    journal = FileJournal(tmp_path, store, segment_bytes=2000)
    for number in range(60):
        journal.append([entry(number)])
    assert len(list_segments(tmp_path)) > 3
    assert verify_journal(tmp_path) == []
    store.works = True
    assert journal.flush(10)
    journal.close()
    assert groups(store) == named(*range(60))
    assert len(list_segments(tmp_path)) == 1
    journal = FileJournal(tmp_path, store, segment_bytes=2000)
    journal.append([entry(60)])
    journal.close()
    assert groups(store) == named(*range(61))


def test_a_segment_is_on_disk_before_the_next_one_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(drain, "PAUSE", 60)
    synced: dict[int, int] = {}
    sync = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        sync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal = FileJournal(tmp_path, MemoryLedger(), segment_bytes=500)
    for number in range(20):
        journal.append([entry(number)])
    *before, _ = list_segments(tmp_path)
    assert len(before) > 1
    assert all(synced[path.stat().st_ino] == path.stat().st_size for path in before)
    journal.close()


def undrained(tmp_path: Path, model: str = "m") -> list[Path]:
    """The segments of a journal whose store took nothing."""
    store = Failing()
    store.works = False
    journal = FileJournal(tmp_path, store, segment_bytes=500)
    for number in range(20):
        journal.append([entry(number, model=model)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("farthing.stores.journal.CLOSING", 0.0)
        journal.close()
    return list_segments(tmp_path)


def test_every_segment_that_the_store_lacks_is_read_again(tmp_path):
    assert len(undrained(tmp_path)) > 3
    store = MemoryLedger()
    FileJournal(tmp_path, store).close()
    assert groups(store) == named(*range(20))


@pytest.mark.parametrize("place", [0, 1])
def test_a_missing_segment_is_refused(tmp_path, place):
    segments = undrained(tmp_path)
    segments[place].unlink()
    assert place == 0 or "does not continue" in verify_journal(tmp_path)[0]
    with pytest.raises(LedgerError, match=r"in neither|does not continue"):
        FileJournal(tmp_path, MemoryLedger())


def test_a_segment_of_another_journal_is_refused(tmp_path):
    """Though it has as many records, with the same numbers."""
    segments = undrained(tmp_path / "one", "m")
    others = undrained(tmp_path / "two", "n")
    segments[1].write_bytes(others[1].read_bytes())
    assert "does not continue" in verify_journal(tmp_path / "one")[0]
    with pytest.raises(LedgerError, match="does not continue"):
        FileJournal(tmp_path / "one", MemoryLedger())


def test_an_unfinished_segment_before_others_is_refused(tmp_path):
    segments = undrained(tmp_path)
    segments[1].write_bytes(segments[1].read_bytes()[:-10])
    with pytest.raises(LedgerError, match=f"{segments[1].name}, line"):
        FileJournal(tmp_path, MemoryLedger())
    assert len(verify_journal(tmp_path)) == 1


def test_a_journal_behind_its_store_begins_anew_after_it(tmp_path):
    """As after a loss of power, or when the journal's directory was deleted: the store has every record already."""
    segment = written(tmp_path, 3)
    store = MemoryLedger()
    store.ingest([Stored(entry(n), msgspec.json.encode(entry(n))) for n in range(5)], 5)
    journal = FileJournal(tmp_path, store)
    assert verify_journal(tmp_path) == []
    journal.append([entry(5)])
    journal.close()
    assert groups(store) == named(0, 1, 2, 3, 4, 5)
    assert segment not in list_segments(tmp_path)
    assert verify_journal(tmp_path) == []
    FileJournal(tmp_path, store).close()


def test_a_store_that_fails_loses_nothing_and_is_told_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(drain, "PAUSE", 0.01)
    store = Failing()
    store.works = False
    journal = FileJournal(tmp_path, store)
    for number in range(5):
        journal.append([entry(number)])
        store.tried.clear()
        assert store.tried.wait(10)
    assert not journal.flush(0.05)
    assert (journal.backlog, journal.store_failure) == (5, "The disk of the ledger is full.")
    assert journal.failure == ""
    store.works = True
    assert journal.flush(10)
    journal.close()
    assert groups(store) == named(*range(5))
    assert journal.store_failure == ""
    assert caplog.text.count("takes no entries") == 1
    assert caplog.text.count("takes entries again") == 1


def test_a_store_that_lags_is_fed_from_the_files(tmp_path, monkeypatch):
    """Memory stays bounded: beyond the backlog, records are read back from disk, across segments."""
    monkeypatch.setattr(drain, "BACKLOG", 10)
    monkeypatch.setattr(drain, "BATCH", 7)
    store = Failing()
    store.works = False
    journal = FileJournal(tmp_path, store, segment_bytes=3000)
    for number in range(100):
        journal.append([entry(number)])
    assert journal.backlog == 100
    store.works = True
    assert journal.flush(10)
    for number in range(100, 120):
        journal.append([entry(number)])
    assert journal.flush(10)
    journal.close()
    assert groups(store) == named(*range(120))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=30),
    backlog=st.integers(1, 12),
    batch=st.integers(1, 9),
    failing=st.sets(st.integers(0, 29)),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_pace_every_record_arrives_once_and_in_order(
    tmp_path_factory, monkeypatch, sizes, backlog, batch, failing
):
    monkeypatch.setattr(drain, "BACKLOG", backlog)
    monkeypatch.setattr(drain, "BATCH", batch)
    monkeypatch.setattr(drain, "PAUSE", 0.001)
    store = Failing()
    journal = FileJournal(tmp_path_factory.mktemp("journal"), store, segment_bytes=1500)
    number = 0
    for turn, size in enumerate(sizes):
        store.works = turn not in failing
        journal.append([entry(number + n) for n in range(size)])
        number += size
    store.works = True
    assert journal.flush(10)
    journal.close()
    assert groups(store) == named(*range(number))


def test_a_record_that_cannot_be_read_back_stops_the_drain_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(drain, "BACKLOG", 1)
    store = Failing()
    store.works = False
    journal = FileJournal(tmp_path, store)
    for number in range(5):
        journal.append([entry(number)])
    segment = list_segments(tmp_path)[0]
    segment.write_bytes(segment.read_bytes().replace(b'"cost":1', b'"cost":2', 1))
    store.works = True
    assert not journal.flush(0.3)
    assert "Record 0 cannot be read" in journal.store_failure
    monkeypatch.setattr("farthing.stores.journal.CLOSING", 0.0)
    journal.close()


@pytest.fixture
def little_space() -> Iterator[Callable[[int | None], None]]:
    """Lets files grow to so many bytes and no further, as a disk that fills up does."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual[0] if size is None else size, usual[1]))

    yield limit
    limit(None)


def groups_in(directory: Path) -> list[str]:
    return [msgspec.json.decode(line, type=Entry).group for _, line in read_journal(directory, 0)]


def test_a_full_disk_is_told_once_and_costs_nothing_when_it_passes(tmp_path, caplog, little_space, monkeypatch):
    monkeypatch.setattr("farthing.stores.journal.RETRY", 0.01)
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store)
    ran = []

    async def main() -> None:
        journal.append([entry(0)])
        await asyncio.sleep(0.01)
        size = list_segments(tmp_path)[0].stat().st_size
        little_space(size + 250)  # the next record fits in part
        for number in range(1, 4):
            journal.append([entry(number, feature="x" * 200)])
            journal.after_commit(lambda number=number: ran.append((number, journal.failure != "")))
            await asyncio.sleep(0.03)
        assert list_segments(tmp_path)[0].stat().st_size == size + 250
        assert "while writing" in journal.failure
        little_space(None)
        await asyncio.sleep(0.05)
        assert journal.failure == ""
        assert groups_in(tmp_path) == named(0, 1, 2, 3)

    asyncio.run(main())
    assert ran == [(1, True), (2, True), (3, True)]
    journal.close()
    assert groups(store) == named(0, 1, 2, 3)
    assert verify_journal(tmp_path) == []
    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("written again") == 1


def test_a_full_disk_refuses_entries_once_memory_is_full_too(tmp_path, little_space):
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store, queue_bytes=1000)
    little_space(1)
    journal.append([entry(number) for number in range(20)])
    with pytest.raises(LedgerError, match=r"no more fit in memory: .* while writing"):
        journal.append([entry(20)])
    little_space(None)
    journal.commit()
    assert journal.failure == ""
    journal.append([entry(20)])
    journal.close()
    assert groups(store) == named(*range(21))


def test_closing_on_a_full_disk_says_how_much_is_lost(tmp_path, little_space):
    journal = FileJournal(tmp_path, MemoryLedger())
    little_space(1)
    journal.append([entry(0), entry(1)])
    with pytest.raises(LedgerError, match="2 entries were never written"):
        journal.close()
    little_space(None)
    FileJournal(tmp_path, MemoryLedger()).close()


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_a_disk_that_will_not_sync_is_told_until_it_does(tmp_path, monkeypatch, caplog, sync):
    monkeypatch.setattr(drain, "PAUSE", 0.01)
    store = MemoryLedger()
    journal = FileJournal(tmp_path, store, sync=sync)
    synced = os.fdatasync

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    journal.append([entry(0)])
    assert journal.flush(10)
    assert "forcing" in journal.failure
    monkeypatch.setattr(os, "fdatasync", synced)
    journal.sync()
    assert journal.failure == ""
    journal.close()
    assert groups(store) == named(0)
    assert caplog.text.count("cannot be forced") == 1


def test_always_means_on_disk_before_the_callback(tmp_path, monkeypatch):
    journal = FileJournal(tmp_path, MemoryLedger(), sync="always")
    order = []
    synced = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced(descriptor), order.append("disk")))

    async def main() -> None:
        journal.append([entry(0)])
        journal.after_commit(lambda: order.append("callback"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert order[:2] == ["disk", "callback"]
    journal.close()


class FixedClock:
    def __init__(self, at: int) -> None:
        self.at = at

    def now(self) -> int:
        return self.at


def test_entries_past_their_retention_are_forgotten_at_the_start(tmp_path):
    store = SqliteLedger(tmp_path / "ledger.sqlite")
    old = [entry(n, at=n * DAY) for n in range(10)]
    store.ingest([Stored(one, msgspec.json.encode(one)) for one in old], 10)
    journal = FileJournal(tmp_path / "journal", store, retention=Retention(3, FixedClock(9 * DAY)))
    journal.append([entry(10, at=9 * DAY)])
    journal.close()
    assert groups(store) == named(6, 7, 8, 9, 10)
    assert sum(rollup.sums.calls for rollup in store.rollups()) == 11
    assert store.check() == []
    store.close()


def test_a_busy_process_still_drains(tmp_path):
    """SQLite in Python takes the interpreter back at every step: a batch must be one step, or this takes minutes."""
    store = SqliteLedger(tmp_path / "ledger.sqlite")
    journal = FileJournal(tmp_path / "journal", store)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        for number in range(0, 3000, 100):
            journal.append([entry(number + n) for n in range(100)])
        assert journal.flush(60)
    finally:
        stop.set()
        thread.join()
    journal.close()
    assert store.check() == []
    assert groups(store) == named(*range(3000))
    store.close()


CHILD = """
import asyncio, os, sys
from pathlib import Path
from farthing.schema import Entry
from farthing.stores.journal import FileJournal
from farthing.stores.sqlite_ledger import SqliteLedger

path = Path(sys.argv[1])
store = SqliteLedger(path / "ledger.sqlite")
journal = FileJournal(path / "journal", store, sync=sys.argv[2], segment_bytes=40_000)

async def main():
    number = int(sys.argv[3])
    while True:
        for _ in range(7):
            entry = Entry(id=f"g{number}.1", group=f"g{number}", attempt=1, at=number, endpoint="chat", model="m",
                          cost=1, list_cost=1)
            journal.append([entry])
            journal.after_commit(lambda number=number: os.write(1, b"%d\\n" % number))
            number += 1
        await asyncio.sleep(0)

asyncio.run(main())
"""


def killed_child(path: Path, sync: str, first: int, seconds: float) -> int:
    """Run a process that appends until it is killed; one more than the last number it saw committed."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), sync, str(first)], stdout=subprocess.PIPE, bufsize=1 << 20
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"%d\n" % first
    threading.Timer(seconds, child.send_signal, [signal.SIGKILL]).start()
    committed = [line for line in child.stdout if line.endswith(b"\n")]
    child.wait()
    assert child.returncode == -signal.SIGKILL
    return int(committed[-1]) + 1 if committed else first + 1


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_a_killed_process_loses_nothing_committed_and_repeats_nothing(tmp_path, sync):
    committed = 0
    for seconds in (0.01, 0.13, 0.6):
        committed = killed_child(tmp_path, sync, committed, seconds)
        assert verify_journal(tmp_path / "journal") == []
        store = SqliteLedger(tmp_path / "ledger.sqlite")
        FileJournal(tmp_path / "journal", store).close()
        found = [int(one.group[1:]) for one in store.entries()]
        assert found == list(range(len(found)))
        assert len(found) >= committed
        assert store.check() == []
        assert sum(rollup.sums.calls for rollup in store.rollups()) == len(found) == store.position()
        committed = len(found)
        store.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
