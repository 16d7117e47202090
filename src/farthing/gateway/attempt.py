"""One attempt: an upstream asked once, and what it cost."""

from collections.abc import Callable

import msgspec

from farthing import dialects
from farthing.gateway.relay import UNBILLED, Relay
from farthing.gateway.retrieve import retrieve
from farthing.ports import Clock, Outlet, Question, Upstream
from farthing.pricing import PriceBook, charge, hosted_charge
from farthing.prompts.estimate import estimate_input
from farthing.schema import Attempt, Call, Charge, Exchange, Reply, Route, Usage


class Source(msgspec.Struct, frozen=True):
    """An upstream and the terms it sells on.

    `prices` names the provider in the price book (empty: prices are found by the model's name alone); an owned machine
    costs `hourly` pico-dollars at `concurrency` calls at once instead, for `deadline` ns at the longest.
    `own_key`: calls go under a key of the gateway's, not each under its caller's. `running_usage`: it can report token
    counts in every chunk of a stream. `models` are those it is known to have, where the price book does not say.
    `drain_cost` is the most, in pico-dollars, that reading an answer to its end may cost once its caller has left, and
    `retrieves` whether stored responses can be asked for afterwards.
    """

    upstream: Upstream
    prices: str = ""
    hourly: int | None = None
    concurrency: int = 1
    deadline: int = 600 * 10**9
    own_key: bool = True
    running_usage: bool = False
    models: tuple[str, ...] = ()
    drain_cost: int | None = None
    retrieves: bool = False


class Offer(msgspec.Struct, frozen=True):
    """What is about to be asked of whom: a call by a route, with its output capped at `max_output` tokens if given.

    The answer of an `audit` goes to nobody: it is compared with another.
    """

    call: Call
    route: Route
    source: Source
    max_output: int | None = None
    audit: bool = False

    @property
    def model(self) -> str:
        """The model as the upstream knows it."""
        return self.route.served_as or self.call.model


class Made(msgspec.Struct, frozen=True):
    """An attempt that was made, and whether its answer has begun to reach the caller.

    `left` says how its meter was read once the caller had left: "drained", "retrieved", or not at all. `confidence` is
    the upstream's in its answer, from 0 to 1, where it says so.
    """

    attempt: Attempt
    begun: bool
    left: str = ""
    confidence: float | None = None


class Buyer:
    """Makes attempts, and charges them."""

    def __init__(self, book: PriceBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    async def make(
        self, exchange: Exchange, offer: Offer, outlet: Outlet | None, *, drainable: Callable[[], bool]
    ) -> Made:
        """Ask once, pouring a stream to the caller as it comes. Failure is data from here on, not an exception."""
        call, source = offer.call, offer.source
        question = Question(
            method=call.method,
            path=call.path.removeprefix("/v1"),
            headers=call.headers,
            body=dialects.encode(
                exchange.call,
                model=offer.model,
                running_usage=source.running_usage,
                max_output=offer.max_output,
            ),
            stream=call.stream,
            drainable=drainable,
            accept=offer.route.accept,
        )
        relay = Relay(call, exchange.id, outlet, self._clock, running_usage=source.running_usage)
        started = self._clock.now()
        outcome = await source.upstream.ask(question, relay)
        ended = self._clock.now()
        reply = relay.close(outcome) if outcome.ending != "declined" else _declined(call)
        left = "drained" if outcome.drained else ""
        if outcome.ending == "disconnected" and source.retrieves:
            reply, left = await self._retrieved(call, source, relay, reply)
        reply = msgspec.structs.replace(
            reply,
            model=reply.model or (offer.model if offer.model != exchange.call.model else None),
            provider=source.prices,
            charge=self._charge(exchange, offer, reply, outcome.sent, max(ended - started, 0)),
            simulated=source.upstream.simulated,
        )
        attempt = Attempt(source.upstream.name, reply, started, ended, relay.first_byte)
        return Made(attempt, relay.begun, left, outcome.confidence)

    async def _retrieved(self, call: Call, source: Source, relay: Relay, reply: Reply) -> tuple[Reply, str]:
        """The reply with the usage that the provider tells afterwards, where it kept the response."""
        reading = await retrieve(source.upstream, call, relay.so_far)
        if reading is None:
            return reply, ""
        told = msgspec.structs.replace(
            reply,
            model=reading.model,
            tier=reading.tier,
            usage=reading.usage,
            usage_source=reading.usage_source,
            unknown_usage=reading.unknown_usage,
        )
        return told, "retrieved"

    def _charge(self, exchange: Exchange, offer: Offer, reply: Reply, sent: bool, took: int) -> Charge:
        """What an attempt cost: nothing when it was refused or never sent, unknown when its meter was not read.

        A charge that no price was looked up for carries no price version, so that nobody tries to re-rate it.
        """
        source = offer.source
        refused = reply.status >= 400 and reply.usage is None and reply.ending == "complete"
        if offer.call.endpoint in UNBILLED or refused or not sent:
            return Charge(0, 0, "")
        if source.hourly is not None:
            return hosted_charge(hourly=source.hourly, latency=took, concurrency=source.concurrency)
        if reply.usage is None:
            return Charge(None, None, self._book.version)
        return charge(
            self._book,
            provider=source.prices,
            model=reply.model or offer.model,
            tier=reply.tier,
            usage=reply.usage,
            at=exchange.arrived,
        )


def _declined(call: Call) -> Reply:
    """What is entered of an attempt whose answer was kept back: it read the prompt, and is no failure."""
    return Reply(0, ending="declined", usage=Usage(input=estimate_input(call)), usage_source="estimated")
