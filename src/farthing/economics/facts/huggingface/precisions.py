"""In which precision a checkpoint keeps its weights, from its config.json."""

from farthing.economics.facts.huggingface.config import Config

_DTYPES = {"float32": "fp32", "float16": "bf16", "bfloat16": "bf16", "half": "bf16", "float": "fp32"}
_ALGORITHMS = {
    "fp8": "fp8", "fp8_pb_wo": "fp8_block", "fp8_block_scales": "fp8_block", "nvfp4": "nvfp4", "mxfp4": "mxfp4",
    "w4a16_nvfp4": "nvfp4", "w4a16": "int4", "w4a16_awq": "int4", "w8a8": "int8", "int8": "int8",
}  # fmt: skip
METHODS = ("awq", "bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "modelopt", "mxfp4")


def weights_precision(config: Config) -> str:
    """The precision of most weights, as `farthing.economics.precision` names it; raises RequestError if not known."""
    quantised = config.part("quantization_config") or config.part("compression_config")
    if quantised is None:
        dtype = config.text("dtype", "torch_dtype", default="bfloat16").removeprefix("torch.").lower()
        if dtype in _DTYPES:
            return _DTYPES[dtype]
        if dtype.startswith("float8"):
            return "fp8"
        raise config.wrong(f"has weights of type '{dtype}', which is not known", f"Known: {', '.join(_DTYPES)}.")
    method = quantised.text("quant_method").lower()
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8_block" if quantised.items("weight_block_size") else "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("awq", "gptq"):
        return _whole(config, quantised.count("bits", "w_bit", default=4), quantised.first("group_size"))
    if method == "bitsandbytes":
        return "int8" if quantised.flag("load_in_8bit", False) else "int4"
    if method.startswith("modelopt") or quantised.has("quant_algo"):
        return _algorithm(config, quantised)
    if method == "compressed-tensors":
        return _compressed(config, quantised)
    raise config.wrong(f"is quantised by '{method}', which is not known", f"Known: {', '.join(METHODS)}.")


def _algorithm(config: Config, quantised: Config) -> str:
    algorithm = quantised.text("quant_algo").lower()
    if algorithm == "mixed_precision":
        groups = (group for group in (quantised.part("quantized_layers"),) if group)
        found = {str(item) for group in groups for item in group.texts_within("quant_algo")}
        algorithm = min((name.lower() for name in found), key=lambda name: "fp4" not in name, default="")
    if algorithm not in _ALGORITHMS:
        raise config.wrong(f"is quantised by '{algorithm}', which is not known", f"Known: {', '.join(_ALGORITHMS)}.")
    return _ALGORITHMS[algorithm]


def _compressed(config: Config, quantised: Config) -> str:
    layout = quantised.text("format").lower()
    for name in ("nvfp4", "mxfp4"):
        if layout.startswith(name):
            return name
    groups = quantised.part("config_groups")
    first = groups.part(groups.keys()[0]) if groups and groups.keys() else None
    weights = first.part("weights") if first else None
    if weights is None:
        raise config.wrong("has a quantization_config without the weights of any group")
    bits = weights.count("num_bits")
    if weights.text("type") == "float":
        if bits == 8:
            return "fp8_block" if weights.text("strategy") == "block" else "fp8"
        if bits == 4:
            return "mxfp4" if weights.first("group_size") == 32 else "nvfp4"
    return _whole(config, bits, weights.first("group_size"))


def _whole(config: Config, bits: int, group: object) -> str:
    if bits == 8:
        return "int8"
    if bits == 4:
        return "int4_g32" if group == 32 else "int4"
    raise config.wrong(f"has weights of {bits} bits, which is not known", "Known are 4 and 8.")
