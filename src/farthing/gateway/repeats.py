"""The stage that asks once for each Idempotency-Key, however often its call is sent, and gives every caller the answer.

Who comes first claims the key in a store that all gateways share, and renews its claim while it asks. Whoever repeats
the call waits for its reply: on a future in the same process, and by asking the store now and then elsewhere.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from blake3 import blake3

from farthing.caching import body_digest
from farthing.errors import Conflict, StoreError, Unavailable
from farthing.gateway.pipeline import Stage
from farthing.gateway.relay import KEEP_STREAM
from farthing.gateway.settle import FAILED
from farthing.ports import Clock, IdempotencyStore, Journal, Outlet, Repeated
from farthing.routing import classify
from farthing.schema import Entry, Exchange, Reply

log = logging.getLogger(__name__)

SECOND = 10**9
KEPT = 24 * 3600 * SECOND
"""How long a key stands for its first request, once that is answered."""
LEASE = 50 * SECOND
"""How long after its last sign of life a gateway that was asking is taken for dead, and its key is free again."""
RENEWAL_SECONDS = 10.0
LARGEST = KEEP_STREAM
"""Bytes of an answer that is still kept; of a longer one it is only known that it was given."""
FIRST_LOOK, LAST_LOOK = 0.025, 0.4
"""Seconds between two looks for a reply that another process is getting."""
RETRY_SECONDS = 0.25
CLOSING = 5.0
COME_BACK = 5.0
CREDENTIAL_REFUSED = frozenset((401, 403))
"""How a provider refuses the gateway's credential: no answer to the call, which another credential may get."""
REPLAYED = (b"idempotent-replayed", b"true")


class Flight(msgspec.Struct):
    """A keyed call on its way: where its reply is kept, who asks, and until when (Unix ns) that claim holds.

    `reply` is `None` when there will be none, so that the next may ask.
    """

    key: bytes
    digest: bytes
    owner: str
    reply: asyncio.Future[Reply | None]
    until: int = 0
    renewing: asyncio.Task[None] | None = None

    @property
    def place(self) -> bytes:
        """Where equal calls meet."""
        return self.key + self.digest


