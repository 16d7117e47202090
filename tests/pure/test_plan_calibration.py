"""Fitting, classes, points and intervals, on rows whose truth is known."""

import math

import msgspec
import pytest
from plan_rows import TRUTH, cases_of, measured, measurements

from farthing.economics.calibrating.calibrate import calibrate, resolved
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.calibrating.classes import Residual, classes_of, pooled, summed
from farthing.economics.calibrating.evaluation import evaluate
from farthing.economics.calibrating.fitting import fit, tabled
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.residuals import points_of
from farthing.economics.deployment import Workload
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue

FACTS = catalogue()
CASES = cases_of(list(measurements()), FACTS)
SLOW = TRUTH | {
    "memory": TRUTH["memory"] - 0.4,
    "layer_s": TRUTH["layer_s"] + 0.7,
    "sequence_s": TRUTH["sequence_s"] + 0.9,
}


def quiet(text: str) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(measured(CASES, SLOW, 0.03, seed=1), FACTS, quiet)


def test_a_fit_finds_the_constants_behind_its_rows():
    found = fit(tabled(cases_of(measured(CASES, SLOW, 0.0, seed=1), FACTS)))

    for name in ("memory", "layer_s"):
        assert found[name] + found.get(f"{name}@vllm", 0.0) == pytest.approx(SLOW[name], abs=0.25)


def test_a_calibration_predicts_rows_it_never_saw_within_its_intervals(calibration):
    seen = evaluate(measured(CASES, SLOW, 0.03, seed=2), FACTS, calibration)

    errors = next(group.errors for group in seen.groups if group.by == "all")
    assert errors["tpot"].rows > 0.9 * len(CASES)
    assert errors["tpot"].mean < 0.06
    assert errors["tpot"].covered > 0.8


def test_a_calibration_survives_its_file(calibration):
    assert msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration) == calibration


def test_what_was_measured_decides_the_width_of_the_interval(calibration):
    spreads = calibration.spreads

    assert spreads["serving: class"]["tpot"].high < spreads["serving: new hardware"]["tpot"].high * 1.2
    seen = CASES[0].deployment
    assert calibration.evidence(seen) == "class"
    other = msgspec.structs.replace(seen, architecture=FACTS.architecture_named("gpt-oss-20b"))
    assert calibration.evidence(other) == "new model"
    assert calibration.evidence(msgspec.structs.replace(seen, hardware=FACTS.hardware_named("T4"))) == "new hardware"
    nowhere = msgspec.structs.replace(other, hardware=FACTS.hardware_named("T4"))
    assert calibration.evidence(nowhere) == "new model and hardware"


def test_two_points_of_a_deployment_bring_its_predictions_near(calibration):
    slower = SLOW | {"layer_s": SLOW["layer_s"] + 0.6, "sequence_s": SLOW["sequence_s"] + 0.8}
    rows = measured(cases_of(list(measurements(models=("gpt-oss-20b",))), FACTS), slower, 0.0, seed=3)

    errors = [
        next(group.errors for group in evaluate(rows, FACTS, calibration, points).groups if group.by == "all")
        for points in (0, 1, 2)
    ]

    assert errors[2]["tpot"].mean < errors[0]["tpot"].mean / 2
    assert errors[2]["tpot"].rows == len(rows) - 2 * 6


def test_points_belong_to_one_layout_and_leave_something_to_predict():
    places = points_of(CASES, 2)

    layouts = {classes_of(case.deployment)[2] for case in CASES}
    assert len(places) == 2 * len(layouts)
    assert points_of(CASES[:1], 1) == []


def test_a_class_is_shared_by_how_many_rows_it_rests_on():
    family = ("a", "a1", "a1x", "a1x9")
    many = pooled([Residual(family, 0.3, None)] * 50)
    one = pooled([Residual(family, 0.3, None)])

    assert summed(list(many.values())).tpot == pytest.approx(0.3, abs=0.01)
    assert 0 < summed(list(one.values())).tpot < 0.3
    assert one["a"].tpot == pytest.approx(0.1)
    assert summed([]).rows == 0


def test_a_wild_row_does_not_move_a_class_far():
    rows = [Residual(("a", "b", "c", "d"), 0.0, 0.0)] * 9 + [Residual(("a", "b", "c", "d"), 50.0, 50.0)]

    total = summed(list(pooled(rows).values()))

    assert total.tpot < 0.15
    assert total.ttft == 0


def test_a_class_that_was_never_measured_adds_nothing(calibration):
    other = msgspec.structs.replace(CASES[0].deployment, hardware=FACTS.hardware_named("H200"))
    assert calibration.offset(other, Workload(500, 200, concurrency=2)).tpot == 0


def row(**changes: object) -> Measurement:
    given = next(iter(measurements()))
    return Measurement(**{name: getattr(given, name) for name in given.__struct_fields__} | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hardware": "Voodoo 2"}, "is not in the catalogue"),
        ({"model": "hal-9000"}, "is not in the catalogue"),
        ({"precision": "fp3"}, "precision 'fp3'"),
        ({"output_tokens": None}, "does not say its output tokens"),
        ({"input_tokens": -5.0}, "-5 input tokens"),
        ({"concurrency": math.nan}, "nan concurrency"),
        ({"model": "llama-3.1-405b", "tensor": 1}, "does not fit"),
    ],
)
def test_a_row_that_cannot_be_predicted_is_refused_with_its_reason(changes, reason):
    cases, refused = resolved([row(**changes)], FACTS)

    assert cases == []
    assert reason in refused[0].reason


def test_too_few_rows_are_no_calibration():
    with pytest.raises(RequestError, match="a fit takes 8"):
        calibrate([row()] * 3, FACTS, quiet)
    with pytest.raises(RequestError, match=r"None of 1 rows.*Voodoo"):
        evaluate([row(hardware="Voodoo 2")], FACTS, Calibration({}, {}, {}, (), (), (), {}, 0))


def test_rows_that_waited_for_memory_are_told_apart():
    slow = [
        Measurement(**{name: getattr(one, name) for name in one.__struct_fields__} | {"ttft_s": 1e4})
        for one in measured(CASES[:8], TRUTH, 0.0, seed=1)
    ]
    calibration = calibrate(measured(CASES, TRUTH, 0.02, seed=4), FACTS, quiet)

    groups = {group.by for group in evaluate(slow, FACTS, calibration).groups}

    assert groups == {"waited"}
