"""Precisions: how many bits a weight takes in each format, which layers keep another, and what multiplies it."""

from difflib import get_close_matches

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.hardware import Hardware
from farthing.errors import RequestError


class Precision(msgspec.Struct, frozen=True):
    """A format of weights. `bits` counts scales and zero points; `computes` are compute types, the best first."""

    name: str
    bits: float
    computes: tuple[str, ...]
    elsewhere: str = ""
    """In a mixture of experts, the precision of what is no routed expert; "" where it is the same."""
    head: str = "bf16"
    """The precision of embeddings and output head, which quantised checkpoints leave alone."""
    aliases: tuple[str, ...] = ()


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", 32.0, ("fp32",), head="fp32", aliases=("float32", "float")),
        Precision("bf16", 16.0, ("bf16", "fp32"), aliases=("fp16", "bfloat16", "float16", "half", "auto")),
        Precision("fp8", 8.0, ("fp8", "bf16", "fp32"), aliases=("fp8_e4m3", "fp8_e5m2", "float8", "w8a8_fp8", "mxfp8")),
        # One FP32 scale per block of 128 x 128 (DeepSeek-V3, arXiv 2412.19437, section 3.3.2).
        Precision("fp8_block", 8.0 + 32 / 128**2, ("fp8", "bf16", "fp32"), aliases=("fp8_block128",)),
        Precision("int8", 8.0, ("int8", "bf16", "fp32"), aliases=("w8a8", "w8a8_int8", "smoothquant")),
        # A group of 128 shares an FP16 scale and a 4-bit zero point (AWQ, arXiv 2306.00978; GPTQ, arXiv 2210.17323).
        Precision("int4", 4.0 + 20 / 128, ("bf16", "fp32"), aliases=("w4a16", "awq", "gptq", "int4_g128", "awq_int4")),
        # A group of 32 shares a BF16 scale (moonshotai/Kimi-K2.5, quantization_config).
        Precision("int4_g32", 4.0 + 16 / 32, ("bf16", "fp32"), elsewhere="bf16"),
        # A group of 16 shares an FP8 scale; a tensor, an FP32 one (NVIDIA, Introducing NVFP4, 2025). Of a mixture's
        # attention, published checkpoints quantise all (Qwen3-235B), the output (DeepSeek-V3.1: 8.8 bits on average)
        # or nothing (Kimi-K2.5, GLM-5): FP8 lies between (exclude_modules of their hf_quant_config.json).
        Precision("nvfp4", 4.0 + 8 / 16, ("fp4", "bf16", "fp32"), elsewhere="fp8"),
        # A group of 32 shares an 8-bit exponent (OCP Microscaling 1.0). Activations stay wider, so FP8 is the most.
        Precision("mxfp4", 4.0 + 8 / 32, ("fp8", "bf16", "fp32"), elsewhere="bf16"),
    )
}
"""Every precision by its name."""

_NAMES = {alias: name for name, precision in PRECISIONS.items() for alias in (name, *precision.aliases)}

_BY_MODEL = {"fp4": ("nvfp4", "mxfp4"), "int4": ("int4", "int4_g32")}
"""Names that mean the format the model was published in if it is one of these, and the first elsewhere."""


def precision_named(name: str, architecture: Architecture | None = None) -> Precision:
    """The precision of a name, of which "fp4" and "int4" depend on how the maker publishes the model.

    Raises RequestError for a name that is none.

    >>> precision_named("FP16").name, precision_named("fp4").name
    ('bf16', 'nvfp4')
    """
    key = name.strip().lower().replace("-", "_")
    if key in _BY_MODEL:
        usual = _BY_MODEL[key]
        native = architecture.native if architecture else ""
        return PRECISIONS[native if native in usual else usual[0]]
    if key not in _NAMES:
        near = get_close_matches(key, [*_NAMES, *_BY_MODEL], n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(PRECISIONS)}."
        raise RequestError(f"The precision '{name}' is not known.", hint=hint)
    return PRECISIONS[_NAMES[key]]


def bits_per_weight(name: str, architecture: Architecture | None = None) -> float:
    """Bits that a weight takes in a precision, its share of the scales included; raises RequestError.

    >>> 7e9 * bits_per_weight("fp32") / 8 / 1e9  # GB of 7 billion weights
    28.0
    >>> bits_per_weight("nvfp4"), bits_per_weight("mxfp4")
    (4.5, 4.25)
    """
    return precision_named(name, architecture).bits


def compute_type(precision: str, hardware: Hardware, architecture: Architecture | None = None) -> str:
    """The compute type of `hardware.flop_per_s` that multiplies weights of a precision: the best it really has.

    Weights that it cannot multiply as they are get widened first: INT4 to 16 bits everywhere, FP8 on an A100, FP4 on
    an H100. Raises RequestError when the precision is not known or the hardware has none of its types.
    """
    known = precision_named(precision, architecture)
    for compute in known.computes:
        if compute in hardware.flop_per_s:
            return compute
    raise RequestError(
        f"{hardware.name} multiplies none of {', '.join(known.computes)}, so it cannot run {known.name} weights.",
        hint=f"It has {', '.join(hardware.flop_per_s)}.",
    )
