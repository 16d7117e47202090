"""What the adapters to PostgreSQL have in common: connections, deadlines, a breaker, and errors that explain."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]

from farthing.errors import ConfigError, StoreError, Unavailable
from farthing.stores.postgres_schema import is_current, migrate

log = logging.getLogger(__name__)

REST = 1.0
"""Seconds between two tries while the database is down."""
PAUSE = 0.01
"""Seconds before a transaction is tried again, at first; twice as long each time."""
PATIENCE = 60.0
"""Seconds for what is seldom asked and may take long, such as making the tables."""

PATIENTLY = "SET LOCAL statement_timeout = 0"
SNAPSHOT = f"""
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL idle_in_transaction_session_timeout = 0;
{PATIENTLY};
"""
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
PASSING = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # what asyncpg says when the server has just ended an idle connection
    ConnectionError,
)
"""Failures that say nothing of the next try: others were in the way, or a connection was lost."""

T = TypeVar("T")
Action = Callable[[asyncpg.Connection], Awaitable[T]]
"""What is done in one transaction. It may be done again, when nothing tells whether it was."""
Fetch = Callable[..., list[Any]]
"""Asks a statement with its parameters for rows."""


class PostgresLink:
    """Connections to one database, for one event loop; `subject` names in messages what is kept there.

    The first use makes the tables. Whatever is asked ends within `deadline` seconds or raises `error`; while the
    database is down, one try a second goes through, and the rest fail at once. Raises `ConfigError` when `dsn` is not
    the address of a database.
    """

    def __init__(
        self, dsn: str, deadline: float, subject: str, *, connections: int = 4, error: type[Unavailable] = StoreError
    ) -> None:
        self._dsn = dsn
        self._name = f"{subject} in PostgreSQL at {place(dsn)}"
        self._deadline = deadline
        self._error = error
        self._idle: list[asyncpg.Connection] = []
        self._room = asyncio.Semaphore(connections)
        self._checked = self._found = self._closed = False
        self._down = ""
        self._next_try = 0.0
        self._session = {  # what this end gives up, or dies over, ends at the other end too: others wait for its locks
            "application_name": "farthing",
            "idle_in_transaction_session_timeout": milliseconds(deadline / 2),
            "jit": "off",
            "statement_timeout": milliseconds(deadline),
        }

    async def transact(self, action: Action[T], seconds: float | None = None) -> T:
        """Do something in one transaction; again, when others or a lost connection get in its way.

        `seconds` is its deadline where it is not the usual one. Raises `StoreError`, or the error of this link's kind.
        """
        begin = "BEGIN" if seconds is None else f"BEGIN; {PATIENTLY}"

        async def whole(db: asyncpg.Connection) -> T:
            await db.execute(begin)
            result = await action(db)
            await db.execute("COMMIT")
            return result

        return await self._repeat(whole, self._deadline if seconds is None else seconds)

    async def ask(self, query: str, *values: object) -> list[Any]:
        """The rows that one statement gives. Raises as `transact` does."""
        return await self._repeat(lambda db: db.fetch(query, *values), self._deadline)

    async def snapshot(self) -> asyncpg.Connection:
        """A connection of the caller's own, that sees the database as it is now until it is terminated."""
        async with self._guarded(self._deadline) as within:
            db = await self._connect(within)
            try:
                await db.execute(SNAPSHOT)
            except BaseException:
                db.terminate()
                raise
            return db

    async def fetch(self, db: asyncpg.Connection, query: str, *values: object) -> list[Any]:
        """The rows that a statement gives on a connection of the caller's own."""
        async with self._guarded(PATIENCE):
            return list(await db.fetch(query, *values))

    async def close(self) -> None:
        """Let every connection go; those in use, when they are no longer."""
        self._closed = True
        while self._idle:
            with suppress(*FAILURES):
                await self._idle.pop().close(timeout=REST)

    async def _repeat(self, action: Action[T], seconds: float) -> T:
        async with self._guarded(seconds) as within, self._room:
            pause = PAUSE
            while True:
                db = await self._connect(within)
                try:
                    result = await action(db)
                except (*PASSING, asyncpg.InterfaceError) as error:
                    passing = isinstance(error, PASSING) or db.is_closed()
                    db.terminate()
                    if not passing:
                        raise
                except BaseException:
                    db.terminate()
                    raise
                else:
                    self._put_back(db)
                    return result
                await asyncio.sleep(pause)
                pause *= 2

    async def _connect(self, within: asyncio.Timeout) -> asyncpg.Connection:
        while self._idle:
            db = self._idle.pop()
            if not db.is_closed():
                return db
        try:
            db = await asyncpg.connect(self._dsn, server_settings=self._session)
        except ValueError:  # it might quote the address, and so the password
            raise self._error(f"{self._name} cannot be used: its address is not understood.") from None
        try:
            if not self._checked:
                await self._check(db, within)
        except BaseException:
            db.terminate()
            raise
        return db

    async def _check(self, db: asyncpg.Connection, within: asyncio.Timeout) -> None:
        """See that the tables are there; make them, but not once they were: they are not to begin empty again."""
        try:
            if not await is_current(db):
                if self._found:
                    raise StoreError("its tables are gone.", hint="Restore the database from a backup.")
                within.reschedule(asyncio.get_running_loop().time() + PATIENCE)
                await migrate(db)
        except StoreError as error:
            raise self._error(f"{self._name} cannot be used: {error.message}", hint=error.hint) from None
        self._checked = self._found = True

    def _put_back(self, db: asyncpg.Connection) -> None:
        if self._closed:
            db.terminate()
        else:
            self._idle.append(db)

    @asynccontextmanager
    async def _guarded(self, seconds: float) -> AsyncIterator[asyncio.Timeout]:
        """A deadline for what is inside, and what its outcome says of the database."""
        self._enter()
        try:
            async with asyncio.timeout(seconds) as within:
                yield within
        except TimeoutError as error:
            hint = "See whether it is overloaded, or another session holds a lock."
            raise self._failed(f"no answer within {seconds:g} s", hint) from error
        except FAILURES as error:
            said = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) else str(error)
            hint = "See that it runs, and that this address and user may use it."
            raise self._failed(said or type(error).__name__, hint) from error
        if self._down:
            self._down = ""
            log.warning("%s can be used again.", self._name)

    def _enter(self) -> None:
        if self._closed:
            raise self._error(f"{self._name} cannot be used: it was closed.")
        if self._down:
            now = asyncio.get_running_loop().time()
            if now < self._next_try:
                raise self._error(f"{self._name} cannot be used: {self._down}.", retry_after=REST)
            self._next_try = now + REST

    def _failed(self, said: str, hint: str) -> Unavailable:
        self._checked = False
        if not self._down:
            log.error("%s cannot be used: %s.", self._name, said)
        self._down = said
        self._next_try = asyncio.get_running_loop().time() + REST
        return self._error(f"{self._name} cannot be used: {said}.", hint=hint, retry_after=REST)


