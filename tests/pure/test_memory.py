"""Memory against what engines printed and checkpoints weigh, and the rules of sharding."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.economics.architecture import Architecture, LatentAttention, LinearAttention
from farthing.economics.deployment import Deployment
from farthing.economics.memory import (
    Capacity,
    KvBytes,
    capacity,
    device_kv_bytes,
    device_weights_bytes,
    kv_bytes_per_token,
    parameters,
    runtime,
    sequences_that_fit,
    weights_bytes,
)
from farthing.errors import RequestError
from farthing.wiring.planning import catalogue

GIB = 2**30
KNOWN = catalogue()


def deployed(hardware: str, model: str, **fields) -> Deployment:
    return Deployment(KNOWN.hardware_named(hardware), KNOWN.architecture_named(model), **fields)


MEASURED = [
    # What vLLM printed when it started: "GPU KV cache size", or num_gpu_blocks times the block size.
    # LLMServingSim bench/results/llama-3.1-8b-rtx4090/meta.json, vLLM 0.19.0
    ("RTX 4090", "llama-3-8b", {"memory_share": 0.9, "max_batched_tokens": 2048}, 41_408),
    # LLMServingSim bench/examples/RTXPRO6000/*/vllm/meta.json, vLLM 0.28.0
    ("RTX PRO 6000", "llama-3-8b", {"memory_share": 0.92, "max_sequences": 128, "max_batched_tokens": 2048}, 574_608),
    (
        "RTX PRO 6000",
        "qwen3-32b",
        {"tensor": 2, "memory_share": 0.92, "max_sequences": 128, "max_batched_tokens": 2048},
        462_144,
    ),
    (
        "RTX PRO 6000",
        "qwen3-30b-a3b",
        {"data": 2, "expert": 2, "memory_share": 0.92, "max_sequences": 128, "max_batched_tokens": 2048},
        605_104,
    ),
    # inference-sim/inference-sim eval/ground_truth/*/vllm.log, vLLM 0.11.0 on an H100
    ("H100", "llama-2-7b", {"max_batched_tokens": 4096}, 119_008),
    ("H100", "qwen2-7b", {"max_batched_tokens": 4096}, 1_053_328),
    ("H100", "codellama-34b", {"max_batched_tokens": 4096}, 40_592),
    # A lab report of vLLM 0.16.0 with Meta-Llama-3-70B-Instruct-AWQ on two L40S, 2026-02-27
    ("L40S", "llama-3-70b", {"weights": "int4", "tensor": 2, "max_batched_tokens": 2048}, 132_128),
    # A lab report of vLLM 0.31.0 on an A100-80GB, 2026-10-06; batched tokens are that version's default
    ("A100-80GB", "llama-3-8b", {"memory_share": 0.92}, 460_496),
    # myoceane.fr, vLLM 0.19.0 with gpt-oss-20b on an A100-80GB: 36.56 GiB of cache at 49,152 bytes a token
    (
        "A100-80GB",
        "gpt-oss-20b",
        {"weights": "mxfp4", "memory_share": 0.65, "max_batched_tokens": 2048},
        36.56 * GIB / 49_152,
    ),
    # github.com/vllm-project/vllm/pull/2031, vLLM 0.2: 7351 blocks
    ("A100-80GB", "llama-2-7b", {"max_batched_tokens": 4096}, 7351 * 16),
    # A start-up log of vLLM 0.10.2 with Qwen3-8B-FP8 on an RTX 4090: 9,232,221,491 bytes of cache
    (
        "RTX 4090",
        "qwen3-8b",
        {"weights": "fp8", "memory_share": 0.8, "max_batched_tokens": 2048},
        9_232_221_491 / 147_456,
    ),
]


@pytest.mark.parametrize(("hardware", "model", "fields", "tokens"), MEASURED, ids=lambda value: str(value)[:14])
def test_the_context_that_fits_is_what_engines_printed(hardware, model, fields, tokens):
    fitted = capacity(deployed(hardware, model, **fields)).kv_tokens
    print(f"{hardware:14} {model:14} {tokens:11,.0f} measured {fitted:11,.0f} computed {fitted / tokens - 1:+.1%}")
    assert fitted == pytest.approx(tokens, rel=0.05)


def test_half_of_the_measured_capacities_are_within_two_percent():
    errors = sorted(
        abs(capacity(deployed(hardware, model, **fields)).kv_tokens / tokens - 1)
        for hardware, model, fields, tokens in MEASURED
    )
    assert errors[len(errors) // 2] < 0.02


LOADED = [
    # "Model loading took": the logs above.
    ("llama-2-7b", "bf16", 1, 12.5524),
    ("qwen2-7b", "bf16", 1, 14.2488),
    ("codellama-34b", "bf16", 1, 62.8571),
    ("llama-3-8b", "bf16", 1, 14.9889),
    ("llama-3-70b", "int4", 2, 18.55),
    ("qwen3-8b", "fp8", 1, 8.8),
    # nvidia/Llama-3.3-70B-Instruct-FP8: a deployment guide of aisc, "Model loading took 67.7 GiB".
    ("llama-3-70b", "fp8", 1, 67.7),
    # Checkpoint sizes in the gpt-oss model card (arXiv 2508.10925, table 1).
    ("gpt-oss-120b", "mxfp4", 1, 60.8),
    ("gpt-oss-20b", "mxfp4", 1, 12.8),
]


@pytest.mark.parametrize(("model", "precision", "tensor", "gib"), LOADED)
def test_weights_take_what_was_loaded(model, precision, tensor, gib):
    held = device_weights_bytes(deployed("H100", model, weights=precision, tensor=tensor)).total / GIB
    print(
        f"{model:14} {precision:6} {tensor} devices {gib:7.2f} GiB measured {held:7.2f} computed {held / gib - 1:+.1%}"
    )
    assert held == pytest.approx(gib, rel=0.01)


def test_seven_billion_weights_in_fp32_are_28_gb():
    model = KNOWN.architecture_named("llama-2-7b")
    assert weights_bytes(model, "fp32").total / parameters(model).total == 4.0


def test_quantised_checkpoints_keep_the_head():
    model = KNOWN.architecture_named("llama-3-8b")
    whole, quantised = weights_bytes(model, "bf16"), weights_bytes(model, "fp8")
    assert quantised.head == whole.head == model.vocabulary * model.hidden * 2
    assert quantised.shared == pytest.approx(whole.shared / 2)


def test_formats_for_experts_leave_the_rest_wider():
    model = KNOWN.architecture_named("gpt-oss-120b")
    held, count = weights_bytes(model, "mxfp4"), parameters(model)
    assert held.experts == count.experts * 4.25 / 8
    assert held.shared == (count.attention + count.router) * 2


@pytest.mark.parametrize(
    ("model", "kv", "full", "window", "state"),
    [
        ("llama-3-8b", "bf16", 131_072, 0, 0),
        ("llama-3-8b", "fp8", 65_536, 0, 0),
        ("falcon-7b", "bf16", 2 * 32 * 64 * 2, 0, 0),
        ("deepseek-v3", "bf16", 70_272, 0, 0),
        ("deepseek-v3.2", "bf16", 61 * (576 * 2 + 132), 0, 0),
        ("gpt-oss-120b", "bf16", 36_864, 36_864, 0),
        ("gemma-3-27b", "bf16", 10 * 8192, 52 * 8192, 0),
        ("gemma-4-31b", "bf16", 10 * 4 * 512 * 2, 50 * 2 * 16 * 256 * 2, 0),
        ("qwen3.5-397b-a17b", "bf16", 30_720, 0, 45 * (64 * 128 * 128 * 4 + 3 * 2 * (2 * 16 * 128 + 64 * 128))),
    ],
)
def test_cache_per_token_by_kind_of_attention(model, kv, full, window, state):
    assert kv_bytes_per_token(KNOWN.architecture_named(model), kv) == KvBytes(full, window, state)


def test_tensor_parallelism_splits_heads_until_it_repeats_them():
    per = [device_kv_bytes(deployed("H100", "llama-3-8b", tensor=ways)).full_per_token for ways in (1, 4, 8, 16)]
    assert per == [131_072, 32_768, 16_384, 16_384]


def test_a_latent_cache_is_not_split_by_tensor_parallelism():
    one, eight = (device_kv_bytes(deployed("H200", "deepseek-v3", tensor=ways)).full_per_token for ways in (1, 8))
    assert one == eight
    split = device_kv_bytes(deployed("H200", "deepseek-v3", pipeline=2)).full_per_token
    assert split == pytest.approx(one * 31 / 61)


def test_experts_are_split_over_all_devices_and_attention_over_its_copies():
    plain = device_weights_bytes(deployed("H200", "qwen3-30b-a3b"))
    spread = device_weights_bytes(deployed("H200", "qwen3-30b-a3b", data=8, expert=8))
    assert spread.experts == pytest.approx(plain.experts / 8)
    assert spread.shared == plain.shared


def test_a_pipeline_holds_table_and_head_on_different_stages():
    whole = device_weights_bytes(deployed("H100", "llama-3-70b"))
    stage = device_weights_bytes(deployed("H100", "llama-3-70b", pipeline=4))
    assert stage.shared == pytest.approx(whole.shared / 4)
    assert stage.head == whole.head
    assert stage.resident == 0


def test_what_is_too_large_is_refused_with_what_is_missing():
    with pytest.raises(RequestError) as refused:
        capacity(deployed("RTX 4090", "llama-3-70b"))
    assert "llama-3-70b in bf16 does not fit on 1 x RTX 4090" in refused.value.message
    missing = refused.value.facts["weights_bytes"] + refused.value.facts["runtime_bytes"]
    missing -= refused.value.facts["allowed_bytes"]
    assert f"{missing / GIB:.1f} GiB" in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"tensor": 0},
        {"pipeline": -1},
        {"pipeline": 33},
        {"memory_share": 0.0},
        {"memory_share": 1.5},
        {"memory_share": math.nan},
        {"max_sequences": 0},
        {"weights": "fp3"},
        {"kv": "auto8"},
    ],
)
def test_a_senseless_deployment_is_refused(fields):
    with pytest.raises(RequestError):
        capacity(deployed("H100", "llama-3-8b", **fields))


@pytest.mark.parametrize("tokens", [0, -5, math.nan, math.inf])
def test_a_senseless_length_is_refused(tokens):
    with pytest.raises(RequestError):
        sequences_that_fit(capacity(deployed("H100", "llama-3-8b")), tokens)


def test_windows_and_states_hold_more_sequences_than_full_attention():
    held = capacity(deployed("H100", "gpt-oss-20b", weights="mxfp4"))
    full = held._replace(kv=KvBytes(held.kv.full_per_token + held.kv.window_per_token, 0.0, 0.0))
    assert sequences_that_fit(held, 8192) > 1.9 * sequences_that_fit(full, 8192)
    state = Capacity(0, 0, 1e9, 1e5, KvBytes(1e3, 0.0, 1e8), 0)
    assert sequences_that_fit(state, 16) == 9


shapes = st.builds(
    lambda layers, heads, groups, dim, ffn, vocabulary: Architecture(
        "drawn", layers, heads * dim, heads * groups, heads, dim, ffn, vocabulary, layers, dense_layers=layers
    ),
    st.integers(1, 40), st.integers(1, 8), st.integers(1, 8), st.integers(16, 256), st.integers(64, 8192),
    st.integers(1000, 100_000),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(shapes, st.sampled_from(["bf16", "fp8", "int4"]), st.sampled_from([1, 2, 4, 8]))
def test_what_devices_hold_adds_up_to_the_model(shape, precision, tensor):
    deployment = Deployment(KNOWN.hardware_named("H100"), shape, weights=precision, tensor=tensor)
    assert device_weights_bytes(deployment).total * tensor == pytest.approx(weights_bytes(shape, precision).total)
    assert (
        device_kv_bytes(deployment).full_per_token * tensor >= kv_bytes_per_token(shape, "bf16").full_per_token * 0.99
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_longer_sequences_never_fit_more_often(short, long):
    held = capacity(deployed("H100", "gemma-3-27b", weights="fp8"))
    short, long = sorted((short, long))
    assert sequences_that_fit(held, short) >= sequences_that_fit(held, long)


def test_counting_covers_latent_and_linear_layers():
    latent = LatentAttention(query_rank=0, kv_rank=8, rope_dim=4, nope_dim=6, value_dim=5)
    model = Architecture("m", 1, 10, 2, 2, 10, 7, 100, 1, dense_layers=1, latent=latent)
    # queries 10x2x10, down 10x12, up 8x2x11, out 2x5x10
    assert parameters(model).attention == 200 + 120 + 176 + 100
    linear = LinearAttention(key_heads=1, value_heads=2, key_dim=3, value_dim=4, convolution=4)
    model = Architecture("m", 1, 10, 2, 2, 5, 7, 100, 0, linear_layers=1, dense_layers=1, linear=linear)
    # keys twice and values 3+3+8, gate and output 8+8, two gates a head; a convolution of four over 14
    assert parameters(model).attention == 10 * (14 + 16 + 4) + 4 * 14


def test_the_engine_takes_more_for_more_tokens_and_sequences():
    small = runtime(deployed("H100", "llama-3-8b", max_batched_tokens=2048, max_sequences=64))
    large = runtime(deployed("H100", "llama-3-8b", max_batched_tokens=16_384, max_sequences=1024))
    assert large.activations == 8 * small.activations
    assert large.sampling == 16 * small.sampling
    assert small.communication == 0 < runtime(deployed("H100", "llama-3-8b", tensor=2)).communication


def test_memory_is_what_a_process_is_given():
    card = KNOWN.hardware_named("RTX 4090")
    assert card.memory_bytes == pytest.approx(25_250_627_584, rel=0.001)
    smaller = msgspec.structs.replace(card, memory_bytes=20 * GIB)
    model = KNOWN.architecture_named("llama-3-8b")
    assert capacity(Deployment(smaller, model)).kv_tokens < capacity(Deployment(card, model)).kv_tokens
