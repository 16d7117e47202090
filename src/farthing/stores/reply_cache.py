"""The levels of the exact cache: answers in memory, and answers on disk that survive a restart."""

import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from farthing.ports import Kept
from farthing.schema import Reply
from farthing.stores import bulk
from farthing.stores.sqlite_files import make_private, transaction
from farthing.stores.write_behind import WriteBehind

log = logging.getLogger(__name__)

OVERHEAD = 1200
"""Bytes that a reply with usage and charge takes in memory beside its body and headers."""
HEADER_BYTES = 170
"""Bytes that one header takes."""
LARGEST = 8
"""A reply may take one part in so many of a level."""
WAITING = 8 * 1024 * 1024
"""Bytes that may wait to be written to disk."""
EVICTED_TOGETHER = 100
SLOTS = 1 << 21
"""Places in the membership filter: at 250,000 keys, one absent key in twenty is looked up in vain."""

FORMAT = 2
PAGE = 16 * 1024
"""Bytes per page of the file: replies are a kilobyte or two, so small pages would hold one and waste the rest."""
TABLE = f"""
PRAGMA page_size = {PAGE};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -1024;
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, mark INTEGER NOT NULL, expires INTEGER NOT NULL, reply BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_mark ON replies (mark);
PRAGMA user_version = {FORMAT};
"""
WRITE = f"""
INSERT INTO replies (mark, expires, reply)
SELECT CAST({bulk.TEXT} AS INTEGER), {bulk.NUMBER}, {bulk.DOCUMENT} FROM {bulk.SOURCE}
"""  # noqa: S608  # only constants are formatted in
FIND = "SELECT expires, reply FROM replies WHERE mark = ? ORDER BY id DESC"
OLDEST = "SELECT id, mark FROM replies ORDER BY id LIMIT ?"