class BlockingLink:
    """A link for callers that have no event loop, from any thread: it has one in a thread of its own."""

    def __init__(
        self, dsn: str, deadline: float, subject: str, *, connections: int = 4, error: type[Unavailable] = StoreError
    ) -> None:
        self._link = PostgresLink(dsn, deadline, subject, connections=connections, error=error)
        self._subject, self._error = subject, error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="farthing-postgres", daemon=True)
        self._thread.start()

    def transact(self, action: Action[T], seconds: float | None = None) -> T:
        """Do something in one transaction; again, when others or a lost connection get in its way."""
        return self._run(self._link.transact(action, seconds))

    def ask(self, query: str, *values: object) -> list[Any]:
        """The rows that one statement gives."""
        return self._run(self._link.ask(query, *values))

    @contextmanager
    def snapshot(self) -> Iterator[Fetch]:
        """Asks the database as it is now, however long that takes."""
        db = self._run(self._link.snapshot())
        try:
            yield lambda query, *values: self._run(self._link.fetch(db, query, *values))
        finally:
            self._loop.call_soon_threadsafe(db.terminate)

    def close(self) -> None:
        """Let every connection go, and end the thread."""
        if self._thread.is_alive():
            self._run(self._link.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()
            raise self._error(f"{self._subject} in PostgreSQL cannot be used: it was closed.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def milliseconds(seconds: float) -> str:
    """A time as a setting of PostgreSQL, for which 0 is none."""
    return str(max(int(seconds * 1000), 1))


def place(dsn: str) -> str:
    """Where a database is, without who asks and the password. Raises `ConfigError` when that cannot be read.

    >>> place("postgresql://me:secret@db.example:6432/farthing")
    'db.example:6432/farthing'
    """
    hint = 'It looks like "postgresql://user:password@host:5432/database", with special characters as %40.'
    try:
        parts = urlsplit(dsn)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ConfigError("The address of PostgreSQL cannot be read.", hint=hint) from None
    if parts.scheme not in ("postgres", "postgresql") or "@" in parts.path + parts.query + parts.fragment:
        raise ConfigError("The address of PostgreSQL cannot be read.", hint=hint)
    host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{host}{port}{parts.path}"
