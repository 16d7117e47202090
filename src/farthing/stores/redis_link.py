"""What the adapters to Redis and Valkey have in common: connections, deadlines, a breaker, and errors that explain."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any

import msgspec
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import AuthenticationError, MovedError, NoScriptError, RedisError

from farthing.errors import ConfigError, StoreError

log = logging.getLogger(__name__)

REST = 0.5
"""Seconds between two tries while the server is down."""
COME_BACK = 1.0
"""Seconds after which a caller is told to try again."""
HINTS = {
    "WRONGTYPE": "Something else keeps its own under these names: give Farthing a database to itself.",
    "OOM": "Give it more memory, or keep less of something else in it.",
    "READONLY": "This is a replica: the address has to be the primary's.",
    "NOPERM": "Let this user run the commands of Farthing, on keys that begin with {farthing}.",
    "unknown command": "Farthing needs Redis 6.2 or later, or Valkey.",
    "syntax error": "Farthing needs Redis 6.2 or later, or Valkey.",
}
"""What to do about what a server says."""

Part = str | bytes | int
"""Of a command."""


class Script:
    """A Lua script, which a server runs in one atomic step."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """Connections to one server, for one event loop; `subject` names in messages what is kept there.

    Whatever is asked ends within `deadline` seconds or raises `StoreError`; while the server is down, one try goes
    through every `REST` seconds, and the rest fail at once. Raises `ConfigError` when `url` is not an address.
    """

    def __init__(self, url: str, deadline: float, subject: str, *, connections: int = 4) -> None:
        self._options = options_of(url)
        self._moved: dict[str, Any] = {}
        self._name = f"{subject} in Redis at {place(self._options)}"
        self._deadline = deadline
        self._idle: list[AbstractConnection] = []
        self._room = asyncio.Semaphore(connections)
        self._down = ""
        self._next_try = 0.0
        self._closed = False

    @asynccontextmanager
    async def session(self, seconds: float | None = None) -> AsyncIterator["Session"]:
        """A connection to ask several things on, within the deadline, or `seconds`, for all. Raises `StoreError`."""
        self._enter()
        within = self._deadline if seconds is None else seconds
        try:
            async with asyncio.timeout(within), self._room:
                session = Session(self, await self.connect())
                try:
                    yield session
                except BaseException:
                    await session.connection.disconnect(nowait=True)
                    raise
                self._idle.append(session.connection)
        except TimeoutError as error:
            raise await self._failed(f"it does not answer within {within:g} s", error) from error
        except (RedisError, OSError, msgspec.DecodeError) as error:
            raise await self._failed(str(error).rstrip("."), error) from error
        if self._closed:
            await self._disconnect()
        if self._down:
            self._down = ""
            log.warning("%s can be used again.", self._name)

    async def ask(self, *command: Part) -> Any:
        """What one command gives. Raises `StoreError`."""
        async with self.session() as redis:
            return await redis.ask(*command)

    async def connect(self, moved: MovedError | None = None) -> AbstractConnection:
        """An open connection; `moved` is where a node of a cluster says that all of it is."""
        if moved is not None:
            await self._disconnect()
            self._moved = {"host": moved.host or self._options["host"], "port": moved.port}
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected and not await connection.can_read():  # what it could read is that it was closed
                return connection
            await connection.disconnect(nowait=True)
        connection = new_connection({**self._options, **self._moved})
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Let every connection go; those in use, when they are no longer."""
        self._closed = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    def _enter(self) -> None:
        if self._closed:
            raise StoreError(f"{self._name} cannot be used: it was closed.")
        if self._down:
            now = asyncio.get_running_loop().time()
            if now < self._next_try:
                raise StoreError(f"{self._name} cannot be used: {self._down}.", retry_after=COME_BACK)
            self._next_try = now + REST

    async def _failed(self, said: str, error: Exception) -> StoreError:
        await self._disconnect()
        self._moved = {}
        said = said.replace(self._options.get("password") or "\0", "...")  # some servers repeat what they do not take
        if not self._down:
            log.error("%s cannot be used: %s.", self._name, said)
        self._down = said
        self._next_try = asyncio.get_running_loop().time() + REST
        return StoreError(f"{self._name} cannot be used: {said}.", hint=hint_for(error), retry_after=COME_BACK)


class Session:
    """A connection to ask several things on, one after the other."""

    def __init__(self, link: RedisLink, connection: AbstractConnection) -> None:
        self._link = link
        self.connection = connection

    async def ask(self, *command: Part) -> Any:
        """What one command gives; asked again where a cluster says to ask."""
        try:
            return await self._send(command)
        except MovedError as moved:
            await self.connection.disconnect(nowait=True)
            self.connection = await self._link.connect(moved)
            return await self._send(command)

    async def run(self, script: Script, key: Part, *arguments: Part) -> Any:
        """What a script gives; the server is sent all of it where it does not know it."""
        try:
            return await self.ask("EVALSHA", script.digest, 1, key, *arguments)
        except NoScriptError:
            return await self.ask("EVAL", script.text, 1, key, *arguments)

    async def _send(self, command: tuple[Part, ...]) -> Any:
        await self.connection.send_command(*command)
        return await self.connection.read_response()


def options_of(url: str) -> dict[str, Any]:
    """What a connection is made with. Raises `ConfigError` when that cannot be read."""
    ours = {
        "protocol": 2, "decode_responses": False, "socket_timeout": None, "socket_connect_timeout": None,
        "driver_info": None,
    }  # fmt: skip
    try:
        options = {**parse_url(url), **ours}
        new_connection(options)
    except (ValueError, TypeError, RedisError):  # what they say may quote the address, and so the password
        raise ConfigError(
            "The address of Redis cannot be read.",
            hint='It looks like "redis://user:password@host:6379/0", or "rediss://..." with TLS.',
        ) from None
    return options


def new_connection(options: dict[str, Any]) -> AbstractConnection:
    """A connection that is not open yet."""
    kind = options.get("connection_class", Connection)
    made: AbstractConnection = kind(**{name: value for name, value in options.items() if name != "connection_class"})
    return made


def place(options: dict[str, Any]) -> str:
    """Where a server is, without who asks and the password.

    >>> place(options_of("redis://me:secret@cache.example:6380/2"))
    'cache.example:6380/2'
    """
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{where}/{options.get('db', 0)}"


def hint_for(error: Exception) -> str:
    """What to do about a failure."""
    if isinstance(error, AuthenticationError):
        return "See the user and the password in its address."
    if isinstance(error, msgspec.DecodeError):
        return HINTS["WRONGTYPE"]
    said = f"{getattr(error, 'status_code', None) or ''} {error}"
    return next((hint for code, hint in HINTS.items() if code in said), "See that it runs, and can be reached.")
