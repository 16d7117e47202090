"""The time of one iteration, and what a deployment needs of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.deployment import Deployment
from farthing.economics.step import StepCosts, step_seconds
from farthing.economics.terms import demand, stacked
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue

FACTS = catalogue()
COSTS = StepCosts(5e-3, 2e-3, 0.94, 1e-8, 1e-9, 2e-6, 1e-6, 1e-12, 1e-4, 1e-7, 2e-3, 2e-5)
AMOUNTS = st.floats(0, 1e5)


def of(model: str, hardware: str = "H100 SXM", **how: object) -> Deployment:
    return Deployment(FACTS.hardware_named(hardware), FACTS.architecture_named(model), **how)


def test_an_empty_iteration_reads_the_shared_weights_and_pays_the_host():
    assert step_seconds(COSTS, 0, 0, 0, 0, 0, 0) == pytest.approx(5e-3 + 1e-4 + 2e-3)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=5))
def test_arrays_and_scalars_agree(rows):
    columns = [np.array(column) for column in zip(*rows, strict=True)]

    whole = step_seconds(COSTS, *columns)

    assert list(whole) == [pytest.approx(step_seconds(COSTS, *row), rel=1e-12) for row in rows]


@given(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS), st.integers(0, 5), st.floats(1, 1e4))
def test_more_work_never_takes_less_time(amounts, which, more):
    heavier = tuple(amount + more * (place == which) for place, amount in enumerate(amounts))

    assert step_seconds(COSTS, *heavier) >= step_seconds(COSTS, *amounts) * (1 - 1e-12)


@given(st.floats(0, 1))
def test_overlap_lies_between_the_sum_and_the_longer(overlap):
    roofline, summed = (
        step_seconds(COSTS._replace(overlap=share), 64, 64_000, 0, 2048, 1e6, 1) for share in (1.0, 0.0)
    )

    assert roofline <= step_seconds(COSTS._replace(overlap=overlap), 64, 64_000, 0, 2048, 1e6, 1) <= summed


def test_a_dense_model_reads_its_weights_and_two_flops_per_weight():
    needs = demand(of("llama-3-8b"))

    assert needs.shared_bytes + needs.head_bytes == pytest.approx(2 * 7.5e9, rel=0.01)
    assert needs.token_flop + needs.sampled_flop == pytest.approx(2 * 7.5e9, rel=0.01)
    assert needs.context_bytes == 131_072
    assert (needs.expert_bytes, needs.link_hops, needs.link_token_bytes) == (0, 0, 0)


def test_tensor_parallelism_splits_work_and_adds_two_all_reduces_per_layer():
    one, four = demand(of("llama-3-70b")), demand(of("llama-3-70b", tensor=4))

    assert four.shared_bytes == pytest.approx(one.shared_bytes / 4)
    assert four.token_flop == pytest.approx(one.token_flop / 4)
    assert four.link_hops == 2 * 80 * math.log2(4)
    assert four.link_token_bytes == pytest.approx(2 * 80 * 2 * 3 / 4 * 8192 * 2)


def test_a_pipeline_reads_weights_in_turn_and_shares_tokens_out():
    one, two = demand(of("llama-3-70b", tensor=4)), demand(of("llama-3-70b", tensor=4, pipeline=2))

    assert two.shared_bytes == pytest.approx(one.shared_bytes)
    assert two.token_flop == pytest.approx(one.token_flop / 2)
    assert two.context_bytes == pytest.approx(one.context_bytes / 2)


def test_a_mixture_misses_an_expert_with_the_chance_that_no_token_needs_it():
    needs = demand(of("qwen3-30b-a3b"))

    assert needs.expert_miss == pytest.approx(1 - 8 / 128)
    assert needs.expert_token_flop == pytest.approx(2 * 48 * 8 * 3 * 2048 * 768)


def test_a_latent_cache_is_repeated_on_every_device():
    assert demand(of("deepseek-v3", "H200", tensor=8, weights="fp8")).context_bytes == 61 * 576 * 2


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(RequestError, match="not known"):
        demand(of("llama-3-8b", weights="fp3"))


def test_stacked_rows_are_arrays_in_order():
    rows = [demand(of("llama-3-8b")), demand(of("llama-3-70b", tensor=4))]

    whole = stacked(rows)

    assert list(whole.layers) == [32, 80]
    assert whole.shared_bytes.shape == (2,)
