"""Mixtures of experts, latent attention, and layers that keep a state: what their configs say of their shape."""

from typing import Any

from farthing.economics.architecture import Architecture, Indexer, LatentAttention, LinearAttention
from farthing.economics.facts.huggingface.config import Config, Layers, every
from farthing.economics.facts.huggingface.decoders import decoder

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "experts_per_token")
WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")


def mixture(config: Config, **fields: Any) -> Architecture:
    """A decoder whose layers route to experts, those first or listed as dense excepted."""
    layers = config.count("num_hidden_layers")
    experts = config.count(*EXPERTS, default=0, least=0)
    if not experts:
        return decoder(config, **fields)
    dense = fields.pop("dense_layers", None)
    dense = _dense_layers(config, layers) if dense is None else dense
    fields = {
        "experts": experts,
        "top_k": config.count(*CHOSEN),
        "expert_ffn": config.count(*WIDTH),
        "shared_ffn": _shared(config),
        "expert_hidden": config.count("moe_latent_size", "routed_expert_hidden_size", default=0, least=0),
        "dense_layers": dense,
        "ffn": config.count("dense_intermediate_size", "intermediate_size") if dense else 0,
    } | fields
    return decoder(config, **fields)


def _dense_layers(config: Config, layers: int) -> int:
    if isinstance(routed := config.first("moe_layer_freq"), list):
        return sum(1 for item in routed[:layers] if not item)
    if config.has("mlp_layer_types"):
        return sum(1 for item in config.items("mlp_layer_types")[:layers] if item == "dense")
    if config.has("mlp_only_layers") or config.has("decoder_sparse_step"):
        step, listed = config.count("decoder_sparse_step", default=1), config.items("mlp_only_layers")
        return sum(1 for layer in range(layers) if layer in listed or (layer + 1) % step)
    first = config.count("first_k_dense_replace", "moe_layer_start_index", default=0, least=0)
    if first > layers:
        raise config.wrong(f"has {first} dense layers of {layers}")
    return first


def _shared(config: Config) -> int:
    direct = config.count(
        "shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size",
        "share_expert_dim", default=0, least=0,
    )  # fmt: skip
    if direct:
        return direct
    shared = config.count(
        "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts", default=0, least=0
    )
    return shared * config.count(*WIDTH) if shared else 0


def mixtral(config: Config) -> Architecture:
    """Mixtral, Qwen MoE, OLMoE, Phi-MoE, GLM-4.5, ERNIE, Hunyuan and MiniMax-M2: experts in every layer but a few."""
    layers = config.count("num_hidden_layers")
    windowed = config.has("sliding_window") and config.flag("use_sliding_window", False)
    return mixture(config, attends=config.layers(layers, Layers(0, layers) if windowed else Layers(layers)))


def gpt_oss(config: Config) -> Architecture:
    """gpt-oss: every other layer keeps a window; published in MXFP4."""
    layers = config.count("num_hidden_layers")
    return mixture(config, attends=config.layers(layers, every(2, layers)), native="mxfp4")


def llama4(config: Config) -> Architecture:
    """Llama 4: three of four layers attend within a chunk; all or half of them route, beside a shared expert."""
    layers = config.count("num_hidden_layers")
    step = config.count("interleave_moe_layer_step", default=1)
    dense = layers - layers // step
    chunk = config.count("attention_chunk_size", default=8192)
    return mixture(
        config,
        attends=config.layers(layers, every(4, layers)),
        window=chunk,
        expert_ffn=config.count("intermediate_size"),
        shared_ffn=config.count("intermediate_size"),
        dense_layers=dense,
        ffn=config.count("intermediate_size_mlp") if dense else 0,
    )


def dbrx(config: Config) -> Architecture:
    """DBRX, in whose words the experts are in ffn_config and the KV heads in attn_config."""
    ffn, attention = config.part("ffn_config"), config.part("attn_config")
    if ffn is None or attention is None:
        raise config.wrong("lacks ffn_config or attn_config")
    words = {
        "hidden_size": config.count("d_model"),
        "num_hidden_layers": config.count("n_layers"),
        "num_attention_heads": config.count("n_heads"),
        "num_key_value_heads": attention.count("kv_n_heads", default=config.count("n_heads")),
        "num_experts": ffn.count("moe_num_experts"),
        "num_experts_per_tok": ffn.count("moe_top_k"),
        "moe_intermediate_size": ffn.count("ffn_hidden_size"),
    }
    return mixture(Config(config.model, words).over(config))


def deepseek(config: Config) -> Architecture:
    """DeepSeek V2 to V3.2, Kimi K2, GLM-5: latent attention, shared experts, perhaps an indexer."""
    heads = config.count("num_attention_heads")
    latent = latent_attention(config)
    sparse = config.count("index_topk", default=0, least=0)
    indexer = Indexer(config.count("index_n_heads"), config.count("index_head_dim")) if sparse else None
    return mixture(
        config, latent=latent, kv_heads=heads, head_dim=latent.nope_dim + latent.rope_dim, sparse_top_k=sparse,
        indexer=indexer, attends=Layers(config.count("num_hidden_layers")),
    )  # fmt: skip


def latent_attention(config: Config) -> LatentAttention:
    """The ranks and dimensions of latent attention; a query rank of 0 stands for none."""
    return LatentAttention(
        query_rank=config.count("q_lora_rank", default=0, least=0),
        kv_rank=config.count("kv_lora_rank"),
        rope_dim=config.count("qk_rope_head_dim"),
        nope_dim=config.count("qk_nope_head_dim"),
        value_dim=config.count("v_head_dim"),
    )