class Repeats:
    """Claims keys, answers repeats, and keeps replies. It fails closed: a call that asks to be made once is refused
    while nobody can say whether it was made before.
    """

    def __init__(self, store: IdempotencyStore, journal: Journal, clock: Clock, patience: int) -> None:
        """`patience` is how long after its arrival, in ns, a repeat waits for the answer of the first."""
        self._store = store
        self._journal = journal
        self._clock = clock
        self._patience = patience
        self._flights: dict[bytes, Flight] = {}
        self._claimed: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        """Answer a repeat, or claim the key of a first call and let it through.

        Raises Conflict when the key stands for another request, or its answer was not kept, and Unavailable when the
        first is still on its way, or the store cannot be used.
        """
        call = exchange.call
        if not call.idempotency_key:
            return exchange
        key, digest = _name(exchange), body_digest(f"{call.method} {call.path}", call.body)
        while flight := self._flights.get(key + digest):
            exchange, reply = await self._join(exchange, flight)
            if reply is not None:
                return _replayed(exchange, reply)
        flight = Flight(key, digest, exchange.id, asyncio.get_running_loop().create_future())
        self._flights[flight.place] = flight
        try:
            exchange, reply = await self._claim(exchange, flight)
        except BaseException:
            self._land(flight, None)
            raise
        if reply is not None:
            self._land(flight, reply)
            return _replayed(exchange, reply)
        flight.renewing = self._start(self._renew(flight))
        self._claimed[exchange.id] = flight
        return exchange

    def settled(self, exchange: Exchange, entries: Sequence[Entry]) -> None:
        """Called at settlement: keep the reply of a first call once it is entered, or give its key back."""
        flight = self._claimed.get(exchange.id)
        if flight is not None:
            self._journal.after_commit(lambda: self._finish(flight, _outcome(exchange)))

    async def recorded(self, exchange: Exchange) -> None:
        """Return once the reply of a first call is kept, so that whoever has seen it end is sure of it."""
        flight = self._claimed.get(exchange.id)
        if flight is not None:
            await asyncio.shield(flight.reply)

    async def close(self) -> None:
        """Keep what can be kept within `CLOSING` seconds, and let the store go."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                while self._claimed or self._tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await self._store.close()

    # -- claiming

    async def _join(self, exchange: Exchange, flight: Flight) -> tuple[Exchange, Reply | None]:
        """Wait for the reply of a call in this process; how long is noted, for waiting is not overhead."""
        began = self._clock.now()
        try:
            async with asyncio.timeout((exchange.arrived + self._patience - began) / SECOND):
                reply = await asyncio.shield(flight.reply)
        except TimeoutError:
            raise _under_way() from None
        return _later(exchange, self._clock.now() - began), reply

    async def _claim(self, exchange: Exchange, flight: Flight) -> tuple[Exchange, Reply | None]:
        """The reply of a key, waiting for it where another process is getting it; none once the key is claimed."""
        pause = FIRST_LOOK
        try:
            while (known := await self._take(flight)) is not None:
                if known.digest != flight.digest:
                    raise Conflict(
                        "Its Idempotency-Key stands for another request: the method, path or body differ.",
                        hint="Send a new key with each new request; each is kept for 24 hours.",
                    )
                if known.reply is not None:
                    return exchange, known.reply
                now = self._clock.now()
                if now >= exchange.arrived + self._patience:
                    raise _under_way()
                await asyncio.sleep(pause)
                exchange = _later(exchange, self._clock.now() - now)
                pause = min(pause * 1.5, LAST_LOOK)
        except (asyncio.CancelledError, StoreError):  # it may have been claimed, with only the answer lost
            with suppress(StoreError):
                await self._store.release(flight.key, flight.owner)
            raise
        return exchange, None

    async def _take(self, flight: Flight) -> Repeated | None:
        """Claim a key, or claim it for longer."""
        now = self._clock.now()
        known = await self._store.claim(flight.key, flight.digest, flight.owner, now, now + LEASE)
        if known is None:
            flight.until = now + LEASE
        return known

    async def _renew(self, flight: Flight) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            with suppress(StoreError):  # its adapter says so, once
                await self._take(flight)

    # -- keeping

    def _finish(self, flight: Flight, reply: Reply | None) -> None:
        if flight.renewing is not None:
            flight.renewing.cancel()
        self._start(self._give_back(flight) if reply is None else self._keep(flight, reply))

    async def _give_back(self, flight: Flight) -> None:
        with suppress(StoreError):  # the claim then lapses by itself
            await self._store.release(flight.key, flight.owner)
        self._land(flight, None)

    async def _keep(self, flight: Flight, reply: Reply) -> None:
        """Write a reply, again until it is written. Until then it is given from memory, and its caller waits for one
        try only.
        """
        while not await self._is_kept(flight, reply):
            if not flight.reply.done():
                flight.reply.set_result(reply)
            await asyncio.sleep(RETRY_SECONDS)
        self._land(flight, reply)

    async def _is_kept(self, flight: Flight, reply: Reply) -> bool:
        now = self._clock.now()
        try:
            if now >= flight.until and await self._take(flight) is not None:
                log.warning("The claim of call %s lapsed, and was taken: it may have been asked twice.", flight.owner)
                return True
            await self._store.complete(flight.key, flight.owner, reply, now + KEPT)
        except StoreError:
            return False
        return True

    def _land(self, flight: Flight, reply: Reply | None) -> None:
        """Wake who waits for a call, which is on its way no longer."""
        self._claimed.pop(flight.owner, None)
        del self._flights[flight.place]
        if not flight.reply.done():
            flight.reply.set_result(reply)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def lasting(stage: Stage) -> Stage:
    """The same stage, which goes on though its caller leaves where the answer is kept for whoever repeats the call."""

    async def last(exchange: Exchange, outlet: Outlet | None) -> Exchange:
        if not exchange.call.idempotency_key:
            return await stage(exchange, outlet)
        task = asyncio.ensure_future(stage(exchange, outlet))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            return await task

    return last


def _name(exchange: Exchange) -> bytes:
    """What the store knows a key by: each caller's are its own."""
    caller = exchange.caller
    return blake3(f"{caller.tenant}\0{caller.key}\0".encode() + exchange.call.idempotency_key).digest()


def _outcome(exchange: Exchange) -> Reply | None:
    """What is kept of an answered call: `None` when nothing was bought and another try may give another answer."""
    reply = exchange.reply
    if reply is None or not (_cost_something(exchange) or _is_final(exchange, reply)):
        return None
    return msgspec.structs.replace(
        reply,
        body=reply.body if len(reply.body) <= LARGEST else b"",
        tail=b"",
        headers=tuple(header for header in reply.headers if header[0] == b"content-type"),
        usage=None,
        usage_source="none",
        unknown_usage=(),
        charge=None,
    )


def _cost_something(exchange: Exchange) -> bool:
    """Whether anything was bought, or may have been."""
    charges = [attempt.reply.charge for attempt in exchange.attempts]
    return exchange.reply is FAILED or any(charge is None or charge.amount != 0 for charge in charges)


def _is_final(exchange: Exchange, reply: Reply) -> bool:
    """Whether to ask again would be answered alike: what this gateway refused by itself may be granted later."""
    if not exchange.attempts or reply.ending != "complete" or reply.status in CREDENTIAL_REFUSED:
        return reply.ok
    return classify(reply) in ("answered", "caller")


def _replayed(exchange: Exchange, reply: Reply) -> Exchange:
    """The exchange answered by the reply of the first. It saves nothing: the call would never have been made twice."""
    if not reply.body:
        raise Conflict(
            "The call with this Idempotency-Key was made, but its answer is not kept: it was too long, or broke off.",
            hint="Its entry in the ledger says what it cost; send a new key to ask again.",
        )
    headers = (*reply.headers, REPLAYED)
    return exchange.noting("idempotency", "replayed").answered(msgspec.structs.replace(reply, headers=headers))


def _later(exchange: Exchange, waited: int) -> Exchange:
    return msgspec.structs.replace(exchange, waited=exchange.waited + waited)


def _under_way() -> Unavailable:
    return Unavailable(
        "The first call with this Idempotency-Key is still being answered.",
        hint="Send it again with the same key.",
        retry_after=COME_BACK,
    )
