"""Report: what was spent and saved, and on what, from roll-ups."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from farthing.ledger.tally import Accumulator
from farthing.schema import Histogram, Rollup, Sums


class Quantiles(msgspec.Struct, frozen=True):
    """Durations in microseconds, within 9.1 %; `None` when there were none."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> "Quantiles":
        return cls(histogram.quantile(0.5), histogram.quantile(0.95), histogram.quantile(0.99))


class Figures(msgspec.Struct, frozen=True):
    """What a set of calls comes to. Money is in pico-dollars.

    `paid` and `list` sum what is known: with `unpriced` entries they are lower bounds. `saved` is the sum of
    `saved_by_lever`. Tokens are those that upstreams processed; `hit_ratio` is of the calls that might have been hits.
    """

    calls: int
    attempts: int
    errors: int
    paid: int
    list: int
    saved: int
    saved_by_lever: dict[str, int]
    unpriced: int
    estimated: int
    cost_per_1k: int | None
    hits: int
    hit_ratio: float | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    latency: Quantiles
    overhead: Quantiles
    ttft: Quantiles

    @classmethod
    def of(cls, sums: Sums) -> "Figures":
        """The figures that sums come to."""
        saved = sorted(sums.saved.items(), key=lambda item: (-item[1], item[0]))
        return cls(
            calls=sums.calls,
            attempts=sums.attempts,
            errors=sums.errors,
            paid=sums.cost,
            list=sums.list_cost,
            saved=sum(sums.saved.values()),
            saved_by_lever=dict(saved),
            unpriced=sums.unpriced,
            estimated=sums.estimated,
            cost_per_1k=sums.cost_per_1k,
            hits=sums.hits,
            hit_ratio=sums.hit_ratio,
            input_tokens=sums.usage.input_tokens,
            cached_tokens=sums.usage.cache_read,
            output_tokens=sums.usage.output_tokens,
            latency=Quantiles.of(sums.latency),
            overhead=Quantiles.of(sums.overhead),
            ttft=Quantiles.of(sums.ttft),
        )


class Share(msgspec.Struct, frozen=True):
    """The figures of one value of a dimension."""

    value: str
    figures: Figures


class Step(msgspec.Struct, frozen=True):
    """The figures of the time from `start` (Unix ns) to the next step."""

    start: int
    figures: Figures


class Change(msgspec.Struct, frozen=True):
    """How much more than in another period, as a share of that one (0.1 is a tenth more); `None` when it had none."""

    calls: float | None
    paid: float | None
    saved: float | None
    cost_per_1k: float | None


class Report(msgspec.Struct, frozen=True):
    """Roll-ups of [since, until), added up.

    `by` has, for each dimension asked for, its values by what they cost, the dearest first. `change` compares with
    the same length of time a week before. `simulated` counts the calls that no real upstream answered.
    """

    since: int
    until: int
    totals: Figures
    simulated: int
    by: dict[str, tuple[Share, ...]]
    series: tuple[Step, ...]
    change: Change


class Question(msgspec.Struct, frozen=True):
    """What a report is to say: the period (Unix ns), the dimensions to break it down by, the series' step in ns."""

    since: int
    until: int
    by: tuple[str, ...] = ()
    step: int | None = None


WEEK = 7 * 24 * 3_600_000_000_000
"""One week in nanoseconds."""


def report(question: Question, rollups: Iterable[Rollup], week_before: Iterable[Rollup] = ()) -> Report:
    """Add up the roll-ups of a period, and compare them with those of the same hours a week before."""
    total, simulated = Accumulator(), 0
    shares = {dimension: defaultdict[str, Accumulator](Accumulator) for dimension in question.by}
    steps: defaultdict[int, Accumulator] = defaultdict(Accumulator)
    for rollup in rollups:
        sums = rollup.sums
        total.merge(sums)
        simulated += sums.calls if rollup.simulated else 0
        for dimension, values in shares.items():
            values[str(getattr(rollup, dimension))].merge(sums)
        if question.step:
            steps[rollup.hour - (rollup.hour - question.since) % question.step].merge(sums)
    now = total.sums()
    return Report(
        since=question.since,
        until=question.until,
        totals=Figures.of(now),
        simulated=simulated,
        by={dimension: _ranked(values) for dimension, values in shares.items()},
        series=tuple(Step(start, Figures.of(steps[start].sums())) for start in sorted(steps)),
        change=_change(now, _sum(week_before)),
    )


def _ranked(values: dict[str, Accumulator]) -> tuple[Share, ...]:
    shares = [(name, added.sums()) for name, added in values.items()]
    shares.sort(key=lambda share: (-share[1].cost, -share[1].calls, share[0]))
    return tuple(Share(name, Figures.of(sums)) for name, sums in shares)


def _sum(rollups: Iterable[Rollup]) -> Sums:
    total = Accumulator()
    for rollup in rollups:
        total.merge(rollup.sums)
    return total.sums()


def _change(now: Sums, before: Sums) -> Change:
    return Change(
        calls=_growth(now.calls, before.calls),
        paid=_growth(now.cost, before.cost),
        saved=_growth(sum(now.saved.values()), sum(before.saved.values())),
        cost_per_1k=_growth(now.cost_per_1k, before.cost_per_1k),
    )


def _growth(now: int | None, before: int | None) -> float | None:
    return (now - before) / abs(before) if now is not None and before else None
