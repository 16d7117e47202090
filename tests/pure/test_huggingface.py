"""A config.json becomes a shape: one of each family against published totals, and nonsense into precise errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.economics.architecture import Architecture, Indexer
from farthing.economics.facts.huggingface import FAMILIES, architecture_of, weights_precision_of
from farthing.economics.facts.shape import problem_of
from farthing.economics.memory import kv_bytes_per_token, parameters
from farthing.errors import RequestError


def words(kind: str, hidden: int, layers: int, heads: int, kv: int, ffn: int, vocabulary: int, **fields) -> dict:
    """A config in the words of Llama."""
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": ffn,
        "vocab_size": vocabulary,
        **fields,
    }


LATENT = {
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "first_k_dense_replace": 3,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
}
LLAMA = words("llama", 4096, 32, 32, 8, 14336, 128256)

PUBLISHED = [
    (LLAMA, 8.030),
    (words("mistral", 4096, 32, 32, 8, 14336, 32000), 7.242),
    (words("qwen2", 3584, 28, 28, 4, 18944, 152064, sliding_window=131072, use_sliding_window=False), 7.616),
    (words("qwen3", 2560, 36, 32, 8, 9728, 151936, head_dim=128, tie_word_embeddings=True), 4.022),
    (words("phi3", 3072, 32, 32, 32, 8192, 32064), 3.821),
    (words("phi", 2560, 32, 32, 32, 10240, 51200), 2.780),
    (words("gemma", 3072, 28, 16, 16, 24576, 256000, head_dim=256), 8.538),
    (words("gemma2", 3584, 42, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096), 9.242),
    (words("starcoder2", 3072, 30, 24, 2, 12288, 49152), 3.030),
    (words("cohere", 8192, 40, 64, 64, 22528, 256000), 34.981),
    (words("cohere2", 4096, 32, 32, 8, 14336, 256000, sliding_window=4096), 8.028),
    (words("olmo2", 4096, 32, 32, 32, 11008, 100352), 7.299),
    (words("granite", 4096, 40, 32, 8, 12800, 49155, tie_word_embeddings=True), 8.171),
    (words("nemotron", 3072, 32, 24, 8, 9216, 256000, head_dim=128), 4.19),
    (words("glm4", 6144, 61, 48, 2, 23040, 151552, head_dim=128), 32.566),
    (words("gpt_neox", 6144, 44, 64, 64, 24576, 50432), 20.555),
    (
        words("exaone4", 5120, 64, 40, 8, 27392, 102400, sliding_window=4096, sliding_window_pattern="LLLG"),
        32.003,
    ),
    (words("exaone", 4096, 32, 32, 8, 14336, 102400) | {"num_layers": 32, "num_hidden_layers": None}, 7.818),
    ({"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024, "vocab_size": 50257}, 1.558),
    ({"model_type": "gpt_bigcode", "n_embd": 6144, "n_head": 48, "n_layer": 40, "n_positions": 8192, "n_inner": 24576,
      "multi_query": True, "vocab_size": 49152}, 15.52),
    ({"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, "vocab_size": 50400}, 6.053),
    ({"model_type": "opt", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "ffn_dim": 16384,
      "max_position_embeddings": 2048, "vocab_size": 50272}, 6.658),
    ({"model_type": "bloom", "hidden_size": 14336, "n_head": 112, "n_layer": 70, "vocab_size": 250880}, 176.247),
    ({"model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128, "num_hidden_layers": 60,
      "num_kv_heads": 8, "new_decoder_architecture": True, "vocab_size": 65024, "tie_word_embeddings": False}, 41.84),
    ({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432}, 6.649),
    (words("mixtral", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2), 46.703),
    (words("qwen3_moe", 2048, 48, 32, 4, 6144, 151936, head_dim=128, num_experts=128, num_experts_per_tok=8,
           moe_intermediate_size=768, decoder_sparse_step=1, mlp_only_layers=[]), 30.532),
    (words("qwen2_moe", 2048, 24, 16, 16, 5632, 151936, num_experts=60, num_experts_per_tok=4,
           moe_intermediate_size=1408, shared_expert_intermediate_size=5632), 14.316),
    (words("gpt_oss", 2880, 24, 64, 8, 2880, 201088, head_dim=64, num_local_experts=32, num_experts_per_tok=4,
           sliding_window=128), 20.915),
    (words("deepseek_v3", 7168, 61, 128, 128, 18432, 129280, **LATENT), 671.026),
    (words("kimi_k2", 7168, 61, 64, 64, 18432, 163840, **LATENT | {"n_routed_experts": 384,
           "first_k_dense_replace": 1}), 1026.4),
    (words("deepseek_v2", 2048, 27, 16, 16, 10944, 102400, **LATENT | {"q_lora_rank": None, "n_routed_experts": 64,
           "moe_intermediate_size": 1408, "n_shared_experts": 2, "num_experts_per_tok": 6,
           "first_k_dense_replace": 1}), 15.706),
    (words("glm4_moe", 4096, 46, 96, 8, 10944, 151552, head_dim=128, n_routed_experts=128, num_experts_per_tok=8,
           moe_intermediate_size=1408, n_shared_experts=1, first_k_dense_replace=1), 106.85),
    (words("minimax_m2", 3072, 62, 48, 8, 1536, 200064, head_dim=128, num_local_experts=256,
           num_experts_per_tok=8), 228.69),
    (words("minimax_m1", 6144, 80, 64, 8, 9216, 200064, head_dim=128, num_local_experts=32, num_experts_per_tok=2,
           attn_type_list=([0] * 7 + [1]) * 10), 456),
    (words("ernie4_5_moe", 8192, 54, 64, 8, 28672, 103424, moe_num_experts=64, moe_k=8, moe_intermediate_size=3584,
           moe_layer_start_index=3), 299.5),
    ({"model_type": "dbrx", "d_model": 6144, "n_layers": 40, "n_heads": 48, "vocab_size": 100352,
      "attn_config": {"kv_n_heads": 8},
      "ffn_config": {"moe_num_experts": 16, "moe_top_k": 4, "ffn_hidden_size": 10752}}, 131.6),
    ({"model_type": "llama4", "text_config": words("llama4_text", 5120, 48, 40, 8, 8192, 202048, head_dim=128,
      num_local_experts=16, num_experts_per_tok=1, intermediate_size_mlp=16384, interleave_moe_layer_step=1,
      attention_chunk_size=8192)}, 107.77),
    ({"model_type": "gemma3", "text_config": words("gemma3_text", 5376, 62, 32, 16, 21504, 262144, head_dim=128,
      sliding_window=1024)}, 27.01),
    ({"model_type": "qwen3_5_moe", "text_config": words("qwen3_5_moe_text", 3072, 48, 32, 2, 0, 248320, head_dim=256,
      intermediate_size=None, num_experts=256, num_experts_per_tok=8, moe_intermediate_size=1024,
      shared_expert_intermediate_size=1024, full_attention_interval=4, linear_num_key_heads=16,
      linear_num_value_heads=64, linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4)}, 122),
    (words("nemotron_h", 8192, 118, 64, 8, 32768, 131072, attention_head_dim=128, mamba_num_heads=256,
           mamba_head_dim=64, n_groups=8, ssm_state_size=256, conv_kernel=4,
           hybrid_override_pattern="M-" * 44 + "M*-" * 10), 56.4),
]  # fmt: skip


@pytest.mark.parametrize(("config", "billions"), PUBLISHED, ids=lambda value: str(value)[:40])
def test_a_config_counts_up_to_the_published_parameters(config, billions):
    shape = architecture_of(config, "m")
    assert parameters(shape).total / 1e9 == pytest.approx(billions, rel=0.01)
    assert problem_of(shape) == ""
    assert shape.source


@pytest.mark.parametrize(
    ("config", "full", "window", "linear"),
    [
        (words("gemma2", 3584, 42, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096), 21, 21, 0),
        (words("gemma3_text", 1152, 26, 4, 1, 6912, 262144, head_dim=256, sliding_window=512), 4, 22, 0),
        (words("mistral", 4096, 32, 32, 8, 14336, 32000, sliding_window=4096), 0, 32, 0),
        (words("mistral", 4096, 32, 32, 8, 14336, 32000, sliding_window=None), 32, 0, 0),
        (words("qwen2", 3584, 28, 28, 4, 18944, 152064, sliding_window=4096, use_sliding_window=True,
               max_window_layers=20), 20, 8, 0),
        (words("olmo3", 4096, 4, 32, 32, 11008, 100278, sliding_window=4096,
               layer_types=["sliding_attention"] * 3 + ["full_attention"]), 1, 3, 0),
        (words("qwen3_next", 2048, 48, 16, 2, 5120, 151936, head_dim=256, num_experts=512, num_experts_per_tok=10,
               moe_intermediate_size=512, shared_expert_intermediate_size=512, linear_num_key_heads=16,
               linear_num_value_heads=32, linear_key_head_dim=128, linear_value_head_dim=128,
               linear_conv_kernel_dim=4), 12, 0, 36),
    ],
)  # fmt: skip
def test_layers_attend_as_the_config_says(config, full, window, linear):
    shape = architecture_of(config, "m")
    assert (shape.full_layers, shape.window_layers, shape.linear_layers) == (full, window, linear)
    assert (shape.window > 0) == (window > 0)


def test_an_indexer_and_its_choice_are_read():
    config = words("deepseek_v32", 7168, 61, 128, 128, 18432, 129280, **LATENT)
    shape = architecture_of(config | {"index_topk": 2048, "index_n_heads": 64, "index_head_dim": 128}, "m")
    assert (shape.sparse_top_k, shape.indexer) == (2048, Indexer(64, 128))
    assert kv_bytes_per_token(shape, "bf16").full_per_token == 61 * (1152 + 132)


def test_layers_that_differ_are_kept_as_their_mean():
    blocks = [
        {"attention": {"no_op": False, "n_heads_in_group": 8}, "ffn": {"no_op": False, "ffn_mult": 5.25}},
        {"attention": {"no_op": True}, "ffn": {"no_op": False, "ffn_mult": 2.625}},
        {"attention": {"no_op": False, "n_heads_in_group": 8}, "ffn": {"no_op": True}},
    ]
    config = words("nemotron-nas", 8192, 3, 64, 8, 0, 128256, block_configs=blocks)
    shape = architecture_of(config, "m")
    assert (shape.layers, shape.ffn_layers, shape.kv_heads, shape.ffn) == (2, 2, 8, (28_672 + 14_336) // 2)


@pytest.mark.parametrize(
    ("changes", "words_of_it"),
    [
        ({"model_type": "deepseek_v9"}, "of an architecture that is not known: 'deepseek_v9'"),
        ({"model_type": None}, "none named"),
        ({"model_type": 7}, "has model_type = 7, where a text belongs"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"hidden_size": 4097}, "hidden size of 4097, which 32 attention heads do not divide"),
        ({"hidden_size": -4096}, "hidden_size = -4096"),
        ({"hidden_size": "4096"}, "hidden_size = '4096'"),
        ({"hidden_size": True}, "hidden_size = True"),
        ({"hidden_size": 4096.0}, "hidden_size = 4096.0"),
        ({"num_key_value_heads": 64}, "more KV heads (64) than query heads (32)"),
        ({"num_key_value_heads": 5}, "32 query heads, which 5 KV heads do not divide"),
        ({"num_hidden_layers": 10**9}, "more than 10000"),
        ({"layer_types": ["full_attention"]}, "1 layer_types for 32 layers"),
        ({"layer_types": ["odd"] * 32}, "a layer of type 'odd'"),
        ({"tie_word_embeddings": "yes"}, "where true or false belongs"),
        ({"quantization_config": {"quant_method": "magic"}}, "quantised by 'magic'"),
        ({"torch_dtype": "int3"}, "weights of type 'int3'"),
        ({"text_config": []}, "has text_config = [], where fields belong"),
    ],
)
def test_nonsense_is_named_precisely(changes, words_of_it):
    with pytest.raises(RequestError) as refused:
        architecture_of(LLAMA | changes, "someone/model")
    assert "someone/model" in refused.value.message
    assert words_of_it in refused.value.message
    assert refused.value.hint


def test_what_is_known_is_listed_for_what_is_not():
    with pytest.raises(RequestError) as refused:
        architecture_of({"model_type": "martian"}, "m")
    assert "llama" in refused.value.hint
    assert "deepseek_v3" in refused.value.hint


@pytest.mark.parametrize(
    ("config", "precision"),
    [
        ({}, "bf16"),
        ({"torch_dtype": "float32"}, "fp32"),
        ({"dtype": "torch.float16"}, "bf16"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8_block"),
        ({"quantization_config": {"quant_method": "fbgemm_fp8"}}, "fp8"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}, "int4"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, "int8"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "int8"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "nvfp4"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
          "quantized_layers": {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}}}}, "nvfp4"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}}}}, "int4_g32"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}}, "fp8"),
        ({"text_config": {"quantization_config": {"quant_method": "mxfp4"}}}, "mxfp4"),
    ],
)  # fmt: skip
def test_the_precision_of_a_checkpoint_is_read(config, precision):
    assert weights_precision_of(config) == precision
    assert architecture_of(LLAMA | config, "m").native == precision


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 300), st.sampled_from([0, 64, 128, 4096, 10**15]), st.floats(),
    st.text(max_size=8), st.sampled_from(["llama", "full_attention", "M*-E", "fp8", "awq", "LG"]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
FIELDS = sorted({key for config, _ in PUBLISHED for key in config} | set(LATENT) | {
    "layer_types", "quantization_config", "block_configs", "linear_attn_config", "sparse_attention_config",
    "hybrid_layer_pattern", "attn_type_list", "head_dim", "sliding_window", "moe_layer_freq", "mlp_layer_types",
    "swa_head_dim", "swa_num_key_value_heads", "enable_moe_block", "global_head_dim", "dtype", "layers_block_type",
})  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([config for config, _ in PUBLISHED] + [LLAMA | {"model_type": kind} for kind in sorted(FAMILIES)]),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=5),
)
def test_a_fuzzed_config_gives_a_sound_shape_or_a_request_error(config, changes):
    try:
        shape = architecture_of(config | changes, "m")
    except RequestError:
        return
    assert isinstance(shape, Architecture)
    assert problem_of(shape) == ""
    count = parameters(shape)
    assert 0 < count.active <= count.total < 1e30
    assert min(kv_bytes_per_token(shape, "bf16")) >= 0
