"""The charts of a run, each one SVG that stands alone; empty where there is nothing to draw."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from farthing.compress.record import Report, Row, Trial
from farthing.compress.reporting import wording
from farthing.compress.reporting.drawing import (
    CONTROL,
    OTHER,
    SERVED,
    STAGE,
    Frame,
    Scale,
    axes,
    dot,
    line,
    shortened,
    svg,
    words,
)
from farthing.evaluation.assessing import LEAST
from farthing.evaluation.quality import Quality

MOST_LABELS = 12
"""Labels whose drop is drawn, those that lost most."""

_PLOT = Frame(720, 420, 62, 24, 40, 52)
_SQUARE = Frame(420, 420, 52, 18, 40, 52)
_BAR, _NAMES, _FIGURES = 30, 170, 150  # height of a bar with its gap, room for names and for figures, in units


_FEWEST = 5  # answers below which a bin says next to nothing, and is not joined to the others


class Placed(NamedTuple):
    """A row with all that a plot of cost against quality needs."""

    row: Row
    cpu_ms: float
    quality: Quality
    colour: int


def pareto_svg(report: Report) -> str:
    """Quality against CPU time of a text: the stages from the teacher down, the controls, and what a search tried."""
    placed = _placed(report)
    if not placed:
        return ""
    trials = [trial for trial in report.trials if trial.cpu_ms > 0]
    speeds = [one.cpu_ms for one in placed] + [trial.cpu_ms for trial in trials]
    heights = [end for one in placed for end in (one.quality.low, one.quality.high)]
    heights += [trial.value for trial in trials]
    room = max(max(heights) - min(heights), 1.0) * 0.06
    right, bottom = _PLOT.width - _PLOT.right, _PLOT.height - _PLOT.bottom
    across = Scale(min(speeds) / 1.5, max(speeds) * 1.5, _PLOT.left, right, logarithmic=True)
    up = Scale(min(heights) - room, max(heights) + room, bottom, _PLOT.top)
    metric = placed[0].quality.metric
    parts = axes(_PLOT, across, up, ("CPU time of one text, ms", metric), (_plain, _plain))
    parts += [_trial(trial, across, up, metric) for trial in trials]
    line_of = [one for one in placed if one.colour != CONTROL and one.row.verdict != "broke the floor"]
    path = [(across.place(one.cpu_ms), up.place(one.quality.value)) for one in line_of]
    parts.append(f'<polyline class="path c{OTHER}" points="{" ".join(f"{x:g},{y:g}" for x, y in path)}"/>')
    taken: list[tuple[float, float]] = []
    for one in placed:
        parts += _row_dot(one, across, up, taken)
    return svg(_PLOT, f"{metric} against CPU time of one text; the upper left is better", parts)


def size_svg(report: Report) -> str:
    """How large each stage and control is on disk."""
    return _bars(report, "MB on disk", lambda row: row.mb, "MB", wording.smaller, "smaller")


def latency_svg(report: Report) -> str:
    """How long the processor takes for one text alone, on one thread."""
    return _bars(report, "CPU time of one text", lambda row: row.cpu_ms, "ms", wording.faster, "faster")


def reliability_svg(report: Report) -> str:
    """How often answers of a confidence are right: of the teacher and of what is served."""
    frame, bottom = _SQUARE, _SQUARE.height - _SQUARE.bottom
    shown = [(report.final, SERVED)] if report.final is report.teacher else [
        (report.teacher, OTHER), (report.final, SERVED),
    ]  # fmt: skip
    known = [(row, colour, row.quality) for row, colour in shown if row.quality and row.quality.reliability]
    if not known:
        return ""
    across = Scale(0, 100, frame.left, frame.width - frame.right)
    up = Scale(0, 100, bottom, frame.top)
    parts = axes(frame, across, up, ("confidence, %", "right, %"), (_plain, _plain))
    parts.append(line(across.start, up.start, across.end, up.end, "ideal"))
    for number, (row, colour, quality) in enumerate(known):
        bins = quality.reliability
        whole = sum(one.n for one in bins)
        places = [(across.place(100 * one.confidence), up.place(100 * one.right)) for one in bins]
        joined = [f"{x:g},{y:g}" for (x, y), one in zip(places, bins, strict=True) if one.n >= _FEWEST]
        parts.append(f'<polyline class="c{colour}" points="{" ".join(joined)}"/>')
        for (x, y), one in zip(places, bins, strict=True):
            told = (
                f"{row.name}: {one.n:,} answers, {100 * one.confidence:.1f} % confident, {100 * one.right:.1f} % right"
            )
            parts.append(dot(x, y, 3 + 9 * (one.n / whole) ** 0.5, colour, told, "faint"))
            parts.append(dot(x, y, 2, colour, told))
        y = bottom - 30 + 18 * number
        error = "" if quality.ece is None else f", ECE {100 * quality.ece:.1f} %"
        parts += [
            dot(frame.left + 150, y - 4, 4, colour, row.name),
            words(frame.left + 160, y, f"{shortened(row.name, 18)}{error}"),
        ]
    return svg(frame, "Share of right answers against confidence; on the diagonal both are the same", parts)


def drops_svg(report: Report) -> str:
    """Recall of the labels that lost most, before and after; empty when none lost."""
    lost = drops(report)
    if not lost:
        return ""
    frame = Frame(720, 64 + 24 * len(lost), 220, 76, 34, 30)
    low = min(after for _, _, _, after in lost)
    across = Scale(max(0.0, 10 * (low // 10) - 5), 100.0, frame.left, frame.width - frame.right)
    bottom = frame.height - frame.bottom
    parts = []
    for value in across.ticks():
        x = across.place(value)
        parts += [line(x, frame.top - 6, x, bottom), words(x, bottom + 18, f"{value:g} %", "middle")]
    parts += [
        dot(frame.left + 4, 13, 4, OTHER, "teacher", "hollow"), words(frame.left + 14, 17, "teacher"),
        dot(frame.left + 84, 13, 5, SERVED, "served"), words(frame.left + 95, 17, shortened(report.final.name, 40)),
    ]  # fmt: skip
    for number, (label, n, before, after) in enumerate(lost):
        y = frame.top + 12 + 24 * number
        was, now = across.place(before), across.place(after)
        told = f"{label}: {before:.1f} % to {after:.1f} % of {n:,} texts"
        parts += [
            words(frame.left - 12, y + 4, shortened(label, 27), "end", "strong"),
            line(was, y, now, y, f"fall c{SERVED}"),
            dot(was, y, 4, OTHER, told, "hollow"),
            dot(now, y, 5, SERVED, told),
            words(frame.width - 8, y + 4, f"-{before - after:.1f}", "end"),
        ]
    return svg(frame, "Recall of the labels that lost most, with the teacher and with what is served", parts)


def drops(report: Report) -> list[tuple[str, int, float, float]]:
    """Labels that lost recall, the worst first: label, texts, recall in percent before and after."""
    before, after = report.teacher.quality, report.final.quality
    if before is None or after is None:
        return []
    was = {recall.label: recall for recall in before.recalls}
    lost = [
        (now.label, now.n, then.value, now.value)
        for now in after.recalls
        if (then := was.get(now.label)) and then.value is not None and now.value is not None
        if now.n >= LEAST and now.value < then.value
    ]
    return sorted(lost, key=lambda one: (one[3] - one[2], one[0]))[:MOST_LABELS]


def _plain(value: float) -> str:
    return f"{value:g}"


def _placed(report: Report) -> list[Placed]:
    found = []
    for row in (*report.rows, *report.controls):
        colour = CONTROL if row in report.controls else SERVED if row is report.final else STAGE
        if row.quality and row.cpu_ms:
            found.append(Placed(row, row.cpu_ms, row.quality, colour))
    return found


def _row_dot(one: Placed, across: Scale, up: Scale, taken: list[tuple[float, float]]) -> list[str]:
    x, y = across.place(one.cpu_ms), up.place(one.quality.value)
    told = (
        f"{one.row.name}: {wording.value_of(one.quality)} ({wording.interval_of(one.quality)}), "
        f"{wording.digits(one.cpu_ms)} ms, {wording.digits(one.row.mb)} MB"
    )
    parts = [line(x, up.place(one.quality.low), x, up.place(one.quality.high), f"span c{one.colour}")]
    parts.append(dot(x, y, 6, one.colour, told, "hollow" if one.colour == CONTROL else ""))
    if one.colour == SERVED:
        parts.append(dot(x, y, 10, one.colour, told, "ring"))
    # To the right of the dot unless that would leave the plot; a line lower while another name is there.
    beside = 14 if x < across.start + 0.72 * (across.end - across.start) else -14
    line_y = y + 4
    while any(abs(other_x - x) < 150 and abs(other_y - line_y) < 15 for other_x, other_y in taken):
        line_y += 15
    taken.append((x, line_y))
    parts.append(words(x + beside, line_y, shortened(one.row.name, 34), "start" if beside > 0 else "end", "strong"))
    return parts


def _trial(trial: Trial, across: Scale, up: Scale, metric: str) -> str:
    cost = f"{wording.digits(trial.cpu_ms)} ms, {wording.digits(trial.mb)} MB"
    told = f"tried: {trial.name}: {trial.value:.2f} {metric}, {cost}"
    return dot(across.place(trial.cpu_ms), up.place(trial.value), 4, OTHER, told, "" if trial.chosen else "faint")


def _bars(
    report: Report,
    name: str,
    amount: Callable[[Row], float | None],
    unit: str,
    ratio: Callable[[Row, Row], float | None],
    word: str,
) -> str:
    rows: Sequence[Row] = [row for row in (*report.rows, *report.controls) if amount(row)]
    if not rows:
        return ""
    frame = Frame(560, 34 + _BAR * len(rows), _NAMES, _FIGURES, 30, 4)
    most = max(amount(row) or 0.0 for row in rows)
    scale = Scale(0.0, most, frame.left, frame.width - frame.right)
    parts = [words(8, 16, f"{name}, {unit}" if unit not in name else name)]
    for number, row in enumerate(rows):
        value, y = amount(row) or 0.0, frame.top + _BAR * number
        colour = CONTROL if row in report.controls else SERVED if row is report.final else STAGE
        times = None if row is report.teacher else ratio(row, report.teacher)
        figure = f"{wording.digits(value)} {unit}" + (f", {wording.times(times)} {word}" if times else "")
        wide = max(scale.place(value) - frame.left, 2)
        parts += [
            words(frame.left - 10, y + 15, shortened(row.name, 26), "end", "strong" if colour == SERVED else ""),
            f'<rect class="c{colour}" x="{frame.left}" y="{y}" width="{wide:g}" height="20" rx="2"/>',
            words(frame.left + wide + 8, y + 15, figure, kind="strong" if colour == SERVED else ""),
        ]
    return svg(frame, f"{name} of each stage", parts)
