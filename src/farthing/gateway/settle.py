"""Settlement: an exchange becomes ledger entries, and its answer is kept if it may be shared."""

from collections.abc import Callable

from farthing.ports import Clock, Journal
from farthing.schema import Attempt, CacheState, Charge, Entry, Exchange, Reply

MICROSECOND = 1_000


class Settlement:
    """Writes the entries of an exchange; synchronous, so that nothing can come between an answer and its entry."""

    def __init__(
        self, journal: Journal, clock: Clock, policy_version: str, *,
        keep: Callable[[Exchange], None], observe: Callable[[Entry], None],
        record: Callable[[Exchange], None] | None = None,
    ) -> None:  # fmt: skip
        """`keep` offers the answer to the cache; `observe` sees every entry; `record` stores bodies where configured."""
        self._journal = journal
        self._clock = clock
        self._policy = policy_version
        self._keep = keep
        self._observe = observe
        self._record = record

    def settle(self, exchange: Exchange) -> None:
        """Enter every attempt, or the answer that needed none."""
        now = self._clock.now()
        self._keep(exchange)
        if exchange.attempts:
            upstream_time = sum(attempt.ended - attempt.started for attempt in exchange.attempts)
            overhead = now - exchange.arrived - upstream_time
            entries = [
                self._attempted(exchange, number, attempt, now, overhead)
                for number, attempt in enumerate(exchange.attempts, 1)
            ]
        else:
            entries = [self._unattempted(exchange, now)]
        self._journal.append(entries)
        for entry in entries:
            self._observe(entry)
        if self._record is not None:
            self._record(exchange)

    def _attempted(self, exchange: Exchange, number: int, attempt: Attempt, now: int, overhead: int) -> Entry:
        call, caller, reply = exchange.call, exchange.caller, attempt.reply
        charge = reply.charge or Charge(None, None, "")
        first = attempt.first_byte
        return Entry(
            id=f"{exchange.id}.{number}",
            group=exchange.id,
            attempt=number,
            at=exchange.arrived,
            endpoint=call.endpoint,
            model=call.model,
            served=reply.model,
            upstream=attempt.upstream,
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
            ttft=None if first is None else (first - exchange.arrived) // MICROSECOND,
            latency=(now - exchange.arrived) // MICROSECOND,
            overhead=overhead // MICROSECOND,
            decisions=exchange.decisions,
            simulated=reply.simulated,
            superseded=number < len(exchange.attempts),
        )

    def _unattempted(self, exchange: Exchange, now: int) -> Entry:
        """A cache hit, a refusal, or a call whose caller left while it waited: nothing was bought."""
        call, caller = exchange.call, exchange.caller
        reply = exchange.reply or Reply(status=0)
        charge = reply.charge or Charge(0, 0, "")
        cache = _cache_state(exchange)
        saved = charge.saved
        if cache in ("hit", "coalesced") and charge.amount is not None:
            saved = (*saved, ("exact_cache", charge.amount))
        took = (now - exchange.arrived) // MICROSECOND
        return Entry(
            id=f"{exchange.id}.0",
            group=exchange.id,
            attempt=0,
            at=exchange.arrived,
            endpoint=call.endpoint,
            model=call.model,
            served=reply.model,
            provider=reply.provider,
            tier=reply.tier,
            tenant=caller.tenant,
            team=caller.team,
            key=caller.key,
            feature=caller.feature,
            tags=caller.tags,
            usage=reply.usage,
            usage_source=reply.usage_source,
            cost=0,
            list_cost=charge.list_amount,
            saved=saved,
            missing_prices=charge.missing,
            price_version=charge.price_version,
            policy=self._policy,
            cache=cache,
            status=reply.status,
            error=reply.error,
            finish=reply.finish,
            stream=call.stream,
            latency=took,
            overhead=took,
            decisions=exchange.decisions,
            simulated=reply.simulated,
        )


def _cache_state(exchange: Exchange) -> CacheState:
    for decision in exchange.decisions:
        if decision.lever == "exact_cache":
            return decision.verdict  # type: ignore[return-value]  # the look-up notes exactly these words
    return "off"
