"""The power model: found again from points it made, and held against measured rows."""

import tomllib
from importlib import resources

import numpy as np
import pytest
from msgspec.structs import replace

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.energy.power import Activity, PowerModel, drawn_w
from farthing.economics.energy.power_fit import (
    CONSTANTS,
    Point,
    evaluate_power,
    fit_power,
    held_out,
    off_by,
    parse_power,
    power_points,
)
from farthing.errors import ConfigError, RequestError
from farthing.importers.serving.rows import read_measurements
from farthing.wiring.planning import catalogue, shipped_calibration
from farthing.wiring.power import power_model

TRUTH = PowerModel(0.12, 180.0, 3.0, 8.0, 60.0, 400.0, 0.8, 1.2, 0, (), ())


def points(count=200, noise=0.0, seed=3):
    rng = np.random.default_rng(seed)
    made = []
    for place in range(count):
        tdp = float(rng.choice([350.0, 700.0, 1000.0]))
        activity = Activity(
            bytes_per_s=rng.uniform(0, 4e12),
            flop_per_s=rng.uniform(0, 2e14),
            expert_flop_per_s=rng.uniform(0, 5e13) * rng.integers(0, 2),
            widened_bytes_per_s=rng.uniform(0, 4e12) * rng.integers(0, 2),
            block_bytes_per_s=rng.uniform(0, 1e12) * rng.integers(0, 2),
        )
        watts = float(drawn_w(tdp, activity, TRUTH)) * float(np.exp(noise * rng.standard_normal()))
        made.append(Point(f"gpu{tdp:.0f}", f"model{place % 5}", "steady_batch", tdp, activity, watts))
    return made


def test_a_fit_finds_the_constants_that_made_its_points():
    found = fit_power(points())
    for name in CONSTANTS:
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=1e-3)
    assert found.low == pytest.approx(1, abs=1e-3)
    assert found.high == pytest.approx(1, abs=1e-3)
    assert found.hardware == ("gpu1000", "gpu350", "gpu700")


def test_outliers_hardly_move_a_fit():
    spoilt = [
        point._replace(measured_w=5 * point.measured_w) if place % 20 == 0 else point
        for place, point in enumerate(points())
    ]
    found = fit_power(spoilt)
    assert found.pj_per_byte == pytest.approx(TRUTH.pj_per_byte, rel=0.15)


def test_intervals_hold_nine_of_ten_unseen_points():
    model = fit_power(points(noise=0.1))
    ratio = np.exp(-off_by(fresh := points(noise=0.1, seed=4), model))
    assert 0.86 <= np.mean((ratio >= model.low) & (ratio <= model.high)) <= 0.97, len(fresh)


def test_held_out_points_are_not_seen():
    made = points(40)
    groups = np.array([point.model for point in made])
    wrong = [point._replace(measured_w=3 * point.measured_w) if point.model == "model0" else point for point in made]
    off = held_out(wrong, TRUTH, groups)
    assert off[groups == "model0"] == pytest.approx(-np.log(3), abs=0.05)


def test_one_model_alone_is_left_out_point_by_point():
    alone = [point._replace(model="one") for point in points(30)]
    assert fit_power(alone).rows == 30


def test_too_few_points_are_refused():
    with pytest.raises(RequestError, match="12"):
        fit_power(points(11))


ROW = Measurement(
    hardware="H100", devices=1, model="llama-3-8b", precision="bf16", engine="vllm", kind="steady_batch", tensor=1,
    concurrency=32.0, input_tokens=300.0, output_tokens=400.0, output_tokens_per_s_per_device=3000.0, power_w=550.0,
)  # fmt: skip


def row(**given):
    return replace(ROW, **given)


def test_rows_without_power_are_left_out_and_senseless_ones_named():
    found, refused = power_points(
        [row(), row(power_w=None), row(power_w=-5.0), row(output_tokens_per_s_per_device=None), row(hardware="abacus")],
        catalogue(),
        (),
    )
    assert len(found) == 1
    assert len(refused) == 3
    assert found[0].measured_w == 550
    assert evaluate_power([row(power_w=None)], catalogue(), TRUTH) == ()


