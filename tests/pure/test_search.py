"""The search for what to run on: the frontier, what is chosen, and why the rest is out."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec.structs import replace

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Workload
from farthing.economics.factors import Factors
from farthing.economics.hardware import Hardware
from farthing.economics.searching.anatomy import cost_parts, thresholds, under_load
from farthing.economics.searching.forbidding import decode_terms_s, nearest, reason, refusal
from farthing.economics.searching.frontier import frontier
from farthing.economics.searching.options import Offer, Question, Slo
from farthing.economics.searching.search import search
from farthing.economics.searching.sensitivity import swings
from farthing.economics.searching.space import Space, deployments, in_words, layouts
from farthing.errors import RequestError

GB = 1e9
TYPICAL = {
    "memory_efficiency": 0.75, "expert_memory_efficiency": 0.6, "context_efficiency": 0.6, "compute_efficiency": 0.45,
    "expert_compute_efficiency": 0.3, "attention_efficiency": 0.3, "expert_spread": 0.9, "overlap": 1.0,
    "link_latency": 2.0, "link_efficiency": 0.6, "layer_s": 2e-5, "step_s": 5e-4, "sequence_s": 2.5e-5, "ttft_s": 0.01,
    "ttft_steps": 1.5, "waiting": 1.0, "scale": 1.0, "ttft_scale": 1.0,
}  # fmt: skip
FACTORS = Factors(**{name: TYPICAL.get(name, float(name.endswith("scale"))) for name in Factors._fields})


def device(name: str, memory_gb: float, gb_per_s: float, bf16_tflops: float, link_gb_per_s: float = 450.0) -> Hardware:
    return Hardware(
        name=name, vendor="", kind="gpu", flop_per_s={"bf16": bf16_tflops * 1e12, "fp8": 2e12 * bf16_tflops},
        memory_bytes=memory_gb * GB, memory_bytes_per_s=gb_per_s * GB, link_bytes_per_s=link_gb_per_s * GB,
        link_latency_s=3e-6, link_devices=8, tdp_w=700, idle_w=None, source="", date="",
    )  # fmt: skip


BIG = device("Big", 80, 3350, 989)
SMALL = device("Small", 24, 300, 121, 32)
LLAMA_70B = Architecture("70B", 80, 8192, 64, 8, 128, 28672, 128256, full_layers=80, dense_layers=80)
LLAMA_8B = Architecture("8B", 32, 4096, 32, 8, 128, 14336, 128256, full_layers=32, dense_layers=32)
MIXTURE = Architecture(
    "MoE", 48, 2048, 32, 4, 128, 0, 151936, full_layers=48, experts=128, top_k=8, expert_ffn=768
)  # fmt: skip
WORK = Workload(1000, 300, requests_per_s=5.0)
SLO = Slo(ttft_s=1.0, tpot_s=0.04)


OFFERS = (Offer(BIG, 3.0, "big"), Offer(SMALL, 0.8, "small"))


def asked(architecture=LLAMA_8B, offers=OFFERS, work=WORK, slo=SLO, **space):
    return Question(architecture, tuple(offers), work, slo, Space(**space))


def found(question):
    return search(question, lambda deployment: FACTORS)


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.sampled_from((2, 3))), elements=st.integers(0, 6)))
def test_the_frontier_is_what_nothing_else_beats(values):
    kept = frontier(values)
    for index, row in enumerate(values):
        others = np.delete(np.arange(len(values)), index)
        covers = [other for other in others if (values[other] <= row).all()]
        beaten = any((values[other] < row).any() or other < index for other in covers)
        assert kept[index] != beaten


def test_a_frontier_through_nothing_finite_is_refused():
    with pytest.raises(RequestError, match="not finite"):
        frontier(np.array([[1.0, np.nan]]))


def test_the_best_is_the_cheapest_that_keeps_the_limits():
    result = found(asked())
    options = [outlook.option for outlook in result.outlooks if outlook.option]
    assert len(options) == 2
    costs = [option.usd_per_million_output_tokens for option in options]
    assert costs == sorted(costs)
    for option in options:
        assert option.meets
        assert option.ttft_s <= 1.0
        assert option.tpot_s <= 0.04
        assert option.requests_per_s == pytest.approx(5.0)
        tokens_per_h = 5.0 * 300 * 3600
        assert option.usd_per_million_output_tokens == pytest.approx(option.usd_per_h / tokens_per_h * 1e6)
        assert option.usd_per_h == pytest.approx(option.devices * option.offer.usd_per_device_h)
    meeting = [option for option in (*result.frontier, *result.others) if option.meets]
    assert min(option.usd_per_million_output_tokens for option in meeting) >= costs[0] * (1 - 1e-9)


def test_nothing_on_the_frontier_is_beaten():
    points = [(o.usd_per_million_output_tokens, o.tpot_s, o.ttft_s) for o in found(asked()).frontier]
    assert len(points) > 3
    for one in points:
        assert not any(all(a <= b for a, b in zip(other, one, strict=True)) for other in points if other != one)


@settings(max_examples=15, deadline=None)
@given(rate=st.floats(0.1, 300), more=st.floats(1.1, 5), tpot=st.floats(0.02, 0.2), looser=st.floats(1.1, 3))
def test_more_load_never_costs_less_an_hour_and_a_looser_limit_never_costs_more(rate, more, tpot, looser):
    def usd(rate, tpot):
        best = found(asked(work=replace(WORK, requests_per_s=rate), slo=Slo(tpot_s=tpot), max_devices=4)).best
        return best.usd_per_h if best else math.inf

    base = usd(rate, tpot)
    assert usd(rate * more, tpot) >= base * (1 - 1e-9)
    assert usd(rate, tpot * looser) <= base * (1 + 1e-9)


def test_callers_at_once_are_served_too():
    result = found(asked(work=Workload(1000, 300, concurrency=64)))
    best = result.best
    assert best is not None
    assert best.tpot_s <= 0.04
    each = 64 / best.replicas
    assert best.requests_per_s == pytest.approx(64 / (best.ttft_s + 299 * best.tpot_s), rel=0.1)
    assert best.held * best.deployment.data == pytest.approx(each)


def test_rent_comes_in_whole_units():
    alone = found(asked(offers=(Offer(BIG, 3.0, "one"),))).best
    node = found(asked(offers=(Offer(BIG, 3.0, "node", unit=8),))).best
    both = found(asked(offers=(Offer(BIG, 3.0, "one"), Offer(BIG, 2.5, "node", unit=8)))).best
    assert alone.devices < 8
    assert node.usd_per_h == 24.0
    assert both.usd_per_h == min(alone.usd_per_h, 20.0)


def test_layouts_divide_the_model_and_keep_to_the_link():
    for tensor, pipeline, data, expert in layouts(BIG, MIXTURE, 16):
        assert MIXTURE.query_heads % tensor == 0
        assert tensor <= BIG.link_devices
        assert tensor * pipeline * data <= 16
        assert expert == 1 or (MIXTURE.experts % expert == 0 and expert == tensor * data)
    plain = list(layouts(BIG, LLAMA_8B, 8))
    assert plain == [(1, 1, 1, 1), (1, 2, 1, 1), (1, 4, 1, 1), (2, 1, 1, 1), (2, 2, 1, 1), (2, 4, 1, 1),
                     (4, 1, 1, 1), (4, 2, 1, 1), (8, 1, 1, 1)]  # fmt: skip
    assert in_words(deployments(BIG, MIXTURE, Space(weights=("fp8",), kv=("fp8",)))[0]) == "fp8, fp8 KV, TP1"


def test_experts_may_be_spread_over_copies_of_the_attention():
    result = found(asked(MIXTURE, work=replace(WORK, requests_per_s=200.0)))
    assert any(option.deployment.expert > 1 for option in (*result.frontier, *result.others))


def test_the_parts_of_the_cost_sum_to_it():
    question = asked()
    best = found(question).best
    parts = cost_parts(best, question.workload, lambda deployment: FACTORS)
    assert sum(usd for _, usd in parts) == pytest.approx(best.usd_per_million_output_tokens)
    assert {"weights", "host"} <= {name for name, _ in parts}
    assert all(usd > 0 for _, usd in parts)


def test_times_grow_with_load_and_agree_with_the_option():
    question = asked()
    best = found(question).best
    loaded = under_load(best, question.workload, 90.0, lambda deployment: FACTORS)
    for before, after in pairwise(loaded):
        assert before.load < after.load
        assert before.tpot_s <= after.tpot_s
    at = np.interp(5.0, [one.load for one in loaded], [one.tpot_s for one in loaded])
    assert at == pytest.approx(best.tpot_s, rel=0.03)


def test_the_cost_moves_with_its_assumptions():
    question = asked(work=replace(WORK, requests_per_s=90.0))
    moved = {swing.name: swing for swing in swings(question, found(question).best, lambda deployment: FACTORS)}
    base = found(question).best.usd_per_million_output_tokens
    price = moved["price of the hardware"]
    assert (price.low_usd, price.high_usd) == pytest.approx((0.8 * base, 1.25 * base))
    assert {"length of answers", "load"} <= moved.keys()
    assert all(swing.low_usd != swing.high_usd for swing in moved.values())


def test_an_autoscaler_is_told_where_the_limits_break():
    question = asked()
    best = found(question).best
    limits = thresholds(best, question.workload, question.slo, lambda deployment: FACTORS)
    assert 1 <= limits.running <= best.deployment.max_sequences * best.deployment.data
    assert limits.waiting >= 1
    assert limits.requests_per_s >= best.requests_per_s / best.replicas


def test_a_model_that_fits_nowhere_says_what_is_missing():
    result = found(asked(LLAMA_70B, offers=(Offer(SMALL, 0.8, "small"),), weights=("bf16",), max_devices=1))
    assert result.best is None
    error = refusal(result, asked(LLAMA_70B))
    assert "fits on nothing" in error.message
    assert "GiB" in error.message
    assert error.facts["weights_bytes"] > error.facts["allowed_bytes"]


def test_a_limit_that_physics_forbids_says_which_term_and_by_how_much():
    question = asked(LLAMA_70B, offers=(Offer(BIG, 3.0, "big"),), slo=Slo(tpot_s=0.004), weights=("bf16",))
    result = found(question)
    assert result.best is None
    error = refusal(result, question)
    closest = nearest(result.outlooks[0].fastest, question.slo)
    assert error.facts["bound"] == "tpot_s"
    assert error.facts["nearest_s"] == pytest.approx(closest.tpot_s)
    assert "reading 139 GB of weights at 3.35 TB/s takes 41.5 ms > 4 ms" in error.message
    assert f"{1e3 * (closest.tpot_s - 0.004):.3g} ms too long" in error.message
    terms = decode_terms_s(closest, question.workload)
    for name, took in terms.items():
        assert f"{name} {took * 1e3:.3g} ms" in error.message
    assert sum(terms.values()) < closest.tpot_s
    assert "first token" not in error.message


@pytest.mark.parametrize(("slo", "what"), [(Slo(ttft_s=1e-3), "the first token"), (Slo(e2e_s=0.1), "the whole answer")])
def test_every_limit_can_be_the_one_that_forbids(slo, what):
    question = asked(slo=slo)
    result = found(question)
    assert what in refusal(result, question).message
    assert all(reason(outlook, question).startswith(what) for outlook in result.outlooks)


def test_hardware_that_is_out_says_why():
    question = asked(LLAMA_70B, slo=Slo(tpot_s=0.03), weights=("bf16",), max_devices=4)
    outlooks = {outlook.hardware.name: outlook for outlook in found(question).outlooks}
    assert outlooks["Big"].option
    assert reason(outlooks["Small"], question).startswith("memory: 70B in bf16 does not fit")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"work": Workload(1000, 300)}, "either a rate or a number"),
        ({"work": Workload(1000, 300, 4.0, 2.0)}, "either a rate or a number"),
        ({"work": Workload(-5, 300, requests_per_s=1)}, "input tokens are -5"),
        ({"work": Workload(1000, math.nan, requests_per_s=1)}, "output tokens are nan"),
        ({"work": Workload(1000, 300, requests_per_s=math.inf)}, "requests per second are inf"),
        ({"work": Workload(1000, 300, requests_per_s=1, cached_share=1.0)}, "cached share"),
        ({"slo": Slo(tpot_s=0.0)}, "seconds per output token are 0"),
        ({"slo": Slo(ttft_s=5.0, e2e_s=2.0)}, "first token may take 5 s"),
        ({"slo": Slo(tpot_s=0.1, percentile=100)}, "no percentile 100"),
        ({"offers": (Offer(BIG, -1.0, "big"),)}, "-1 dollars"),
        ({"offers": (Offer(BIG, math.nan, "big"),)}, "nan dollars"),
        ({"weights": ("fp9",)}, "fp9"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(changed, message):
    with pytest.raises(RequestError, match=message):
        found(asked(**changed))


def test_a_full_search_takes_seconds():
    offers = [Offer(device(f"D{n}", 24 + 8 * n, 300 + 200 * n, 100 + 80 * n), 1.0, "") for n in range(22)]
    question = asked(LLAMA_70B, offers, weights=("bf16", "fp8", "int8", "int4"), kv=("bf16", "fp8"))
    began = time.process_time()
    assert found(question).considered > 10_000
    assert time.process_time() - began < 5
