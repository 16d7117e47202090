"""SqliteIdempotency: which Idempotency-Keys were used, in one SQLite file that the processes of one host share.

What is asked for while the file is busy is done together, in one transaction. A key outlives its answer: when the file
has no room, the oldest answers go first, then the oldest keys. The file survives the death of any process; a loss of
power may take the last moments.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from farthing.errors import StoreError
from farthing.ports import Repeated
from farthing.schema import Reply
from farthing.stores.sqlite_files import explained, make_private, transaction, write_ahead

FORMAT = 1
ROOM = 256 * 1024 * 1024
"""Bytes that the file may hold: a million keys, and the last hundred megabytes of answers."""
PRUNED_EVERY = 16
"""After how many claims expired keys go."""

# The number of an answer is never used again: a key must not find another's in the place of one that had to go.
TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS claims (
    key BLOB PRIMARY KEY, digest BLOB NOT NULL, owner TEXT NOT NULL, until INTEGER NOT NULL, answer INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_by_end ON claims (until);
CREATE TABLE IF NOT EXISTS answers (id INTEGER PRIMARY KEY AUTOINCREMENT, reply BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS answer_goes AFTER DELETE ON claims BEGIN DELETE FROM answers WHERE id = old.answer; END;
CREATE TRIGGER IF NOT EXISTS answer_lapses AFTER UPDATE OF answer ON claims WHEN old.answer IS NOT NULL BEGIN
    DELETE FROM answers WHERE id = old.answer;
END;
PRAGMA user_version = 1;
COMMIT;
"""
PRUNE = f"""
DELETE FROM claims WHERE key IN (
    SELECT key FROM claims WHERE until <= :now ORDER BY until LIMIT {PRUNED_EVERY * 8}
)
"""  # noqa: S608  # only a constant is formatted in
TAKE = """
INSERT INTO claims (key, digest, owner, until) VALUES (:key, :digest, :owner, :until)
ON CONFLICT (key) DO UPDATE
SET digest = excluded.digest, owner = excluded.owner, until = excluded.until, answer = NULL
WHERE until <= :now OR (owner = excluded.owner AND answer IS NULL)
"""
FIND = "SELECT digest, answer, reply FROM claims LEFT JOIN answers ON id = answer WHERE key = ?"
ANSWER = "INSERT INTO answers (reply) SELECT ? FROM claims WHERE key = ? AND owner = ? AND answer IS NULL"
COMPLETE = "UPDATE claims SET until = ?, answer = last_insert_rowid() WHERE key = ?"
RELEASE = "DELETE FROM claims WHERE key = ? AND owner = ? AND answer IS NULL"
DROP_ANSWERS = "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY id LIMIT 10)"
DROP_KEYS = """
DELETE FROM claims WHERE key IN (SELECT key FROM claims WHERE answer IS NOT NULL ORDER BY until LIMIT 1000)
"""

FORGOTTEN = Reply(status=200)
"""What is known of an answer that had to go: that there was one."""

_REPLY = msgspec.msgpack.Decoder(Reply)
T = TypeVar("T")


