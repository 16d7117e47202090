"""GGUF: one file with a decoder's weights and tokenizer, as llama.cpp serves it, written with the package `gguf`.

llama.cpp's own converter is no package. What is written here is what it reads of decoders like Llama with byte-level
BPE; all others are refused, with a pointer to the converter.
"""

import math
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch

from farthing.compress.generative.decoders import Model, load_decoder
from farthing.compress.generative.extras import extra
from farthing.compress.generative.tokens import TOKENIZER, settings
from farthing.errors import ConfigError

FAMILIES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
"""What llama.cpp calls them."""

CONVERTER: Final = "Use convert_hf_to_gguf.py from the sources of llama.cpp for this one."
FILE: Final = "model.gguf"

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{digits}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS: Final = {
    "": "gpt-2",
    _WORDS.replace("{digits}", "{1,3}"): "llama-bpe",
    _WORDS.replace("{digits}", ""): "qwen2",
}
"""How texts are cut before BPE, by the pattern that tokenizer.json says it with, and llama.cpp's name for it."""

_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
"""Kinds of tokens, as GGUF numbers them."""


def write_gguf(source: Path, folder: Path, kind: str) -> float:
    """Write the decoder in `source` as `folder`/model.gguf: "f16", "q8_0" or "q4_0" (with embeddings in q8_0).

    The file is read again, and its weights unpacked: the root mean square of what they are off by, as a share of
    theirs. Raises ConfigError when llama.cpp would not read it rightly, or the package is not installed.
    """
    library = extra("gguf", "Writing GGUF")
    model = load_decoder(source)
    family = _family(model, source)
    tokens = _Tokens(source)
    folder.mkdir(parents=True, exist_ok=True)
    writer = library.GGUFWriter(folder / FILE, family)
    _write_shape(writer, library, model, kind)
    tokens.write(writer, library, int(model.config.vocab_size), source)
    weights = _named(library, model, family)
    for name, values in weights.items():
        packed = _packing(library, name, values, kind)
        writer.add_tensor(name, library.quants.quantize(values, packed), raw_dtype=packed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return _off(library, folder / FILE, weights)


def _off(library: Any, file: Path, weights: dict[str, Any]) -> float:
    """How far a file's weights are from those that were to be written. Raises ConfigError when one is not there."""
    read = {tensor.name: tensor for tensor in library.GGUFReader(file).tensors}
    if read.keys() != weights.keys():
        raise ConfigError(f"{file} does not hold what was written to it.", hint="Try another release of gguf.")
    wrong = whole = 0.0
    for name, values in weights.items():
        found = library.quants.dequantize(read[name].data, read[name].tensor_type).reshape(values.shape)
        wrong += float(np.square(found - values, dtype=np.float64).sum())
        whole += float(np.square(values, dtype=np.float64).sum())
    return math.sqrt(wrong / whole)


def _named(library: Any, model: Model, family: str) -> dict[str, Any]:
    """A decoder's weights by the names that GGUF has for them."""
    names = library.get_tensor_name_map(library.MODEL_ARCH[family.upper()], model.config.num_hidden_layers)
    found = {}
    for name, values in _weights(model, family):
        short = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if short is None:
            raise ConfigError(f"GGUF has no name for {name}.", hint=CONVERTER)
        found[short] = values
    return found


def _family(model: Model, source: Path) -> str:
    architecture = type(model).__name__
    if architecture not in FAMILIES:
        raise ConfigError(f"{architecture} is not written as GGUF here.", hint=CONVERTER)
    rope = _rope(model)
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(
            f"{source} stretches its positions ({rope['rope_type']}), which is not written as GGUF here.",
            hint=CONVERTER,
        )
    family, asked = FAMILIES[architecture], model.config.num_attention_heads * _head_size(model)
    if family == "qwen2" and asked != model.config.hidden_size:
        raise ConfigError(
            f"The queries of {source} are {asked} wide, and llama.cpp reads {architecture} only with "
            f"{model.config.hidden_size}, which is its width.",
            hint="Keep all key-value heads of this one, or export it for vLLM or ONNX Runtime.",
        )
    return family


def _head_size(model: Model) -> int:
    config = model.config
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope(model: Model) -> dict[str, Any]:
    return dict(getattr(model.config, "rope_parameters", None) or {})


def _write_shape(writer: Any, library: Any, model: Model, kind: str) -> None:
    config = model.config
    size = _head_size(model)
    writer.add_name("decoder")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(_rope(model).get("rope_theta", 10_000.0)))
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(getattr(library.LlamaFileType, f"MOSTLY_{kind.upper()}"))
    writer.add_quantization_version(library.GGML_QUANT_VERSION)


