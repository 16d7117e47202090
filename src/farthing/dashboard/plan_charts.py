"""The geometry of the plots of a plan. Values in, places out: shares of a frame in percent, from its lower left corner.

Frames are stretched to the width they get, so only shapes are drawn in them; words are set around them as text.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from farthing.dashboard.plan_views import Line, Point, Swing
from farthing.economics.prediction import Estimate

MOST_TICKS = 6
MOST_COLOURS = 6
MARGIN = 0.06
LEAST_PART = 0.1
"""Percent of an amount below which a part of it is not drawn."""


class Tick(msgspec.Struct, frozen=True):
    """A mark on an axis: how far along it, in percent, and what it says."""

    at: float
    label: str


class Axis(msgspec.Struct, frozen=True):
    """A scale from `low` to `high`, logarithmic or linear."""

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[Tick, ...] = ()

    def place(self, value: float) -> float:
        """Where a value lies, in percent, kept within the frame."""
        scale = math.log if self.logarithmic else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(100 * min(max(share, 0.0), 1.0), 3)


class Dot(msgspec.Struct, frozen=True):
    """One point of a scatter plot."""

    x: float
    y: float
    colour: int
    kind: str
    title: str


class Stroke(msgspec.Struct, frozen=True):
    """One line, and the band around it: SVG point lists in a frame of 100 by 100 with its origin at the upper left."""

    name: str
    colour: int
    points: str
    band: str
    dashed: bool


class Plot(msgspec.Struct, frozen=True):
    """A plot with two axes. `across` and `up` are where a limit is drawn, `here` where things are, if there is one."""

    horizontal: Axis
    vertical: Axis
    dots: tuple[Dot, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    keys: tuple[tuple[str, int], ...] = ()
    across: float | None = None
    up: float | None = None
    here: float | None = None


class Whisker(msgspec.Struct, frozen=True):
    """An estimate on a scale that a column shares, in percent: where it begins, where it ends, where its value is."""

    start: float
    width: float
    value: float


class Bar(msgspec.Struct, frozen=True):
    """One row of bars, in percent of the row: where it begins, how wide it is, and what it says."""

    name: str
    kind: str
    start: float
    width: float
    label: str
    note: str = ""


def axis(
    values: Iterable[float], label: Callable[[float], str], logarithmic: bool = True, from_zero: bool = False
) -> Axis:
    """A scale that holds some values with a margin, and round ticks on it. Logarithmic scales need positive values."""
    known = list(values)
    low, high = min(known), max(known)
    if logarithmic:
        spread = max((high / low) ** MARGIN, 1.12)
        low, high = low / spread, high * spread
        marks = _logarithmic_marks(low, high)
    else:
        low = 0.0 if from_zero else low
        high = (high + MARGIN * (high - low)) if high > low else (low + (abs(low) or 1.0))
        marks = _linear_marks(low, high)
    bare = Axis(low, high, logarithmic)
    return Axis(low, high, logarithmic, tuple(Tick(bare.place(mark), _short(label(mark))) for mark in marks))


def _short(label: str) -> str:
    """A round figure without the digits that would say how exact it is.

    >>> _short("20.0 ms"), _short("$1.50"), _short("$0.200"), _short("1.00 G"), _short("0 us")
    ('20 ms', '$1.50', '$0.20', '1 G', '0')
    """
    number, space, unit = label.partition(" ")
    if number.strip("$") == "0":
        return "0"
    if "." in number:
        number = number.rstrip("0")
        whole, _, places = number.partition(".")
        number = whole if not places else f"{number}0" if whole.startswith("$") and len(places) == 1 else number
    return f"{number}{space}{unit}"


def _logarithmic_marks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        marks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(marks) <= MOST_TICKS:
            return marks
    return marks[:: math.ceil(len(marks) / MOST_TICKS)]


def _linear_marks(low: float, high: float) -> list[float]:
    rough = (high - low) / (MOST_TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * size for size in (1, 2, 2.5, 5, 10) if unit * size >= rough)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]


def pareto(
    points: Sequence[Point], limit_s: float | None, money: Callable[[float], str], time: Callable[[float], str]
) -> Plot:
    """Cost against time per output token: one colour per hardware, the frontier joined, the choice ringed."""
    order = {"best": 0, "frontier": 1, "other": 2}
    names = _coloured(p.hardware for p in sorted(points, key=lambda p: (order[p.kind], p.usd_per_million)))
    times = [point.tpot_s for point in points] + ([limit_s] if limit_s else [])
    horizontal = axis(times, time)
    vertical = axis([point.usd_per_million for point in points], money)
    front = sorted((point for point in points if point.kind != "other"), key=lambda point: point.tpot_s)
    stairs = [(point.tpot_s, point.usd_per_million) for point in front]
    return Plot(
        horizontal,
        vertical,
        tuple(
            Dot(
                horizontal.place(point.tpot_s),
                100 - vertical.place(point.usd_per_million),
                names.get(point.hardware, MOST_COLOURS),
                point.kind,
                point.label,
            )
            for point in sorted(points, key=lambda point: -order[point.kind])
        ),
        (Stroke("frontier", MOST_COLOURS, _path(stairs, horizontal, vertical), "", False),),
        tuple(names.items()) + ((("other hardware", MOST_COLOURS),) if _more(points, names) else ()),
        up=horizontal.place(limit_s) if limit_s else None,
    )


def _more(points: Sequence[Point], names: dict[str, int]) -> bool:
    return any(point.hardware not in names for point in points)


def _coloured(names: Iterable[str]) -> dict[str, int]:
    """The first few different names, each with a colour of its own."""
    return {name: colour for colour, name in enumerate(list(dict.fromkeys(names))[:MOST_COLOURS])}


def lines(
    drawn: Sequence[Line],
    across: Callable[[float], str],
    up: Callable[[float], str],
    limit: float | None = None,
    logarithmic: tuple[bool, bool] = (True, True),
    here: float | None = None,
) -> Plot:
    """Several lines on common axes, with their intervals as bands, and a level that must not be passed."""
    horizontal = axis([x for line in drawn for x, _ in line.points], across, logarithmic[0])
    heights = [bound for line in drawn for _, y in line.points for bound in (y.low, y.high)]
    vertical = axis(heights + ([limit] if limit else []), up, logarithmic[1], from_zero=True)
    strokes = []
    for colour, line in enumerate(drawn):
        middle = [(x, y.value) for x, y in line.points]
        above, below = [(x, y.high) for x, y in line.points], [(x, y.low) for x, y in line.points]
        band = _path([*above, *reversed(below)], horizontal, vertical) if above != below else ""
        strokes.append(Stroke(line.name, colour, _path(middle, horizontal, vertical), band, line.dashed))
    return Plot(
        horizontal,
        vertical,
        strokes=tuple(strokes),
        keys=tuple((line.name, colour) for colour, line in enumerate(drawn)),
        across=100 - vertical.place(limit) if limit else None,
        here=None if here is None else horizontal.place(here),
    )


def _path(points: Iterable[tuple[float, float]], horizontal: Axis, vertical: Axis) -> str:
    return " ".join(f"{horizontal.place(x):g},{round(100 - vertical.place(y), 3):g}" for x, y in points)


def whiskers(estimates: Sequence[Estimate]) -> tuple[Whisker, ...]:
    """Estimates on one logarithmic scale."""
    scale = Axis(min(one.low for one in estimates) / 1.05, max(one.high for one in estimates) * 1.05, logarithmic=True)
    return tuple(
        Whisker(
            scale.place(one.low),
            round(max(scale.place(one.high) - scale.place(one.low), 0.8), 3),
            scale.place(one.value),
        )
        for one in estimates
    )


def falls(parts: Sequence[tuple[str, float]], money: Callable[[float], str], whole: str) -> tuple[Bar, ...]:
    """Parts of an amount, each beginning where the last one ended, and their sum."""
    total = sum(amount for _, amount in parts)
    bars = []
    reached = 0.0
    for name, amount in parts:
        width = 100 * amount / total
        if width < LEAST_PART:
            continue
        kind = "idle" if name.startswith("idle") else "part"
        bars.append(Bar(name, kind, round(reached, 3), round(width, 3), money(amount), f"{width:.0f} %"))
        reached += width
    return (*bars, Bar(whole, "total", 0.0, 100.0, money(total)))


def tornado(swings: Sequence[Swing], base: float, money: Callable[[float], str]) -> tuple[tuple[Swing, Bar], ...]:
    """How far an amount moves with each assumption, the largest first; all on one linear scale."""
    scale = _scale(swings, base)
    rows = []
    for swing in sorted(swings, key=lambda swing: abs(swing.high - swing.low), reverse=True):
        left, right = sorted((scale.place(swing.low), scale.place(swing.high)))
        label = f"{money(min(swing.low, swing.high))} to {money(max(swing.low, swing.high))}"
        rows.append((swing, Bar(swing.name, "swing", left, round(max(right - left, 0.5), 3), label, swing.span)))
    return tuple(rows)


def middle(swings: Sequence[Swing], base: float) -> float:
    """Where the amount itself lies on the scale of `tornado`, in percent."""
    return _scale(swings, base).place(base)


def _scale(swings: Sequence[Swing], base: float) -> Axis:
    edges = [base, *(end for swing in swings for end in (swing.low, swing.high))]
    low, high = min(edges), max(edges)
    return Axis(low, high if high > low else 2.0 * low, logarithmic=False)
