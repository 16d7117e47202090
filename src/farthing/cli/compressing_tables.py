"""Reports of compression as text."""

from typing import TYPE_CHECKING

from farthing.cli.render import strong, table

if TYPE_CHECKING:  # they need numpy, and the help of a command does not
    from farthing.compress.record import Report


def in_words(report: "Report") -> str:
    """The table of a run, and what is to be said of it."""
    from farthing.compress.reporting import table as table_of

    made = table_of(report)
    title = strong(f"{report.job}: {report.task}, {len(report.rows)} stages, served from {report.folder}")
    return "\n".join([title, "", table(made.heads, made.rows), "", *made.notes])


def side_by_side(names: tuple[str, str], reports: "tuple[Report, Report]") -> str:
    """What two runs came to, one line to a figure."""
    from farthing.compress.reporting import wording

    def figures(report: "Report") -> list[str]:
        last, teacher = report.final, report.teacher
        lost = last.against_teacher.lost if last.against_teacher and last is not teacher else None
        return [
            report.job,
            report.task,
            f"{report.texts.train:,}",
            str(len(report.labels)),
            last.name,
            teacher.quality.metric if teacher.quality else wording.UNKNOWN,
            wording.value_of(teacher.quality),
            wording.value_of(last.quality),
            wording.interval_of(last.quality),
            wording.points(lost),
            wording.parameters(last.parameters),
            wording.digits(last.mb),
            wording.times(wording.smaller(last, teacher)),
            wording.digits(last.cpu_ms),
            wording.times(wording.faster(last, teacher)),
            wording.digits(last.texts_per_cpu_s),
            wording.duration(report.cpu_s),
            f"{sum(goal.met for goal in report.goals)} of {len(report.goals)}",
            report.host.cpu,
        ]

    heads = (
        "job", "task", "texts to learn from", "labels", "served", "metric", "teacher", "result", "95 %", "points lost",
        "params", "MB", "smaller", "CPU ms", "faster", "texts/CPU-s", "CPU time of the run", "targets met", "processor",
    )  # fmt: skip
    rows = list(zip(heads, figures(reports[0]), figures(reports[1]), strict=True))
    return table(("", *names), rows)
