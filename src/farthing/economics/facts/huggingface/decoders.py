"""Dense decoders: what Llama, Qwen, Gemma, Phi and their like, and the older GPTs, say of their shape."""

from typing import Any

from farthing.economics.architecture import Architecture
from farthing.economics.facts.huggingface.config import Config, Layers, every


def decoder(config: Config, **fields: Any) -> Architecture:
    """A decoder in the words of Llama; `fields` are those of Architecture that the family knows better."""
    layers, heads = config.count("num_hidden_layers"), config.count("num_attention_heads")
    attends = fields.pop("attends", None) or _windows(config, layers)
    shape: dict[str, Any] = {
        "layers": layers,
        "hidden": config.count("hidden_size"),
        "query_heads": heads,
        "kv_heads": config.count("num_key_value_heads", default=heads),
        "head_dim": 0 if "head_dim" in fields else head_dim(config, heads),
        "ffn": 0 if "ffn" in fields else config.count("intermediate_size"),
        "vocabulary": config.count("vocab_size"),
        "full_layers": attends.full,
        "window_layers": attends.window,
        "window": config.count("sliding_window", default=0, least=0) if attends.window else 0,
        "linear_layers": attends.linear,
        "dense_layers": layers,
        "tied_embeddings": config.flag("tie_word_embeddings", False),
        "source": f"config.json of {config.model}",
    }
    return Architecture(name=config.model, **shape | fields)


def head_dim(config: Config, heads: int) -> int:
    """The dimension of an attention head: as it says, or the hidden size over the heads."""
    if config.has("head_dim"):
        return config.count("head_dim")
    hidden = config.count("hidden_size", "n_embd", "d_model")
    if hidden % heads:
        raise config.wrong(f"has a hidden size of {hidden}, which {heads} attention heads do not divide")
    return hidden // heads


def _windows(config: Config, layers: int) -> Layers:
    if config.has("layer_types"):
        return config.layers(layers)
    windowed = config.has("sliding_window") and config.flag("use_sliding_window", True)
    return Layers(0, layers) if windowed else Layers(layers)


def llama(config: Config) -> Architecture:
    """Llama, Qwen 2 and 3, Phi-3, Granite, OLMo, GLM-4 and the many that kept their words."""
    return decoder(config)


def unwindowed(config: Config) -> Architecture:
    """Qwen 2 and 3, whose windows hold only where `use_sliding_window` says so."""
    layers = config.count("num_hidden_layers")
    kept = config.count("max_window_layers", default=layers, least=0)
    windowed = config.flag("use_sliding_window", False) and config.has("sliding_window")
    window = max(layers - kept, 0) if windowed else 0
    return decoder(config, attends=config.layers(layers, Layers(layers - window, window)))


def ungated(config: Config) -> Architecture:
    """Decoders whose feed-forward network has two matrices: StarCoder2, Nemotron, Phi-2, GPT-NeoX, Arcee."""
    return decoder(config, gated=False)


def starcoder2(config: Config) -> Architecture:
    """StarCoder2: two matrices, one table for input and output."""
    return decoder(config, gated=False, tied_embeddings=config.flag("tie_word_embeddings", True))


def tied(config: Config) -> Architecture:
    """Decoders that use one table for input and output unless they say otherwise: Gemma, Command-R."""
    return decoder(config, tied_embeddings=config.flag("tie_word_embeddings", True))


def alternating(period: int) -> "Any":
    """A family in which each `period`th layer keeps the whole context: Gemma 2 (2) and 3 (6), Command-R 7B (4)."""

    def build(config: Config) -> Architecture:
        layers = config.count("num_hidden_layers")
        pattern = every(config.count("sliding_window_pattern", "_sliding_window_pattern", default=period), layers)
        attends = config.layers(layers, pattern)
        return decoder(config, attends=attends, tied_embeddings=config.flag("tie_word_embeddings", True))

    return build


