"""Models as Hugging Face describes them: a config.json becomes an architecture."""

from collections.abc import Callable, Mapping

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.facts.huggingface import decoders, mixtures
from farthing.economics.facts.huggingface.config import Config
from farthing.economics.facts.huggingface.nas import nemotron_nas
from farthing.economics.facts.huggingface.precisions import weights_precision
from farthing.economics.facts.shape import problem_of
from farthing.errors import RequestError

__all__ = ["FAMILIES", "architecture_of", "weights_precision_of"]

Family = Callable[[Config], Architecture]

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(
        (
            "apriel", "aquila", "baichuan", "deepseek", "ernie4_5", "glm", "glm4", "granite", "helium",
            "hunyuan_v1_dense",
            "internlm", "internlm2", "internlm3", "llama", "mimo", "minicpm", "ministral", "mistral", "mistral3",
            "olmo", "olmo2", "olmo3", "orion", "phi3", "phi4mm", "pixtral", "qwen", "seed_oss",
            "smollm3", "solar", "stablelm", "telechat2", "yi",
        ),
        decoders.llama,
    ),
    **dict.fromkeys(
        ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_vl", "qwen3_vl_text", "qwen2_5_vl_text", "qwen2_vl_text"),
        decoders.unwindowed,
    ),
    **dict.fromkeys(("apertus", "arcee", "gpt_neox", "nemotron", "persimmon", "phi"), decoders.ungated),
    **dict.fromkeys(("cohere", "gemma"), decoders.tied),
    "cohere2": decoders.alternating(4),
    "gemma2": decoders.alternating(2),
    "gemma3": decoders.alternating(6),
    "gemma3_text": decoders.alternating(6),
    "exaone": decoders.exaone,
    "exaone4": decoders.exaone4,
    "starcoder2": decoders.starcoder2,
    "bloom": decoders.bloom,
    "falcon": decoders.falcon,
    "refinedweb": decoders.falcon,
    "refinedwebmodel": decoders.falcon,
    "gpt2": decoders.gpt2,
    "gpt_bigcode": decoders.gpt2,
    "gptj": decoders.gptj,
    "codegen": decoders.gptj,
    "mpt": decoders.mpt,
    "opt": decoders.opt,
    **dict.fromkeys(
        (
            "bailing_moe", "ernie4_5_moe", "glm4_moe", "glm4v_moe", "granitemoe", "hunyuan", "hunyuan_v1_moe",
            "minimax_m2", "mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3_vl_moe", "qwen3_vl_moe_text",
            "step3p5", "step3p7", "dots1",
        ),
        mixtures.mixtral,
    ),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "glm_moe_dsa", "longcat_flash"),
        mixtures.deepseek,
    ),
    **dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"), mixtures.qwen_linear),
    "dbrx": mixtures.dbrx,
    "gemma4": mixtures.gemma4,
    "gemma4_text": mixtures.gemma4,
    "gpt_oss": mixtures.gpt_oss,
    "kimi_linear": mixtures.kimi_linear,
    "llama4": mixtures.llama4,
    "llama4_text": mixtures.llama4,
    "mimo_v2_flash": mixtures.mimo_v2,
    "minimax": mixtures.minimax_m1,
    "minimax_m1": mixtures.minimax_m1,
    "minimax_text_01": mixtures.minimax_m1,
    **dict.fromkeys(("minimax_m3", "minimax_m3_vl"), mixtures.minimax_m3),
    "nemotron_h": mixtures.nemotron_h,
    "nemotron-nas": nemotron_nas,
}  # fmt: skip
"""What reads the config of a model_type."""

_NESTED = ("text_config", "llm_config", "language_config")


def architecture_of(config: Mapping[str, object], name: str) -> Architecture:
    """The architecture that a config.json describes, as the model `name`.

    Raises RequestError for a model_type that is not known, and for fields that are missing or contradict one another.

    >>> config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    >>> config |= {"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}
    >>> architecture_of(config, "llama-3.1-8b").head_dim
    128
    """
    outer = Config(name, config)
    inner = _decoder_fields(outer)
    kind = inner.text("model_type").lower() or outer.text("model_type").lower()
    family = FAMILIES.get(kind) or FAMILIES.get(outer.text("model_type").lower())
    if family is None:
        made = ", ".join(str(item) for item in outer.items("architectures")[:1])
        raise RequestError(
            f"The config.json of {name} is of an architecture that is not known: '{kind or made or 'none named'}'.",
            hint=f"Known: {_known()}; or add a [[model]] row with its shape in TOML.",
        )
    architecture = msgspec.structs.replace(family(inner), native=weights_precision(inner))
    if problem := problem_of(architecture):
        raise outer.wrong(problem)
    return architecture


def weights_precision_of(config: Mapping[str, object], name: str = "the model") -> str:
    """The precision in which a checkpoint keeps most of its weights, from its config.json; raises RequestError.

    >>> weights_precision_of({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})
    'fp8_block'
    """
    return weights_precision(_decoder_fields(Config(name, config)))


def _known() -> str:
    return ", ".join(sorted(kind for kind in FAMILIES if not kind.endswith("_text")))


def _decoder_fields(outer: Config) -> Config:
    """The fields of the decoder, which models of several senses keep apart."""
    for key in _NESTED:
        if inner := outer.part(key):
            return inner.over(outer)
    return outer
