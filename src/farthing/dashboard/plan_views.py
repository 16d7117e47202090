"""What a report on a plan says, as plain records: the words and figures of one page."""

import msgspec

from farthing.economics.prediction import Estimate


class Choice(msgspec.Struct, frozen=True):
    """The cheapest way of serving on one kind of hardware. Times are at the percentile of the question."""

    hardware: str
    setup: str
    """Precision, parallelism and batch in words."""
    replicas: int
    devices: int
    usd_per_h: float
    usd_per_million: Estimate
    """Per million output tokens."""
    ttft_s: Estimate
    tpot_s: Estimate
    utilisation: float
    price: str
    """Which price it is: on demand or spot, of whom, of what date."""
    extrapolated: tuple[str, ...] = ()


class Exclusion(msgspec.Struct, frozen=True):
    """Hardware that does not serve, and what it lacks."""

    hardware: str
    reason: str


class Point(msgspec.Struct, frozen=True):
    """One configuration of the scatter plot; `kind` is "best", "frontier" or "other"."""

    hardware: str
    label: str
    usd_per_million: float
    tpot_s: float
    kind: str


class Line(msgspec.Struct, frozen=True):
    """A line through points (x, y), y with its interval; the interval of a fact is the fact itself."""

    name: str
    points: tuple[tuple[float, Estimate], ...]
    dashed: bool = False


class Swing(msgspec.Struct, frozen=True):
    """What an amount becomes at either end of an assumption; `span` says in words which ends."""

    name: str
    span: str
    low: float
    high: float


class Fact(msgspec.Struct, frozen=True):
    """Something assumed, where it is from, and of what date."""

    what: str
    value: str
    source: str
    date: str = ""


class BreakEven(msgspec.Struct, frozen=True):
    """Dollars per day against output tokens per day, for an API and for machines of one's own.

    `crossing` is where they meet; `None` where they do not.
    """

    lines: tuple[Line, ...]
    crossing: float | None
    says: str


class Report(msgspec.Struct, frozen=True):
    """The whole page. `parts` are dollars per million output tokens, and sum to the cost of the first choice."""

    title: str
    answer: str
    asked: tuple[tuple[str, str], ...]
    choices: tuple[Choice, ...]
    excluded: tuple[Exclusion, ...]
    points: tuple[Point, ...]
    parts: tuple[tuple[str, float], ...]
    load_ttft: Line
    load_tpot: Line
    load_planned: float
    """The load that was asked for, in the unit of both lines."""
    swings: tuple[Swing, ...]
    facts: tuple[Fact, ...]
    percentile: float
    ttft_limit_s: float | None = None
    tpot_limit_s: float | None = None
    break_even: BreakEven | None = None
    notices: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    """How to run it: what each text is, and the text."""
    date: str = ""
