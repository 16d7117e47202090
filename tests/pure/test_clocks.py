"""Clocks: what slower cores cost in time and save in energy."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farthing.economics.deployment import Deployment, Workload
from farthing.economics.energy.clocks import (
    GDDR_PJ_PER_BYTE,
    Draw,
    Phases,
    capped,
    clocked,
    draw_of,
    phases_of,
    thriftiest,
)
from farthing.economics.energy.power import activity_of
from farthing.economics.serving import Load, decode_step_s
from farthing.economics.terms import demand, step_costs
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue, shipped_calibration
from farthing.wiring.power import power_model

DECODE = Phases(memory_s=0.020, compute_s=0.001, fixed_s=0.002)
PREFILL = Phases(memory_s=0.002, compute_s=0.050, fixed_s=0.002)
GPU = Draw(idle_w=90.0, memory_w=60.0, core_w=300.0)

seconds = st.floats(1e-6, 1.0)
watts = st.floats(1.0, 1000.0)
phases = st.builds(Phases, seconds, seconds, st.floats(0, 0.1), st.floats(0, 1))
draws = st.builds(Draw, watts, watts, watts)


def test_decoding_hardly_notices_a_clock_that_prefill_pays_in_full():
    half = 0.5
    assert clocked(DECODE, GPU, half).step_s == pytest.approx(0.022)
    assert clocked(PREFILL, GPU, half).step_s == pytest.approx(0.102)
    assert clocked(DECODE, GPU, half).joule_per_step < 0.6 * clocked(DECODE, GPU, 1.0).joule_per_step


def test_power_at_full_clock_is_all_of_it():
    assert clocked(DECODE, GPU, 1.0).power_w == pytest.approx(450)


def test_reading_takes_as_many_joules_at_any_clock():
    memory = Draw(idle_w=0.0, memory_w=60.0, core_w=0.0)
    assert clocked(PREFILL, memory, 0.3).joule_per_step == pytest.approx(clocked(PREFILL, memory, 1.0).joule_per_step)


@given(phases, draws, st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_lower_clock_is_never_quicker_nor_draws_more(phases, draw, one, other):
    low, high = (clocked(phases, draw, clock) for clock in sorted((one, other)))
    assert low.step_s >= high.step_s * (1 - 1e-12)
    assert low.power_w <= high.power_w * (1 + 1e-12)


@given(phases, draws)
def test_energy_over_the_clock_is_a_u(phases, draw):
    seen = clocked(phases, draw, np.geomspace(0.05, 1, 400))
    turns = np.sign(np.round(np.diff(np.log(seen.joule_per_step)), 12))
    turns = turns[turns != 0]
    assert (np.diff(turns) >= 0).all(), "falls, then rises"


def test_both_sides_of_the_u_are_there():
    best = thriftiest(PREFILL, GPU, 0.05)
    assert 0.1 < best.clock < 0.9
    for clock in (best.clock / 2, 1.0):
        assert clocked(PREFILL, GPU, clock).joule_per_step > 1.05 * best.joule_per_step


@given(phases, draws, st.floats(0.05, 0.9), st.floats(1.0, 3.0))
def test_the_thriftiest_clock_keeps_the_bound_and_nothing_tried_beats_it(phases, draw, lowest, slack):
    most_s = float(clocked(phases, draw, 1.0).step_s) * slack
    best = thriftiest(phases, draw, lowest, most_s)
    assert lowest <= best.clock <= 1
    assert best.step_s <= most_s
    for clock in np.linspace(lowest, 1, 37):
        tried = clocked(phases, draw, float(clock))
        assert tried.step_s > most_s or tried.joule_per_step >= best.joule_per_step * (1 - 1e-3)


def test_a_bound_that_the_full_clock_misses_is_refused_with_the_factor():
    with pytest.raises(RequestError, match=r"2\.2 times"):
        thriftiest(DECODE, GPU, 0.1, 0.010)


@given(phases, draws, st.floats(0.05, 0.9), st.floats(0.3, 1.5))
def test_a_cap_is_kept_and_used(phases, draw, lowest, share):
    cap_w = share * sum(draw)
    assume(cap_w > float(clocked(phases, draw, lowest).power_w))
    found = capped(phases, draw, cap_w, lowest)
    assert found.power_w <= cap_w * (1 + 1e-12)
    assert found.clock == 1 or found.power_w > cap_w * (1 - 1e-6)


def test_a_cap_costs_decoding_less_than_prefill():
    slow, slower = (
        capped(phases, GPU, 300.0, 0.1).step_s / clocked(phases, GPU, 1.0).step_s for phases in (DECODE, PREFILL)
    )
    assert slow == pytest.approx(1)
    assert slower > 1.2


def test_a_cap_below_the_lowest_clock_is_refused_with_the_watts():
    with pytest.raises(RequestError, match="W above the cap"):
        capped(DECODE, GPU, 100.0, 0.2)


@pytest.mark.parametrize(
    ("phases", "draw", "clock"),
    [
        (DECODE._replace(memory_s=-1), GPU, 0.5), (DECODE._replace(fixed_s=math.nan), GPU, 0.5),
        (Phases(0, 0), GPU, 0.5), (DECODE._replace(overlap=1.5), GPU, 0.5), (DECODE, GPU._replace(idle_w=-1), 0.5),
        (DECODE, GPU, 0.0), (DECODE, GPU, 1.1), (DECODE, GPU, math.nan), (DECODE, GPU, -0.5),
    ],
)  # fmt: skip
def test_senseless_clocks_are_refused(phases, draw, clock):
    with pytest.raises(RequestError):
        clocked(phases, draw, clock)


@pytest.mark.parametrize("lowest", [0.0, -1.0, 1.5, math.nan])
def test_senseless_bounds_are_refused(lowest):
    with pytest.raises(RequestError):
        thriftiest(DECODE, GPU, lowest)
    with pytest.raises(RequestError):
        capped(DECODE, GPU, 300.0, lowest)
    with pytest.raises(RequestError):
        capped(DECODE, GPU, -300.0, 0.5)


@pytest.fixture(scope="module")
def known():
    return catalogue()


def decoding(known, hardware, model, batch, pj_per_byte, context=(100, 300)):
    deployment = Deployment(known.hardware_named(hardware), known.architecture_named(model))
    factors = shipped_calibration().factors(deployment, Workload(*context, concurrency=batch))
    costs = step_costs(demand(deployment), factors)
    load = Load(float(batch), *context, slots=np.inf)
    step = float(decode_step_s(costs, load, float(batch)))
    activity = activity_of(deployment, load, step, ())
    phases = phases_of(costs, load)
    assert float(clocked(phases, Draw(1, 1, 1), 1.0).step_s) == pytest.approx(step)
    return phases, draw_of(deployment.hardware, activity, power_model(), pj_per_byte)


@pytest.mark.parametrize("model", ["llama-3-8b", "qwen3-32b"])
def test_a_published_saving_of_decoding_at_180_of_2842_mhz(known, model):
    """arXiv 2501.08219: 42 % less energy at 1 to 6 % more latency on an RTX PRO 6000, models up to 32B, one by one."""
    phases, draw = decoding(known, "RTX PRO 6000", model, 1, GDDR_PJ_PER_BYTE)
    full, slow = (clocked(phases, draw, clock) for clock in (1.0, 180 / 2842))
    assert 1.01 <= slow.step_s / full.step_s <= 1.06
    assert 1 - slow.joule_per_step / full.joule_per_step == pytest.approx(0.42, abs=0.08)


def test_a_published_clock_of_an_a100(known):
    """arXiv 2408.05235: up to 44 % saved on an A100 within a bound; Voltana: 1005 of 1410 MHz are its best."""
    phases, draw = decoding(known, "A100 SXM 80GB", "llama-3-8b", 64, 31.0, (500, 500))
    full = clocked(phases, draw, 1.0)
    best = thriftiest(phases, draw, 0.15, 1.06 * float(full.step_s))
    assert best.clock * 1410 == pytest.approx(1005, rel=0.15)
    assert 1 - best.joule_per_step / full.joule_per_step == pytest.approx(0.438, abs=0.06)


def test_draw_splits_what_the_power_model_says(known):
    _, draw = decoding(known, "H100", "llama-3-8b", 8, 31.0)
    assert 0.05 * 700 < draw.idle_w < 0.3 * 700
    assert 0 < draw.memory_w < draw.core_w
    with pytest.raises(RequestError):
        decoding(known, "H100", "llama-3-8b", 8, 0.0)
