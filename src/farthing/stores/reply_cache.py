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
HEADER_OVERHEAD = 130
"""Bytes that one header takes beside its text."""
LARGEST = 8
"""A reply may take one part in so many of a level."""
WAITING = 16 * 1024 * 1024
"""Bytes that may wait to be written to disk."""
EVICTED_TOGETHER = 100
SLOTS = 1 << 21
"""Places in the membership filter: at 250,000 keys, one absent key in twenty is looked up in vain."""

FORMAT = 1
TABLE = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, expires INTEGER NOT NULL, reply BLOB NOT NULL
);
PRAGMA user_version = {FORMAT};
"""
WRITE = f"""
INSERT OR REPLACE INTO replies (key, expires, reply)
SELECT {bulk.TEXT}, {bulk.NUMBER}, {bulk.DOCUMENT} FROM {bulk.SOURCE}
"""  # noqa: S608  # only constants are formatted in
PRESENT = "SELECT group_concat(key) FROM replies WHERE key IN (SELECT value FROM json_each(?))"
FIND = "SELECT expires, reply FROM replies WHERE key = ?"
OLDEST = "SELECT max(id), group_concat(key) FROM (SELECT id, key FROM replies ORDER BY id LIMIT ?)"


class MemoryReplies:
    """Replies in memory, bounded in bytes: the one used longest ago goes first."""

    def __init__(self, room: int) -> None:
        self._held: OrderedDict[bytes, Kept] = OrderedDict()
        self._room = room
        self._largest = room // LARGEST

    def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now`."""
        kept = self._held.get(key)
        if kept is None:
            return None
        if kept.expires <= now:
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return kept

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep a reply, in the place of those used longest ago."""
        self._drop(key)
        size = weight(key, reply)
        if size > self._largest:
            return
        self._room -= size
        self._held[key] = Kept(reply, expires)
        while self._room < 0:
            self._drop(next(iter(self._held)))

    def close(self) -> None:
        """Nothing is to be written."""

    def _drop(self, key: bytes) -> None:
        kept = self._held.pop(key, None)
        if kept is not None:
            self._room += weight(key, kept.reply)


def weight(key: bytes, reply: Reply) -> int:
    """About how many bytes a reply takes in memory."""
    headers = sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in reply.headers)
    return len(key) + len(reply.body) + len(reply.tail) + headers + OVERHEAD


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
        self._known = KeyFilter()
        self._damaged = False
        self._failure = ""
        self._attempt(self._open)
        self._behind = WriteBehind[bytes, Kept]("farthing-cache", self._write, min(WAITING, room))

    def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now`."""
        kept = self._behind.get(key)
        if kept is None:
            if not self._known.may_hold(key):
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
                row = self._reader.execute(FIND, (key.hex(),)).fetchone()
                return Kept(self._decoder.decode(row[1]), row[0]) if row else None
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
            known = KeyFilter()
            known.add(row[0] for row in writer.execute("SELECT key FROM replies"))
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
        keys = [key.hex() for key, _ in batch]
        rows = bulk.pack(keys, [kept.expires for _, kept in batch], [self._encode(kept.reply) for _, kept in batch])
        with transaction(self._writer) as db:
            present = _keys(db.execute(PRESENT, (rows["texts"],)).fetchone()[0])
            db.execute(WRITE, rows)
        self._known.add(set(keys).difference(present))
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
            last, keys = db.execute(OLDEST, (EVICTED_TOGETHER,)).fetchone()
            db.execute("DELETE FROM replies WHERE id <= ?", (last,))
        self._known.remove(_keys(keys))


def _keys(joined: str | None) -> list[str]:
    return joined.split(",") if joined else []


class KeyFilter:
    """Tells most keys that are not in a set from those that are, in two megabytes: a counting Bloom filter.

    A count that reaches 255 stays there, so that a key in the set is never taken for absent.
    """

    def __init__(self) -> None:
        self._counts = bytearray(SLOTS)

    def may_hold(self, key: bytes) -> bool:
        """Whether the set may hold a key."""
        mark = hash(key)
        return bool(self._counts[mark % SLOTS] and self._counts[(mark // SLOTS) % SLOTS])

    def add(self, keys: Iterable[str]) -> None:
        """Note that the set holds keys, in hexadecimal, that it did not hold."""
        for slot in self._slots(keys):
            if self._counts[slot] < 255:
                self._counts[slot] += 1

    def remove(self, keys: Iterable[str]) -> None:
        """Note that the set no longer holds keys."""
        for slot in self._slots(keys):
            if 0 < self._counts[slot] < 255:
                self._counts[slot] -= 1

    def _slots(self, keys: Iterable[str]) -> Iterator[int]:
        for key in keys:
            mark = hash(bytes.fromhex(key))
            yield mark % SLOTS
            yield (mark // SLOTS) % SLOTS
