"""Wording: how figures of a run are written for people; a figure that is not known is a dash."""

from farthing.compress.record import Report, Row
from farthing.evaluation.quality import Comparison, Quality

UNKNOWN = "-"
DASH = "\N{EN DASH}"
SHARES = ("accuracy", "micro-F1", "span F1", "recall@1")
"""Main metrics that are percentages; the others are correlations times 100, or have units of their own."""


def digits(value: float | None, count: int = 3, unit: str = "") -> str:
    """A figure to so many significant digits, thousands set apart.

    >>> digits(0.51234), digits(1137.4), digits(89.72, unit="MB"), digits(0.0), digits(None)
    ('0.512', '1,137', '89.7 MB', '0', '-')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return f"0 {unit}".rstrip()
    exponent = int(f"{value:.{count - 1}e}".partition("e")[2])
    return f"{value:,.{max(0, count - 1 - exponent)}f} {unit}".rstrip()


def parameters(count: int | None) -> str:
    """A number of parameters.

    >>> parameters(22_420_000), parameters(61_000), parameters(None)
    ('22.4 M', '61.0 k', '-')
    """
    if count is None:
        return UNKNOWN
    for size, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return digits(count / size, unit=prefix)
    return str(count)


def times(ratio: float | None) -> str:
    """A ratio.

    >>> times(56.31), times(1.0), times(123.4), times(None)
    ('56x', '1.0x', '123x', '-')
    """
    return UNKNOWN if ratio is None else f"{ratio:.{0 if ratio >= 20 else 1}f}x"


def share(value: float | None, places: int = 1) -> str:
    """A percentage.

    >>> share(93.25), share(None)
    ('93.2 %', '-')
    """
    return UNKNOWN if value is None else f"{value:.{places}f} %"


def points(value: float | None) -> str:
    """Points lost, or won: with a minus where there is a loss.

    >>> points(0.29), points(-0.1), points(0.0), points(None)
    ('-0.29', '+0.10', '0.00', '-')
    """
    if value is None:
        return UNKNOWN
    return f"{-value:+.2f}" if abs(value) >= 0.005 else "0.00"


def value_of(quality: Quality | None) -> str:
    """The main metric.

    >>> value_of(Quality("accuracy", 93.246, 92.3, 94.1, 3080)), value_of(Quality("Spearman", 81.2, 80, 82, 9))
    ('93.25 %', '81.20')
    """
    return UNKNOWN if quality is None else f"{quality.value:.2f}{' %' if quality.metric in SHARES else ''}"


def interval_of(quality: Quality | None) -> str:
    """The 95 % interval of the main metric."""
    return UNKNOWN if quality is None else f"{quality.low:.1f}{DASH}{quality.high:.1f}"


def probability(p: float | None) -> str:
    """A p-value.

    >>> probability(0.043), probability(1e-9), probability(1.0), probability(None)
    ('0.043', '<0.001', '1.000', '-')
    """
    if p is None:
        return UNKNOWN
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def dollars(usd: float | None) -> str:
    """An amount that may be very small.

    >>> dollars(12_345.6), dollars(876.2), dollars(0.0000123), dollars(0.5), dollars(0.0), dollars(None)
    ('$12,300', '$876', '$0.0000123', '$0.50', '$0', '-')
    """
    if usd is None:
        return UNKNOWN
    amount = abs(usd)
    if amount >= 100:
        step = 10 ** (len(str(int(amount))) - 3)
        text = f"{round(amount / step) * step:,}"
    else:
        text = f"{amount:.2f}" if amount >= 0.1 else digits(amount)
    return f"{'-' if usd < 0 else ''}${text}"


def duration(seconds: float) -> str:
    """A duration.

    >>> duration(42), duration(1620), duration(9000)
    ('42 s', '27 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plural(number: int, noun: str) -> str:
    """A number of things.

    >>> plural(1, "machine"), plural(1200, "text")
    ('1 machine', '1,200 texts')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def smaller(row: Row, teacher: Row) -> float | None:
    """How many times smaller on disk than the teacher."""
    return teacher.mb / row.mb if row.mb and teacher.mb else None


def faster(row: Row, teacher: Row) -> float | None:
    """How many times less CPU time one text takes than with the teacher."""
    return teacher.cpu_ms / row.cpu_ms if row.cpu_ms and teacher.cpu_ms else None


def headline(report: Report) -> str:
    """The outcome in one sentence."""
    final, teacher = report.final, report.teacher
    if final is teacher:
        return "No stage kept the floor, so what is served is the teacher itself."
    ratios = [
        f"{times(ratio)} {word}"
        for ratio, word in ((smaller(final, teacher), "smaller"), (faster(final, teacher), "faster"))
        if ratio is not None
    ]
    done = f"{final.name} is {' and '.join(ratios)} than the teacher" if ratios else f"{final.name} is the result"
    return f"{done}{_price(final, final.against_teacher, teacher)}."


def _price(final: Row, change: Comparison | None, teacher: Row) -> str:
    if change is None:
        return ""
    span = f" ({value_of(teacher.quality)} to {value_of(final.quality)})" if teacher.quality and final.quality else ""
    if change.lost >= 0.005:
        return f", and loses {change.lost:.2f} points of {change.metric}{span}"
    return f", and loses no {change.metric}{span}"
