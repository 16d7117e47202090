"""Bodies: prompts and answers, in a file of their own, for as long as they are wanted."""

import logging
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from farthing.errors import LedgerError
from farthing.stores import bulk
from farthing.stores.retention import Retention
from farthing.stores.sqlite_files import make_private, transaction
from farthing.stores.write_behind import WriteBehind

log = logging.getLogger(__name__)

WAITING = 32 * 1024 * 1024
"""Bytes that may wait to be written."""
PRUNED_TOGETHER = 500
LIGHT = 1
"""The zlib level: JSON shrinks to a third or less, in about 10 ns a byte, outside the interpreter's lock."""

FORMAT = 1
TABLE = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS bodies (grp TEXT PRIMARY KEY, at INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS bodies_by_arrival ON bodies (at);
PRAGMA user_version = {FORMAT};
"""
WRITE = f"""
INSERT OR REPLACE INTO bodies (grp, at, doc)
SELECT {bulk.TEXT}, {bulk.NUMBER}, {bulk.DOCUMENT} FROM {bulk.SOURCE}
"""  # noqa: S608  # only constants are formatted in
FORGET = "DELETE FROM bodies WHERE grp IN (SELECT grp FROM bodies WHERE at < ? ORDER BY at LIMIT ?)"


class Body(msgspec.Struct, frozen=True, gc=False):
    """What a caller sent and what went back, as bytes; `at` is when the call arrived (Unix ns)."""

    at: int
    request: bytes
    reply: bytes


class Bodies:
    """Keeps the bodies of exchanges, by group. It never delays a call: what does not fit is dropped and counted.

    Raises `LedgerError` when the file cannot be opened.
    """

    def __init__(self, path: Path, retention: Retention) -> None:
        self._path = path
        self._retention = retention
        self._failure = ""
        try:
            make_private(path)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.executescript(TABLE)
        except (sqlite3.Error, OSError) as error:
            hint = "Delete or restore it, or turn ledger.bodies off."
            raise LedgerError(f"The bodies in {path} cannot be kept: {error}.", hint=hint) from error
        self._behind = WriteBehind[str, Body]("farthing-bodies", self._write, WAITING)

    @property
    def dropped(self) -> int:
        """How many exchanges went unkept because too much was waiting."""
        return self._behind.dropped

    def put(self, group: str, body: Body) -> None:
        """Keep the bodies of an exchange."""
        self._behind.put(group, body, len(body.request) + len(body.reply))

    def get(self, group: str) -> Body | None:
        """The bodies of an exchange, if they are kept. Raises `LedgerError`."""
        waiting = self._behind.get(group)
        if waiting is not None:
            return waiting
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None)) as db:
                row = db.execute("SELECT doc FROM bodies WHERE grp = ?", (group,)).fetchone()
                return msgspec.msgpack.decode(zlib.decompress(row[0]), type=Body) if row else None
        except (sqlite3.Error, zlib.error, msgspec.DecodeError) as error:
            raise LedgerError(f"The bodies of {group} in {self._path} cannot be read: {error}.") from error

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put is written; whether it was within `timeout` seconds."""
        return self._behind.flush(timeout)

    def prune(self, before: int) -> int:
        """Forget bodies of calls that arrived before an instant; how many went. Raises `sqlite3.Error`."""
        gone = 0
        chunk = PRUNED_TOGETHER
        while chunk == PRUNED_TOGETHER:
            with transaction(self._db) as db:
                chunk = db.execute(FORGET, (before, PRUNED_TOGETHER)).rowcount
            gone += chunk
        if gone:
            self._db.executescript("PRAGMA incremental_vacuum")  # execute() frees one page
        return gone

    def close(self) -> None:
        """Write what waits, and let the file go."""
        self._behind.close()
        self._db.close()

    def _write(self, batch: Sequence[tuple[str, Body]]) -> None:
        try:
            if batch:
                rows = bulk.pack(
                    [group for group, _ in batch],
                    [body.at for _, body in batch],
                    [zlib.compress(msgspec.msgpack.encode(body), LIGHT) for _, body in batch],
                )
                with transaction(self._db) as db:
                    db.execute(WRITE, rows)
                self._failure = ""
            if (before := self._retention.cutoff()) is not None:
                self.prune(before)
        except sqlite3.Error as error:
            if not self._failure:
                log.error("Bodies are lost while %s cannot be written: %s.", self._path, error)
            self._failure = str(error)
