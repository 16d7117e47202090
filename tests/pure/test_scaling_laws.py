"""Scaling laws: the limit of speed, its exponents, and the frontier of cost against speed."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.dashboard.plan_frontier import frontier_svg
from farthing.economics.scaling_laws import (
    BATCHES,
    DEVICES,
    PROTOCOLS,
    FrontierPoint,
    Scaled,
    all_reduce_s,
    cost_speed_frontier,
    exponent,
    fastest_devices,
    fastest_token_s,
    layout_s,
    scaled_model,
    simple_token_s,
)
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue

LLAMA_70B = Scaled(
    layers=80, hidden=8192, weights_bytes=1.4e11, flop_per_token=1.4e11, kv_bytes_per_token=327_680.0,
    memory_bytes=8.5e10, memory_bytes_per_s=3.35e12, flop_per_s=9.89e14, link_bytes_per_s=4.5e11, node_devices=8,
)  # fmt: skip

SIZES = np.geomspace(1e9, 1e13, 41)
BANDWIDTHS = np.geomspace(3e11, 3e13, 41)


def layers_of(parameters):
    return 32 * (parameters / 8e9) ** (1 / 3)


def test_the_limit_law_is_about_the_square_root_of_size_and_the_cube_root_of_bandwidth():
    time = fastest_token_s(layers_of(SIZES), 2 * SIZES, np.full_like(SIZES, 3.35e12), launch_s=0.0)
    assert exponent(SIZES, time) == pytest.approx(5 / 9, abs=1e-9)
    eighty = np.full_like(BANDWIDTHS, 80.0)
    time = fastest_token_s(eighty, np.full_like(BANDWIDTHS, 1.4e11), BANDWIDTHS, launch_s=0.0)
    assert exponent(BANDWIDTHS, time) == pytest.approx(-1 / 3, abs=1e-9)
    # Layers and weights apart: L^(2/3), (W/BW)^(1/3).
    time = fastest_token_s(np.geomspace(10, 1000, 9), np.full(9, 1e13), np.full(9, 3e12), launch_s=0.0)
    assert exponent(np.geomspace(10, 1000, 9), time) == pytest.approx(2 / 3, abs=1e-9)


def test_launches_bend_the_law_towards_the_cube_root_of_size():
    time = fastest_token_s(layers_of(SIZES), 2 * SIZES, np.full_like(SIZES, 3.35e12))
    assert 1 / 3 < exponent(SIZES, time) < 5 / 9
    assert exponent(SIZES, time) == pytest.approx(0.5, abs=0.02), "and so to a square root"


@given(st.floats(10, 200), st.floats(1e10, 1e13), st.floats(1e12, 1e13))
def test_the_closed_form_is_the_least_of_the_simple_form(layers, weights, bandwidth):
    best = float(fastest_token_s(*map(np.float64, (layers, weights, bandwidth))))
    devices = np.geomspace(1, 1e5, 4001)
    tried = simple_token_s(np.float64(layers), np.float64(weights), np.float64(bandwidth), devices)
    assert best <= tried.min() * (1 + 1e-9)
    assert best == pytest.approx(tried.min(), rel=1e-4)
    assert fastest_devices(*map(np.float64, (layers, weights, bandwidth))) >= 1


def fastest(parameters, bandwidth=3.35e12, **changes):
    shape = replace(
        LLAMA_70B, layers=round(layers_of(parameters)), hidden=round(4096 * (parameters / 8e9) ** (1 / 3)),
        weights_bytes=2 * parameters, flop_per_token=2 * parameters, memory_bytes_per_s=bandwidth, **changes,
    )  # fmt: skip
    return 1 / cost_speed_frontier(shape, 2.0, 0.0)[0].tokens_per_s_per_user


def test_the_whole_model_keeps_near_the_law():
    sizes = np.geomspace(1e10, 1e13, 13)
    assert exponent(sizes, np.array([fastest(size) for size in sizes])) == pytest.approx(0.5, abs=0.06)
    bandwidths = np.geomspace(1e12, 3e13, 9)
    found = exponent(bandwidths, np.array([fastest(7e10, bandwidth) for bandwidth in bandwidths]))
    assert -1 / 3 < found < -0.15, "latencies that no bandwidth shortens weaken it"


def test_the_frontier_trades_cost_for_speed():
    points = cost_speed_frontier(LLAMA_70B, 2.0, 2048)
    assert len(points) > 10
    speeds = [point.tokens_per_s_per_user for point in points]
    costs = [point.usd_per_million_tokens for point in points]
    assert speeds == sorted(speeds, reverse=True)
    assert costs == sorted(costs, reverse=True)
    assert points[0].batch < points[-1].batch
    assert points[0].devices > 2, "one or two devices do not hold it"


@given(st.sampled_from(DEVICES), st.sampled_from(BATCHES), st.sampled_from((1, 2)), st.sampled_from((1, 2, 4, 6)))
def test_nothing_lies_beyond_the_frontier(devices, batch, dimensions, pipeline):
    time = float(layout_s(LLAMA_70B, np.float64(devices), np.float64(batch), 2048, dimensions, pipeline))
    if math.isinf(time):
        return
    usd = 1e6 * devices * time / batch * 2.0 / 3600
    points = cost_speed_frontier(LLAMA_70B, 2.0, 2048)
    assert any(
        point.tokens_per_s_per_user >= 1 / time * (1 - 1e-9) and point.usd_per_million_tokens <= usd * (1 + 1e-9)
        for point in points
    )


def test_layouts_that_cannot_be_take_for_ever():
    def time(devices, batch, dimensions=1, pipeline=1):
        return float(layout_s(LLAMA_70B, np.float64(devices), np.float64(batch), 2048, dimensions, pipeline))

    assert math.isinf(time(1, 1)), "140 GB do not fit into 85"
    assert math.isinf(time(8, 1, pipeline=4)), "a stage without a sequence"
    assert math.isinf(time(9, 8, pipeline=4)), "stages of unlike size"
    assert math.isfinite(time(8, 8, pipeline=4))
    assert math.isinf(time(2, 4096))


def test_a_step_in_known_numbers():
    two = float(layout_s(LLAMA_70B, np.float64(2), np.float64(1), 0, 1, 1))
    reduce = 6.8e-6 + 2 * 0.6e-6 + 8192 * 2 / 4.5e11 / 0.5
    assert two == pytest.approx(80 * 4 * 4e-6 + 80 * 2 * reduce + 1.4e11 / (2 * 3.35e12))


def test_stages_of_a_pipeline_share_the_batch():
    mixture = replace(LLAMA_70B, weights_bytes=0.0, experts_bytes=1.4e11, expert_share=8 / 256, kv_bytes_per_token=0.0)
    busy = replace(LLAMA_70B, flop_per_s=1e12, kv_bytes_per_token=0.0)
    touched = 1 - (1 - 8 / 256) ** 8
    for shape, seconds in ((mixture, 1.4e11 * touched / (2 * 3.35e12)), (busy, 8 * 1.4e11 / (2 * 1e12))):
        found = float(layout_s(shape, np.float64(4), np.float64(16), 0, 1, 2))
        reduce = float(all_reduce_s(shape, np.float64(2), np.float64(8 * 8192 * 2)))
        hop = 6.8e-6 + 8 * 8192 * 2 / 2 / 5e10
        assert found == pytest.approx(80 * 16e-6 + 80 * 2 * reduce + hop + seconds)


def test_an_all_reduce_takes_the_quickest_protocol():
    small, large = (all_reduce_s(LLAMA_70B, np.float64(8), np.float64(size)) for size in (1e3, 1e10))
    assert small == pytest.approx(6.8e-6 + 2 * 7 * 0.6e-6, rel=0.01)
    assert large == pytest.approx(2 * 7 / 8 * 1e10 / 4.5e11, rel=0.1)
    assert all_reduce_s(LLAMA_70B, np.float64(1), np.float64(1e9)) == 0
    assert all_reduce_s(LLAMA_70B, np.float64(16), np.float64(1e9)) > 5 * all_reduce_s(
        LLAMA_70B, np.float64(8), np.float64(1e9)
    )
    assert len(PROTOCOLS) == 3


def test_a_mixture_reads_few_experts_for_one_token_and_all_for_many():
    mixture = replace(LLAMA_70B, weights_bytes=2e10, experts_bytes=1.2e11, expert_share=8 / 256, flop_per_token=3e10)
    dense = replace(LLAMA_70B, flop_per_token=3e10)
    one, many = (
        [float(layout_s(m, np.float64(8), np.float64(b), 0, 1, 1)) for m in (mixture, dense)] for b in (1, 1024)
    )
    assert one[0] < 0.6 * one[1]
    assert many[0] == pytest.approx(many[1])


def test_a_model_of_the_catalogue():
    known = catalogue()
    found = scaled_model(known.architecture_named("llama-3-70b"), known.hardware_named("H100"))
    assert found.weights_bytes == pytest.approx(1.4e11, rel=0.03)
    assert found.kv_bytes_per_token == 327_680
    assert (
        scaled_model(known.architecture_named("deepseek-v3"), known.hardware_named("H100"), "fp8").expert_share
        == 8 / 256
    )


@pytest.mark.parametrize(
    "change",
    [{"layers": 0}, {"weights_bytes": -1.0}, {"memory_bytes_per_s": math.nan}, {"expert_share": 0.0},
     {"expert_share": 1.5}, {"kv_bytes_per_token": -1.0}, {"flop_per_s": math.inf}],
)  # fmt: skip
def test_senseless_models_are_refused(change):
    with pytest.raises(RequestError):
        cost_speed_frontier(replace(LLAMA_70B, **change), 2.0, 2048)


def test_senseless_prices_contexts_and_sizes_are_refused():
    for price, context in ((0.0, 0), (-1.0, 0), (math.nan, 0), (2.0, -1), (2.0, math.inf)):
        with pytest.raises(RequestError):
            cost_speed_frontier(LLAMA_70B, price, context)
    with pytest.raises(RequestError, match="do not hold"):
        cost_speed_frontier(replace(LLAMA_70B, memory_bytes=1e6), 2.0, 0)


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0], [math.nan, 1.0]), ([1, 2], [1])],
)
def test_an_exponent_of_nothing_is_refused(x, y):
    with pytest.raises(RequestError):
        exponent(np.array(x, dtype=float), np.array(y, dtype=float))


def test_the_plot_is_well_formed_and_holds_every_point():
    points = cost_speed_frontier(LLAMA_70B, 2.0, 2048)
    drawn = frontier_svg({"70B <bf16>": points, "one": points[:1]})
    root = ElementTree.fromstring(drawn)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(points) + 1 + 2
    line = root.find("{http://www.w3.org/2000/svg}polyline").get("points").split()
    places = [tuple(map(float, place.split(","))) for place in line]
    assert places == sorted(places, key=lambda place: -place[0]), "the fastest is to the right"
    assert [y for _, y in places] == sorted(y for _, y in places), "and the dearest is at the top"
    assert "70B &lt;bf16&gt;" in drawn
    assert drawn == frontier_svg({"70B <bf16>": points, "one": points[:1]})


@pytest.mark.parametrize("series", [{}, {"none": ()}, {str(n): (FrontierPoint(1, 1, 1, 1, 1, 1),) for n in range(7)}])
def test_what_cannot_be_drawn_is_refused(series):
    with pytest.raises(RequestError):
        frontier_svg(series)
