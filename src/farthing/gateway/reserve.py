"""Reserving the worst case of an attempt before it is made, or finding one that fits."""

import msgspec

from farthing.budgets import Applying, Limits, refusal, subject, unpriced
from farthing.budgets.worst_case import WorstCase, affordable_output, cap_of, hosted_worst_case, worst_case
from farthing.errors import FarthingError, StoreError
from farthing.gateway.attempt import Offer
from farthing.gateway.holding import Holds
from farthing.pricing import PriceBook
from farthing.prompts import Calibration
from farthing.schema import HOUR, Balance, Claim, Decision, Entry, Exchange, Hold, Limit

SHORTEST = 16
"""Tokens of output below which a call is refused rather than cut down: OpenAI takes no lower cap."""
DRAINED_TOKENS = 6_000
"""What a fast model writes in half a minute."""
PRICES = 1024
"""Prices of output remembered, by model and hour."""
LOST_AUDIT = Decision("audit", "lost")
CLAMPS = 3
"""How often an output is cut down to what is left, while others take of it too."""


class Refused(Exception):
    """A worst case does not fit: which limit says so, and what it may be cut down to."""

    def __init__(self, limit: Limit, claim: Claim, balance: Balance, worst: WorstCase) -> None:
        super().__init__(limit.name)
        self.limit = limit
        self.claim = claim
        self.balance = balance
        self.worst = worst


class Reserve:
    """Holds what attempts may cost. It fails closed under a hard limit: what cannot be held is not asked."""

    def __init__(self, holds: Holds, book: PriceBook, calibration: Calibration, policy_version: str) -> None:
        self._holds = holds
        self._limits: Limits = holds.limits
        self._book = book
        self._calibration = calibration
        self._policy = policy_version
        self._output_prices: dict[tuple[str, str, str | None, int], int] = {}

    @property
    def limits_calls(self) -> bool:
        """Whether there is any limit at all."""
        return self._limits.any

    async def hold(self, exchange: Exchange, offer: Offer, number: int) -> Offer:
        """Hold the worst case of attempt `number`, its output cut down where a budget says so; the offer that fits.

        Raises Refused when none does, BudgetExceeded when a hard budget meets an unknown price, and StoreError when
        nobody can say.
        """
        caller, model = exchange.caller, offer.call.model
        applying = self._limits.applying(caller, model)
        if not applying.limits:
            return offer
        refused: Refused | None = None
        for _ in range(CLAMPS):
            worst = self._worst(exchange, offer)
            if worst.usd is None and (hard := applying.hard_usd):
                whose = subject(hard[0], caller, model) or ""
                raise unpriced(hard[0], whose, offer.source.prices, offer.model)
            try:
                refused = await self._take(exchange, offer, worst, number, applying)
            except StoreError:
                if any(limit.hard for limit in applying.limits):
                    raise
                return offer  # soft budgets fail open
            if refused is None:
                return offer
            room = refused.limit.amount - refused.balance.total
            cap = affordable_output(worst, room, offer.call.choices)
            if not refused.limit.clamp or refused.limit.meter != "usd" or cap < SHORTEST:
                break
            offer = msgspec.structs.replace(offer, max_output=cap)
        assert refused is not None
        raise refused

    def refusal(self, exchange: Exchange, offer: Offer, refused: Refused) -> FarthingError:
        """What the caller is told."""
        whose = subject(refused.limit, exchange.caller, offer.call.model) or ""
        return refusal(refused.limit, whose, refused.claim, refused.balance, exchange.arrived)

    def rest(self, exchange: Exchange, offer: Offer) -> int:
        """About the most that reading an answer to its end can still cost, in pico-dollars, once it has begun."""
        known = (offer.source.prices, offer.model, offer.call.tier, exchange.arrived // HOUR)
        price = self._output_prices.get(known)
        if price is None:
            if len(self._output_prices) >= PRICES:
                self._output_prices.clear()
            price = self._output_prices[known] = self._worst(exchange, offer).per_output or 0
        return min(cap_of(offer.call, offer.route.max_output), DRAINED_TOKENS) * offer.call.choices * price

    async def _take(
        self, exchange: Exchange, offer: Offer, worst: WorstCase, number: int, applying: Applying
    ) -> Refused | None:
        call = offer.call
        cap = worst.output_tokens
        tokens = self._calibration.expected(call.model, len(call.body), cap)
        claims = applying.claims(exchange.arrived, usd=worst.usd, tokens=tokens)
        hold = Hold(f"{exchange.id}.{number}", claims, self._lost(exchange, offer, worst, number))
        limits = applying.limits
        verdict = await self._holds.take(exchange, call.model, hold, limits)
        if verdict.granted:
            return None
        return Refused(limits[verdict.short], claims[verdict.short], verdict.balances[verdict.short], worst)

    def _worst(self, exchange: Exchange, offer: Offer) -> WorstCase:
        source, call = offer.source, offer.call
        most = offer.route.max_output if offer.max_output is None else offer.max_output
        if source.hourly is not None:
            return hosted_worst_case(
                call, hourly=source.hourly, concurrency=source.concurrency, deadline=source.deadline, max_output=most
            )
        return worst_case(
            self._book, provider=source.prices, model=offer.model, call=call, max_output=most, at=exchange.arrived
        )

    def _lost(self, exchange: Exchange, offer: Offer, worst: WorstCase, number: int) -> bytes:
        """The entry of this attempt, should its gateway die before it knows better: charged in full, and marked."""
        call, caller = offer.call, exchange.caller
        return msgspec.json.encode(
            Entry(
                id=f"{exchange.id}.{number}",
                group=exchange.id,
                attempt=number,
                at=exchange.arrived,
                endpoint=call.endpoint,
                model=call.model,
                upstream=offer.source.upstream.name,
                provider=offer.source.prices,
                tenant=caller.tenant,
                team=caller.team,
                key=caller.key,
                feature=caller.feature,
                tags=caller.tags,
                usage_source="estimated",
                cost=worst.usd,
                list_cost=worst.usd,
                policy=self._policy,
                error="gateway_died",
                stream=call.stream,
                decisions=(LOST_AUDIT,) if offer.audit else (),
                simulated=offer.source.upstream.simulated,
                superseded=offer.audit,
            )
        )
