"""Calls as people look at them: the entries of one exchange, put together. Values in, values out."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from farthing.dashboard.summary import savings
from farthing.dashboard.views import CallLine, Calls, Money, Part, Receipt, ReceiptLine, Saving
from farthing.dashboard.windows import iso
from farthing.ledger.drift import is_audit
from farthing.pricing import PriceBook, lines
from farthing.schema import METERS, Entry

Editions = Callable[[str], PriceBook | None]


def latest(entries: Iterable[Entry], limit: int) -> Calls:
    """The first `limit` calls of entries that come newest first, and where to go on from."""
    groups: dict[str, list[Entry]] = {}
    oldest = 0
    more = False
    for entry in entries:
        if entry.group not in groups and len(groups) >= limit and entry.at != oldest:
            more = True
            break
        groups.setdefault(entry.group, []).append(entry)
        oldest = entry.at
    settled = [group for group in groups.values() if any(not entry.corrects for entry in group)]
    return Calls(tuple(call_line(group) for group in settled), str(oldest) if more else None)


def call_line(group: Sequence[Entry]) -> CallLine:
    """One call in one line, from all its entries, in any order; at least one must not be a correction."""
    attempts = [entry for entry in group if not entry.corrects]
    last = _answer(attempts)
    usages = [entry.usage for entry in attempts if entry.usage]
    return CallLine(
        id=last.group,
        at=iso(last.at),
        endpoint=last.endpoint,
        model=last.model,
        served=last.served,
        upstream=last.upstream,
        tenant=last.tenant,
        feature=last.feature,
        status=last.status,
        error=last.error,
        cache=last.cache,
        attempts=sum(entry.attempt > 0 for entry in attempts),
        input_tokens=sum(usage.input_tokens for usage in usages) if usages else None,
        output_tokens=sum(usage.output_tokens for usage in usages) if usages else None,
        cost=Money.maybe(_known(entry.cost for entry in group)),
        list_cost=Money.maybe(_known(entry.list_cost for entry in group)),
        saved=Money.of(sum(amount for entry in group for _, amount in entry.saved)),
        ttft_us=last.ttft,
        latency_us=last.latency,
        overhead_us=last.overhead,
        stream=last.stream,
        simulated=last.simulated,
    )


def _answer(attempts: Sequence[Entry]) -> Entry:
    """The attempt whose answer went back: the last, or the one before its audit."""
    return max(attempts, key=lambda entry: (not entry.superseded, entry.attempt))


def receipt(group: Sequence[Entry], editions: Editions) -> Receipt:
    """Everything about one call, from all its entries."""
    last = _answer([entry for entry in group if not entry.corrects])
    saved: dict[str, int] = {}
    for entry in group:
        for lever, amount in entry.saved:
            saved[lever] = saved.get(lever, 0) + amount
    return Receipt(
        call=call_line(group),
        team=last.team,
        key=last.key,
        tags=last.tags,
        policy=last.policy,
        savings=savings(saved),
        parts=tuple(_part(entry, editions(entry.price_version)) for entry in group),
        decisions=(*last.decisions, *(each for entry in group if is_audit(entry) for each in entry.decisions)),
    )


def _part(entry: Entry, book: PriceBook | None) -> Part:
    used = _lines(entry, book)
    lines_total = _known(None if line.amount is None else line.amount.pico for line in used)
    return Part(
        id=entry.id,
        attempt=entry.attempt,
        corrects=entry.corrects,
        superseded=entry.superseded,
        upstream=entry.upstream,
        provider=entry.provider,
        served=entry.served,
        tier=entry.tier,
        status=entry.status,
        error=entry.error,
        finish=entry.finish,
        usage_source=entry.usage_source,
        unknown_usage=entry.unknown_usage,
        price_version=entry.price_version,
        missing_prices=entry.missing_prices,
        lines=used,
        lines_total=Money.maybe(lines_total),
        priced_alike=lines_total == _bought_for(entry),
        cost=Money.maybe(entry.cost),
        list_cost=Money.maybe(entry.list_cost),
        saved=tuple(Saving(lever, Money.of(amount)) for lever, amount in entry.saved),
        simulated=entry.simulated,
    )


def _lines(entry: Entry, book: PriceBook | None) -> tuple[ReceiptLine, ...]:
    if entry.usage is None or entry.corrects:
        return ()
    if book is None:
        quantities = zip(METERS, msgspec.structs.astuple(entry.usage), strict=True)
        return tuple(ReceiptLine(meter, quantity, None, None) for meter, quantity in quantities if quantity)
    priced = lines(
        book,
        provider=entry.provider,
        model=entry.served or entry.model,
        tier=entry.tier,
        usage=entry.usage,
        at=entry.at,
    )
    return tuple(
        ReceiptLine(line.meter, line.quantity, Money.maybe(line.unit_price), Money.maybe(line.amount))
        for line in priced
    )


def _bought_for(entry: Entry) -> int | None:
    """What the answer cost where it was bought: now, or earlier if the gateway's cache gave it again."""
    return entry.cost if entry.attempt else dict(entry.saved).get("exact_cache", entry.cost)


def _known(amounts: Iterable[int | None]) -> int | None:
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
