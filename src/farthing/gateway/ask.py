"""The stages that choose where an answer is bought, and buy it."""

from collections.abc import Mapping

import msgspec

from farthing import dialects
from farthing.gateway.relay import UNBILLED, Relay
from farthing.ports import Clock, Outlet, Question, Upstream
from farthing.pricing import PriceBook, charge, hosted_charge
from farthing.routing import RouteTable
from farthing.schema import Attempt, Charge, Decision, Exchange, Reply

DRAINED = Decision("disconnect", "drained")


class Source(msgspec.Struct, frozen=True):
    """An upstream and the terms it sells on.

    `prices` names the provider in the price book (empty: prices are found by the model's name alone); an owned machine
    costs `hourly` pico-dollars at `concurrency` calls at once instead. `running_usage`: it can report token counts in
    every chunk of a stream. `models` are those it is known to have, where the price book does not say.
    """

    upstream: Upstream
    prices: str = ""
    hourly: int | None = None
    concurrency: int = 1
    running_usage: bool = False
    models: tuple[str, ...] = ()


class Ask:
    """Buys the answer, pouring a stream to the caller as it comes. From here on failure is data, not an exception."""

    def __init__(self, sources: Mapping[str, Source], routes: RouteTable, book: PriceBook, clock: Clock) -> None:
        self._sources = sources
        self._routes = routes
        self._book = book
        self._clock = clock

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        call = exchange.call
        route = self._routes.choose(call)
        source = self._sources[route.upstream]
        question = Question(
            method=call.method,
            path=call.path.removeprefix("/v1"),
            headers=call.headers,
            body=dialects.encode(call, model=route.served_as or None, running_usage=source.running_usage),
            stream=call.stream,
        )
        relay = Relay(call, exchange.id, outlet, self._clock, running_usage=source.running_usage)
        started = self._clock.now()
        outcome = await source.upstream.ask(question, relay)
        ended = self._clock.now()
        reply = relay.close(outcome)
        reply = msgspec.structs.replace(
            reply,
            model=reply.model or route.served_as or None,
            provider=source.prices,
            charge=self._charge(
                exchange, source, reply, route.served_as or call.model, outcome.sent, max(ended - started, 0)
            ),
            simulated=source.upstream.simulated,
        )
        decisions = (*exchange.decisions, Decision("route", route.upstream, {"model": route.served_as or call.model}))
        return msgspec.structs.replace(
            exchange,
            decisions=(*decisions, DRAINED) if outcome.drained else decisions,
            attempts=(*exchange.attempts, Attempt(route.upstream, reply, started, ended, relay.first_byte)),
            reply=reply,
        )

    def _charge(self, exchange: Exchange, source: Source, reply: Reply, asked: str, sent: bool, took: int) -> Charge:
        """What an attempt cost: nothing when it was refused or never sent, unknown when its meter was not read.

        A charge that no price was looked up for carries no price version, so that nobody tries to re-rate it.
        """
        call = exchange.call
        refused = reply.status >= 400 and reply.usage is None and reply.ending == "complete"
        if call.endpoint in UNBILLED or refused or not sent:
            return Charge(0, 0, "")
        if source.hourly is not None:
            return hosted_charge(hourly=source.hourly, latency=took, concurrency=source.concurrency)
        if reply.usage is None:
            return Charge(None, None, self._book.version)
        return charge(
            self._book,
            provider=source.prices,
            model=reply.model or asked,
            tier=reply.tier,
            usage=reply.usage,
            at=exchange.arrived,
        )
