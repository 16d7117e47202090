"""Reconciliation: the ledger beside what a provider says that it sold, by model and UTC day, and why they differ."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal

import msgspec

from farthing.ledger.corrections import Settled, settle
from farthing.schema import CACHE_WRITE_METERS, HOUR, Entry, Rollup, Sums

DAY = 24 * HOUR
"""One UTC day in nanoseconds."""

Measure = Literal["requests", "tokens", "input", "output", "cache_read", "cache_write", "cost"]
"""What both sides count: `input` and `output` make up `tokens`; `cache_read` and `cache_write` are parts of `input`;
`cost` is in pico-dollars; `requests` are those that succeeded."""
JUDGED: tuple[Measure, ...] = ("tokens", "cost")
"""What both sides should agree on; the other measures help to find out why they do not."""

Amounts = dict[Measure, int]
Key = tuple[int, str]
"""A day and a model."""

Cause = Literal[
    "not_entered", "not_billed", "price", "estimated", "unpriced", "unanswered", "settled_next_day", "from_day_before",
    "forgotten",
]  # fmt: skip

_FINAL_DATE = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})$")


class Line(msgspec.Struct, frozen=True):
    """What a provider billed for one model on the UTC day that begins at `day` (Unix ns)."""

    day: int
    model: str
    amounts: Amounts


class Bill(msgspec.Struct, frozen=True):
    """What a provider, by its name in the ledger, says that it sold.

    `days` are those that it tells everything of, by measure; `more` says that some of its pages are not here.
    """

    provider: str
    lines: tuple[Line, ...]
    days: dict[Measure, frozenset[int]]
    more: bool = False


class Gap(msgspec.Struct, frozen=True):
    """One measure on both sides."""

    ours: int = 0
    billed: int = 0

    @property
    def difference(self) -> int:
        """How much more the ledger has than was billed."""
        return self.ours - self.billed

    @property
    def ratio(self) -> float | None:
        """The difference as a share of what was billed; `None` when nothing was."""
        return self.difference / self.billed if self.billed else None

    def beyond(self, tolerance: Fraction) -> bool:
        """Whether the difference is more than a share of what was billed."""
        return abs(self.difference) > tolerance * self.billed


Gaps = dict[Measure, Gap]


class Reason(msgspec.Struct, frozen=True):
    """Why a model and day may differ: how many attempts, their tokens, their known cost in pico-dollars."""

    cause: Cause
    attempts: int | None = None
    tokens: int | None = None
    cost: int | None = None


class Row(msgspec.Struct, frozen=True):
    """One model on one day, as far as the bill tells of it; `off` when it differs by more than the tolerance."""

    day: int
    model: str
    gaps: Gaps
    off: bool
    reasons: tuple[Reason, ...] = ()


class ModelRow(msgspec.Struct, frozen=True):
    """One model over all days compared, and which side has it."""

    model: str
    seen: Literal["both", "billed", "entered"]
    gaps: Gaps


class Days(msgspec.Struct, frozen=True):
    """How many days of a measure are compared, the first and last of them (Unix ns), and how many are not, and why.

    `unfinished` are not over, `before` the ledger began, `unbilled` are in the ledger and not in the bill.
    """

    compared: int
    first: int | None
    last: int | None
    unfinished: int
    before: int
    unbilled: int


class Reconciliation(msgspec.Struct, frozen=True):
    """The ledger beside a bill; `off` when tokens or dollars differ in all by more than `tolerance`, a share.

    `comparable` when both sides have a whole day in common. `simulated` attempts, which nobody bills, are left out.
    Rows are by day, models by what they differ by.
    """

    provider: str
    tolerance: float
    comparable: bool
    off: bool
    more: bool
    simulated: int
    days: dict[Measure, Days]
    totals: Gaps
    models: tuple[ModelRow, ...]
    rows: tuple[Row, ...]


def same_model(name: str) -> str:
    """The name that a model shares with its dated snapshots.

    >>> same_model("gpt-4o-2024-08-06"), same_model("claude-sonnet-4-20250514"), same_model("GPT-4o")
    ('gpt-4o', 'claude-sonnet-4', 'gpt-4o')
    """
    return _FINAL_DATE.sub("", name.lower())


def reconcile(bill: Bill, rollups: Iterable[Rollup], now: int, tolerance: Fraction) -> Reconciliation:
    """Compare a bill with the whole ledger's roll-ups, at `now` (Unix ns): the days that are over and on both sides."""
    ours, billed = defaultdict[Key, Amounts](dict), defaultdict[Key, Amounts](dict)
    began, simulated = now, 0
    for rollup in rollups:
        began = min(began, rollup.hour)
        if rollup.provider != bill.provider:
            continue
        if rollup.simulated:
            simulated += rollup.sums.attempts
            continue
        _add(ours[_day(rollup.hour), same_model(rollup.model)], _amounts(rollup.sums))
    for line in bill.lines:
        _add(billed[line.day, same_model(line.model)], line.amounts)
    entered = {day for day, _ in ours}
    window = range(_day(began), _day(now), DAY)
    common = {measure: days.intersection(window) for measure, days in bill.days.items()}
    rows = []
    for key in sorted({*ours, *billed}):
        gaps = {
            measure: Gap(ours[key].get(measure, 0), billed[key].get(measure, 0))
            for measure, days in common.items()
            if key[0] in days
        }
        gaps = {measure: gap for measure, gap in gaps.items() if gap.ours or gap.billed}
        if gaps:
            rows.append(Row(*key, gaps, _off(gaps, tolerance), tuple(_from_figures(gaps, tolerance))))
    totals = _sum(row.gaps for row in rows)
    return Reconciliation(
        provider=bill.provider,
        tolerance=float(tolerance),
        comparable=any(common.get(measure) for measure in JUDGED),
        off=_off(totals, tolerance),
        more=bill.more,
        simulated=simulated,
        days={measure: _days(days, common[measure], window, entered) for measure, days in bill.days.items()},
        totals=totals,
        models=_by_model(rows),
        rows=tuple(rows),
    )


