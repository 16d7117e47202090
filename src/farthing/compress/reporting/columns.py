"""The table of a run: a row per stage, then the controls; words that whoever renders it sets in columns."""

from typing import NamedTuple

from farthing.compress.record import Report, Row
from farthing.compress.reporting import wording


class Table(NamedTuple):
    """Heads and rows of words, the first column to the left; `notes` are sentences that belong below."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def table(report: Report) -> Table:
    """What every stage and control is, costs and loses, and whether the targets are met."""
    quality = report.final.quality or report.teacher.quality
    metric = quality.metric if quality else "quality"
    heads = (
        "", "params", "MB", "smaller", "CPU ms", "p95", "faster", "texts/CPU-s", metric, "95 %", "change", "at worst",
        "p",
    )  # fmt: skip
    rows = [_row(row, report.teacher) for row in report.rows]
    rows += [_row(row, report.teacher, f"* {row.name}") for row in report.controls]
    return Table(heads, tuple(rows), tuple(_notes(report)))


def _row(row: Row, teacher: Row, name: str = "") -> tuple[str, ...]:
    change = row.against_teacher if row is not teacher else None
    return (
        name or (f"{row.name} ({row.verdict})" if row.verdict not in ("", "kept") else row.name),
        wording.parameters(row.parameters),
        wording.digits(row.mb),
        wording.times(wording.smaller(row, teacher)),
        wording.digits(row.cpu_ms),
        wording.digits(row.cpu_p95_ms),
        wording.times(wording.faster(row, teacher)),
        wording.digits(row.texts_per_cpu_s),
        wording.value_of(row.quality),
        wording.interval_of(row.quality),
        wording.points(change.lost if change else None),
        wording.points(change.bound if change else None),
        wording.probability(change.p if change else None),
    )


def _notes(report: Report) -> list[str]:
    quality = report.final.quality or report.teacher.quality
    notes = [wording.headline(report)]
    if quality:
        kind = "test texts, looked at once" if report.final.test else "texts held out, which decided"
        notes.append(
            f"Quality is that of {quality.n:,} {kind}; with 95 % confidence the change against the teacher is no worse "
            "than 'at worst' (paired bootstrap); p is McNemar's."
        )
    if report.controls:
        notes.append("* is a control: what there would be without the line of stages.")
    notes += [f"{row.name}: {row.note}" for row in (*report.rows, *report.controls) if row.note]
    notes += [f"{'met' if goal.met else 'NOT MET'}: {goal.says}" for goal in report.goals]
    return notes
