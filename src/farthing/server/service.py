"""The listening gateway: what its connections share, and its start and stop."""

import asyncio
import itertools
import os

import msgspec

from farthing.gateway import Pipeline
from farthing.ports import Clock, Journal
from farthing.schema import Call, Caller, Exchange
from farthing.server.asgi import ControlPlane
from farthing.server.connection import Connection
from farthing.server.intake import Intakes
from farthing.server.reader import CallReader

SWEEP_SECONDS = 5.0
DRAIN_SECONDS = 30.0
"""How long a stopping gateway lets calls in flight finish."""


class Limits(msgspec.Struct, frozen=True):
    """What a client may send (bytes), how long it may be silent (seconds), and how many calls are served at once."""

    max_body: int
    max_header: int
    idle_timeout: float
    max_in_flight: int


class Service:
    """Everything the connections of one worker share."""

    def __init__(
        self,
        pipeline: Pipeline,
        intakes: Intakes,
        journal: Journal,
        clock: Clock,
        control: ControlPlane,
        limits: Limits,
    ) -> None:
        self.pipeline = pipeline
        self.intakes = intakes
        self.journal = journal
        self.clock = clock
        self.reader = CallReader()
        self.control = control
        self.max_body = limits.max_body
        self.max_header = limits.max_header
        self._idle_timeout = limits.idle_timeout
        self._max_in_flight = limits.max_in_flight
        self.shed = 0
        """Calls refused because too many were under way; they are counted, and have no entry."""
        self.connections: set[Connection] = set()
        self.stopping = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._nonce = os.urandom(3).hex()
        self._count = itertools.count()

    def exchange(self, call: Call, caller: Caller, arrived: int) -> Exchange:
        """A new exchange, with an id that sorts by time and is never used twice."""
        name = f"{arrived // 1000:014x}-{self._nonce}{next(self._count) & 0xFFFFFF:06x}"
        return Exchange(name, call, caller, arrived)

    @property
    def overloaded(self) -> bool:
        """Whether one more call would only keep those under way from being answered."""
        return len(self.pipeline.in_flight) >= self._max_in_flight

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen; returns the port (its own choice when asked for 0). Raises OSError when the address is taken.

        `shared`: other processes listen on the same port, and the system spreads connections over all of them.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), host, port, backlog=2048, reuse_port=shared or None
        )
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
        return int(self._server.sockets[0].getsockname()[1])

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            unsent = connection.transport.get_write_buffer_size()
            if unsent != connection.unsent:  # it reads
                connection.unsent, connection.last_activity = unsent, now
            elif not connection.busy and connection.last_activity < now - self._idle_timeout:
                connection.transport.abort()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    async def stop(self) -> None:
        """Stop listening, let calls in flight finish, hang up."""
        self.stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            if not connection.busy:
                connection.transport.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while self._in_service() and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.transport.abort()

    def _in_service(self) -> bool:
        """Whether a call is in flight, be its caller gone or not, or an answer on its way out."""
        return bool(self.pipeline.in_flight) or any(connection.busy for connection in self.connections)
