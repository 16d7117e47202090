"""Prometheus: the running totals as metrics, in base units.

This is the outermost edge: dollars and seconds become floating point here, to be looked at, and nowhere before.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from farthing.ledger.tally import Accumulator, Tally
from farthing.routing import Standing
from farthing.schema import FEE_METERS, METERS, PICO_PER_USD, Account, Histogram, Rollup, Sums

__all__ = ["CONTENT_TYPE", "FAMILIES", "LABEL_VALUES", "OTHER", "Family", "Observed", "Prometheus"]

PREFIX = "farthing_"
SHED = "Calls refused because too many were under way; they have no entry."
BUILD_INFO = "Always 1; its labels say what is running."
LABEL_VALUES = 200
"""How many values of one label get series of their own; those seen later share the value `other`."""
OTHER = "other"
LONGEST_VALUE = 120

Labels = tuple[str, ...]
Values = Iterator[tuple[Labels, int]]

TOKEN_METERS = tuple(meter for meter in METERS if meter not in FEE_METERS)


class Observed(msgspec.Struct, frozen=True):
    """What a scrape sees: sums since the process started, and how the gateway is at this moment."""

    rollups: tuple[Rollup, ...]
    in_flight: int
    journal_lag: int
    ready: bool
    accounts: tuple[Account, ...] = ()
    shed: int = 0
    rungs: tuple[Standing, ...] = ()
    stale_models: int = 0


class Family(msgspec.Struct, frozen=True):
    """One metric. `labels` are dimensions of a roll-up, followed by those that `values` gives with each value.

    Values are counts, or pico-dollars where `unit` is a dollar.
    """

    name: str
    text: str
    labels: Labels
    values: Callable[[Sums], Values]
    unit: int = 1
    kind: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily


class Durations(msgspec.Struct, frozen=True):
    """One histogram; bucket bounds are powers of two, from 2^`finest` to 2^`coarsest` microseconds."""

    name: str
    text: str
    labels: Labels
    of: Callable[[Sums], Histogram]
    finest: int
    coarsest: int


class Gauge(msgspec.Struct, frozen=True):
    """One number about this moment."""

    name: str
    text: str
    of: Callable[[Observed], int]


def _only(read: Callable[[Sums], int]) -> Callable[[Sums], Values]:
    def values(sums: Sums) -> Values:
        yield (), read(sums)

    return values


def _outcomes(sums: Sums) -> Values:
    yield ("ok",), sums.calls - sums.errors
    yield ("error",), sums.errors


def _levers(sums: Sums) -> Values:
    return (((lever,), amount) for lever, amount in sums.saved.items())


def _meters(meters: Iterable[str]) -> Callable[[Sums], Values]:
    def values(sums: Sums) -> Values:
        return (((meter,), used) for meter in meters if (used := getattr(sums.usage, meter)))

    return values


_SPENT = ("model", "provider", "tenant", "team", "feature", "simulated")

FAMILIES: tuple[Family, ...] = (
    Family(
        "requests",
        "Calls answered, by how they ended and what the gateway's cache did.",
        ("model", "provider", "endpoint", "cache", "simulated", "outcome"),
        _outcomes,
    ),
    Family(
        "attempts",
        "Times an upstream was asked; a retried call has several.",
        ("model", "provider", "upstream"),
        _only(lambda sums: sums.attempts),
    ),
    Family(
        "failed_attempts",
        "Times an upstream was asked and gave no usable answer.",
        ("model", "provider", "upstream"),
        _only(lambda sums: sums.failures),
    ),
    Family(
        "cost_usd", "Dollars paid, as far as prices are known.", _SPENT, _only(lambda sums: sums.cost), PICO_PER_USD
    ),
    Family(
        "list_cost_usd",
        "Dollars that the same calls cost at list price, with no lever.",
        _SPENT,
        _only(lambda sums: sums.list_cost),
        PICO_PER_USD,
    ),
    Family(
        "saved_usd",
        "Dollars saved since the start, net of premiums paid: it can fall, so it is a gauge.",
        ("simulated", "lever"),
        _levers,
        PICO_PER_USD,
        GaugeMetricFamily,
    ),
    Family(
        "tokens",
        "Tokens bought, by bucket.",
        ("model", "provider", "kind"),
        _meters(TOKEN_METERS),
    ),
    Family("tool_uses", "Uses of the provider's own tools.", ("model", "provider", "kind"), _meters(FEE_METERS)),
    Family(
        "price_missing",
        "Entries whose cost is unknown, because a price is.",
        ("model", "provider"),
        _only(lambda sums: sums.unpriced),
    ),
    Family(
        "usage_estimated",
        "Attempts whose usage no provider reported, so it was counted or estimated.",
        ("model", "provider"),
        _only(lambda sums: sums.estimated),
    ),
    Family(
        "usage_unknown_fields",
        "Usage fields that a provider reported and Farthing does not know, so cannot charge.",
        ("model", "provider"),
        _only(lambda sums: sums.unknown_usage),
    ),
)

DURATIONS: tuple[Durations, ...] = (
    Durations(
        "request_duration_seconds",
        "From the arrival of a call to its settlement.",
        ("model", "provider", "endpoint"),
        lambda sums: sums.latency,
        finest=10,
        coarsest=27,
    ),
    Durations(
        "time_to_first_token_seconds",
        "From the arrival of a call to the first byte of its answer.",
        ("model", "provider", "endpoint"),
        lambda sums: sums.ttft,
        finest=10,
        coarsest=27,
    ),
    Durations(
        "overhead_seconds",
        "The part of a call's time that was spent in the gateway.",
        ("endpoint", "cache"),
        lambda sums: sums.overhead,
        finest=4,
        coarsest=20,
    ),
)

GAUGES: tuple[Gauge, ...] = (
    Gauge("in_flight", "Calls that have arrived and are not settled.", lambda seen: seen.in_flight),
    Gauge("journal_lag_records", "Journal records that the ledger has not taken yet.", lambda seen: seen.journal_lag),
    Gauge(
        "stale_models",
        "Embedded models whose newer version could not be loaded by the process that answers.",
        lambda seen: seen.stale_models,
    ),
    Gauge("ready", "1 when the gateway should get traffic, 0 when it should not.", lambda seen: int(seen.ready)),
)


LIMITS: tuple[tuple[str, str, Callable[[Account], int]], ...] = (
    ("limit_allowed", "The most that a limit allows: dollars, tokens, or calls.", lambda one: one.limit.amount),
    ("limit_spent", "What was posted to a limit in its period.", lambda one: one.balance.spent),
    (
        "limit_held",
        "What attempts under way hold, and what is in doubt.",
        lambda one: one.balance.held + one.balance.expired,
    ),
)
"""Gauges of every account of a limit that was held from, as of the last hold."""


RUNGS: tuple[tuple[str, str, type[CounterMetricFamily | GaugeMetricFamily], Callable[[Standing], int]], ...] = (
    (
        "cascade_audited",
        "Answers of a small model that were compared with those of the next rank.",
        CounterMetricFamily,
        lambda one: one.audited,
    ),
    (
        "cascade_disagreed",
        "Answers of a small model that were compared, and differed.",
        CounterMetricFamily,
        lambda one: one.disagreed,
    ),
    (
        "cascade_stepped_aside",
        "Processes in which a small model stands aside, because too many of its answers differed.",
        GaugeMetricFamily,
        lambda one: int(one.stepped_aside),
    ),
)
"""Metrics of every rung of a cascade that was audited since its process started."""


class Prometheus:
    """Renders metrics; remembers which label values it has shown, so that a series never turns into another."""

    def __init__(self, version: str, policy: str, process: Collector | None = None) -> None:
        """`process` adds metrics about the process itself to every scrape."""
        self._version = version
        self._policy = policy
        self._process = process
        self._shown: defaultdict[str, set[str]] = defaultdict(set)

    def render(self, seen: Observed) -> bytes:
        """The text of one scrape."""
        registry = CollectorRegistry()
        registry.register(_Scrape(self._families(seen)))
        if self._process is not None:
            registry.register(self._process)
        return generate_latest(registry)

    def _families(self, seen: Observed) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{PREFIX}build_info", BUILD_INFO, labels=("version", "policy"))
        build.add_metric((self._version, self._policy), 1)
        yield build
        for gauge in GAUGES:
            yield GaugeMetricFamily(PREFIX + gauge.name, gauge.text, gauge.of(seen))
        yield CounterMetricFamily(f"{PREFIX}shed", SHED, seen.shed)
        for name, text, of in LIMITS:
            yield self._limits(name, text, of, seen.accounts)
        for name, text, kind, count in RUNGS:
            yield _rungs(kind(PREFIX + name, text, labels=("model", "upstream")), count, seen.rungs)
        rollups = _without_hours(seen.rollups)
        for family in FAMILIES:
            yield self._family(family, rollups)
        for durations in DURATIONS:
            yield self._histogram(durations, rollups)

    def _limits(self, name: str, text: str, of: Callable[[Account], int], accounts: Iterable[Account]) -> Metric:
        metric = GaugeMetricFamily(PREFIX + name, text, labels=("limit", "meter", "subject"))
        totals: defaultdict[Labels, int] = defaultdict(int)
        for account in accounts:
            meter = account.limit.meter
            totals[account.limit.name, meter, self._shown_as("subject", account.subject)] += of(account)
        for labels, amount in totals.items():
            metric.add_metric(labels, amount / PICO_PER_USD if labels[1] == "usd" else amount)
        return metric

    def _family(self, family: Family, rollups: Iterable[Rollup]) -> Metric:
        totals: defaultdict[Labels, int] = defaultdict(int)
        for rollup in rollups:
            for extra, value in family.values(rollup.sums):
                totals[self._labels(family.labels, rollup, extra)] += value
        metric = family.kind(PREFIX + family.name, family.text, labels=family.labels)
        for labels, total in totals.items():
            metric.add_metric(labels, total / family.unit)
        return metric

    def _histogram(self, durations: Durations, rollups: Iterable[Rollup]) -> Metric:
        totals: defaultdict[Labels, Accumulator] = defaultdict(Accumulator)
        for rollup in rollups:
            totals[self._labels(durations.labels, rollup, ())].merge(rollup.sums)
        metric = HistogramMetricFamily(PREFIX + durations.name, durations.text, labels=durations.labels)
        for labels, total in totals.items():
            seen = durations.of(total.sums())
            metric.add_metric(labels, list(_buckets(seen, durations)), seen.total / 1e6)
        return metric

    def _labels(self, names: Labels, rollup: Rollup, extra: Labels) -> Labels:
        own = len(names) - len(extra)
        return (*(self._shown_as(name, getattr(rollup, name)) for name in names[:own]), *extra)

    def _shown_as(self, label: str, value: str | bool) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        value = value[:LONGEST_VALUE]
        shown = self._shown[label]
        if value not in shown:
            if len(shown) >= LABEL_VALUES:
                return OTHER
            shown.add(value)
        return value


class _Scrape(Collector):
    """The families of one scrape, as a registry takes them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _rungs(
    metric: CounterMetricFamily | GaugeMetricFamily, of: Callable[[Standing], int], rungs: Iterable[Standing]
) -> Metric:
    totals: defaultdict[Labels, int] = defaultdict(int)
    for rung in rungs:
        totals[rung.model, rung.upstream] += of(rung)  # as many as are configured
    for labels, total in totals.items():
        metric.add_metric(labels, total)
    return metric


def _without_hours(rollups: Iterable[Rollup]) -> list[Rollup]:
    """The same sums, told apart by nothing that labels no metric."""
    tally = Tally()
    tally.merge(msgspec.structs.replace(rollup, hour=0, key="", status=0) for rollup in rollups)
    return tally.rollups()


def _buckets(seen: Histogram, durations: Durations) -> Iterator[tuple[str, int]]:
    for power in range(durations.finest, durations.coarsest + 1):
        yield repr(2**power / 1e6), sum(count for bucket, count in seen.counts.items() if bucket < 4 * power)
    yield "+Inf", seen.count
