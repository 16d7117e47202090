"""Settlement: an exchange becomes ledger entries, and its answer is kept if it may be shared."""

from collections.abc import Callable, Sequence

import msgspec

from farthing.ports import Clock, Journal
from farthing.schema import Attempt, CacheState, Charge, Decision, Entry, Exchange, Reply

MICROSECOND = 1_000
UNPRICED = Charge(None, None, "")
FREE = Charge(0, 0, "")
UNANSWERED = Reply(status=0)
FAILED = Reply(status=500, error="internal_error")
"""An unexpected failure: whether anything was bought is not known, and so neither is what it cost."""

Watcher = Callable[[Exchange, Sequence[Entry]], None]
"""Sees every settled exchange and its entries; must be quick, and must not raise."""


class Settlement:
    """Writes the entries of an exchange; synchronous, so that nothing can come between an answer and its entry."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        policy_version: str,
        *,
        keep: Callable[[Exchange], None],
        watchers: Sequence[Watcher],
    ) -> None:
        """`keep` offers the answer to the cache, and wakes who waited for it."""
        self._journal = journal
        self._clock = clock
        self._policy = policy_version
        self._keep = keep
        self._watchers = tuple(watchers)

    def admit(self) -> None:
        """Raises LedgerError when an entry could not be taken, so that nothing is bought that cannot be entered."""
        if self._journal.failure:
            self._journal.append(())

    def settle(self, exchange: Exchange) -> None:
        """Enter every attempt, or the answer that needed none. Raises LedgerError when no entry can be taken."""
        now = max(self._clock.now(), exchange.arrived)  # clocks are set back
        self._keep(exchange)
        self._enter(
            exchange, self._attempted(exchange, now) if exchange.attempts else [self._unattempted(exchange, now)]
        )

    def _enter(self, exchange: Exchange, entries: list[Entry]) -> None:
        try:
            self._journal.append(entries)
        finally:  # what was held is resolved even where no entry can be taken
            for watch in self._watchers:
                watch(exchange, entries)

    def settle_audit(self, exchange: Exchange, attempt: Attempt, decision: Decision) -> None:
        """Enter an attempt that checked the answer of an exchange already settled, as the one after its last.

        It counts as no call. Watchers see it as an exchange with this one reply. Raises LedgerError when it cannot be
        taken.
        """
        exchange = msgspec.structs.replace(exchange, decisions=(decision,))
        entry = self._entry(
            exchange,
            len(exchange.attempts) + 1,
            attempt.reply,
            max(attempt.ended, exchange.arrived),
            upstream=attempt.upstream,
            charge=attempt.reply.charge or UNPRICED,
            first_byte=attempt.first_byte,
            overhead=0,
            superseded=True,
        )
        exchange = msgspec.structs.replace(exchange, attempts=(*exchange.attempts, attempt), reply=attempt.reply)
        self._enter(exchange, [entry])

    def _attempted(self, exchange: Exchange, now: int) -> list[Entry]:
        attempts = exchange.attempts
        overhead = now - exchange.arrived - exchange.waited
        for attempt in attempts:
            overhead -= attempt.ended - attempt.started
        return [
            self._entry(
                exchange,
                number,
                attempt.reply,
                now,
                upstream=attempt.upstream,
                charge=attempt.reply.charge or UNPRICED,
                first_byte=attempt.first_byte,
                overhead=overhead,
                superseded=number < len(attempts),
            )
            for number, attempt in enumerate(attempts, 1)
        ]

    def _unattempted(self, exchange: Exchange, now: int) -> Entry:
        """A cache hit, a refusal, or a call whose caller left while it waited: nothing was bought."""
        reply = exchange.reply or UNANSWERED
        bought = reply.charge or FREE
        saved = bought.saved
        if bought.amount:
            saved = (*saved, ("exact_cache", bought.amount))
        charge = Charge(0, bought.list_amount, bought.price_version, saved, bought.missing)
        if reply is FAILED:
            charge = UNPRICED
        return self._entry(exchange, 0, reply, now, charge=charge, overhead=now - exchange.arrived - exchange.waited)

    def _entry(  # noqa: PLR0913 (its keywords are what differs between the two kinds of entry)
        self,
        exchange: Exchange,
        number: int,
        reply: Reply,
        now: int,
        *,
        charge: Charge,
        overhead: int,
        upstream: str = "",
        first_byte: int | None = None,
        superseded: bool = False,
    ) -> Entry:  # its arguments are what differs between the two kinds
        call, caller = exchange.call, exchange.caller
        return Entry(
            id=f"{exchange.id}.{number}",
            group=exchange.id,
            attempt=number,
            at=exchange.arrived,
            endpoint=call.endpoint,
            model=call.model,
            served=reply.model,
            upstream=upstream,
            provider=reply.provider,
            tier=reply.tier,
            tenant=caller.tenant,
            team=caller.team,
            key=caller.key,
            feature=caller.feature,
            tags=caller.tags,
            usage=reply.usage,
            usage_source=reply.usage_source,
            unknown_usage=reply.unknown_usage,
            cost=charge.amount,
            list_cost=charge.list_amount,
            saved=charge.saved,
            missing_prices=charge.missing,
            price_version=charge.price_version,
            policy=self._policy,
            cache=_cache_state(exchange),
            status=reply.status,
            error=reply.error,
            finish=reply.finish,
            stream=call.stream,
            ttft=None if first_byte is None else max(first_byte - exchange.arrived, 0) // MICROSECOND,
            latency=(now - exchange.arrived) // MICROSECOND,
            overhead=max(overhead, 0) // MICROSECOND,
            decisions=exchange.decisions,
            simulated=reply.simulated,
            superseded=superseded,
        )


def _cache_state(exchange: Exchange) -> CacheState:
    for decision in exchange.decisions:
        if decision.lever == "exact_cache":
            return decision.verdict  # type: ignore[return-value]  # the look-up notes exactly these words
    return "off"