def minimax_m3(config: Config) -> Architecture:
    """MiniMax-M3: block-sparse attention, chosen by an indexer."""
    sparse = config.part("sparse_attention_config")
    if sparse is None:
        return mixture(config)
    return mixture(
        config,
        sparse_top_k=sparse.count("sparse_topk_blocks") * sparse.count("sparse_block_size"),
        indexer=Indexer(sparse.count("sparse_num_index_heads"), sparse.count("sparse_index_dim")),
    )


def mimo_v2(config: Config) -> Architecture:
    """MiMo-V2: windows with KV heads of their own, values narrower than keys."""
    layers, pattern = config.count("num_hidden_layers"), config.items("hybrid_layer_pattern")
    window = sum(1 for item in pattern[:layers] if item == 1)
    return mixture(
        config,
        attends=Layers(layers - window, window),
        value_dim=config.count("v_head_dim"),
        window_kv_heads=config.count("swa_num_key_value_heads"),
        window_head_dim=config.count("swa_head_dim"),
    )


def gemma4(config: Config) -> Architecture:
    """Gemma 4: layers that keep everything have wider heads and one tensor for keys and values."""
    layers = config.count("num_hidden_layers")
    wide = config.count("global_head_dim", default=config.count("head_dim"))
    heads = config.count("num_key_value_heads")
    routed = config.flag("enable_moe_block", False)
    fields: dict[str, Any] = {
        "attends": config.layers(layers, every(6, layers)),
        "kv_heads": config.count("num_global_key_value_heads", default=heads),
        "head_dim": wide,
        "window_kv_heads": heads,
        "window_head_dim": config.count("head_dim"),
        "shared_kv": config.flag("attention_k_eq_v", False),
        "tied_embeddings": config.flag("tie_word_embeddings", True),
    }
    if not routed:
        return decoder(config, **fields)
    # Beside the experts every layer has a dense network, which is read like a shared expert.
    return mixture(config, shared_ffn=config.count("intermediate_size"), dense_layers=0, **fields)


def qwen_linear(config: Config) -> Architecture:
    """Qwen3-Next and Qwen3.5: three of four layers keep a state (gated delta rule), the fourth has a gate."""
    layers = config.count("num_hidden_layers")
    full = layers // config.count("full_attention_interval", default=4)
    linear = LinearAttention(
        key_heads=config.count("linear_num_key_heads"),
        value_heads=config.count("linear_num_value_heads"),
        key_dim=config.count("linear_key_head_dim"),
        value_dim=config.count("linear_value_head_dim"),
        convolution=config.count("linear_conv_kernel_dim"),
    )
    return mixture(
        config, attends=config.layers(layers, Layers(full, 0, layers - full)), linear=linear,
        gated_attention=config.flag("attn_output_gate", True),
    )  # fmt: skip


def kimi_linear(config: Config) -> Architecture:
    """Kimi Linear: latent attention in the layers listed, a state in the others."""
    layers, mixed = config.count("num_hidden_layers"), config.part("linear_attn_config")
    if mixed is None:
        raise config.wrong("lacks linear_attn_config")
    full, heads, dim = len(mixed.items("full_attn_layers")), mixed.count("num_heads"), mixed.count("head_dim")
    latent = latent_attention(config)
    return mixture(
        config, attends=Layers(full, 0, layers - full), latent=latent, kv_heads=config.count("num_attention_heads"),
        head_dim=latent.nope_dim + latent.rope_dim,
        linear=LinearAttention(heads, heads, dim, dim, mixed.count("short_conv_kernel_size", default=4)),
    )  # fmt: skip


def minimax_m1(config: Config) -> Architecture:
    """MiniMax-Text-01 and M1: one layer in eight keeps everything, the others a state (lightning attention)."""
    layers, heads = config.count("num_hidden_layers"), config.count("num_attention_heads")
    kinds = config.items("attn_type_list")
    full = sum(1 for kind in kinds[:layers] if kind == 1) if kinds else layers // 8
    dim = config.count("head_dim")
    return mixture(
        config, attends=Layers(full, 0, layers - full), linear=LinearAttention(heads, heads, dim, dim),
        expert_ffn=config.count("intermediate_size"), dense_layers=0,
    )  # fmt: skip


_MARKS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def nemotron_h(config: Config) -> Architecture:
    """Nemotron-H and Nemotron 3: blocks of Mamba-2, attention and feed-forward networks, each on its own."""
    kinds = [str(kind) for kind in config.items("layers_block_type")]
    for mark in config.text("hybrid_override_pattern"):
        if mark not in _MARKS:
            raise config.wrong(f"has a layer '{mark}' in hybrid_override_pattern", f"Known: {', '.join(_MARKS)}.")
        kinds.append(_MARKS[mark])
    attention, mamba = kinds.count("attention"), kinds.count("mamba")
    dense, routed = kinds.count("mlp"), kinds.count("moe")
    if not attention + mamba or len(kinds) != attention + mamba + dense + routed:
        raise config.wrong("lacks a list of its layers", "It is in layers_block_type or hybrid_override_pattern.")
    state = LinearAttention(
        key_heads=config.count("n_groups"),
        value_heads=config.count("mamba_num_heads"),
        key_dim=config.count("ssm_state_size"),
        value_dim=config.count("mamba_head_dim"),
        convolution=config.count("conv_kernel", default=4),
    )
    words = {"num_hidden_layers": attention + mamba, "head_dim": config.count("head_dim", "attention_head_dim")}
    common: dict[str, Any] = {
        "attends": Layers(attention, 0, mamba), "linear": state if mamba else None, "gated": False,
        "ffn_layers": dense + routed, "dense_layers": dense,
    }  # fmt: skip
    inner = Config(config.model, words).over(config)
    if not routed:
        return decoder(inner, **common)
    return mixture(inner, **common)
