"""Every level of the exact cache: gives back what was put until it expires, within its bytes."""

import random
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.ports import ReplyStore
from farthing.schema import Charge, Reply, Usage
from farthing.stores.reply_cache import MarkFilter, MemoryReplies, SqliteReplies, mark_of

ROOM = 4 * 1024 * 1024
FOREVER = 2**62


def key(number: int) -> bytes:
    return random.Random(number).randbytes(32)


def reply(body: bytes = b"{}", **changes) -> Reply:
    fields = {
        "status": 200, "body": body, "headers": ((b"content-type", b"application/json"),), "model": "m",
        "usage": Usage(input=3, output=5), "usage_source": "provider", "finish": "stop",
        "charge": Charge(10**15, 2 * 10**15, "v", (("provider_cache", 10**15),)),
    }  # fmt: skip
    return Reply(**{**fields, **changes})


@pytest.fixture(params=["memory", "sqlite waiting", "sqlite written"])
def level(request, tmp_path) -> Iterator[ReplyStore]:
    if request.param == "memory":
        yield MemoryReplies(ROOM)
        return
    replies = SqliteReplies(tmp_path / "new dir" / "cache.sqlite", ROOM)
    if request.param == "sqlite written":
        replies = Written(replies)
    yield replies
    replies.close()


class Written:
    """A store on disk, looked at once everything is written."""

    def __init__(self, replies: SqliteReplies) -> None:
        self.replies = replies
        self.put, self.flush, self.close = replies.put, replies.flush, replies.close

    def get(self, key: bytes, now: int):
        assert self.replies.flush(10)
        return self.replies.get(key, now)


def test_what_was_put_comes_back_whole_with_its_expiry(level):
    whole = reply(b"\x00\xff" * 1000, tail=b"data: [DONE]\n\n", streamed=True, tier="flex", unknown_usage=("x",))
    level.put(key(1), whole, 100)
    kept = level.get(key(1), 99)
    assert kept is not None
    assert (kept.reply, kept.expires) == (whole, 100)


def test_what_was_never_put_is_not_there(level):
    level.put(key(1), reply(), 100)
    assert level.get(key(2), 0) is None
    assert level.get(b"", 0) is None


def test_a_reply_is_gone_from_its_expiry_on(level):
    level.put(key(1), reply(), 100)
    assert level.get(key(1), 100) is None
    assert level.get(key(1), 101) is None


def test_a_later_reply_replaces_an_earlier_one(level):
    level.put(key(1), reply(b"old"), 100)
    level.put(key(1), reply(b"new"), 200)
    kept = level.get(key(1), 150)
    assert kept is not None
    assert kept.reply.body == b"new"