def exaone4(config: Config) -> Architecture:
    """EXAONE 4: a pattern of L (window) and G (whole context), repeated."""
    layers = config.count("num_hidden_layers")
    pattern = config.text("sliding_window_pattern") if not config.has("layer_types") else ""
    if not pattern or not config.has("sliding_window"):
        return decoder(config, attends=config.layers(layers))
    if set(pattern) - {"L", "G"}:
        raise config.wrong(f"has a sliding_window_pattern '{pattern}'", "It is made of L and G.")
    window = sum(pattern[layer % len(pattern)] == "L" for layer in range(layers))
    return decoder(config, attends=Layers(layers - window, window))


def exaone(config: Config) -> Architecture:
    """EXAONE 3, in whose words layers are `num_layers`."""
    layers = config.count("num_layers", "num_hidden_layers")
    return decoder(Config(config.model, {"num_hidden_layers": layers}).over(config))


def gpt2(config: Config) -> Architecture:
    """GPT-2 and StarCoder (gpt_bigcode): learned positions, tied tables, perhaps one KV head."""
    hidden, heads = config.count("n_embd"), config.count("n_head")
    return _old(
        config, hidden, heads, config.count("n_layer"),
        kv_heads=1 if config.flag("multi_query", False) else heads,
        ffn=config.count("n_inner", default=4 * hidden),
        positions=config.count("n_positions"),
        tied_embeddings=config.flag("tie_word_embeddings", True),
    )  # fmt: skip


def gptj(config: Config) -> Architecture:
    """GPT-J and CodeGen: rotary positions, separate tables."""
    hidden, heads = config.count("n_embd"), config.count("n_head")
    return _old(
        config, hidden, heads, config.count("n_layer"),
        ffn=config.count("n_inner", default=4 * hidden),
        tied_embeddings=config.flag("tie_word_embeddings", False),
    )  # fmt: skip


def opt(config: Config) -> Architecture:
    """OPT: learned positions with an offset of two, tied tables."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    projected = config.count("word_embed_proj_dim", default=hidden)
    if projected != hidden:
        raise config.wrong(
            f"projects embeddings from {projected} to {hidden}, which is not modelled", "Other sizes of OPT do not."
        )
    return _old(
        config, hidden, heads, config.count("num_hidden_layers"),
        ffn=config.count("ffn_dim"),
        positions=config.count("max_position_embeddings") + 2,
        tied_embeddings=config.flag("tie_word_embeddings", True),
    )  # fmt: skip


def bloom(config: Config) -> Architecture:
    """BLOOM: attention by distance, tied tables."""
    hidden, heads = config.count("hidden_size", "n_embed"), config.count("n_head", "num_attention_heads")
    layers = config.count("n_layer", "num_hidden_layers")
    return _old(config, hidden, heads, layers, ffn=4 * hidden, tied_embeddings=True)


def falcon(config: Config) -> Architecture:
    """Falcon: one KV head, or several in the newer decoder."""
    hidden = config.count("hidden_size")
    heads = config.count("num_attention_heads", "n_head")
    several = config.flag("new_decoder_architecture", False) or not config.flag("multi_query", True)
    return _old(
        config, hidden, heads, config.count("num_hidden_layers", "n_layer"),
        kv_heads=config.count("num_kv_heads", "n_head_kv", default=heads) if several else 1,
        ffn=config.count("ffn_hidden_size", default=4 * hidden),
        tied_embeddings=config.flag("tie_word_embeddings", True),
    )  # fmt: skip


def mpt(config: Config) -> Architecture:
    """MPT: attention by distance, tied tables."""
    hidden, heads = config.count("d_model"), config.count("n_heads")
    ffn = hidden * config.count("expansion_ratio", default=4)
    return _old(config, hidden, heads, config.count("n_layers"), ffn=ffn, tied_embeddings=True)


def _old(config: Config, hidden: int, heads: int, layers: int, *, ffn: int, **fields: Any) -> Architecture:
    if hidden % heads:
        raise config.wrong(f"has a hidden size of {hidden}, which {heads} attention heads do not divide")
    shape = {"kv_heads": heads, "source": f"config.json of {config.model}", **fields}
    return Architecture(
        name=config.model,
        layers=layers,
        hidden=hidden,
        query_heads=heads,
        head_dim=hidden // heads,
        ffn=ffn,
        vocabulary=config.count("vocab_size"),
        full_layers=layers,
        dense_layers=layers,
        gated=False,
        **shape,
    )