class MemoryReplies:
    """Replies in memory, bounded in bytes: the one used longest ago goes first."""

    def __init__(self, room: int) -> None:
        self._held: OrderedDict[bytes, tuple[Kept, int]] = OrderedDict()
        self._room = room
        self._largest = room // LARGEST

    def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now`."""
        held = self._held.get(key)
        if held is None:
            return None
        if held[0].expires <= now:
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return held[0]

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep a reply, in the place of those used longest ago."""
        if key in self._held:
            self._drop(key)
        size = weight(key, reply)
        if size > self._largest:
            return
        self._room -= size
        self._held[key] = Kept(reply, expires), size
        while self._room < 0:
            self._room += self._held.popitem(last=False)[1][1]

    def close(self) -> None:
        """Nothing is to be written."""

    def _drop(self, key: bytes) -> None:
        self._room += self._held.pop(key)[1]


def weight(key: bytes, reply: Reply) -> int:
    """About how many bytes a reply takes in memory."""
    return len(key) + len(reply.body) + len(reply.tail) + len(reply.headers) * HEADER_BYTES + OVERHEAD


class SqliteReplies:
    """Replies in a file, bounded in bytes: the oldest go first. It outlives the process.

    It is only a cache: a file that is damaged, or of another format, is deleted and begun anew, and while there is no
    usable file nothing is found. Replies are written a moment after they are put, and found meanwhile.
    """

    def __init__(self, path: Path, room: int) -> None:
        self._path = path
        self._room = room
        self._largest = room // LARGEST
        self._decoder = msgspec.msgpack.Decoder(Reply)
        self._encode = msgspec.msgpack.Encoder().encode
        self._reading = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._known = MarkFilter()
        self._damaged = False
        self._failure = ""
        self._attempt(self._open)
        self._behind = WriteBehind[bytes, Kept]("farthing-cache", self._write, min(WAITING, room))

    def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now`."""
        kept = self._behind.get(key)
        if kept is None:
            if not self._known.may_hold(mark_of(key)):
                return None
            kept = self._find(key)
        return kept if kept is not None and kept.expires > now else None

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep a reply, in the place of the oldest."""
        size = weight(key, reply)
        if size <= self._largest:
            self._behind.put(key, Kept(reply, expires), size)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put is written; whether it was within `timeout` seconds."""
        return self._behind.flush(timeout)

    def close(self) -> None:
        """Write what waits, and let the file go."""
        self._behind.close()
        self._shut()

    def _find(self, key: bytes) -> Kept | None:
        with self._reading:
            if self._reader is None:
                return None
            try:
                for expires, reply in self._reader.execute(FIND, (mark_of(key),)):
                    if reply.startswith(key):
                        return Kept(self._decoder.decode(memoryview(reply)[len(key) :]), expires)
                return None
            except (sqlite3.Error, msgspec.DecodeError) as error:
                self._failed(error)
                return None

    def _write(self, batch: Sequence[tuple[bytes, Kept]]) -> None:
        if self._damaged:
            self._attempt(self._begin_anew)
        elif self._writer is None and batch:
            self._attempt(self._open)
        if batch and self._writer is not None:
            self._attempt(lambda: self._insert(batch))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            self._failure = ""

    def _failed(self, error: Exception) -> None:
        self._damaged = not isinstance(error, (sqlite3.OperationalError, OSError))
        if not self._failure:
            remedy = "it is begun anew" if self._damaged else "what it should keep is lost"
            log.warning("The reply cache %s fails, so %s: %s.", self._path, remedy, error)
        self._failure = str(error)

    def _open(self) -> None:
        make_private(self._path)
        writer = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            if writer.execute("PRAGMA user_version").fetchone()[0] not in (0, FORMAT):
                raise sqlite3.DatabaseError("it is in another format")
            writer.executescript(TABLE)
            known = MarkFilter()
            known.add(row[0] for row in writer.execute("SELECT mark FROM replies"))
        except sqlite3.Error:
            writer.close()
            raise
        with self._reading:
            self._reader = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._writer, self._known = writer, known

    def _shut(self) -> None:
        with self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _begin_anew(self) -> None:
        self._shut()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._damaged = False
        self._open()

    def _insert(self, batch: Sequence[tuple[bytes, Kept]]) -> None:
        assert self._writer is not None
        marks = [mark_of(key) for key, _ in batch]
        rows = bulk.pack(
            [str(mark) for mark in marks],
            [kept.expires for _, kept in batch],
            [key + self._encode(kept.reply) for key, kept in batch],
        )
        with transaction(self._writer) as db:
            db.execute(WRITE, rows)
        self._known.add(marks)
        while self._used() > self._room:
            self._evict()

    def _used(self) -> int:
        """Bytes of the file that hold something."""
        assert self._writer is not None
        return sum(
            sign * int(self._writer.execute(f"PRAGMA {count}").fetchone()[0])
            for sign, count in ((1, "page_count"), (-1, "freelist_count"))
        ) * int(self._writer.execute("PRAGMA page_size").fetchone()[0])

    def _evict(self) -> None:
        assert self._writer is not None
        with transaction(self._writer) as db:
            oldest = db.execute(OLDEST, (EVICTED_TOGETHER,)).fetchall()
            db.execute("DELETE FROM replies WHERE id <= ?", (oldest[-1][0],))
        self._known.remove(mark for _, mark in oldest)


def mark_of(key: bytes) -> int:
    """The number that a key is found by: its first eight bytes. The whole key stands before the reply it belongs to."""
    return int.from_bytes(key[:8], "big", signed=True)


class MarkFilter:
    """Tells most marks that are not in a set from those that are, in two megabytes: a counting Bloom filter.

    A count that reaches 255 stays there, so that a mark in the set is never taken for absent.
    """

    def __init__(self) -> None:
        self._counts = bytearray(SLOTS)

    def may_hold(self, mark: int) -> bool:
        """Whether the set may hold a mark."""
        return bool(self._counts[mark % SLOTS] and self._counts[(mark // SLOTS) % SLOTS])

    def add(self, marks: Iterable[int]) -> None:
        """Note that the set holds marks, once more each."""
        for slot in _slots(marks):
            if self._counts[slot] < 255:
                self._counts[slot] += 1

    def remove(self, marks: Iterable[int]) -> None:
        """Note that the set holds marks once less each."""
        for slot in _slots(marks):
            if 0 < self._counts[slot] < 255:
                self._counts[slot] -= 1


def _slots(marks: Iterable[int]) -> Iterator[int]:
    for mark in marks:
        yield mark % SLOTS
        yield (mark // SLOTS) % SLOTS
