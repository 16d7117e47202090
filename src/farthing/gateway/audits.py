"""Audits: a share of what a small model answered is asked of the next rank too, in the background, and compared.

They fail open: an audit that cannot be made now is not made, and no caller ever waits for one.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from farthing import dialects
from farthing.errors import FarthingError, LedgerError, UpstreamGarbage
from farthing.evaluation.drift import exceeds
from farthing.gateway.attempt import Made, Offer
from farthing.gateway.market import Market
from farthing.gateway.reserve import Refused
from farthing.gateway.settle import Settlement
from farthing.ports import Clock, Journal
from farthing.routing import Standing, Watch, agree, classify, shown
from farthing.schema import Call, Decision, Entry, Exchange, Fact, Reply, Route

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Audits under way or about to be: what would be one more is not drawn."""
CLOSING = 5.0
"""Seconds that audits have to end by themselves once the gateway stops."""


class Audit(msgspec.Struct, frozen=True):
    """What was drawn: who is asked, to check which rung. They are one where the rung stands aside: it is tried."""

    rung: Route
    asked: Route


class Audits:
    """Draws audits, makes them once their calls are settled, and watches what they say of every rung.

    A rung is watched from the start of its process on; what was entered before is the ledger's to tell.
    """

    def __init__(
        self,
        market: Market,
        settlement: Settlement,
        journal: Journal,
        clock: Clock,
        draw: Callable[[], float],
    ) -> None:
        """`draw` gives random numbers in [0, 1)."""
        self._market = market
        self._settlement = settlement
        self._journal = journal
        self._clock = clock
        self._draw = draw
        self._watches: dict[tuple[str, str], Watch] = {}
        self._drawn: dict[str, Audit] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # -- before

    def aside(self, routes: Sequence[Route]) -> Route | None:
        """The first of some routes that stands aside."""
        return next((route for route in routes if route.gate and self._is_aside(route)), None)

    def standing(self, routes: Sequence[Route]) -> list[Route]:
        """The routes that do not stand aside; those of the last rank never do."""
        return [route for route in routes if not (route.gate and self._is_aside(route))]

    def draw(self, exchange: Exchange, rung: Route, asked: Route) -> None:
        """Decide by chance whether a call that was answered is audited, once it is settled.

        Nobody is asked with a key that a caller brought: it would pay for what it did not ask for.
        """
        room = len(self._tasks) + len(self._drawn) < AT_ONCE and not self._closing
        if self._draw() < rung.audit and room and self._market.sources[asked.upstream].own_key:
            self._drawn[exchange.id] = Audit(rung, asked)

    def settled(self, exchange: Exchange, entries: Sequence[Entry]) -> None:
        """Called at settlement, last: begin the audit that was drawn, once the call is entered and holds nothing."""
        audit = self._drawn.pop(exchange.id, None)
        if audit is not None and exchange.reply is not None and exchange.reply.ok:
            self._journal.after_commit(lambda: self._start(exchange, audit))

    # -- after

    @property
    def under_way(self) -> int:
        """How many audits have been begun and are not entered."""
        return len(self._tasks)

    def standings(self) -> tuple[Standing, ...]:
        """Where every rung stands that was audited."""
        return tuple(watch.standing for watch in self._watches.values())

    async def finish(self) -> None:
        """Begin no more, and return once those under way are entered, or `CLOSING` seconds have passed."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING)

    # -- one audit

    def _start(self, exchange: Exchange, audit: Audit) -> None:
        if self._closing:
            return
        task = asyncio.get_running_loop().create_task(self._make(exchange, audit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, exchange: Exchange, audit: Audit) -> None:
        market, asked, now = self._market, audit.asked, self._clock.now()
        if market.health.opens_at(asked.upstream, now) > now:
            return
        offer = Offer(exchange.call, asked, market.sources[asked.upstream], audit=True)
        try:
            self._settlement.admit()
            if market.reserve.limits_calls:
                offer = await market.reserve.hold(exchange, offer, len(exchange.attempts) + 1)
        except (Refused, FarthingError):
            return
        made = await market.buyer.make(exchange, offer, None, drainable=lambda: True)
        judgement = classify(made.attempt.reply)
        market.learn(made, judgement)
        decision = self._compare(exchange, audit, made)
        with suppress(LedgerError):  # the journal says so itself
            self._settlement.settle_audit(exchange, made.attempt, decision)

    def _compare(self, exchange: Exchange, audit: Audit, made: Made) -> Decision:
        """What a rung answered against what the next rank did; where one did not answer, nothing is learned."""
        rung, call = audit.rung, exchange.call
        assert exchange.reply is not None
        ours, theirs, confidence = exchange.reply, made.attempt.reply, _confidence(exchange)
        if rung is audit.asked:
            ours, theirs, confidence = theirs, ours, made.confidence
        facts: dict[str, Fact] = {"rung": rung.upstream, "confidence": confidence}
        if ours.ending == "declined":
            return Decision("audit", "declined", facts)
        own, other = _plain(call, ours), _plain(call, theirs)
        said, reference = dialects.answer_text(call.endpoint, own), dialects.answer_text(call.endpoint, other)
        if said is None or reference is None:
            return Decision("audit", "unanswered", facts)
        agreed = agree(said, reference)
        self._note(rung, agreed, f"{ours.model or ''} {dialects.fingerprint(own)}")
        facts |= {"answer": shown(said), "reference": shown(reference)}
        return Decision("audit", "agreed" if agreed else "disagreed", facts)

    def _note(self, rung: Route, agreed: bool, version: str) -> None:
        """Count an audit, and say so when a rung steps aside or comes back."""
        name = rung.model, rung.upstream
        watch = self._watches.get(name)
        if watch is None:
            watch = self._watches[name] = Watch(rung, exceeds)
        if watch.note(agreed, version):
            now = watch.standing
            log.warning(
                "%s %s for %s: of %d answers audited since the start, %d differ; the gate is %g.",
                rung.upstream, "steps aside" if now.stepped_aside else "is back",
                rung.model, now.audited, now.disagreed, rung.gate,
            )  # fmt: skip

    def _is_aside(self, route: Route) -> bool:
        watch = self._watches.get((route.model, route.upstream))
        return watch is not None and watch.aside


def _confidence(exchange: Exchange) -> float | None:
    """How sure the rung was that answered an exchange."""
    for decision in reversed(exchange.decisions):
        if decision.lever == "cascade":
            said = decision.facts.get("confidence")
            return said if isinstance(said, float) else None
    return None


def _plain(call: Call, reply: Reply) -> bytes:
    """The body of an answer in one piece, in whichever form it came; empty when it is no answer."""
    if not reply.ok:
        return b""
    try:
        return dialects.render(msgspec.structs.replace(call, stream=False), reply).body
    except UpstreamGarbage:
        return b""
