"""`farthing plan compress-case`: a smaller or compressed model against the one in use."""

from collections.abc import Iterator
from typing import Any

import click

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_records import asks, made
from farthing.cli.render import answer, strong, table
from farthing.dashboard.plan_figures import dollars, percent
from farthing.economics.money.compression_case import (
    CompressionCase,
    Deployed,
    Model,
    Project,
    Redundancy,
    compression_case,
)

_MODEL = {
    "devices_per_replica": "Devices of one replica.",
    "usd_per_device_h": "Dollars per device and hour.",
    "requests_per_s_per_replica": "What one replica serves within its limits, as `plan search` says.",
}


@click.command("compress-case")
@asks(Model, {f: f"Of the model in use: {h[0].lower()}{h[1:]}" for f, h in _MODEL.items()}, "teacher_")
@asks(Model, {f: f"Of the smaller one: {h[0].lower()}{h[1:]}" for f, h in _MODEL.items()}, "student_")
@click.option("--requests-per-s", type=float, required=True, metavar="X", help="The peak load.")
@asks(
    Redundancy,
    {
        "zones": "Zones that replicas are spread over.",
        "zones_lost": "How many of them may fail at once.",
        "spares_per_zone": "Spare replicas in each.",
    },
)
@asks(
    Project,
    {
        "usd_once": "Data, training and evaluation.",
        "usd_per_year": "Training it anew, and watching it.",
        "escalated_share": "Share of requests that go on to the model in use.",
    },
)
@verb
def command(asked: Asked, requests_per_s: float, **given: Any) -> None:
    """Weigh a smaller or compressed model against the one in use: devices, dollars a year, when it pays back."""
    teacher = made(Model, given, "teacher_", name="in use")
    student = made(Model, given, "student_", name="smaller")
    case = compression_case(teacher, student, requests_per_s, made(Redundancy, given), made(Project, given))
    answer(asked, "farthing.plan.compress-case/1", case, lambda case: "\n".join(_words(case)))


def _words(case: CompressionCase) -> Iterator[str]:
    if case.pays_back_after_months is None:
        yield strong(f"It never pays back: {case.why_never}.")
    else:
        saved = f"{dollars(case.usd_per_year_saved)} a year ({percent(case.saved_share)})"
        yield strong(
            f"Saves {saved} and {case.devices_saved} devices; pays back after {case.pays_back_after_months:.1f} months."
        )
    rows = [_row("before", case.before), _row("after", case.student)]
    if case.teacher_after is not None:
        rows.append(_row("after, escalated", case.teacher_after))
    yield table(("", "needed", "replicas", "devices", "per year"), rows)


def _row(name: str, fleet: Deployed) -> tuple[str, ...]:
    return (name, str(fleet.needed), str(fleet.replicas), str(fleet.devices), dollars(fleet.usd_per_year))