def _weights(model: Model, family: str) -> list[tuple[str, Any]]:
    """Names and float32 values; llama.cpp turns neighbouring pairs of Llama's queries and keys, so they are moved."""
    config, found = model.config, []
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.detach().to(torch.float32)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if family == "llama" and heads:
            rest = values.shape[1:]
            values = values.reshape(heads, 2, -1, *rest).transpose(1, 2).reshape(-1, *rest)
        found.append((name, values.contiguous().numpy()))
    return found


def _packing(library: Any, name: str, values: Any, kind: str) -> Any:
    packings = library.GGMLQuantizationType
    if values.ndim == 1:
        return packings.F32
    if kind == "q4_0" and (name in ("token_embd.weight", "output.weight")):
        kind = "q8_0"
    packed = packings[kind.upper()]
    block, _ = library.GGML_QUANT_SIZES[packed]
    return packed if values.shape[-1] % block == 0 else packings.F16


class _Added(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _Tokens:
    """What tokenizer.json says, as far as GGUF can say it too. Raises ConfigError where it cannot."""

    def __init__(self, source: Path) -> None:
        path = source / TOKENIZER
        content = msgspec.json.decode(path.read_bytes())
        self.added = msgspec.convert(content.get("added_tokens") or [], list[_Added])
        bpe = content["model"]
        if bpe.get("type") != "BPE" or bpe.get("byte_fallback"):
            kind = f"{bpe.get('type')}{' with byte fallback' if bpe.get('byte_fallback') else ''}"
            raise ConfigError(f"{path} is {kind}, and only byte-level BPE is written as GGUF here.", hint=CONVERTER)
        self.ids: dict[str, int] = dict(bpe["vocab"])
        pattern = _pattern(content.get("pre_tokenizer") or {})
        if pattern not in SPLITS:
            raise ConfigError(
                f"{path} cuts texts in a way that has no name in llama.cpp known here: {pattern!r}.", hint=CONVERTER
            )
        self.split = SPLITS[pattern]

    def write(self, writer: Any, library: Any, size: int, source: Path) -> None:
        """Write pieces, merges and special tokens, for a model with `size` vectors."""
        names, kinds = [f"[PAD{number}]" for number in range(size)], [_UNUSED] * size
        for name, number in self.ids.items():
            names[number], kinds[number] = name, _NORMAL
        for one in self.added:
            names[one.id], kinds[one.id] = one.content, _CONTROL if one.special else _USER
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.split)
        writer.add_token_list(names)
        writer.add_token_types(kinds)
        special = library.SpecialVocab(source, load_merges=True, n_vocab=size)
        says = settings(source)
        if "bos" not in special.add_special_token:
            special.add_special_token["bos"] = False
        if isinstance(says.get("eos_token_id"), list):
            special.special_token_ids["eos"] = says["eos_token_id"][0]
        special.add_to_gguf(writer, quiet=True)


def _pattern(before: dict[str, Any]) -> str | None:
    """The pattern by which texts are cut: empty for GPT-2's, None where there is another step."""
    steps = before.get("pretokenizers") or [before]
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return ""
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        pattern = steps[0].get("pattern", {}).get("Regex")
        return str(pattern) if pattern else None
    return None
