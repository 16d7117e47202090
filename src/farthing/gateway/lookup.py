"""The stage that gives an answer again: exact cache in memory and on disk, and identical calls in flight."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from farthing import dialects
from farthing.caching import canonical_key, ineligible, may_keep, scope_of
from farthing.ports import Clock, Outlet, ReplyStore
from farthing.routing import RouteTable
from farthing.schema import Decision, Exchange, Reply, SharingRules

KNOWN_KEYS = 16_384
"""Canonical keys remembered by scope and digest, about 300 bytes each."""

HIT = Decision("exact_cache", "hit")
MISS = Decision("exact_cache", "miss")


class ReplyCache:
    """The levels of the exact cache, fastest first, and the calls whose answers are on their way to it."""

    def __init__(self, levels: Sequence[ReplyStore], clock: Clock) -> None:
        self._levels = tuple(levels)
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
        """Keep the answer of a call that was in flight (`None`: it gave none worth keeping) and wake who waited."""
        if reply is not None:
            expires = self._clock.now() + ttl
            for level in self._levels:
                level.put(key, reply, expires)
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(reply)

    def close(self) -> None:
        for level in self._levels:
            level.close()


class LookUp:
    """Answers from the cache, joins an identical call in flight, or lets the call through with its key."""

    def __init__(
        self, rules: SharingRules, routes: RouteTable, cache: ReplyCache, clock: Clock, *, authenticated: bool
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._routes = routes
        self._cache = cache
        self._authenticated = authenticated
        self._keys: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        call = exchange.call
        route = self._routes.choose(call)
        if why := ineligible(self._rules, call, route_cache=route.cache):
            return exchange.noting("exact_cache", "off", because=why)
        key = self._key(exchange)
        if reply := self._cache.get(key):
            return msgspec.structs.replace(
                exchange, decisions=(*exchange.decisions, HIT), reply=dialects.render(call, reply)
            )
        if flight := self._cache.flight(key):
            return await self._join(exchange, flight)
        return msgspec.structs.replace(exchange, decisions=(*exchange.decisions, MISS), cache_key=key)

    async def _join(self, exchange: Exchange, flight: asyncio.Future[Reply | None]) -> Exchange:
        """Wait for the answer of an identical call; without one worth sharing, the call goes on by itself."""
        began = self._clock.now()
        reply = await asyncio.shield(flight)
        exchange = msgspec.structs.replace(exchange, waited=self._clock.now() - began)
        if reply is not None:
            return exchange.noting("exact_cache", "coalesced").answered(dialects.render(exchange.call, reply))
        return exchange.noting("exact_cache", "miss", because="the identical call in flight gave no answer to share")

    def _key(self, exchange: Exchange) -> bytes:
        """The canonical key, remembered for bodies that are known by their digest."""
        call = exchange.call
        scope = scope_of(self._rules, exchange.caller, authenticated=self._authenticated)
        if not call.digest:
            return canonical_key(scope, call)
        key = self._keys.get((scope, call.digest))
        if key is None:
            key = self._keys[scope, call.digest] = canonical_key(scope, call)
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
            self._cache.land(exchange.cache_key, None, self._rules.ttl)