def test_power_is_of_one_device():
    one, two = (
        power_points([given], catalogue(), ())[0][0] for given in (row(), row(devices=2, tensor=2, power_w=900.0))
    )
    assert two.measured_w == 450
    assert two.activity.bytes_per_s < 1.2 * one.activity.bytes_per_s


def test_a_calibration_replaces_measured_throughput():
    slow = row(output_tokens_per_s_per_device=1.0)
    measured, calculated = (
        power_points([slow], catalogue(), (), calibration)[0][0] for calibration in (None, shipped_calibration())
    )
    assert calculated.activity.bytes_per_s > 100 * measured.activity.bytes_per_s


def shipped():
    return tomllib.loads((resources.files("farthing.economics") / "data" / "power.toml").read_text("utf-8"))


def test_the_shipped_constants_are_physical():
    model = power_model()
    assert 0.05 < model.floor < 0.3
    assert 31 < model.pj_per_byte < 500, "no less than the memory alone takes"
    assert 0.3 < model.pj_per_flop < model.pj_per_expert_flop < 30
    assert model.source
    assert model.date


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"floor": -0.1}, "floor"), ({"floor": 1.5}, "floor"), ({"pj_per_byte": "much"}, "pj_per_byte"),
        ({"low": 1.2}, "low"), ({"hardware": "H100"}, "hardware"), ({"watts": 3}, "watts"), ({"rows": 0}, "rows"),
    ],
)  # fmt: skip
def test_a_damaged_file_names_the_key(change, named):
    with pytest.raises(ConfigError, match=named):
        parse_power("power.toml", shipped() | change)


@pytest.fixture(scope="module")
def measured(shared_data):
    return power_points(
        read_measurements(shared_data / "serving" / "calibration.csv"), catalogue(), power_model().block_scaled
    )[0]


def mean_error(off):
    return np.abs(np.expm1(off)).mean()


def test_power_of_rows_left_out_is_within_11_percent(measured):
    for by in ("model", "hardware"):
        groups = np.array([getattr(point, by) for point in measured])
        assert mean_error(held_out(measured, power_model(), groups)) < 0.11
    seen, unseen = (
        [point for place, point in enumerate(measured) if (place % 3 == 0) is part] for part in (True, False)
    )
    model = fit_power(seen)
    assert mean_error(off_by(unseen, model)) < 0.10
    ratio = np.exp(-off_by(unseen, model))
    assert 0.85 <= np.mean((ratio >= model.low) & (ratio <= model.high)) <= 0.95


def test_terms_earn_their_place(measured):
    groups = np.array([point.model for point in measured])
    whole = mean_error(held_out(measured, power_model(), groups))
    for name in ("block_bytes_per_s", "widened_bytes_per_s", "expert_flop_per_s"):
        without = [point._replace(activity=point.activity._replace(**{name: 0.0})) for point in measured]
        assert mean_error(held_out(without, power_model(), groups)) > whole


def test_joules_carry_over_to_another_gpu_better_than_shares_of_its_peaks(measured):
    known = catalogue()

    def by_shares(point):
        device, like = known.hardware_named(point.hardware), known.hardware_named("H100")
        read = device.tdp_w / like.tdp_w * like.memory_bytes_per_s / device.memory_bytes_per_s
        multiplied = device.tdp_w / like.tdp_w * like.flop_per_s["bf16"] / device.flop_per_s["bf16"]
        factors = Activity(read, multiplied, multiplied, read, read)
        return point._replace(activity=Activity(*(a * b for a, b in zip(point.activity, factors, strict=True))))

    groups = np.array([point.hardware for point in measured])
    assert mean_error(held_out(list(map(by_shares, measured)), power_model(), groups)) == pytest.approx(0.15, abs=0.01)
    assert mean_error(held_out(measured, power_model(), groups)) == pytest.approx(0.10, abs=0.01)


def test_shipped_constants_are_those_of_the_rows(measured):
    again = fit_power(measured)
    for name in (*CONSTANTS, "low", "high"):
        assert getattr(power_model(), name) == pytest.approx(getattr(again, name), rel=0.02)
