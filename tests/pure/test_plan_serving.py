"""The steady state of a load in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.economics.deployment import Deployment, Workload
from farthing.economics.predicting import predict
from farthing.economics.prediction import Prediction
from farthing.economics.serving import Load, closed_loop, decode_step_s, static_batch
from farthing.economics.terms import demand, stacked, step_costs
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue, shipped_calibration

FACTS, CALIBRATION = catalogue(), shipped_calibration()
LLAMA = Deployment(FACTS.hardware_named("H100 SXM"), FACTS.architecture_named("llama-3-8b"))
FACTORS = CALIBRATION.factors(LLAMA)
COSTS = step_costs(demand(LLAMA), FACTORS)


def serve(concurrency: float, given: float = 1000, taken: float = 500, slots: float = 256, **more: float):
    return closed_loop(COSTS, FACTORS, Load(concurrency, given, taken, slots, **more))


def test_one_caller_waits_for_its_prompt_and_then_for_one_iteration_per_token():
    served = serve(1)

    assert served.tpot_s == pytest.approx(decode_step_s(COSTS, Load(1, 1000, 500, 256), 1), rel=0.05)
    assert served.output_tokens_per_s == pytest.approx(500 / (served.ttft_s + 499 * served.tpot_s))
    assert served.queued_s == 0


@given(st.floats(1, 200), st.floats(1, 56), st.floats(10, 5000), st.floats(10, 2000))
@settings(max_examples=50)
def test_more_callers_are_served_faster_in_all_and_slower_each(callers, more, given, taken):
    few, many = serve(callers, given, taken), serve(callers + more, given, taken)

    assert many.output_tokens_per_s >= few.output_tokens_per_s * (1 - 1e-3)
    assert many.tpot_s >= few.tpot_s * (1 - 1e-6)
    assert 0 <= many.prefill_share <= 1


def test_callers_beyond_the_slots_wait_by_littles_law():
    at, beyond = serve(64, slots=64), serve(128, slots=64)

    assert beyond.output_tokens_per_s == pytest.approx(at.output_tokens_per_s)
    assert beyond.ttft_s - at.ttft_s == pytest.approx(at.ttft_s + 500 * at.tpot_s)


def test_a_cached_prefix_saves_its_prefill():
    cold, warm = serve(32, 8000), serve(32, 8000, cached_share=0.9)

    assert warm.tpot_s < cold.tpot_s
    assert warm.ttft_s < cold.ttft_s


def test_a_static_batch_that_does_not_fit_takes_turns():
    once, twice = (static_batch(COSTS, FACTORS, Load(callers, 128, 128, 64)) for callers in (64, 128))

    assert twice.output_tokens_per_s == pytest.approx(once.output_tokens_per_s)


def test_many_deployments_are_one_computation():
    rows = [LLAMA, Deployment(LLAMA.hardware, FACTS.architecture_named("llama-3-70b"), tensor=4)]
    factors = stacked([CALIBRATION.factors(row) for row in rows])
    load = Load(np.array([8.0, 8.0]), 1000.0, 500.0, np.array([256.0, 256.0]))

    whole = closed_loop(step_costs(stacked([demand(row) for row in rows]), factors), factors, load)

    assert whole.tpot_s[0] == pytest.approx(float(serve(8).tpot_s))
    assert whole.tpot_s[1] > whole.tpot_s[0]


def told(**load: float) -> Prediction:
    return predict(LLAMA, Workload(1000, 500, **load), CALIBRATION)


def test_a_prediction_states_intervals_and_what_binds():
    one, many = told(concurrency=1), told(concurrency=128)

    for found in (one, many):
        for estimate in (found.ttft_s, found.tpot_s, found.output_tokens_per_s):
            assert estimate.low < estimate.value < estimate.high
    assert one.bound == "memory"
    assert one.utilisation_memory > 0.3 > one.utilisation_compute
    assert many.utilisation_compute > one.utilisation_compute
    assert not one.extrapolated


def test_what_lies_outside_of_the_measurements_is_marked():
    far = predict(LLAMA, Workload(100_000, 500, concurrency=2), CALIBRATION)
    unseen = predict(
        Deployment(FACTS.hardware_named("L4"), FACTS.architecture_named("llama-3-8b"), weights="fp8"),
        Workload(500, 100, concurrency=2),
        CALIBRATION,
    )

    assert any("input tokens" in mark for mark in far.extrapolated)
    assert "new hardware" in unseen.extrapolated
    assert unseen.tpot_s.high / unseen.tpot_s.low > told(concurrency=2).tpot_s.high / told(concurrency=2).tpot_s.low


def test_random_arrivals_hold_what_their_rate_keeps_busy():
    slow, fast = told(requests_per_s=0.5), told(requests_per_s=10)

    assert fast.batch > slow.batch >= 0
    assert fast.output_tokens_per_s.value == pytest.approx(10 * 500, rel=0.15)


def test_a_rate_beyond_capacity_is_refused_with_the_replicas_it_takes():
    with pytest.raises(RequestError, match="more than the replica serves") as refusal:
        told(requests_per_s=1e4)

    assert "replicas" in refusal.value.hint


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (Workload(1000, 500), "either callers at once or requests per second"),
        (Workload(1000, 500, concurrency=1, requests_per_s=1), "one of them only"),
        (Workload(0, 500, concurrency=1), "0 input tokens"),
        (Workload(1000, -1, concurrency=1), "-1 output tokens"),
        (Workload(1000, float("nan"), concurrency=1), "nan output tokens"),
        (Workload(1000, 500, concurrency=1, cached_share=1.0), "share of 1"),
        (Workload(9e9, 500, concurrency=1), "No sequence"),
    ],
)
def test_a_senseless_load_is_refused(workload, message):
    with pytest.raises(RequestError, match=message):
        predict(LLAMA, workload, CALIBRATION)


def test_a_model_that_does_not_fit_is_refused_with_what_is_missing():
    with pytest.raises(RequestError, match="does not fit"):
        predict(
            Deployment(LLAMA.hardware, FACTS.architecture_named("llama-3-70b")),
            Workload(9, 9, concurrency=1),
            CALIBRATION,
        )
