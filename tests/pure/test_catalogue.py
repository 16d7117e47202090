"""Facts: every packaged row adds up, names find what they mean and nothing else, and bad rows are named precisely."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing import economics
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.facts.parsing import parse_catalogue
from farthing.economics.memory import parameters
from farthing.economics.precision import PRECISIONS, bits_per_weight, compute_type, precision_named
from farthing.errors import ConfigError, RequestError
from farthing.wiring.planning import catalogue

SHARED = Path(__file__).parents[2].parent / "shared"
MEASURED = SHARED / "data" / "serving" / "calibration.csv"

KNOWN = catalogue()

GPU = """
[[hardware]]
name = "Z1"
vendor = "Zed"
kind = "gpu"
bf16_tflops = 100
memory_gib = 24
memory_gb_per_s = 900
link_gb_per_s = 32
link_latency_us = 20
link_devices = 8
tdp_w = 300
idle_w = 30
source = "data sheet"
date = 2026-11-21
"""
MODEL = """
[[model]]
name = "tiny"
layers = 2
hidden = 64
query_heads = 4
kv_heads = 2
head_dim = 16
ffn = 128
vocabulary = 1000
source = "config.json"
date = 2026-11-21
"""
PRICE = """
[[price]]
hardware = "Z1"
provider = "Zed Cloud"
devices = 4
on_demand_usd_per_h = 1.5
spot_usd_per_h = [0.4, 0.9]
source = "list"
date = 2026-11-21
"""


@pytest.mark.parametrize("row", KNOWN.architectures, ids=lambda row: row.name)
def test_a_shape_counts_up_to_the_published_parameters(row):
    counted = parameters(row).total / 1e9
    assert row.parameters_b > 0, "a packaged model states its published total"
    assert counted == pytest.approx(row.parameters_b, rel=0.01)
    assert 0 < parameters(row).active <= parameters(row).total
    assert row.source


def test_the_catalogue_is_wide():
    assert len(KNOWN.architectures) >= 150
    assert len(KNOWN.hardware) >= 45
    assert len(KNOWN.grids) >= 60
    assert {price.provider for price in KNOWN.prices} >= {"aws", "gcp", "nebius", "lambda"}


@pytest.mark.parametrize("row", KNOWN.hardware, ids=lambda row: row.name)
def test_hardware_is_in_units_of_the_si(row):
    assert 1e12 <= max(row.flop_per_s.values()) < 1e17
    assert 10 * 2**30 <= row.memory_bytes < 2e12
    assert 1e11 <= row.memory_bytes_per_s < 2e13
    assert 1e-7 <= row.link_latency_s <= 1e-4
    assert all(KNOWN.hardware_named(name) is row for name in (row.name, *row.aliases))


def test_every_name_of_a_model_finds_that_model():
    for row in KNOWN.architectures:
        for name in (row.name, *row.aliases):
            assert KNOWN.architecture_named(name) is row, name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA A10G", "A10G"),
        ("A100-80GB", "A100-80GB SXM"),
        ("A100", "A100-80GB SXM"),
        ("A100-40", "A100-40GB SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB PCIe"),
        ("L40S", "L40S"),
        ("h100_sxm", "H100 SXM"),
        ("nvidia/H100-SXM5-80GB", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("MI355X", "MI355X"),
        ("AMD Instinct MI300X", "MI300X"),
        ("Gaudi 3", "Gaudi3"),
        ("TPU v5e", "TPU v5e"),
        ("TPUv6e", "TPU v6e"),
        ("RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Server"),
        ("Inf2-core", "Inferentia2 core"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Xeon 8480+"),
    ],
)
def test_hardware_is_found_as_people_and_drivers_write_it(name, found):
    assert KNOWN.hardware_named(name).name == found


def test_two_sockets_are_one_device_of_twice_the_size():
    one, two = KNOWN.hardware_named("Xeon 6787P"), KNOWN.hardware_named("CPU 2xINTEL(R) XEON(R) 6787P")
    assert two.memory_bytes_per_s == 2 * one.memory_bytes_per_s
    assert two.flop_per_s["bf16"] == 2 * one.flop_per_s["bf16"]
    assert two.tdp_w == 2 * one.tdp_w


@pytest.mark.parametrize("name", ["H100 40GB", "H1000", "8xH100", "", "A100-20GB"])
def test_hardware_that_is_not_known_is_refused(name):
    with pytest.raises(RequestError) as refused:
        KNOWN.hardware_named(name)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3-8b"),
        ("llama3_1-8b", "llama-3-8b"),
        ("LLaMA 7B", "llama-2-7b"),
        ("llama2-70b-99.9", "llama-2-70b"),
        ("Llama-3.3-70B", "llama-3-70b"),
        ("GPT-OSS 120B", "gpt-oss-120b"),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", "qwen3-235b-a22b"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "qwen2-7b"),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", "llama-3-70b"),
        ("neuralmagic/DeepSeek-R1-Distill-Qwen-32B-FP8-dynamic", "qwen2.5-32b"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "llama-3-8b"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-v3"),
        ("casperhansen/llama-3-70b-instruct-awq", "llama-3-70b"),
        ("unsloth/gemma-3-27b-it-bnb-4bit", "gemma-3-27b"),
        ("zai-org/GLM-4.6-FP8", "glm-4.5"),
        ("Mistral-7B-Instruct-v0.2", "mistral-7b"),
        ("gpt2-xl", "gpt2-xl"),
    ],
)
def test_variants_of_a_model_find_its_shape(name, found):
    assert KNOWN.architecture_named(name).name == found


@pytest.mark.parametrize(
    "name",
    ["llama-3-9b", "Qwen3-70B", "Llama-3.2-11B-Vision", "Llama-3.1-8B-EAGLE3", "Qwen-27B", "llama", "8b", "", "gpt-5"],
)
def test_another_size_or_kind_finds_nothing(name):
    with pytest.raises(RequestError) as refused:
        KNOWN.architecture_named(name)
    assert name in refused.value.message
    assert refused.value.hint


NAMES = sorted({name for row in KNOWN.architectures for name in (row.name, *row.aliases)})
SIZE = re.compile(r"(?<![\dA-Za-z.x])(\d+(?:\.\d+)?)([bB])\b")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.decimals("0.1", "999", places=1), st.sampled_from(["", "-Instruct", "-FP8", "-2507"]))
def test_a_name_never_finds_a_model_of_another_size(name, size, suffix):
    asked = SIZE.sub(f"{size.normalize():f}B", name, count=1)
    if asked == name:
        return
    try:
        row = KNOWN.architecture_named(asked + suffix)
    except RequestError:
        return
    # Sizes in names are rounded: "27B" is 28.4 for some, and a mixture may be named by what one expert has.
    assert parameters(row).total / 1e9 == pytest.approx(float(size), rel=0.3, abs=0.3)


@pytest.mark.skipif(not MEASURED.exists(), reason=f"needs the shared rows in {MEASURED}")
def test_every_measured_row_is_of_known_hardware_and_a_known_model():
    with MEASURED.open(newline="") as file:
        rows = {(row["hardware"], row["model"], row["arch"], row["precision"]) for row in csv.DictReader(file)}
    for hardware, model, arch, precision in rows:
        device, architecture = KNOWN.hardware_named(hardware), KNOWN.architecture_named(model)
        assert architecture is KNOWN.architecture_named(arch), model
        assert compute_type(precision, device, architecture) in device.flop_per_s


def test_prices_are_per_device_and_the_cheapest_comes_first():
    prices = KNOWN.prices_of("h100_sxm")
    listed = [price.on_demand_usd_per_h for price in prices if price.on_demand_usd_per_h]
    assert listed == sorted(listed)
    assert 1 < listed[0] < 10
    for price in KNOWN.prices:
        assert price.hardware == KNOWN.hardware_named(price.hardware).name
        assert price.source
        assert price.spot_low_usd_per_h is None or 0 < price.spot_low_usd_per_h <= price.spot_high_usd_per_h


def test_a_region_of_one_cloud_is_not_that_of_another():
    assert KNOWN.grid_named("us-east-1").name == "us-east4"
    assert KNOWN.grid_named("us-east1").name == "us-east1"
    assert KNOWN.grid_named("FR").name == "France"
    with pytest.raises(RequestError, match="Atlantis"):
        KNOWN.grid_named("Atlantis")


def test_facilities_and_ownership_are_found():
    assert 1 < KNOWN.facility_named("AWS").pue < 1.3
    assert KNOWN.ownership_of("H100").power_w == 1730
    assert KNOWN.ownership_of("T4") is None
    with pytest.raises(RequestError, match="PUE"):
        KNOWN.facility_named("cellar")


def test_a_users_row_is_added_or_replaces_one_of_its_name(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(GPU + MODEL + PRICE + GPU.replace("Z1", "H100 SXM"))
    known = catalogue([own])
    assert known.hardware_named("z1").memory_bytes == 24 * 2**30
    assert known.hardware_named("H100 SXM").vendor == "Zed"
    assert known.architecture_named("Tiny").full_layers == 2
    assert known.architecture_named("tiny").dense_layers == 2
    (price,) = known.prices_of("Z1")
    assert (price.on_demand_usd_per_h, price.spot_low_usd_per_h, price.spot_high_usd_per_h) == (1.5, 0.4, 0.9)
    assert len(known.hardware) == len(KNOWN.hardware) + 1


def test_the_rows_of_the_guide_are_accepted():
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "plan-facts.md").read_text("utf-8")
    examples = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    packaged = Path(economics.__file__).parent / "data" / "hardware.toml"
    known = parse_catalogue({"hardware.toml": packaged.read_text("utf-8"), "guide.toml": "\n".join(examples)})
    assert known.hardware_named("NVIDIA L20").idle_w == 35
    assert known.architecture_named("our-org/our-moe-20b-Instruct").dense_layers == 1
    assert known.prices_of("H100")[0].spot_high_usd_per_h == 1.6
    assert known.ownership_of("H100").capex_usd == 27_500


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        catalogue([tmp_path / "none.toml"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[hardware]", "is not TOML"),
        ("[[gpu]]", "key 'gpu' is not known"),
        ("hardware = 3", "not an array of tables"),
        (GPU.replace("tdp_w", "tdp_watt"), "key 'tdp_watt' is not known. Did you mean 'tdp_w'?"),
        (GPU.replace("tdp_w = 300", "tdp_w = -300"), "needs 'tdp_w' as a number above 0, not -300"),
        (GPU.replace("tdp_w = 300", "tdp_w = nan"), "needs 'tdp_w' as a number, not nan"),
        (GPU.replace("tdp_w = 300", "tdp_w = true"), "needs 'tdp_w' as a number"),
        (GPU.replace("tdp_w = 300", ""), "needs 'tdp_w' as a number, not nothing"),
        (GPU.replace("idle_w = 30", "idle_w = 400"), "draws 400 W idle but 300 W at most"),
        (GPU.replace("bf16_tflops = 100", ""), "multiplies nothing"),
        (GPU.replace("memory_gib = 24", "memory_gib = 25769803776"), "more than any device"),
        (GPU.replace("link_latency_us = 20", "link_latency_us = 0"), "above 0"),
        (GPU.replace('kind = "gpu"', 'kind = "card"'), "kind 'card' is not known"),
        (GPU.replace("2026-11-21", '"soon"'), "needs 'date' as a date"),
        (GPU + GPU, "is in the file twice"),
        (MODEL.replace("kv_heads = 2", "kv_heads = 3"), "which 3 KV heads do not divide"),
        (MODEL.replace("kv_heads = 2", "kv_heads = 8"), "more KV heads (8) than query heads (4)"),
        (MODEL.replace("ffn = 128", ""), "2 dense layers, but no ffn"),
        (MODEL + "full_layers = 1", "which is 1 and not 2"),
        (MODEL + "window_layers = 1", "1 window layers, but no window"),
        (MODEL + "experts = 8", "experts"),
        (MODEL + "parameters_b = 7", "but parameters_b = 7"),
        (MODEL + "latent = { kv_rank = 512 }", "latent needs 'rope_dim'"),
        (MODEL + 'native = "fp3"', "native 'fp3' is not known"),
        (MODEL.replace("layers = 2", "layers = 2.5"), "needs 'layers' as a whole number"),
        (PRICE, "is of unknown hardware 'Z1'"),
        (GPU + PRICE.replace("1.5", "-1.5"), "needs 'on_demand_usd_per_h' as a number above 0, not -1.5"),
        (GPU + PRICE.replace("[0.4, 0.9]", "[0.9, 0.4]"), "runs from 0.9 to 0.4"),
        (GPU + PRICE.replace("[0.4, 0.9]", "[0.4]"), "has 1 values, not low and high"),
        (GPU + re.sub("(on_demand|spot).*\n", "", PRICE), "has no price"),
        ('[[grid]]\nname = "X"\ng_per_kwh = 20000\nsource = "s"\ndate = 2026-01-01', "more than any fuel"),
        ('[[facility]]\nname = "X"\npue = 0.9\nsource = "s"\ndate = 2026-01-01', "a number of 1 or more"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_key(text, words):
    with pytest.raises(ConfigError) as refused:
        parse_catalogue({"mine.toml": text})
    assert str(refused.value).startswith("mine.toml")
    assert words in str(refused.value)
    assert refused.value.hint


def test_an_empty_catalogue_knows_nothing_and_says_so():
    with pytest.raises(RequestError, match="not in the catalogue"):
        Catalogue().hardware_named("H100")
    with pytest.raises(RequestError, match="not in the catalogue"):
        Catalogue().architecture_named("llama")


@pytest.mark.parametrize(
    ("precision", "hardware", "compute"),
    [
        ("fp32", "A100", "fp32"),
        ("fp16", "T4", "bf16"),
        ("bf16", "Xeon 8380", "fp32"),
        ("fp8", "H100", "fp8"),
        ("fp8", "A100", "bf16"),
        ("fp8_block", "MI300X", "fp8"),
        ("int8", "A100", "int8"),
        ("int8", "Gaudi3", "bf16"),
        ("int4", "B200", "bf16"),
        ("nvfp4", "B200", "fp4"),
        ("nvfp4", "H100", "bf16"),
        ("mxfp4", "B200", "fp8"),
        ("mxfp4", "A100", "bf16"),
    ],
)
def test_what_multiplies_is_what_the_hardware_has(precision, hardware, compute):
    assert compute_type(precision, KNOWN.hardware_named(hardware)) == compute


def test_a_precision_no_hardware_type_serves_is_refused():
    with pytest.raises(RequestError, match="multiplies none of fp32"):
        compute_type("fp32", KNOWN.hardware_named("TPU v5e"))
    with pytest.raises(RequestError, match="'fp9' is not known"):
        bits_per_weight("fp9")


def test_four_bits_mean_the_format_a_model_is_published_in():
    oss, kimi, llama = (KNOWN.architecture_named(name) for name in ("gpt-oss-20b", "Kimi-K2.5", "llama-3-8b"))
    assert [precision_named("fp4", model).name for model in (oss, kimi, llama)] == ["mxfp4", "nvfp4", "nvfp4"]
    assert [precision_named("int4", model).name for model in (oss, kimi, llama)] == ["int4", "int4_g32", "int4"]
    assert all(4 <= precision.bits <= 32 for precision in PRECISIONS.values())
