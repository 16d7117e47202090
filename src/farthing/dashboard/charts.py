"""The geometry of the charts, in whole units of their view boxes. Values in, values out.

Every chart is stretched to the width it gets, so shapes are drawn here and words are set around them as text.
"""

from collections.abc import Sequence

import msgspec

from farthing.dashboard.views import CallLine, Money, Saving, Series, Summary

WIDTH = 1000
HEIGHT = 400
GAP = 6
TICKS = 4
ROUND = (40, 60, 80, 100, 120, 160, 200, 240, 320, 400)


class Block(msgspec.Struct, frozen=True):
    """One model's part of one bar."""

    model: str
    colour: int
    cost: Money
    y: int
    height: int


class Bar(msgspec.Struct, frozen=True):
    """One step of the series: its blocks stand on one another, the dearest model at the bottom."""

    start: str
    total: Money
    calls: int
    x: int
    width: int
    blocks: tuple[Block, ...]


class Key(msgspec.Struct, frozen=True):
    """One entry of a legend."""

    model: str
    colour: int
    cost: Money


class Chart(msgspec.Struct, frozen=True):
    """Cost over time, stacked by model; `ticks` are evenly spaced from zero, `rules` their heights.

    `marks` are the instants under the axis: where each quarter of it begins.
    """

    bars: tuple[Bar, ...]
    keys: tuple[Key, ...]
    ticks: tuple[Money, ...]
    rules: tuple[int, ...]
    marks: tuple[str, ...]


class Fall(msgspec.Struct, frozen=True):
    """One row of the waterfall: a bar from `x` on, of one `kind` (list, less, more, unexplained or paid)."""

    name: str
    kind: str
    amount: Money
    x: int
    width: int


class Stretch(msgspec.Struct, frozen=True):
    """One part of a call's time."""

    name: str
    kind: str
    microseconds: int
    x: int
    width: int


def chart(series: Series) -> Chart:
    """The stacked bars of a series."""
    totals = [sum(track.costs[step].pico for track in series.tracks) for step in range(len(series.starts))]
    top = ceiling(max(totals, default=0))
    return Chart(
        bars=tuple(_bar(series, step, total, top) for step, total in enumerate(totals)),
        keys=tuple(
            Key(track.model, colour, Money.of(sum(cost.pico for cost in track.costs)))
            for colour, track in enumerate(series.tracks)
            if any(cost.pico for cost in track.costs)
        ),
        ticks=tuple(Money.of(top * tick // TICKS) for tick in range(TICKS + 1)),
        rules=tuple(HEIGHT - HEIGHT * tick // TICKS for tick in range(TICKS + 1)),
        marks=tuple(series.starts[len(series.starts) * quarter // 4] for quarter in range(4)),
    )


def ceiling(amount: int) -> int:
    """The least round amount that is no smaller, of which a quarter is round too.

    >>> ceiling(0), ceiling(47), ceiling(1_234), ceiling(8_001)
    (40, 60, 1600, 10000)
    """
    unit = 1
    while unit * ROUND[-1] < amount:
        unit *= 10
    return next(top * unit for top in ROUND if top * unit >= amount)


def _bar(series: Series, step: int, total: int, top: int) -> Bar:
    left, right = (WIDTH * edge // len(series.starts) for edge in (step, step + 1))
    blocks = []
    reached = drawn = 0
    for colour, track in enumerate(series.tracks):
        cost = track.costs[step]
        reached += cost.pico
        level = HEIGHT * max(0, reached) // top
        if level > drawn:
            blocks.append(Block(track.model, colour, cost, HEIGHT - level, level - drawn))
            drawn = level
    return Bar(
        start=series.starts[step],
        total=Money.of(total),
        calls=sum(track.calls[step] for track in series.tracks),
        x=left + GAP // 2,
        width=right - left - GAP,
        blocks=tuple(blocks),
    )


def waterfall(summary: Summary) -> tuple[Fall, ...]:
    """From what the calls would have cost, lever by lever, to what was paid."""
    return _falls(summary.list_cost.pico, summary.levers, summary.cost.pico)


def fall_of(call: CallLine, savings: Sequence[Saving]) -> tuple[Fall, ...]:
    """The waterfall of one call; none where a price is unknown."""
    if call.list_cost is None or call.cost is None:
        return ()
    return _falls(call.list_cost.pico, savings, call.cost.pico)


def _falls(listed: int, savings: Sequence[Saving], paid: int) -> tuple[Fall, ...]:
    """What list price and savings do not explain (entries with a price on one side only) gets a row of its own."""
    steps = [(saving.lever, -saving.saved.pico) for saving in savings if saving.saved.pico]
    rest = paid - listed - sum(change for _, change in steps)
    if rest:
        steps.append(("", rest))
    levels = [listed]
    for _, change in steps:
        levels.append(levels[-1] + change)
    widest = max(1, paid, *levels)
    rows = [_fall("list price", "list", listed, 0, listed, widest)]
    for (name, change), level in zip(steps, levels, strict=False):
        kind = "unexplained" if not name else "less" if change < 0 else "more"
        rows.append(_fall(name, kind, change, min(level, level + change), max(level, level + change), widest))
    return (*rows, _fall("paid", "paid", paid, 0, paid, widest))


def _fall(name: str, kind: str, amount: int, start: int, end: int, widest: int) -> Fall:
    x = WIDTH * max(0, start) // widest
    return Fall(name, kind, Money.of(amount), x, max(2, WIDTH * max(0, end) // widest - x) if amount else 0)


def timeline(call: CallLine) -> tuple[Stretch, ...]:
    """Where a call's time went: in the gateway, waiting for the first byte, and receiving the rest."""
    whole = call.latency_us
    if not whole:
        return ()
    ours = min(call.overhead_us, whole)
    theirs = whole - ours
    waiting = theirs if call.ttft_us is None else min(theirs, max(0, call.ttft_us - ours))
    parts = (
        ("in the gateway", "ours", ours),
        ("waiting for the first byte", "waiting", waiting),
        ("receiving the answer", "theirs", theirs - waiting),
    )
    stretches = []
    x = 0
    for name, kind, took in parts:
        if took:
            width = max(2, WIDTH * took // whole)
            stretches.append(Stretch(name, kind, took, x, width))
            x += width
    return tuple(stretches)


def along(ratio: float) -> int:
    """How far along a bar a share is, in units of `WIDTH`."""
    return int(WIDTH * min(max(ratio, 0.0), 1.0))


def proportion(part: Money, whole: Money) -> int:
    """How long a bar is that shows a part of a whole, in units of `WIDTH`."""
    return WIDTH * max(0, part.pico) // whole.pico if whole.pico > 0 else 0
