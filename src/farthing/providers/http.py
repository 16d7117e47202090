"""Any OpenAI- or Anthropic-compatible provider or engine over HTTP/1.1, with a pool of keep-alive connections."""

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from farthing.ports import Outcome, Question, Sink
from farthing.providers.connection import UpstreamConnection
from farthing.schema import Headers

CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))
"""A caller's own, which stay here when the gateway has a key of its own for this upstream."""

KNOWN_HEADERS = 1024
SWEEP_SECONDS = 0.25
"""How often deadlines are checked: one timer for all connections instead of one per call."""

RESPONSES = "/responses"
"""The path of the API that keeps answers; a stream says under which id as it begins."""

DRAINS = 64
"""Answers read to their end at once, at most, once their callers have left; beyond that, hanging up is cheaper."""

REUSE_SECONDS = {"https": 15.0, "http": 4.0}
"""Idle connections older than this are closed, before their server does it just as the next question is on its way:
providers wait for a minute or longer, the servers of engines (uvicorn, Node's, llama.cpp's) for 5 s.
"""


class HttpSettings(msgspec.Struct, frozen=True):
    """One HTTP upstream, resolved: `auth` is the header that its key travels in. Times are in seconds.

    A drain takes `drain_seconds` at most. `retrieve` hangs up on a response that can be asked for afterwards, which is
    left to who asked, and drains anything else.
    """

    name: str
    provider: str
    base_url: str
    auth: str = "authorization"
    api_key: str = ""
    on_disconnect: Literal["abort", "drain", "retrieve"] = "abort"
    drain_seconds: float = 30.0
    connections: int = 256
    connect_timeout: float = 10.0
    stall_timeout: float = 60.0
    deadline: float = 600.0


