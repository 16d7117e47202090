"""Tally: adds entries up by hour and dimension, as they come."""

from collections import defaultdict
from collections.abc import Iterable
from math import log2
from typing import TypeVar

from farthing.schema import HOUR, METERS, Cell, Entry, Histogram, Rollup, Sums, Usage

FREQUENT_METERS = ("input", "cache_read", "output", "reasoning")
OTHER_METERS = tuple(meter for meter in METERS if meter not in FREQUENT_METERS)

Name = TypeVar("Name", str, int)


class Accumulator:
    """Sums that grow; `sums` reads them."""

    __slots__ = (
        "attempts", "cache_read", "calls", "cost", "errors", "estimated", "failures", "hits", "input", "latency",
        "latency_total", "list_cost", "misses", "others", "output", "overhead", "overhead_total", "reasoning", "saved",
        "ttft", "ttft_total", "unknown_usage", "unpriced",
    )  # fmt: skip

    def __init__(self) -> None:
        self.calls = self.attempts = self.errors = self.failures = self.hits = self.misses = 0
        self.unpriced = self.estimated = self.unknown_usage = self.cost = self.list_cost = 0
        self.input = self.cache_read = self.output = self.reasoning = 0
        self.latency_total = self.overhead_total = self.ttft_total = 0
        self.others: defaultdict[str, int] = defaultdict(int)
        self.saved: defaultdict[str, int] = defaultdict(int)
        self.latency: defaultdict[int, int] = defaultdict(int)
        self.overhead: defaultdict[int, int] = defaultdict(int)
        self.ttft: defaultdict[int, int] = defaultdict(int)

    def add(self, entry: Entry) -> None:
        """Add one entry; a correction adds its amounts and counts as neither a call nor an attempt."""
        if entry.cost is None:
            self.unpriced += 1
        else:
            self.cost += entry.cost
        if entry.list_cost is not None:
            self.list_cost += entry.list_cost
        for lever, amount in entry.saved:
            self.saved[lever] += amount
        usage = entry.usage
        if usage is not None and entry.attempt:
            self._add_usage(usage)
        if entry.corrects:
            self.unpriced -= first_price(entry)
            return
        failed = bool(entry.error) or entry.status >= 400
        if entry.attempt:
            self.attempts += 1
            self.failures += failed
            if entry.usage_source in ("estimated", "counted"):
                self.estimated += 1
            self.unknown_usage += len(entry.unknown_usage)
        if not entry.superseded:
            self._add_call(entry, failed)

    def _add_call(self, entry: Entry, failed: bool) -> None:
        self.calls += 1
        self.errors += failed
        cache = entry.cache
        if cache == "miss":
            self.misses += 1
        elif cache != "off":
            self.hits += 1
        latency, overhead, ttft = entry.latency, entry.overhead, entry.ttft
        self.latency_total += latency
        self.latency[int(log2(latency) * 4) if latency > 1 else 0] += 1
        if overhead:  # virtual time has none to measure
            self.overhead_total += overhead
            self.overhead[int(log2(overhead) * 4) if overhead > 1 else 0] += 1
        if ttft is not None:
            self.ttft_total += ttft
            self.ttft[int(log2(ttft) * 4) if ttft > 1 else 0] += 1

    def _add_usage(self, usage: Usage) -> None:
        self.input += usage.input
        self.cache_read += usage.cache_read
        self.output += usage.output
        self.reasoning += usage.reasoning
        if (
            usage.cache_write_5m or usage.cache_write_30m or usage.cache_write_1h or usage.cache_write_12h
            or usage.input_audio or usage.input_image or usage.input_video or usage.output_audio
            or usage.output_image or usage.rejected_prediction or usage.web_search or usage.web_fetch
        ):  # fmt: skip
            for meter in OTHER_METERS:
                self.others[meter] += getattr(usage, meter)

    def merge(self, sums: Sums) -> None:
        """Add what was summed elsewhere."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(sums, name))
        self._add_usage(sums.usage)
        _add_counts(self.saved, sums.saved)
        for name in DURATIONS:
            histogram = getattr(sums, name)
            _add_counts(getattr(self, name), histogram.counts)
            total = f"{name}_total"
            setattr(self, total, getattr(self, total) + histogram.total)

    def sums(self) -> Sums:
        """What was added so far."""
        return Sums(
            calls=self.calls,
            attempts=self.attempts,
            errors=self.errors,
            failures=self.failures,
            hits=self.hits,
            misses=self.misses,
            unpriced=self.unpriced,
            estimated=self.estimated,
            unknown_usage=self.unknown_usage,
            cost=self.cost,
            list_cost=self.list_cost,
            saved=dict(self.saved),
            usage=Usage(
                input=self.input,
                cache_read=self.cache_read,
                output=self.output,
                reasoning=self.reasoning,
                **self.others,
            ),
            latency=Histogram(dict(self.latency), self.latency_total),
            overhead=Histogram(dict(self.overhead), self.overhead_total),
            ttft=Histogram(dict(self.ttft), self.ttft_total),
        )


COUNTS = (
    "calls", "attempts", "errors", "failures", "hits", "misses", "unpriced", "estimated", "unknown_usage", "cost",
    "list_cost",
)  # fmt: skip
DURATIONS = ("latency", "overhead", "ttft")


def _add_counts(into: dict[Name, int], counts: dict[Name, int]) -> None:
    for name, count in counts.items():
        into[name] += count


def first_price(entry: Entry) -> bool:
    """Whether a correction prices an entry whose cost was unknown before."""
    return any(decision.lever == "rerate" and decision.facts.get("before", 0) is None for decision in entry.decisions)


OTHER = "other"
"""Stands for the values of a dimension beyond those that a tally has room for."""


class Tally:
    """Adds entries up by hour and dimension.

    One that lives as long as its process is not `hourly`, and has room for so many `cells`, so that it stops growing:
    beyond, new tenants, teams, keys, features and models are "other", which callers cannot make more of.

    >>> tally = Tally()
    >>> tally.add(Entry(id="a.1", group="a", attempt=1, at=0, endpoint="chat", model="m", cost=5))
    >>> [(rollup.model, rollup.sums.cost) for rollup in tally.rollups()]
    [('m', 5)]
    """

    __slots__ = ("_cells", "_room", "_width")

    def __init__(self, *, hourly: bool = True, cells: int | None = None) -> None:
        self._cells: dict[Cell, Accumulator] = {}
        self._width = HOUR if hourly else 2**63
        self._room = cells

    def add(self, entry: Entry) -> None:
        """Add one entry."""
        cell = (
            entry.at - entry.at % self._width, entry.tenant, entry.team, entry.key, entry.feature, entry.endpoint,
            entry.served or entry.model, entry.upstream, entry.provider, entry.cache, entry.status // 100,
            entry.simulated,
        )  # fmt: skip
        into = self._cells.get(cell)
        if into is None:
            into = self._new(cell)
        into.add(entry)

    def merge(self, rollups: Iterable[Rollup]) -> None:
        """Add what was summed elsewhere, by hour."""
        for rollup in rollups:
            cell = rollup.cell
            into = self._cells.get(cell)
            if into is None:
                into = self._new(cell)
            into.merge(rollup.sums)

    def rollups(self) -> list[Rollup]:
        """Every hour (0 when not hourly) and combination of dimensions seen, with its sums, by hour."""
        return [Rollup(*cell, sums=into.sums()) for cell, into in sorted(self._cells.items(), key=lambda item: item[0])]

    def totals(self) -> Sums:
        """The sum of everything added."""
        total = Accumulator()
        for into in self._cells.values():
            total.merge(into.sums())
        return total.sums()

    def _new(self, cell: Cell) -> Accumulator:
        if self._room is not None and len(self._cells) >= self._room:
            hour, _, _, _, _, endpoint, _, upstream, provider, cache, status, simulated = cell
            cell = (hour, OTHER, OTHER, OTHER, OTHER, endpoint, OTHER, upstream, provider, cache, status, simulated)
        return self._cells.setdefault(cell, Accumulator())
