"""Summaries: a reading folded into what one glance takes in. Values in, values out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from farthing.budgets import resets_at
from farthing.dashboard.reading import Reading, total
from farthing.dashboard.views import (
    CacheShare,
    InFlight,
    LimitBar,
    Money,
    ProviderCacheShare,
    Quantiles,
    Saving,
    Series,
    Slice,
    Summary,
    Track,
)
from farthing.dashboard.windows import SECOND, iso
from farthing.ledger.tally import Accumulator
from farthing.schema import Account, Exchange, Histogram, Rollup, Sums

MICROSECOND = 1_000
MOST_SLICES = 50
MOST_TRACKS = 6
OTHERS = "other models"


def summarize(reading: Reading, version: str, policy: str) -> Summary:
    """Everything about one range that is not a series, with nothing in flight."""
    rollups = list(reading.rollups)
    sums = total(rollups)
    saved = sum(sums.saved.values())
    read, asked = sums.usage.cache_read, sums.usage.input_tokens
    return Summary(
        range=reading.window.range,
        since=iso(reading.since),
        until=iso(reading.window.until),
        partial=reading.partial,
        version=version,
        policy=policy,
        simulated=any(rollup.simulated for rollup in rollups),
        calls=sums.calls,
        attempts=sums.attempts,
        errors=sums.errors,
        failures=sums.failures,
        unpriced=sums.unpriced,
        estimated=sums.estimated,
        cost=Money.of(sums.cost),
        list_cost=Money.of(sums.list_cost),
        saved=Money.of(saved),
        saved_ratio=share(saved, sums.list_cost),
        cost_per_1k=Money.maybe(sums.cost_per_1k),
        cost_per_1k_change=_change(sums.cost_per_1k, reading.before),
        gateway_cache=CacheShare(sums.hits, sums.hits + sums.misses, share(sums.hits, sums.hits + sums.misses)),
        provider_cache=ProviderCacheShare(read, asked, share(read, asked)),
        overhead_us=_quantiles(sums.overhead),
        latency_us=_quantiles(sums.latency),
        ttft_us=_quantiles(sums.ttft),
        levers=savings(sums.saved),
        models=_slices(rollups, lambda rollup: rollup.model),
        tenants=_slices(rollups, lambda rollup: rollup.tenant),
        features=_slices(rollups, lambda rollup: rollup.feature),
        in_flight=(),
        limits=(),
    )


def series(reading: Reading) -> Series:
    """Cost by model and step: the dearest models by name, the rest together."""
    costs = {name: sums.cost for name, sums in _grouped(reading.rollups, lambda rollup: rollup.model)}
    dearest = sorted(costs, key=lambda name: (-costs[name], name))
    named = dearest if len(dearest) <= MOST_TRACKS else dearest[: MOST_TRACKS - 1]
    cells = [dict(_grouped(step.rollups, lambda rollup: _track(rollup.model, named))) for step in reading.steps]
    tracks = [*named, OTHERS] if len(named) < len(dearest) else named
    return Series(
        range=reading.window.range,
        step_seconds=reading.window.step // SECOND,
        partial=reading.partial,
        starts=tuple(iso(step.start) for step in reading.steps),
        tracks=tuple(
            Track(
                model=name,
                costs=tuple(Money.of(cell.get(name, Sums()).cost) for cell in cells),
                calls=tuple(cell.get(name, Sums()).calls for cell in cells),
            )
            for name in tracks
        ),
    )


def savings(saved: dict[str, int]) -> tuple[Saving, ...]:
    """Savings by lever, the largest first."""
    return tuple(
        Saving(lever, Money.of(amount)) for lever, amount in sorted(saved.items(), key=lambda item: (-item[1], item[0]))
    )


def share(part: int, whole: int) -> float | None:
    """A part of a whole, to four places; `None` of nothing.

    >>> share(1, 3), share(1, 0)
    (0.3333, None)
    """
    return round(part / whole, 4) if whole else None


def in_flight(exchanges: Iterable[Exchange], now: int) -> tuple[InFlight, ...]:
    """Calls under way, the oldest first."""
    return tuple(_under_way(exchange, now) for exchange in sorted(exchanges, key=lambda exchange: exchange.arrived))


def limits(accounts: Iterable[Account], now: int) -> tuple[LimitBar, ...]:
    """How limits stand, the most used first."""
    bars = [_bar(account, now) for account in accounts]
    return tuple(sorted(bars, key=lambda bar: bar.used_ratio + bar.held_ratio, reverse=True)[:MOST_SLICES])


def _bar(account: Account, now: int) -> LimitBar:
    limit, balance = account.limit, account.balance
    held = balance.held + balance.expired
    resets = resets_at(limit, now)
    return LimitBar(
        name=limit.name,
        subject=f"{limit.per} {account.subject}" if account.subject else "",
        meter=limit.meter,
        period=f"{'rolling ' if limit.rolling else ''}{limit.period}",
        hard=limit.hard,
        allowed=str(limit.amount),
        spent=str(balance.spent),
        held=str(held),
        used_ratio=share(balance.spent, limit.amount) or 0.0,
        held_ratio=share(held, limit.amount) or 0.0,
        resets_at=None if resets is None else iso(resets),
    )


def _under_way(exchange: Exchange, now: int) -> InFlight:
    last = exchange.decisions[-1] if exchange.decisions else None
    return InFlight(
        id=exchange.id,
        arrived=iso(exchange.arrived),
        age_us=max(0, now - exchange.arrived) // MICROSECOND,
        endpoint=exchange.call.endpoint,
        model=exchange.call.model,
        tenant=exchange.caller.tenant,
        feature=exchange.caller.feature,
        stage=f"{last.lever}: {last.verdict}" if last else "arrived",
    )


def _change(now: int | None, before: int | None) -> float | None:
    return share(now - before, before) if now is not None and before else None


def _quantiles(durations: Histogram) -> Quantiles:
    p50, p99 = durations.quantile(0.5), durations.quantile(0.99)
    return Quantiles(None if p50 is None else round(p50), None if p99 is None else round(p99))


def _slices(rollups: Iterable[Rollup], name_of: Callable[[Rollup], str]) -> tuple[Slice, ...]:
    groups = sorted(_grouped(rollups, name_of), key=lambda group: (-group[1].cost, -group[1].calls, group[0]))
    return tuple(_slice(name, sums) for name, sums in groups[:MOST_SLICES])


def _slice(name: str, sums: Sums) -> Slice:
    return Slice(
        name=name,
        calls=sums.calls,
        errors=sums.errors,
        unpriced=sums.unpriced,
        tokens=sums.usage.tokens,
        cost=Money.of(sums.cost),
        list_cost=Money.of(sums.list_cost),
        cost_per_1k=Money.maybe(sums.cost_per_1k),
    )


def _grouped(rollups: Iterable[Rollup], name_of: Callable[[Rollup], str]) -> Iterable[tuple[str, Sums]]:
    groups: defaultdict[str, Accumulator] = defaultdict(Accumulator)
    for rollup in rollups:
        groups[name_of(rollup)].merge(rollup.sums)
    return ((name, sums.sums()) for name, sums in groups.items())


def _track(model: str, named: Sequence[str]) -> str:
    return model if model in named else OTHERS
