"""Teacher against student: replicas that survive failures, and a project that pays back or does not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.compression_case import Model, Project, Redundancy, compression_case, deployed
from farthing.errors import RequestError

TEACHER = Model("teacher", 4, 3.0, 2.0)
STUDENT = Model("student", 1, 1.0, 5.0)
PROJECT = Project(50_000.0, 12_000.0)
redundancies = st.integers(1, 5).flatmap(
    lambda zones: st.builds(Redundancy, st.just(zones), st.integers(0, zones - 1), st.integers(0, 3))
)
models = st.builds(Model, st.just("m"), st.integers(1, 16), st.floats(0.1, 50), st.floats(0.05, 50))


@given(models, st.floats(0.01, 2000), redundancies)
def test_what_is_left_after_failures_carries_the_load(model, load, redundancy):
    found = deployed(model, load, redundancy)
    per_zone = found.replicas // redundancy.zones
    assert per_zone * redundancy.zones == found.replicas
    standing = (redundancy.zones - redundancy.zones_lost) * (per_zone - redundancy.spares_per_zone)
    assert standing * model.requests_per_s_per_replica >= load * (1 - 1e-8)
    fewer = (redundancy.zones - redundancy.zones_lost) * (per_zone - redundancy.spares_per_zone - 1)
    assert fewer * model.requests_per_s_per_replica < load
    assert found.devices == found.replicas * model.devices_per_replica
    assert found.usd_per_year == pytest.approx(found.devices * model.usd_per_device_h * 8760)


@given(models, models, st.floats(0.1, 500), redundancies, st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e5))
def test_the_saving_is_what_is_paid_less(teacher, student, load, redundancy, escalated, once, yearly):
    case = compression_case(teacher, student, load, redundancy, Project(once, yearly, escalated))
    after = case.student.usd_per_year + (case.teacher_after.usd_per_year if case.teacher_after else 0) + yearly
    assert case.before.usd_per_year - after == pytest.approx(case.usd_per_year_saved, abs=1e-6)
    assert case.saved_share == pytest.approx(case.usd_per_year_saved / case.before.usd_per_year)
    if case.pays_back_after_months is None:
        assert case.usd_per_year_saved <= 0
        assert case.why_never
    else:
        assert case.pays_back_after_months / 12 * case.usd_per_year_saved == pytest.approx(once)
    assert (case.teacher_after is None) == (escalated == 0)


def test_escalation_keeps_some_of_the_teacher():
    all_student = compression_case(TEACHER, STUDENT, 40.0, Redundancy(), PROJECT)
    assert (all_student.before.devices, all_student.student.devices, all_student.devices_saved) == (84, 9, 75)
    some = compression_case(TEACHER, STUDENT, 40.0, Redundancy(), replace(PROJECT, escalated_share=0.2))
    assert (some.teacher_after.needed, some.teacher_after.replicas, some.devices_saved) == (4, 5, 55)
    everything = compression_case(TEACHER, STUDENT, 40.0, Redundancy(), replace(PROJECT, escalated_share=1.0))
    assert everything.pays_back_after_months is None
    assert "the teacher alone" in everything.why_never


@pytest.mark.parametrize(
    ("teacher", "load", "redundancy", "project"),
    [
        (replace(TEACHER, usd_per_device_h=None), 1, Redundancy(), PROJECT),
        (replace(TEACHER, requests_per_s_per_replica=0), 1, Redundancy(), PROJECT),
        (replace(TEACHER, devices_per_replica=0), 1, Redundancy(), PROJECT),
        (TEACHER, 0, Redundancy(), PROJECT), (TEACHER, math.nan, Redundancy(), PROJECT),
        (TEACHER, 1, Redundancy(2, 2), PROJECT), (TEACHER, 1, Redundancy(0), PROJECT),
        (TEACHER, 1, Redundancy(spares_per_zone=-1), PROJECT),
        (TEACHER, 1, Redundancy(), Project(-1.0)), (TEACHER, 1, Redundancy(), Project(1.0, 0.0, 1.5)),
    ],
)  # fmt: skip
def test_a_case_that_makes_no_sense_is_refused(teacher, load, redundancy, project):
    with pytest.raises(RequestError) as refused:
        compression_case(teacher, STUDENT, load, redundancy, project)
    assert refused.value.hint
