"""Decoders in the Hugging Face format: which are understood, and how they are loaded and saved."""

import math
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM

from farthing.compress.generative.tokens import CONFIG, settings, words_of
from farthing.compress.parsing import nearest
from farthing.errors import ConfigError

ARCHITECTURES: Final = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
)
"""Those whose layers are `model.layers` with q, k, v, o and gate, up, down projections under these names."""

COPIED: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "generation_config.json",
)
"""Files of a model that shrinking does not change."""

Model = Any
"""A causal language model of transformers, whose classes have no types of their own to check against."""


def refuse_unknown(folder: Path) -> None:
    """Raises ConfigError when a folder does not hold a decoder that is understood here."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{folder} is not a folder with a decoder: it has no {CONFIG}.",
            hint="Give teacher.path as a folder in the Hugging Face format; nothing is fetched from the network.",
        )
    says = settings(folder)
    named = says.get("architectures") or ["none"]
    if named[0] not in ARCHITECTURES:
        raise ConfigError(
            f"{folder} holds {named[0]}, which is not understood{nearest(str(named[0]), list(ARCHITECTURES))}",
            hint="Its layers have to have the names of Llama's.",
        )
    if says.get("quantization_config"):
        raise ConfigError(f"{folder} is quantized already.", hint="Begin with the model before it was quantized.")
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} has no safetensors file.", hint="Save it again with transformers; pickled weights are not read."
        )


def load_decoder(folder: Path) -> Model:
    """The decoder of a folder, in float32, ready to be asked.

    Raises ConfigError when it is not understood, its weights are damaged, or its tokenizer has pieces without a vector.
    """
    refuse_unknown(folder)
    try:
        model: Model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except Exception as error:  # noqa: BLE001  transformers raises whatever the loader underneath does
        raise ConfigError(
            f"{folder} cannot be loaded: {str(error).strip().partition(chr(10))[0]}", hint="Fetch the model again."
        ) from None
    pieces, rows = words_of(folder).tokenizer.get_vocab_size(), int(model.config.vocab_size)
    if pieces > rows:
        raise ConfigError(
            f"The tokenizer in {folder} has {pieces:,} pieces and the model {rows:,} vectors.",
            hint="Take the tokenizer that the model was trained with.",
        )
    return model.eval()


def save_decoder(model: Model, source: Path, folder: Path) -> None:
    """Save a decoder that was made from the one in `source`, in the precision that one has, with its tokenizer."""
    precision = settings(source).get("dtype") or settings(source).get("torch_dtype") or "float32"
    folder.mkdir(parents=True, exist_ok=True)
    model.to(getattr(torch, str(precision))).save_pretrained(folder)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def layers_of(model: Model) -> list[nn.Module]:
    """A decoder's layers, from the lowest."""
    return list(model.model.layers)


def parameters_of(model: nn.Module) -> int:
    """How many weights a model has; those that are used twice count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def parameters_in(folder: Path) -> int:
    """How many weights lie in a folder's safetensors files, from their headers; 0 where there are none."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            count += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return count
