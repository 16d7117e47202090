"""Disaggregation: pools sized to one another, and when they beat copies that do both."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.deployment import Deployment
from farthing.economics.disaggregation import Asked, Pool, Transfer, interference_s, split, transfer_of
from farthing.economics.factors import Factors
from farthing.economics.step import StepCosts
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue

COSTS = StepCosts(
    weights_s=0.0133, experts_s=0.0, expert_miss=1.0, context_s=3e-8, window_s=0.0, token_s=6e-5, sampled_s=1e-6,
    pair_s=2e-10, link_s=0.001, link_token_s=1e-6, host_s=0.002, host_sequence_s=2e-5,
)  # fmt: skip
FACTORS = Factors(**dict.fromkeys(Factors._fields, 1.0) | {"ttft_s": 0.02, "burst": 0.0})
POOL = Pool(COSTS, FACTORS, devices=4, slots=256.0)
ASKED = Asked(input_tokens=4000, output_tokens=400, requests_per_s=20.0, tpot_s=0.03)
LINK = Transfer(kv_bytes=1.3e9, bytes_per_s=2e11)


def sized(asked=ASKED, link=LINK, prefill=POOL, decode=POOL):
    return split(prefill, decode, POOL, asked, link)


def test_both_pools_carry_the_rate():
    found = sized()
    prompt = 4000 * (6e-5 + 1e-6) + 4000 * 2000 * 2e-10 + 0.001 + 0.002 + 2e-5 + 1e-6
    assert found.prefill_copies == pytest.approx(20 * prompt / 0.7, rel=0.01)
    assert found.decode_copies * found.batch / (400 * found.tpot_s) == pytest.approx(20)
    assert found.devices == pytest.approx(4 * (found.prefill_copies + found.decode_copies))
    assert found.prefill_per_decode_device == pytest.approx(found.prefill_copies / found.decode_copies)


@given(st.floats(200, 20_000), st.floats(20, 2000), st.floats(0.1, 100), st.floats(0.02, 0.1))
def test_the_batch_is_the_largest_that_keeps_the_time_per_token(given_tokens, taken, rate, tpot):
    asked = Asked(given_tokens, taken, rate, tpot)
    found = sized(asked)
    assert found.tpot_s <= tpot
    more = found.batch + 1
    context = given_tokens + taken / 2
    step = 0.0133 + more * context * 3e-8 + 0.003 + more * (1e-6 + 2e-5)
    step += max(0.0, more * (6e-5 + 1e-6) - (0.0133 + more * context * 3e-8))
    assert found.batch == 256 or step > tpot
    twice = sized(replace(asked, requests_per_s=2 * rate))
    assert twice.devices == pytest.approx(2 * found.devices)
    assert twice.ttft_s == pytest.approx(found.ttft_s)


def test_longer_prompts_move_devices_to_prefill_and_longer_answers_away():
    plain = sized().prefill_per_decode_device
    assert sized(replace(ASKED, input_tokens=8000)).prefill_per_decode_device > plain
    assert sized(replace(ASKED, output_tokens=800)).prefill_per_decode_device < plain
    assert sized(replace(ASKED, cached_share=0.5)).prefill_per_decode_device < plain


def test_it_pays_under_a_tight_time_per_token_and_long_prompts_only():
    assert sized(replace(ASKED, tpot_s=0.022)).pays
    assert not sized(replace(ASKED, input_tokens=300, tpot_s=0.1)).pays
    alone = sized(replace(ASKED, input_tokens=200_000, tpot_s=0.03))
    assert alone.collocated_devices is None
    assert alone.pays, "one prompt alone stretches iterations beyond the bound"


def test_prompts_stretch_tokens_by_their_share():
    short, long = (interference_s(POOL, replace(ASKED, input_tokens=tokens), 32.0) for tokens in (500, 8000))
    assert 0 < short < long
    assert interference_s(POOL, replace(ASKED, cached_share=0.9), 32.0) < interference_s(POOL, ASKED, 32.0)


def test_the_first_token_waits_for_its_cache():
    slow = sized(link=replace(LINK, bytes_per_s=2e10))
    assert slow.ttft_s - sized().ttft_s == pytest.approx(slow.transfer_s - LINK.seconds)
    assert slow.transfer_s == pytest.approx(1.3e9 / 2e10 + 1e-3)
    hidden = replace(LINK, hidden_share=1.0)
    assert hidden.seconds == pytest.approx(1e-3)


def test_a_link_slower_than_prefill_takes_more_copies():
    found = sized(link=replace(LINK, bytes_per_s=1e9))
    assert found.prefill_copies == pytest.approx(20 * 1.3 / 0.7)


def test_the_first_token_in_known_seconds():
    prompt = 2000 * (6e-5) + 1e-6 + 2000 * 3000 * 2e-10 + 0.001 + 2000 * 1e-6 + 0.002 + 2e-5
    found = sized(replace(ASKED, cached_share=0.5, prefill_utilisation=0.8))
    waits = 0.8 / (2 * 0.2) * prompt  # M/D/1
    assert found.ttft_s == pytest.approx(0.02 + waits + prompt + LINK.seconds + found.tpot_s)


def test_a_prompt_waits_longer_the_busier_prefill_is():
    calm, busy = (sized(replace(ASKED, prefill_utilisation=share)) for share in (0.3, 0.9))
    assert calm.ttft_s < busy.ttft_s
    assert calm.prefill_copies > busy.prefill_copies


def test_a_cache_in_known_bytes():
    known = catalogue()
    llama = Deployment(known.hardware_named("H100"), known.architecture_named("llama-3-8b"))
    assert transfer_of(llama, 1000, 1e9).kv_bytes == 131_072_000
    assert transfer_of(replace(llama, kv="fp8"), 1000, 1e9).kv_bytes == 65_536_000
    near = Deployment(known.hardware_named("H100"), known.architecture_named("gpt-oss-20b"))
    short, long = (transfer_of(near, tokens, 1e9).kv_bytes for tokens in (100, 10_000))
    assert long < 60 * short, "layers with a window send no more than that"


def test_a_bound_that_one_sequence_misses_is_refused_with_the_factor():
    with pytest.raises(RequestError, match="times the 10 ms allowed"):
        sized(replace(ASKED, tpot_s=0.010))


@pytest.mark.parametrize(
    ("asked", "link", "pool"),
    [
        (replace(ASKED, input_tokens=0), LINK, POOL), (replace(ASKED, requests_per_s=-1), LINK, POOL),
        (replace(ASKED, tpot_s=math.nan), LINK, POOL), (replace(ASKED, cached_share=1.0), LINK, POOL),
        (replace(ASKED, prefill_utilisation=1.0), LINK, POOL), (ASKED, replace(LINK, bytes_per_s=0.0), POOL),
        (ASKED, replace(LINK, kv_bytes=-1.0), POOL), (ASKED, replace(LINK, hidden_share=2.0), POOL),
        (ASKED, LINK, POOL._replace(devices=0)), (ASKED, LINK, POOL._replace(slots=0.0)),
        (ASKED, LINK, POOL._replace(slots=np.nan)),
    ],
)  # fmt: skip
def test_senseless_pools_are_refused(asked, link, pool):
    with pytest.raises(RequestError):
        sized(asked, link, prefill=pool)