class SqliteIdempotency:
    """Implements `farthing.ports.IdempotencyStore` in a file of `room` bytes, created where there is none.

    Raises `StoreError` when the file is damaged, locked for longer than `deadline` seconds, or of a later format.
    """

    def __init__(self, path: Path, room: int = ROOM, deadline: float = 2.0) -> None:
        self._path = path
        self._room = room
        self._deadline = deadline
        self._closed = False
        self._claims = 0
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._pump: asyncio.Task[None] | None = None
        with self._explained():
            make_private(path)
            self._db = sqlite3.connect(path, deadline, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        self._thread = ThreadPoolExecutor(1, "farthing-idempotency")

    async def claim(self, key: bytes, digest: bytes, owner: str, now: int, until: int) -> Repeated | None:
        """Take a key, or keep it for longer."""
        return await self._do(
            lambda: self._claim({"key": key, "digest": digest, "owner": owner, "now": now, "until": until})
        )

    async def complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        """Keep the reply of a claimed key."""
        await self._do(lambda: self._complete(key, owner, reply, until))

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claimed key back."""
        await self._do(lambda: self._db.execute(RELEASE, (key, owner)))

    async def close(self) -> None:
        """Finish what was asked for, and let the file go."""
        if not self._closed:
            self._closed = True
            if self._pump is not None:
                await self._pump
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
            self._thread.shutdown(wait=False)

    # -- the queue

    async def _do(self, action: Callable[[], T]) -> T:
        """Have an action done in the store's thread; one that has not begun when its deadline passes never is."""
        if self._closed:
            raise StoreError(f"The Idempotency-Keys in {self._path} are asked for after they were closed.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._queue.append((action, done))
        if self._pump is None:
            self._pump = loop.create_task(self._run())
        try:
            async with asyncio.timeout(self._deadline):
                return await done
        except TimeoutError:
            raise StoreError(
                f"The Idempotency-Keys in {self._path} did not answer within {self._deadline:g} s.",
                hint="See whether its disk is busy, or another process holds it.",
            ) from None

    async def _run(self) -> None:
        """Hand over everything queued, again and again, until nothing is."""
        try:
            while batch := [(action, done) for action, done in self._queue if not done.done()]:
                self._queue.clear()
                actions = [action for action, _ in batch]
                outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._together, actions)
                for (_, done), outcome in zip(batch, outcomes, strict=True):
                    if done.done():
                        continue
                    if isinstance(outcome, StoreError):
                        done.set_exception(outcome)
                    else:
                        done.set_result(outcome)
        finally:
            self._queue.clear()
            self._pump = None

    def _together(self, actions: Sequence[Callable[[], object]]) -> list[object]:
        """What each action gave, or the error that it ended in, once all are on disk."""
        try:
            with self._explained():
                with transaction(self._db):
                    outcomes = [self._outcome(action) for action in actions]
                self._make_room()
            return outcomes
        except StoreError as error:
            return [StoreError(error.message, hint=error.hint) for _ in actions]  # each carries the traceback of one

    def _outcome(self, action: Callable[[], object]) -> object:
        try:
            with self._explained():
                return action()
        except StoreError as error:
            return error

    # -- in the thread

    def _claim(self, values: dict[str, bytes | str | int]) -> Repeated | None:
        self._claims += 1
        if self._claims % PRUNED_EVERY == 0:
            self._db.execute(PRUNE, values)
        if self._db.execute(TAKE, values).rowcount:
            return None
        digest, answer, reply = self._db.execute(FIND, (values["key"],)).fetchone()
        if answer is None:
            return Repeated(digest, None)
        return Repeated(digest, FORGOTTEN if reply is None else _REPLY.decode(reply))

    def _complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        if self._db.execute(ANSWER, (msgspec.msgpack.encode(reply), key, owner)).rowcount:
            self._db.execute(COMPLETE, (until, key))

    def _make_room(self) -> None:
        while self._used() > self._room:
            if not self._db.execute(DROP_ANSWERS).rowcount and not self._db.execute(DROP_KEYS).rowcount:
                return

    def _used(self) -> int:
        """Bytes of the file that hold something."""
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {count}").fetchone()[0])
            for count in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _prepare(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise StoreError(
                f"{self._path} is in idempotency format {found}; this version of Farthing reads up to format {FORMAT}.",
                hint="Use the version that wrote it.",
            )
        write_ahead(self._db, self._deadline)
        self._db.execute("PRAGMA synchronous = NORMAL")
        if found < FORMAT:
            self._db.executescript(TABLES)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(
            "The Idempotency-Keys",
            self._path,
            "Stop every gateway and delete the file: the keys of the last 24 hours are then forgotten.",
        )
