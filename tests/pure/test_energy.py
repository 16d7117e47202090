"""Energy: watts by activity, and what they come to per token and per request."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.energy.power import (
    Activity,
    PowerModel,
    Site,
    activity_of,
    drawn_w,
    energy,
    power_w,
    predicted_energy,
)
from farthing.economics.hardware import Hardware
from farthing.economics.prediction import Estimate, Prediction
from farthing.economics.serving import Load
from farthing.errors import RequestError

GPU = Hardware(
    name="Big", vendor="", kind="gpu", flop_per_s={"fp32": 60e12, "bf16": 1e15, "fp8": 2e15}, memory_bytes=80e9,
    memory_bytes_per_s=3e12, link_bytes_per_s=450e9, link_latency_s=3e-6, link_devices=8, tdp_w=700.0, idle_w=None,
    source="", date="",
)  # fmt: skip
FP4_GPU = replace(GPU, name="Bigger", flop_per_s=GPU.flop_per_s | {"fp4": 4e15})
DENSE = Architecture("dense", 32, 4096, 32, 8, 128, 14336, 128256, full_layers=32, dense_layers=32)
MIXTURE = Architecture(
    "Qwen3-mix", 48, 2048, 32, 4, 128, 0, 151936, full_layers=48, experts=128, top_k=8, expert_ffn=768
)
MODEL = PowerModel(0.15, 200.0, 3.5, 9.0, 70.0, 500.0, 0.8, 1.3, 320, ("Big",), ("qwen3",))
LOAD = Load(concurrency=16.0, input_tokens=300.0, output_tokens=600.0, slots=256.0)

shares = st.floats(0, 1)
positive = st.floats(1e-3, 1e6)


@given(shares, shares, shares)
def test_power_rises_with_either_utilisation_between_floor_and_tdp(memory, compute, more):
    watts = power_w(GPU, memory, compute, MODEL)
    assert power_w(GPU, 0, 0, MODEL) <= watts <= GPU.tdp_w
    assert power_w(GPU, memory + (1 - memory) * more, compute, MODEL) >= watts
    assert power_w(GPU, memory, compute + (1 - compute) * more, MODEL) >= watts


def test_an_idle_device_draws_its_floor_and_a_saturated_one_its_limit():
    assert power_w(GPU, 0, 0, MODEL) == pytest.approx(700 * 0.15 / math.sqrt(1 + 0.15**2))
    assert power_w(GPU, 1, 1, MODEL) > 0.95 * 700
    # 3 TB/s at 200 pJ each are 600 W beside 105 W of floor, bent by the limit.
    asked = 0.15 + 600 / 700
    assert power_w(GPU, 1, 0, MODEL) == pytest.approx(700 * asked / math.sqrt(1 + asked**2))


@pytest.mark.parametrize(("memory", "compute"), [(-0.1, 0), (1.1, 0), (0, math.nan), (math.inf, 0), (0, 2)])
def test_what_is_no_share_is_refused(memory, compute):
    with pytest.raises(RequestError):
        power_w(GPU, memory, compute, MODEL)


def test_activity_counts_weights_and_cache_once_per_iteration():
    found = activity_of(Deployment(GPU, DENSE), LOAD, 0.02, ())
    weights = 2 * (DENSE.layers * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14336) + 4096 * 128256)
    cache = 16 * 600 * 2 * 32 * 8 * 128 * 2
    assert found.bytes_per_s == pytest.approx((weights + cache) / 0.02, rel=1e-6)
    assert found.expert_flop_per_s == found.widened_bytes_per_s == found.block_bytes_per_s == 0
    twice = activity_of(Deployment(GPU, DENSE), LOAD, 0.04, ())
    assert all(half == pytest.approx(whole / 2) for half, whole in zip(twice, found, strict=True))


def test_narrow_operations_count_by_the_share_of_the_peak_they_take():
    wide = activity_of(Deployment(GPU, DENSE), LOAD, 0.02, ())
    narrow = activity_of(Deployment(GPU, DENSE, weights="fp8"), LOAD, 0.02, ())
    assert wide.flop_per_s / 2 < narrow.flop_per_s < 0.6 * wide.flop_per_s


def test_four_bits_are_unpacked_where_the_device_does_not_multiply_them():
    old, new = (activity_of(Deployment(gpu, MIXTURE, weights="mxfp4"), LOAD, 0.02, ()) for gpu in (GPU, FP4_GPU))
    assert old.widened_bytes_per_s > 3 * old.bytes_per_s / 2
    assert new.widened_bytes_per_s == 0
    assert old.expert_flop_per_s > new.expert_flop_per_s
    dense = activity_of(Deployment(FP4_GPU, DENSE, weights="int4"), LOAD, 0.02, ())
    assert dense.widened_bytes_per_s == 0, "a device with FP4 units unpacks in them"


def test_block_scales_cost_only_experts_of_eight_bits_published_so():
    def cost(architecture, weights):
        return activity_of(Deployment(GPU, architecture, weights=weights), LOAD, 0.02, MODEL.block_scaled)

    touched = 48 * 128 * 3 * 2048 * 768 * (1 - (1 - 8 / 128) ** 24)  # 16 sequences, each with half a prompt token
    assert cost(MIXTURE, "fp8").block_bytes_per_s == pytest.approx(touched / 0.02)
    assert cost(MIXTURE, "bf16").block_bytes_per_s == 0
    assert cost(replace(MIXTURE, name="other"), "fp8").block_bytes_per_s == 0
    assert cost(replace(MIXTURE, name="other"), "fp8_block").block_bytes_per_s > 0
    assert cost(replace(DENSE, name="qwen3-dense"), "fp8").block_bytes_per_s == 0


def test_a_cached_prefix_saves_operations_but_not_reading():
    plain = activity_of(Deployment(GPU, DENSE), LOAD, 0.02, ())
    cached = activity_of(Deployment(GPU, DENSE), LOAD._replace(cached_share=0.5), 0.02, ())
    assert cached.flop_per_s < plain.flop_per_s
    assert cached.bytes_per_s == plain.bytes_per_s


def test_energy_in_known_numbers():
    found = energy(Estimate(2000, 1500, 2500), Estimate(4000, 3000, 5000), 500, 4, Site(1.25, 100, 400, 0.2))
    assert found.joule_per_output_token.value == pytest.approx((2000 + 400) * 1.25 / 4000)
    assert found.kwh_per_1k_requests.value == pytest.approx(0.75 * 500_000 / 3.6e6)
    assert found.g_co2e_per_1k_requests.value == pytest.approx(found.kwh_per_1k_requests.value * 400)
    assert found.usd_per_1k_requests.value == pytest.approx(found.kwh_per_1k_requests.value * 0.2)


@given(st.tuples(positive, positive, positive).map(sorted), st.tuples(positive, positive, positive).map(sorted))
def test_the_interval_of_energy_holds_both_errors(watts, rates):
    power, rate = Estimate(watts[1], watts[0], watts[2]), Estimate(rates[1], rates[0], rates[2])
    found = energy(power, rate, 100, 1, Site()).joule_per_output_token
    assert found.low <= found.value <= found.high
    assert found.low <= watts[0] / rates[1] * (1 + 1e-9)
    assert found.low <= watts[1] / rates[2] * (1 + 1e-9)
    assert found.high >= max(watts[2] / rates[1], watts[1] / rates[0]) * (1 - 1e-9)
    assert found.high <= watts[2] / rates[0] * (1 + 1e-9), "no wider than both errors at their worst"
    assert found.low >= watts[0] / rates[2] * (1 - 1e-9)


def test_what_a_site_does_not_say_stays_unknown():
    found = energy(Estimate(700, 600, 800), Estimate(1000, 900, 1100), 100, 1, Site())
    assert found.g_co2e_per_1k_requests is None
    assert found.usd_per_1k_requests is None
    assert energy(Estimate(700, 600, 800), Estimate(1000, 900, 1100), 100, 1, Site(g_per_kwh=0)).g_co2e_per_1k_requests


@pytest.mark.parametrize(
    "site",
    [Site(pue=0.9), Site(pue=math.nan), Site(pue=-1), Site(host_w_per_device=-5), Site(g_per_kwh=-1),
     Site(usd_per_kwh=math.inf)],
)  # fmt: skip
def test_senseless_sites_are_refused(site):
    with pytest.raises(RequestError):
        energy(Estimate(700, 600, 800), Estimate(1000, 900, 1100), 100, 1, site)


@pytest.mark.parametrize(
    ("power", "rate", "tokens", "devices"),
    [
        (Estimate(0, 0, 0), Estimate(1, 1, 1), 100, 1),
        (Estimate(700, 800, 900), Estimate(1, 1, 1), 100, 1),
        (Estimate(700, 600, 800), Estimate(1, -1, 1), 100, 1),
        (Estimate(700, 600, 800), Estimate(1, 1, math.inf), 100, 1),
        (Estimate(700, 600, 800), Estimate(1, 1, 1), 0, 1),
        (Estimate(700, 600, 800), Estimate(1, 1, 1), 100, 0),
    ],
)
def test_senseless_figures_are_refused(power, rate, tokens, devices):
    with pytest.raises(RequestError):
        energy(power, rate, tokens, devices, Site())


def predicted(rate, batch):
    spread = Estimate(rate, 0.8 * rate, 1.2 * rate)
    return Prediction(Estimate(0.1, 0.1, 0.1), Estimate(0.02, 0.02, 0.02), spread, batch, "memory", 0.1, 0.5, 0.1)


def test_predicted_energy_falls_per_token_as_the_batch_grows():
    deployment, workload = Deployment(GPU, DENSE, tensor=2), Workload(300, 600, concurrency=8)
    small = predicted_energy(deployment, workload, predicted(800, 8), MODEL, Site())
    large = predicted_energy(deployment, workload, predicted(8000, 128), MODEL, Site())
    assert large.device_w.value > small.device_w.value
    assert large.joule_per_output_token.value < small.joule_per_output_token.value / 4
    assert small.device_w.low == pytest.approx(0.8 * small.device_w.value)
    assert small.device_w.value < 2 * GPU.tdp_w
    assert small.extrapolated == ()


def test_copies_share_the_batch_and_unknown_hardware_is_marked():
    workload = Workload(300, 600, concurrency=16)
    one = predicted_energy(Deployment(FP4_GPU, DENSE), workload, predicted(800, 8), MODEL, Site())
    two = predicted_energy(Deployment(FP4_GPU, DENSE, data=2), workload, predicted(1600, 16), MODEL, Site())
    assert two.device_w.value == pytest.approx(2 * one.device_w.value)
    assert "Bigger" in one.extrapolated[0]


def test_arrays_agree_with_scalars():
    import numpy as np

    activity = Activity(np.array([0.0, 1e12]), np.array([1e13, 2e14]))
    found = drawn_w(np.array([700.0, 400.0]), activity, MODEL)
    assert found[1] == pytest.approx(drawn_w(400.0, Activity(1e12, 2e14), MODEL))