def doubtful(found: Reconciliation) -> tuple[int, int] | None:
    """The time (Unix ns, from and before) whose entries can explain the rows that are off; `None` when none is."""
    days = [row.day for row in found.rows if row.off]
    return (min(days) - DAY, max(days) + DAY) if days else None


def explain(found: Reconciliation, entries: Iterable[Entry]) -> Reconciliation:
    """Add to the rows that are off what the entries of the `doubtful` time, by arrival, say about them."""
    reasons = defaultdict[Key, dict[Cause, Reason]](dict)
    kept = set()
    for settled in settle(entries):
        entry = settled.entry
        kept.add(_day(entry.at))
        if entry.provider == found.provider and entry.attempt and not entry.simulated:
            for cause, day in _causes(settled):
                known = reasons[day, same_model(entry.served or entry.model)]
                known[cause] = _added(known.get(cause, Reason(cause, 0, 0, 0)), settled)
    rows = []
    for row in found.rows:
        if row.off:
            said = tuple(reasons[row.day, row.model].values())
            if row.day not in kept and any(gap.ours for gap in row.gaps.values()):
                said = (Reason("forgotten"),)
            row = msgspec.structs.replace(row, reasons=row.reasons + said)  # noqa: PLW2901
        rows.append(row)
    return msgspec.structs.replace(found, rows=tuple(rows))


def _day(at: int) -> int:
    return at - at % DAY


def _amounts(sums: Sums) -> Amounts:
    usage = sums.usage
    return {
        "requests": sums.attempts - sums.failures,
        "tokens": usage.tokens,
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read,
        "cache_write": sum(getattr(usage, meter) for meter in CACHE_WRITE_METERS),
        "cost": sums.cost,
    }


def _add(into: Amounts, amounts: Amounts) -> None:
    for measure, amount in amounts.items():
        into[measure] = into.get(measure, 0) + amount


def _off(gaps: Gaps, tolerance: Fraction) -> bool:
    return any(gaps[measure].beyond(tolerance) for measure in JUDGED if measure in gaps)


def _from_figures(gaps: Gaps, tolerance: Fraction) -> Iterator[Reason]:
    """What the figures of both sides alone say about a difference."""
    if not _off(gaps, tolerance):
        return
    cost = gaps.get("cost", Gap())
    one_sided = not (cost.ours and cost.billed)
    told: tuple[Measure, ...] = ("requests", "tokens", *(("cost",) if one_sided else ()))
    surplus = {measure: gaps[measure].difference for measure in told if measure in gaps}
    causes: tuple[tuple[Cause, int], ...] = (("not_entered", -1), ("not_billed", 1))
    for cause, sign in causes:
        more = {measure: sign * amount for measure, amount in surplus.items() if sign * amount > 0}
        if more:
            yield Reason(cause, more.get("requests"), more.get("tokens"), more.get("cost"))
    if not surplus.get("tokens") and not one_sided and cost.beyond(tolerance):
        yield Reason("price", cost=abs(cost.difference))


def _causes(settled: Settled) -> Iterator[tuple[Cause, int]]:
    """What about an entry can make its day differ, and which day that is."""
    entry = settled.entry
    day, over = _day(entry.at), _day(entry.at + entry.latency * 1_000)
    if entry.usage_source in ("estimated", "counted"):
        yield "estimated", day
    if settled.cost is None:
        yield "unpriced", day
    if entry.usage is not None and (entry.error or entry.status >= 400):
        yield "unanswered", day
    if over != day:
        yield "settled_next_day", day
        yield "from_day_before", over


def _added(reason: Reason, settled: Settled) -> Reason:
    usage = settled.entry.usage
    return Reason(
        reason.cause,
        (reason.attempts or 0) + 1,
        (reason.tokens or 0) + (usage.tokens if usage else 0),
        (reason.cost or 0) + (settled.cost or 0),
    )


def _sum(each: Iterable[Gaps]) -> Gaps:
    total: Gaps = {}
    for gaps in each:
        for measure, gap in gaps.items():
            before = total.get(measure, Gap())
            total[measure] = Gap(before.ours + gap.ours, before.billed + gap.billed)
    return total


def _by_model(rows: Iterable[Row]) -> tuple[ModelRow, ...]:
    by_model: defaultdict[str, list[Gaps]] = defaultdict(list)
    for row in rows:
        by_model[row.model].append(row.gaps)
    models = [ModelRow(model, _seen(total), total) for model, gaps in by_model.items() for total in [_sum(gaps)]]
    nothing = Gap()
    models.sort(key=lambda each: [-abs(each.gaps.get(m, nothing).difference) for m in reversed(JUDGED)])
    return tuple(models)


def _seen(gaps: Gaps) -> Literal["both", "billed", "entered"]:
    if not any(gap.ours for gap in gaps.values()):
        return "billed"
    return "both" if any(gap.billed for gap in gaps.values()) else "entered"


def _days(billed: frozenset[int], common: frozenset[int], window: range, entered: set[int]) -> Days:
    return Days(
        compared=len(common),
        first=min(common, default=None),
        last=max(common, default=None),
        unfinished=sum(day >= window.stop for day in billed),
        before=sum(day < window.start for day in billed),
        unbilled=len(entered.intersection(window) - billed),
    )
