"""The stage that chooses where an answer is bought, and buys it: attempt by attempt, each held for beforehand."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count

import msgspec

from farthing.dialects import read_pacing
from farthing.errors import FarthingError, Unavailable, UnknownModel
from farthing.gateway.attempt import Buyer, Made, Offer, Source
from farthing.gateway.reserve import Refused, Reserve
from farthing.ports import Clock, Outlet
from farthing.routing import Health, Judgement, RouteTable, backoff, classify, may_retry, order
from farthing.schema import Attempt, Call, Decision, Exchange, Fallback, Route

FAILED = frozenset(("retry", "rate_limited", "quota"))
SECOND = 10**9
BYTES_PER_TOKEN = 4


class Ask:
    """Buys the answer, pouring a stream to the caller as it comes. Once it has been asked for, failure is data.

    An attempt that failed is followed by another while none of its answer has reached the caller: at the next upstream
    of the route at once, at the same one after a while. Whatever an attempt cost is entered, be its answer used or not.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        routes: RouteTable,
        buyer: Buyer,
        reserve: Reserve,
        fallback: Fallback,
        clock: Clock,
        draw: Callable[[], float],
        may_ask: Callable[[Exchange, str], bool],
    ) -> None:
        """`draw` gives random numbers in [0, 1), for weights and waits; `may_ask` says who may use which model."""
        self._sources = sources
        self._routes = routes
        self._buyer = buyer
        self._reserve = reserve
        self._health = Health(fallback)
        self._fallback = fallback
        self._clock = clock
        self._draw = draw
        self._may_ask = may_ask

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        routes = self._order(exchange.call)
        for number in count(1):
            route = routes[(number - 1) % len(routes)]
            offer = Offer(exchange.call, route, self._sources[route.upstream])
            try:
                if number > 1 or not self._health.is_well(route.upstream):
                    exchange = await self._due(exchange, route, number, again=number > len(routes))
                if self._reserve.limits_calls:
                    exchange, offer = await self._afford(exchange, offer, number)
            except asyncio.CancelledError:
                if not exchange.attempts:
                    raise
                return exchange  # what was bought is settled, though nobody waits for it
            except FarthingError as error:
                if not exchange.attempts:
                    raise
                return exchange.noting("fallback", "gave_up", because=error.code)
            made = await self._buyer.make(
                exchange, offer, outlet, drainable=partial(self._is_drainable, exchange, offer)
            )
            judgement = classify(made.attempt.reply)
            self._learn(made, judgement)
            exchange = _grown(exchange, offer, made)
            if judgement not in FAILED or made.begun or not self._goes_on(exchange, routes, judgement):
                return exchange
            exchange = exchange.noting("fallback", judgement, upstream=route.upstream, status=made.attempt.reply.status)
        raise AssertionError("count() ended")

    def _order(self, call: Call) -> list[Route]:
        """The routes of a call in the order they are asked."""
        candidates = self._routes.candidates(call)
        if len(candidates) == 1:
            return list(candidates)
        return order(candidates, self._health.resting(self._clock.now()), self._draw)

    async def _due(self, exchange: Exchange, route: Route, number: int, *, again: bool) -> Exchange:
        """Wait until an upstream is due: it asked for a pause, or failed this very call before.

        Raises Unavailable when it rests from its failures, or the pause is longer than this call can wait.
        """
        now = self._clock.now()
        wait = self._health.opens_at(route.upstream, now, len(exchange.call.body) // BYTES_PER_TOKEN) - now
        if again:
            wait = max(wait, backoff(self._fallback, number - 1, self._draw()))
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
                try:
                    cheaper = self._routes.candidates(call)[0]
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

    def _learn(self, made: Made, judgement: Judgement) -> None:
        """Tell the health of an upstream from real traffic."""
        attempt = made.attempt
        if not self._sources[attempt.upstream].own_key and judgement in ("quota", "rate_limited"):
            return  # the limit of one caller's own key
        pacing = read_pacing(attempt.reply.status, attempt.reply.headers, attempt.ended)
        self._health.note(attempt.upstream, judgement, attempt.ended, pacing)

    def _goes_on(self, exchange: Exchange, routes: Sequence[Route], judgement: Judgement) -> bool:
        """Whether one more attempt may be made.

        An upstream is asked again only if it charged nothing for its failures, and not where the credit has run out.
        """
        attempts = exchange.attempts
        following = routes[len(attempts) % len(routes)].upstream
        before = [_cost(attempt) for attempt in attempts if attempt.upstream == following]
        if before and (judgement == "quota" or any(cost != 0 for cost in before)):
            return False
        elapsed = self._clock.now() - exchange.arrived
        costs = [_cost(attempt) for attempt in attempts]
        spent = None if None in costs else sum(cost or 0 for cost in costs)
        return may_retry(self._fallback, attempts=len(attempts), elapsed=elapsed, spent=spent)


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


def _cut(exchange: Exchange, offer: Offer) -> tuple[Exchange, Offer]:
    if offer.max_output is None:
        return exchange, offer
    return exchange.noting("budget", "clamped", max_output=offer.max_output), offer


def _cheaper(refused: Refused, model: str) -> list[str]:
    return [instead for asked, instead in refused.limit.downgrade if asked == model]
