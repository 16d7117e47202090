"""The case for a smaller model: devices and dollars a year of teacher against student, and when that pays back."""

import math

import msgspec

from farthing.economics.money.costs import HOURS_PER_YEAR
from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError


class Model(msgspec.Struct, frozen=True):
    """A model as it is deployed: what one replica takes, costs and serves within its limits."""

    name: str
    devices_per_replica: int
    usd_per_device_h: float | None
    requests_per_s_per_replica: float


class Redundancy(msgspec.Struct, frozen=True):
    """How many zones replicas are spread over, how many of them may fail at once, and spares in each (N + 1: one)."""

    zones: int = 1
    zones_lost: int = 0
    spares_per_zone: int = 1


class Project(msgspec.Struct, frozen=True):
    """What the smaller model takes: once (data, training, evaluation), and every year (training it anew, watching it).

    The student answers all requests first; `escalated_share` of them go on to the teacher.
    """

    usd_once: float
    usd_per_year: float = 0.0
    escalated_share: float = 0.0


class Deployed(msgspec.Struct, frozen=True):
    """How much of a model is deployed: replicas, of which `needed` carry the load; devices; and dollars a year."""

    model: str
    needed: int
    replicas: int
    devices: int
    usd_per_year: float


class CompressionCase(msgspec.Struct, frozen=True):
    """Before: the teacher alone. After: the student, and the teacher for what is escalated (`None` for nothing).

    `pays_back_after_months` is `None` when the project never earns its cost back, and `why_never` says why.
    """

    before: Deployed
    student: Deployed
    teacher_after: Deployed | None
    devices_saved: int
    usd_per_year_saved: float
    saved_share: float
    pays_back_after_months: float | None
    why_never: str


def deployed(model: Model, requests_per_s: float, redundancy: Redundancy) -> Deployed:
    """The replicas that serve a peak load although zones and replicas fail. Raises RequestError.

    N = ceil(load / capacity); each zone has ceil(N / (zones - zones lost)) and its spares.

    >>> llama = Model("70B", devices_per_replica=4, usd_per_device_h=3.0, requests_per_s_per_replica=2.0)
    >>> found = deployed(llama, requests_per_s=9.0, redundancy=Redundancy(zones=3, zones_lost=1))
    >>> found.needed, found.replicas, found.devices
    (5, 12, 48)
    """
    require(model, above_zero=("usd_per_device_h", "requests_per_s_per_replica"), counts=("devices_per_replica",))
    require(redundancy, counts=("zones",), whole=("zones_lost", "spares_per_zone"))
    load = number("the load", "requests_per_s", requests_per_s)
    if load <= 0:
        raise RequestError(f"The load is {load:g} requests/s.", hint="Give the peak load, above 0.")
    standing = redundancy.zones - redundancy.zones_lost
    if standing < 1:
        raise RequestError(
            f"{redundancy.zones_lost} of {redundancy.zones} zones may fail at once.", hint="One zone must be left."
        )
    needed = math.ceil(load / model.requests_per_s_per_replica - 1e-9)
    replicas = redundancy.zones * (math.ceil(needed / standing) + redundancy.spares_per_zone)
    devices = replicas * model.devices_per_replica
    hourly = number(f"the model '{model.name}'", "usd_per_device_h", model.usd_per_device_h)
    return Deployed(model.name, needed, replicas, devices, devices * hourly * HOURS_PER_YEAR)


def compression_case(
    teacher: Model, student: Model, requests_per_s: float, redundancy: Redundancy, project: Project
) -> CompressionCase:
    """Weigh a student against its teacher at a peak load. Raises RequestError.

    >>> case = compression_case(
    ...     Model("70B", 4, 3.0, 2.0), Model("8B", 1, 3.0, 10.0), 20.0, Redundancy(), Project(usd_once=100_000.0)
    ... )
    >>> case.before.devices, case.student.devices, round(case.usd_per_year_saved), round(case.pays_back_after_months, 2)
    (44, 3, 1077480, 1.11)
    """
    require(project, at_least_zero=("usd_once", "usd_per_year"), shares=("escalated_share",))
    before, small = deployed(teacher, requests_per_s, redundancy), deployed(student, requests_per_s, redundancy)
    escalated = requests_per_s * project.escalated_share
    large = deployed(teacher, escalated, redundancy) if escalated else None
    after_usd = small.usd_per_year + (large.usd_per_year if large else 0.0) + project.usd_per_year
    saved = before.usd_per_year - after_usd
    why = (
        ""
        if saved > 0
        else f"what runs afterwards costs ${after_usd:,.0f} a year, and the teacher alone ${before.usd_per_year:,.0f}"
    )
    return CompressionCase(
        before=before,
        student=small,
        teacher_after=large,
        devices_saved=before.devices - small.devices - (large.devices if large else 0),
        usd_per_year_saved=saved,
        saved_share=saved / before.usd_per_year,
        pays_back_after_months=12 * project.usd_once / saved if saved > 0 else None,
        why_never=why,
    )
