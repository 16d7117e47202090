"""The stage that chooses where an answer is bought, and buys it: attempt by attempt, each held for beforehand."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import msgspec

from farthing.errors import FarthingError, Unavailable, UnknownModel
from farthing.gateway.attempt import Made, Offer
from farthing.gateway.audits import Audits
from farthing.gateway.market import Market
from farthing.gateway.refusal import error_reply
from farthing.gateway.relay import LEFT
from farthing.gateway.reserve import Refused
from farthing.ports import Clock, Outlet
from farthing.routing import Judgement, above, backoff, classify, may_retry, order
from farthing.schema import Attempt, Call, Decision, Exchange, Fact, Fallback, Reply, Route

FAILED = frozenset(("retry", "rate_limited", "quota"))
SECOND = 10**9
BYTES_PER_TOKEN = 4
GONE = Reply(LEFT, ending="disconnected", error="client_disconnected")


class Ask:
    """Buys the answer, pouring a stream to the caller as it comes. Once it has been asked for, failure is data.

    An attempt that failed is followed by another while none of its answer has reached the caller: at the next upstream
    of the route at once, at the same one after a while. One that a small model declined is followed by the next rank,
    at once; when that has no answer the caller gets none, rather than one that nobody is sure of. Whatever an attempt
    cost is entered, be its answer used or not.
    """

    def __init__(
        self,
        market: Market,
        fallback: Fallback,
        clock: Clock,
        draw: Callable[[], float],
        may_ask: Callable[[Exchange, str], bool],
        audits: Audits | None = None,
    ) -> None:
        """`draw` gives random numbers in [0, 1), for weights and waits; `may_ask` says who may use which model."""
        self._market = market
        self._sources = market.sources
        self._routes = market.routes
        self._buyer = market.buyer
        self._reserve = market.reserve
        self._health = market.health
        self._fallback = fallback
        self._clock = clock
        self._draw = draw
        self._may_ask = may_ask
        self._audits = audits

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        routes = self._order(exchange.call)
        aside: Route | None = None
        if self._audits is not None and (aside := self._audits.aside(routes)) is not None:
            routes = self._audits.standing(routes)
            exchange = exchange.noting("cascade", "stepped_aside", rung=aside.upstream)
        place, escalated = 0, False
        for number in count(1):
            route = routes[place % len(routes)]
            offer = Offer(exchange.call, route, self._sources[route.upstream])
            try:
                if place or not self._health.is_well(route.upstream):
                    exchange = await self._due(exchange, route, place, again=place >= len(routes))
                if self._reserve.limits_calls:
                    exchange, offer = await self._afford(exchange, offer, number)
            except asyncio.CancelledError:
                if not exchange.attempts:
                    raise
                return _ended(exchange, GONE) if escalated else exchange  # what was bought is settled
            except FarthingError as error:
                if not exchange.attempts:
                    raise
                exchange = exchange.noting("fallback", "gave_up", because=error.code)
                return _unanswered(exchange, error) if escalated else exchange
            made = await self._buyer.make(
                exchange, offer, outlet, drainable=partial(self._is_drainable, exchange, offer)
            )
            judgement = classify(made.attempt.reply)
            self._market.learn(made, judgement)
            exchange = _grown(exchange, offer, made)
            if judgement == "answered":
                cascading = route.accept or route.audit or aside is not None
                return self._answered(exchange, offer, made, routes, aside) if cascading else exchange
            if judgement == "declined" or (judgement == "caller" and route.accept and _refused(made)):
                exchange = _rung(exchange, offer, made, "escalated")
                routes, place, escalated = above(routes, route), 0, True
                if not routes:
                    return _unanswered(exchange, _nobody(route))
                continue
            if judgement not in FAILED or made.begun or not self._goes_on(exchange, routes, place, judgement):
                return exchange
            exchange = exchange.noting("fallback", judgement, upstream=route.upstream, status=made.attempt.reply.status)
            place, escalated = place + 1, False
        raise AssertionError("count() ended")

    def _answered(
        self, exchange: Exchange, offer: Offer, made: Made, routes: Sequence[Route], aside: Route | None
    ) -> Exchange:
        """An exchange with its answer; what a rung answered, and what one that stands aside might have, is audited."""
        rung = offer.route
        if rung.accept or rung.audit:
            exchange = _rung(exchange, offer, made, "answered")
            if rung.audit and self._audits is not None:
                self._audits.draw(exchange, rung, above(routes, rung)[0])
        elif aside is not None and self._audits is not None:
            self._audits.draw(exchange, aside, aside)
        return exchange

    def _order(self, call: Call) -> list[Route]:
        """The routes of a call in the order they are asked."""
        candidates = self._routes.candidates(call)
        if len(candidates) == 1:
            return list(candidates)
        return order(candidates, self._health.resting(self._clock.now()), self._draw)

    async def _due(self, exchange: Exchange, route: Route, failures: int, *, again: bool) -> Exchange:
        """Wait until an upstream is due: it asked for a pause, or failed this very call before.

        Raises Unavailable when it rests from its failures, or the pause is longer than this call can wait.
        """
        now = self._clock.now()
        wait = self._health.opens_at(route.upstream, now, len(exchange.call.body) // BYTES_PER_TOKEN) - now
        if again:
            wait = max(wait, backoff(self._fallback, failures, self._draw()))
        too_long = wait > self._fallback.longest_backoff or now + wait > exchange.arrived + self._fallback.deadline
        if too_long or self._health.rests(route.upstream, now):
            raise _resting(route.upstream, wait)
        if wait:
            await asyncio.sleep(wait / SECOND)
            exchange = msgspec.structs.replace(exchange, waited=exchange.waited + self._clock.now() - now)
        if not self._health.acquire(route.upstream, self._clock.now()):
            raise _resting(route.upstream, SECOND)
        return exchange

    async def _afford(self, exchange: Exchange, wanted: Offer, number: int) -> tuple[Exchange, Offer]:
        """What is asked, with its worst case held: what was wanted or, where a budget says so, a cheaper model."""
        try:
            return _cut(exchange, await self._reserve.hold(exchange, wanted, number))
        except Refused as refused:
            for instead in _cheaper(refused, exchange.call.model):
                if not self._may_ask(exchange, instead):
                    continue
                call = msgspec.structs.replace(exchange.call, model=instead)
                try:  # in another model's cascade, the rank that declines nothing and is not audited
                    cheaper = next(r for r in self._routes.candidates(call) if not (r.accept or r.audit))
                except UnknownModel:
                    continue
                if not self._health.is_well(cheaper.upstream):
                    continue
                offer = Offer(call, cheaper, self._sources[cheaper.upstream])
                try:
                    offer = await self._reserve.hold(exchange, offer, number)
                except Refused:
                    continue
                return _cut(exchange.noting("budget", "downgraded", budget=refused.limit.name, model=instead), offer)
            raise self._reserve.refusal(exchange, wanted, refused) from None

    def _is_drainable(self, exchange: Exchange, offer: Offer) -> bool:
        most = offer.source.drain_cost
        return most is None or self._reserve.rest(exchange, offer) <= most

    def _goes_on(self, exchange: Exchange, routes: Sequence[Route], place: int, judgement: Judgement) -> bool:
        """Whether one more attempt may be made.

        An upstream is asked again only if it charged nothing for its failures, and not where the credit has run out.
        """
        attempts = exchange.attempts
        following = routes[(place + 1) % len(routes)].upstream
        before = [_cost(attempt) for attempt in attempts if attempt.upstream == following]
        if before and (judgement == "quota" or any(cost != 0 for cost in before)):
            return False
        elapsed = self._clock.now() - exchange.arrived
        costs = [_cost(attempt) for attempt in attempts]
        spent = None if None in costs else sum(cost or 0 for cost in costs)
        made = sum(attempt.reply.ending != "declined" for attempt in attempts)
        return may_retry(self._fallback, attempts=made, elapsed=elapsed, spent=spent)


def _cost(attempt: Attempt) -> int | None:
    """What an attempt cost, in pico-dollars; `None` when that is not known."""
    return attempt.reply.charge.amount if attempt.reply.charge else None


def _resting(upstream: str, wait: int) -> Unavailable:
    return Unavailable(
        f"The upstream {upstream} takes no calls for another {wait / SECOND:.1f} s.",
        hint="It failed several times in a row, or asked for a pause; a second upstream for this model would help.",
        retry_after=wait / SECOND,
    )


def _grown(exchange: Exchange, offer: Offer, made: Made) -> Exchange:
    decisions = [*exchange.decisions, Decision("route", offer.route.upstream, {"model": offer.model})]
    if made.left:
        decisions.append(Decision("disconnect", made.left))
    return msgspec.structs.replace(
        exchange,
        decisions=tuple(decisions),
        attempts=(*exchange.attempts, made.attempt),
        reply=made.attempt.reply,
    )


def _rung(exchange: Exchange, offer: Offer, made: Made, verdict: str) -> Exchange:
    """What a rung of a cascade did with a call, and the facts it did it on."""
    facts: dict[str, Fact] = {"confidence": made.confidence, "accept": offer.route.accept}
    return exchange.noting("cascade", verdict, rung=made.attempt.upstream, **facts)


def _refused(made: Made) -> bool:
    """Whether a rung refused a call that its caller still waits for: what it cannot read, the next rank perhaps can."""
    return made.attempt.reply.ending == "complete" and not made.begun


def _unanswered(exchange: Exchange, error: FarthingError) -> Exchange:
    """An exchange that a rung declined, and that nobody else answers."""
    return _ended(exchange, error_reply(exchange.call.endpoint, error, exchange.id))


def _ended(exchange: Exchange, reply: Reply) -> Exchange:
    """An exchange that ends with a reply of the gateway's, which stands with what its last attempt used and cost."""
    last = exchange.attempts[-1]
    told = msgspec.structs.replace(
        last.reply,
        status=reply.status,
        body=reply.body,
        tail=reply.tail,
        headers=reply.headers,
        ending=reply.ending,
        error=reply.error,
    )
    attempts = (*exchange.attempts[:-1], msgspec.structs.replace(last, reply=told))
    return msgspec.structs.replace(exchange, attempts=attempts, reply=told)


def _nobody(route: Route) -> Unavailable:
    return Unavailable(
        f"The upstream {route.upstream} is not sure enough of its answer, and there is no other to ask.",
        hint="Add a route of a higher rank for this model.",
    )


def _cut(exchange: Exchange, offer: Offer) -> tuple[Exchange, Offer]:
    if offer.max_output is None:
        return exchange, offer
    return exchange.noting("budget", "clamped", max_output=offer.max_output), offer


def _cheaper(refused: Refused, model: str) -> list[str]:
    return [instead for asked, instead in refused.limit.downgrade if asked == model]
