"""The stage that gives an answer again: exact cache in memory and on disk, and identical calls in flight."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import msgspec

from farthing import dialects
from farthing.caching import canonical_key, ineligible, may_keep, scope_of, told_by
from farthing.errors import UpstreamGarbage
from farthing.gateway.relay import LEFT
from farthing.ports import Clock, Outlet, ReplyStore, SharedReplies
from farthing.routing import RouteTable
from farthing.schema import Call, Decision, Exchange, Reply, Route, SharingRules

KNOWN_KEYS = 16_384
"""Canonical keys remembered by scope and digest, about 300 bytes each."""

HIT = Decision("exact_cache", "hit")
MISS = Decision("exact_cache", "miss")

ABANDONED = Reply(status=LEFT)
"""What a call whose caller left tells those that wait for its answer: one of them asks instead, and the rest wait."""


class ReplyCache:
    """The levels of the exact cache, fastest first, and the calls whose answers are on their way to it."""

    def __init__(self, levels: Sequence[ReplyStore], clock: Clock, shared: SharedReplies | None = None) -> None:
        """`shared` is the last level, of many gateways."""
        self._levels = tuple(levels)
        self._shared = shared
        self._clock = clock
        self._flights: dict[bytes, asyncio.Future[Reply | None] | None] = {}

    def get(self, key: bytes) -> Reply | None:
        """The kept answer, copied up to the faster levels on the way."""
        now = self._clock.now()
        for depth, level in enumerate(self._levels):
            if kept := level.get(key, now):
                for faster in self._levels[:depth]:
                    faster.put(key, kept.reply, kept.expires)
                return kept.reply
        return None

    async def fetch(self, key: bytes) -> Reply | None:
        """The answer that another gateway kept, copied to the levels of this one."""
        kept = await self._shared.get(key, self._clock.now()) if self._shared is not None else None
        if kept is None:
            return None
        for level in self._levels:
            level.put(key, kept.reply, kept.expires)
        return kept.reply

    @property
    def is_shared(self) -> bool:
        """Whether other gateways may have what this one has not."""
        return self._shared is not None

    def flight(self, key: bytes) -> asyncio.Future[Reply | None] | None:
        """The answer of the identical call in flight, if there is one; otherwise this one becomes it."""
        if key not in self._flights:
            self._flights[key] = None  # most calls are joined by none, and need no future
            return None
        flight = self._flights[key]
        if flight is None:
            flight = self._flights[key] = asyncio.get_running_loop().create_future()
        return flight

    def land(self, key: bytes, reply: Reply | None, ttl: int) -> None:
        """Wake who waited for a call that was in flight, and keep its answer (`None`: none worth keeping)."""
        self.wake(key, reply)
        if reply is not None and reply is not ABANDONED:
            expires = self._clock.now() + ttl
            for level in self._levels:
                level.put(key, reply, expires)
            if self._shared is not None:
                self._shared.put(key, reply, expires)

    def wake(self, key: bytes, reply: Reply | None) -> None:
        """Tell who waited for a call that was in flight what came of it."""
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(reply)


class LookUp:
    """Answers from the cache, joins an identical call in flight, or lets the call through with its key."""

    def __init__(
        self,
        rules: SharingRules,
        routes: RouteTable,
        cache: ReplyCache,
        clock: Clock,
        *,
        origins: Mapping[str, str],
        authenticated: Callable[[], bool],
    ) -> None:
        """`origins` says of every upstream, by name, whose answers it gives.

        What was kept of another origin, or under other rules, is not found: a cache on disk outlives a configuration.
        """
        kept = f"{rules.ttl} {rules.tools} {rules.truncated}"
        self._origins = {name: f"{origin}\0{kept}" for name, origin in origins.items()}
        self._rules = rules
        self._clock = clock
        self._routes = routes
        self._cache = cache
        self._authenticated = authenticated
        self._keys: OrderedDict[tuple[str, bytes, bytes], bytes] = OrderedDict()

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        call = exchange.call
        routes = self._routes.candidates(call)
        if why := ineligible(self._rules, call, route_cache=routes[0].cache):
            return exchange.noting("exact_cache", "off", because=why)
        key = self._key(exchange, routes)
        if (kept := self._cache.get(key)) and (reply := _in_form(call, kept)):
            return msgspec.structs.replace(exchange, decisions=(*exchange.decisions, HIT), reply=reply)
        while flight := self._cache.flight(key):
            exchange, shared = await self._wait(exchange, flight)
            if shared is not ABANDONED:
                return _joined(exchange, shared)
        if self._cache.is_shared and (reply := await self._fetch(exchange, key)):
            return msgspec.structs.replace(exchange, decisions=(*exchange.decisions, HIT), reply=reply)
        return msgspec.structs.replace(exchange, decisions=(*exchange.decisions, MISS), cache_key=key)

    async def _fetch(self, exchange: Exchange, key: bytes) -> Reply | None:
        """What another gateway kept; who waits for this call's answer gets it too."""
        try:
            kept = await self._cache.fetch(key)
        except asyncio.CancelledError:
            self._cache.land(key, ABANDONED, self._rules.ttl)
            raise
        reply = None if kept is None else _in_form(exchange.call, kept)
        if reply is not None:
            self._cache.wake(key, kept)
        return reply

    async def _wait(self, exchange: Exchange, flight: asyncio.Future[Reply | None]) -> tuple[Exchange, Reply | None]:
        """Wait for the answer of an identical call; how long is noted, for waiting is not overhead."""
        began = self._clock.now()
        reply = await asyncio.shield(flight)
        return msgspec.structs.replace(exchange, waited=exchange.waited + self._clock.now() - began), reply

    def _key(self, exchange: Exchange, routes: Sequence[Route]) -> bytes:
        """The canonical key, remembered for bodies that are known by their digest."""
        call = exchange.call
        sharers = scope_of(self._rules, exchange.caller, authenticated=self._authenticated())
        scope = "\0".join([sharers, *(f"{self._origins[route.upstream]}\0{route.served_as}" for route in routes)])
        if not call.digest:
            return canonical_key(scope, call)
        known = (scope, told_by(call.headers), call.digest)
        key = self._keys.get(known)
        if key is None:
            key = self._keys[known] = canonical_key(scope, call)
            if len(self._keys) > KNOWN_KEYS:
                self._keys.popitem(last=False)
        return key

    def keep(self, exchange: Exchange) -> None:
        """Called at settlement: keep the answer if the rules allow, and release who waited for it."""
        if exchange.cache_key is None:
            return
        reply = exchange.reply
        if reply is not None and may_keep(self._rules, exchange.call, reply):
            content_type = tuple(header for header in reply.headers if header[0] == b"content-type")
            kept = msgspec.structs.replace(reply, headers=content_type, tail=b"")
            self._cache.land(exchange.cache_key, kept, self._rules.ttl)
        else:
            left = reply is not None and reply.ending == "disconnected"
            self._cache.land(exchange.cache_key, ABANDONED if left else None, self._rules.ttl)


def _joined(exchange: Exchange, shared: Reply | None) -> Exchange:
    """The exchange answered by what an identical call was told; without that, the call goes on by itself."""
    if shared is not None and (reply := _in_form(exchange.call, shared)):
        return exchange.noting("exact_cache", "coalesced").answered(reply)
    return exchange.noting("exact_cache", "miss", because="the identical call in flight gave no answer to share")


def _in_form(call: Call, kept: Reply) -> Reply | None:
    """A kept answer in the form that a call asks for; `None` when it cannot be given so, and has to be asked for."""
    try:
        return dialects.render(call, kept)
    except UpstreamGarbage:
        return None
