"""A fleet, iteration by iteration: what must hold whatever the trace."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.economics.step import StepCosts, step_seconds
from farthing.errors import RequestError
from farthing.simulation.fleet.arrivals import Arrivals, arrivals
from farthing.simulation.fleet.fleet import Autoscaler, Engine, Failures, Fleet, Router, Spot
from farthing.simulation.fleet.generating import Traffic, generated
from farthing.simulation.fleet.simulate import simulate

COSTS = StepCosts(5e-3, 0.0, 1.0, 2e-8, 0.0, 2e-5, 1e-6, 1e-10, 0.0, 0.0, 1e-3, 2e-5)
SMALL = Engine(kv_tokens=4096, max_sequences=8, max_batched_tokens=256)


def fleet(engine: Engine = SMALL, **how: object) -> Fleet:
    return Fleet(engine, COSTS, **{"cold_start_s": 5.0, **how})


@st.composite
def traces(draw: st.DrawFn) -> Arrivals:
    rows = draw(
        st.lists(
            st.tuples(st.floats(0, 0.2), st.integers(1, 900), st.integers(1, 120), st.integers(0, 2)),
            min_size=1,
            max_size=40,
        )
    )
    waits, given_, taken, priority = zip(*rows, strict=True)
    return arrivals(np.cumsum(waits), given_, taken, priority)


@given(traces(), st.sampled_from(["round_robin", "least_loaded", "prefix_affine"]), st.integers(1, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_request_is_served_once_and_whole(trace, route, replicas, chunked):
    engine = Engine(
        kv_tokens=2048, max_sequences=6, max_batched_tokens=128 if chunked else 1024, chunked_prefill=chunked
    )

    seen = simulate(fleet(engine, replicas=replicas, router=Router(route)), trace)

    assert (seen.requests, seen.finished, seen.unfinished) == (len(trace), len(trace), 0)
    assert seen.output_tokens == trace.output_tokens.sum()
    assert seen.input_tokens == trace.input_tokens.sum()
    served = seen.served
    assert (served["scheduled_s"] >= served["arrival_s"] - 1e-9).all()
    assert (served["first_s"] > served["scheduled_s"] - 1e-9).all()
    assert (served["last_s"] >= served["first_s"] - 1e-9).all()
    assert 0 < seen.busy_share <= 1 + 1e-9
    assert seen.mean_batch <= 6


@given(traces(), st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_leaping_over_iterations_changes_nothing(trace, replicas):
    leaping, stepping = (simulate(fleet(replicas=replicas), trace, stepwise=stepwise) for stepwise in (False, True))

    assert leaping.iterations == stepping.iterations
    assert leaping.preemptions == stepping.preemptions
    for name in ("first_s", "last_s"):
        assert leaping.served[name] == pytest.approx(stepping.served[name], rel=1e-9)


def test_one_request_alone_takes_its_prompt_and_an_iteration_per_token():
    seen = simulate(fleet(Engine(kv_tokens=4096, max_batched_tokens=8192)), arrivals([0.0], [1000], [5]))

    prompt = step_seconds(COSTS, 0, 0, 0, 1000, 1000 * 1000 / 2, 1)
    assert seen.ttft.p50_s == pytest.approx(prompt, rel=0.01)
    tokens = [step_seconds(COSTS, 1, 1000 + done, 0, 0, 0, 0) for done in range(1, 5)]
    assert seen.e2e.p50_s == pytest.approx(prompt + sum(tokens), rel=0.01)


def test_the_urgent_go_first():
    count = 40
    urgent = [place % 2 for place in range(count)]

    seen = simulate(fleet(), arrivals(np.zeros(count), [200] * count, [50] * count, urgent))

    waits = seen.served["scheduled_s"] - seen.served["arrival_s"]
    assert np.mean(waits[np.array(urgent) == 0]) < np.mean(waits[np.array(urgent) == 1]) / 2


def test_prompts_that_begin_alike_share_their_blocks():
    count, start = 12, list(range(8))
    given_ = [8 * 64 + 32] * count
    alike = arrivals(np.arange(count) * 2.0, given_, [4] * count, prefixes=[start] * count, prefix_tokens=64)
    apart = arrivals(np.arange(count) * 2.0, given_, [4] * count)

    shared, alone = simulate(fleet(), alike), simulate(fleet(), apart)

    assert alone.prefix_hit_share == 0
    assert shared.prefix_hit_share > 0.7
    assert shared.prefilled_tokens < alone.prefilled_tokens / 3
    assert shared.ttft.p50_s < alone.ttft.p50_s


def test_a_pool_that_is_too_small_preempts_and_still_serves_all():
    tight = Engine(kv_tokens=1024, max_sequences=8, max_batched_tokens=512)

    seen = simulate(fleet(tight), arrivals(np.zeros(16), [100] * 16, [300] * 16))

    assert seen.preemptions > 0
    assert seen.finished == 16


def test_more_replicas_serve_a_burst_sooner():
    burst = arrivals(np.zeros(64), [300] * 64, [100] * 64)

    one, four = simulate(fleet(), burst), simulate(fleet(replicas=4), burst)

    assert four.e2e.p99_s < one.e2e.p99_s / 2
    assert four.on_demand_s > 0


def test_an_autoscaler_adds_replicas_after_their_cold_start():
    steady = arrivals(np.arange(600) * 0.05, [300] * 600, [80] * 600)
    scaling = Autoscaler("requests", target=4.0, minimum=1, maximum=6, every_s=2.0, cooldown_s=30.0)

    alone, scaled = simulate(fleet(), steady), simulate(fleet(autoscaler=scaling), steady)

    assert scaled.cold_starts >= 1
    assert 1 < scaled.most_replicas <= 6
    assert scaled.e2e.p50_s < alone.e2e.p50_s
    early = scaled.served["last_s"] - scaled.served["arrival_s"]
    assert early[:100].max() > early[-100:].mean()


def test_interruptions_and_failures_lose_no_request():
    steady = arrivals(np.arange(2000) * 0.1, [200] * 2000, [50] * 2000)
    rough = fleet(replicas=4, spot=Spot(0.5, 120.0, notice_s=2.0), failures=Failures(0.05, repair_s=10.0))

    seen = simulate(rough, steady, np.random.default_rng(3))

    assert seen.finished == 2000
    assert seen.interruptions > 0
    assert seen.failures > 0
    assert seen.retries >= seen.interrupted > 0
    assert seen.spot_s > 0


def test_a_seed_is_a_run():
    steady = arrivals(np.arange(300) * 0.1, [200] * 300, [50] * 300)
    rough = fleet(replicas=3, spot=Spot(1.0, 200.0, notice_s=1.0))

    first, again, other = (simulate(rough, steady, np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert first.e2e == again.e2e
    assert first.spot_s == again.spot_s
    assert (first.e2e, first.spot_s) != (other.e2e, other.spot_s)


def test_chunks_of_a_trace_are_the_trace():
    traffic = Traffic(5.0, (1 / 24,) * 24, 1.0, np.array([[200, 40, 0], [800, 120, 0]], dtype=np.int32))

    chunks = list(generated(traffic, 400.0, np.random.default_rng(5)))
    whole = arrivals(
        *(
            np.concatenate([getattr(chunk, name) for chunk in chunks])
            for name in ("arrival_s", "input_tokens", "output_tokens")
        )
    )

    assert simulate(fleet(), chunks).e2e == simulate(fleet(), whole).e2e
    assert whole.arrival_s[-1] < 400
    assert len(whole) == pytest.approx(2000, rel=0.15)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (arrivals([], [], []), "holds no request"),
        (arrivals([1.0, 0.5], [10, 10], [10, 10]), "request 2 of the trace comes after a later one"),
        (arrivals([0.0], [0], [10]), "0"),
        (arrivals([0.0], [10], [-3]), "-3"),
        (arrivals([math.nan], [10], [10]), "nan"),
        (arrivals([0.0], [5000], [10]), "5000|5,000|4096|4,096"),
    ],
)
def test_a_trace_that_cannot_be_is_refused(trace, message):
    with pytest.raises(RequestError, match=message) as refusal:
        simulate(fleet(), trace)

    assert refusal.value.hint


@pytest.mark.parametrize(
    "bad",
    [
        fleet(Engine(kv_tokens=0)),
        fleet(replicas=0),
        Fleet(SMALL, COSTS._replace(host_s=math.nan)),
        Fleet(SMALL, COSTS._replace(token_s=-1.0)),
        fleet(Engine(kv_tokens=4096, max_sequences=512, max_batched_tokens=256)),
        fleet(spot=Spot(1.5, 1.0)),
        fleet(autoscaler=Autoscaler("requests", target=0.0)),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(bad):
    with pytest.raises(RequestError):
        simulate(bad, arrivals([0.0], [10], [10]), np.random.default_rng(1))