class HttpUpstream:
    """Asks one provider. Its address comes from configuration only, and redirects are never followed."""

    simulated = False

    def __init__(self, settings: HttpSettings) -> None:
        self.name = settings.name
        self.provider = settings.provider
        self._settings = settings
        url = urlsplit(settings.base_url)
        self._host = url.hostname or ""
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._reuse_seconds = REUSE_SECONDS["https" if self._tls else "http"]
        self._port = url.port or (443 if self._tls else 80)
        self._prefix = url.path.rstrip("/").encode()
        self._tail = f" HTTP/1.1\r\nhost: {url.netloc.rpartition('@')[2]}\r\naccept-encoding: identity\r\n".encode()
        self._own_key = bool(settings.api_key)
        if settings.api_key:
            scheme = "Bearer " if settings.auth == "authorization" else ""
            self._tail += f"{settings.auth}: {scheme}{settings.api_key}\r\n".encode()
        self._passed_on: dict[Headers, bytes] = {}
        self._idle: deque[UpstreamConnection] = deque()
        self._busy: set[UpstreamConnection] = set()
        self._open = 0
        self._draining = 0
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    async def ask(self, question: Question, sink: Sink) -> Outcome:
        """Ask once; see `farthing.ports.Upstream`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.deadline
        try:
            connection = self._reuse() or await self._connect(deadline)
        except asyncio.CancelledError:
            return Outcome("disconnected", "the caller left before the question was sent", sent=False)
        if isinstance(connection, Outcome):
            return connection
        self._busy.add(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
        future = connection.ask(self._head(question), question.body, sink, deadline)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                return future.result()
            return await self._abandon(question, connection, future)
        finally:
            self._busy.discard(connection)

    async def _abandon(
        self, question: Question, connection: UpstreamConnection, future: asyncio.Future[Outcome]
    ) -> Outcome:
        """The caller left: read the rest so that the meter is known, or hang up so that the engine stops."""
        if not connection.carries(future):
            return connection.outcome  # it ended just then, and may be somebody else's by now
        if not self._drains(question, connection):
            connection.fail(Outcome("disconnected"))
            return Outcome("disconnected", "the caller left before the answer was complete")
        drained: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        connection.divert(drained)
        self._draining += 1
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                return msgspec.structs.replace(await drained, drained=True)
        except (TimeoutError, asyncio.CancelledError):
            if not connection.carries(drained):
                return msgspec.structs.replace(connection.outcome, drained=True)
            connection.fail(Outcome("disconnected"))
            return Outcome(
                "disconnected",
                f"the caller left, and {self.name} did not end its answer within {self._settings.drain_seconds:g} s",
            )
        finally:
            self._draining -= 1

    def _drains(self, question: Question, connection: UpstreamConnection) -> bool:
        """Whether the rest of an answer is read though nobody waits for it."""
        if self._settings.on_disconnect == "abort" or not question.drainable() or self._draining >= DRAINS:
            return False
        stored = question.stream and question.path.partition("?")[0] == RESPONSES and connection.began
        return not (stored and self._settings.on_disconnect == "retrieve")

    def _head(self, question: Question) -> bytes:
        passed_on = self._passed_on.get(question.headers)
        if passed_on is None:
            passed_on = self._pass_on(question.headers)
        return b"%b %b%b%b%bcontent-length: %d\r\n\r\n" % (
            question.method.encode(),
            self._prefix,
            question.path.encode(),
            self._tail,
            passed_on,
            len(question.body),
        )

    def _pass_on(self, headers: Headers) -> bytes:
        """The caller's headers as sent; remembered, for clients send the same ones again and again."""
        passed_on = b"".join(
            b"%b: %b\r\n" % (name, value) for name, value in headers if not (self._own_key and name in CREDENTIALS)
        )
        if len(self._passed_on) >= KNOWN_HEADERS:
            self._passed_on.clear()
        self._passed_on[headers] = passed_on
        return passed_on

    # -- the pool

    def _reuse(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self, deadline: float) -> UpstreamConnection | Outcome:
        loop = asyncio.get_running_loop()
        settings = self._settings
        while self._open >= settings.connections:
            try:
                handed = await self._turn(deadline)
            except TimeoutError:
                return Outcome("timeout", f"no connection to {self.name} came free within {settings.deadline:g} s "
                                          f"(limit {settings.connections})", sent=False)  # fmt: skip
            if handed is not None and not handed.closed:
                return handed
        self._open += 1
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + settings.connect_timeout)):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self._hand_on, self._lost),
                    self._host, self._port, ssl=self._tls,
                )  # fmt: skip
        except TimeoutError:
            return Outcome("timeout", f"{self._host}:{self._port} did not accept a connection within "
                                      f"{settings.connect_timeout:g} s", sent=False)  # fmt: skip
        except (OSError, UnicodeError) as error:  # the latter from names that cannot be looked up
            return Outcome("unreachable", f"cannot connect to {self._host}:{self._port}: {error}", sent=False)
        finally:
            if connection is None:
                self._release()
        return connection

    async def _turn(self, deadline: float) -> UpstreamConnection | None:
        """Wait in line for a connection, or for room to open one (`None`). Raises TimeoutError at the deadline."""
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except (TimeoutError, asyncio.CancelledError):
            if waiter.done() and not waiter.cancelled():
                self._hand_on(waiter.result())  # its turn came as it gave up
            raise

    def _hand_on(self, connection: UpstreamConnection | None) -> None:
        """Give a connection, or the room for one, to who has waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is not None and not connection.closed:
            self._idle.append(connection)

    def _lost(self, connection: UpstreamConnection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._release()

    def _release(self) -> None:
        self._open -= 1
        self._hand_on(None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now, settings = loop.time(), self._settings
        for connection in list(self._busy):
            if now > connection.deadline and connection.paused:  # a slow reader is no sign of a slow upstream
                connection.fail(Outcome("disconnected", f"the caller took longer than {settings.deadline:g} s to read"))
            elif now > connection.deadline:
                connection.fail(Outcome("timeout", f"{self.name} took longer than {settings.deadline:g} s"))
            elif now - connection.last_byte > settings.stall_timeout and not connection.paused:
                connection.fail(Outcome("timeout", f"{self.name} sent nothing for {settings.stall_timeout:g} s"))
        while self._idle and now - self._idle[0].idle_since > self._reuse_seconds:
            self._idle.popleft().transport.close()
        rest = self._busy or self._idle
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep) if rest else None

    async def close(self) -> None:
        """Hang up on everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in (*self._idle, *self._busy):
            connection.fail(Outcome("disconnected", "the gateway is shutting down"))