def test_one_reply_may_not_take_the_place_of_all_others(level):
    level.put(key(1), reply(), 100)
    level.put(key(2), reply(b"x" * (ROOM // 4)), 100)
    assert level.get(key(2), 0) is None
    assert level.get(key(1), 0) is not None


def test_many_replies_stay_within_the_room_and_the_latest_are_there(level):
    for number in range(1500):
        level.put(key(number), reply(b"%d" % number * 1000), 100)
        if number % 100 == 0 and not isinstance(level, MemoryReplies):
            assert level.flush(10)  # what comes faster than the disk takes it is dropped
    assert level.get(key(0), 0) is None
    assert level.get(key(1499), 0) is not None
    found = sum(level.get(key(number), 0) is not None for number in range(1500))
    assert 200 < found < 1200


@given(st.lists(st.tuples(st.sampled_from("pg"), st.integers(0, 30), st.integers(3_000, 8_000)), max_size=90))
@settings(max_examples=100, deadline=None)
def test_memory_drops_what_was_used_longest_ago(steps):
    level, recent = MemoryReplies(80_000), []
    for what, number, size in steps:
        if what == "p":
            level.put(key(number), reply(b"x" * size), 100)
        found = level.get(key(number), 0)
        if found:
            recent = [n for n in recent if n != number] + [number]
    held = [number for number in range(31) if level.get(key(number), 0)]
    assert sorted(recent[len(recent) - len(held) :]) == held


def test_memory_keeps_what_was_used_since():
    level = MemoryReplies(ROOM)
    for number in range(60):
        level.put(key(number), reply(b"x" * 100_000), 100)
        level.get(key(0), 0)
    assert level.get(key(0), 0) is not None
    assert level.get(key(1), 0) is None


def test_memory_takes_no_more_than_its_room():
    encoded = msgspec.msgpack.encode(reply(b"x" * 2000))
    level = MemoryReplies(ROOM)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(5000):
        level.put(key(number), msgspec.msgpack.decode(encoded, type=Reply), 100)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.7 * ROOM < used < 1.02 * ROOM


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def test_replies_on_disk_survive_a_restart(path):
    level = SqliteReplies(path, ROOM)
    level.put(key(1), reply(b"kept"), 100)
    level.close()
    level = SqliteReplies(path, ROOM)
    kept = level.get(key(1), 0)
    assert kept is not None
    assert kept.reply == reply(b"kept")
    assert level.get(key(2), 0) is None
    level.close()


def test_the_file_is_bounded_over_many_lives(path):
    for life in range(4):
        level = SqliteReplies(path, ROOM)
        for number in range(1000):
            level.put(key(life * 1000 + number), reply(b"x" * 4000), 100)
        assert level.flush(30)
        level.close()
    assert path.stat().st_size < 2 * ROOM


@pytest.mark.parametrize("damage", ["garbage", "cut", "page", "format", "row"])
def test_a_damaged_file_is_begun_anew_and_told_once(path, caplog, damage):
    level = SqliteReplies(path, ROOM)
    for number in range(300):
        level.put(key(number), reply(b"x" * 1000), 100)
    level.close()
    data = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "page":
        path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    else:
        with sqlite3.connect(path) as db:
            db.execute(
                "PRAGMA user_version = 99"
                if damage == "format"
                else "UPDATE replies SET reply = CAST(substr(reply, 1, 32) || x'c1' AS BLOB)"
            )
        db.close()
    level = SqliteReplies(path, ROOM)
    for number in range(300):
        kept = level.get(key(number), 0)
        assert kept is None or kept.reply == reply(b"x" * 1000)
    level.put(key(999), reply(b"fresh"), 100)
    assert level.flush(10)
    for _ in range(2):  # what is found damaged only by writing is begun anew by the next batch
        level.put(key(1000), reply(b"more"), 100)
        assert level.flush(10)
    level.close()
    level = SqliteReplies(path, ROOM)
    kept = level.get(key(1000), 0)
    assert kept is not None
    assert kept.reply.body == b"more"
    level.close()
    assert caplog.text.count("begun anew") == 1


def test_a_place_where_no_file_can_be_is_a_cache_that_holds_nothing(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    level = SqliteReplies(tmp_path / "file" / "cache.sqlite", ROOM)
    for number in range(3):
        level.put(key(number), reply(), 100)
        assert level.flush(10)
        assert level.get(key(number), 0) is None
    level.close()
    assert caplog.text.count("fails") == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80))
@settings(max_examples=30, deadline=None)
def test_the_filter_never_denies_a_key_it_holds(steps):
    known, held = MarkFilter(), set()
    for add, number in steps:
        if add and number not in held:
            known.add([mark_of(key(number))])
            held.add(number)
        elif not add and number in held:
            known.remove([mark_of(key(number))])
            held.discard(number)
        assert all(known.may_hold(mark_of(key(n))) for n in held)
    known.remove([mark_of(key(n)) for n in held])
    assert not any(known.may_hold(mark_of(key(n))) for n in range(31))


def test_keys_that_share_a_mark_are_told_apart(tmp_path):
    store = SqliteReplies(tmp_path / "cache.sqlite", ROOM)
    one, other = b"samemark" + b"1" * 8, b"samemark" + b"2" * 8
    store.put(one, reply(b"1"), FOREVER)
    assert store.flush(10)
    assert store.get(other, 0) is None
    store.put(other, reply(b"2"), FOREVER)
    assert store.flush(10)
    assert (store.get(one, 0).reply.body, store.get(other, 0).reply.body) == (b"1", b"2")
    store.close()


def test_the_filter_knows_most_absent_keys():
    known = MarkFilter()
    known.add(mark_of(key(number)) for number in range(20_000))
    assert sum(known.may_hold(mark_of(key(number))) for number in range(20_000, 21_000)) < 20
