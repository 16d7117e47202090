"""vLLM: `vllm serve` and its flags.

Flags as in docs.vllm.ai/en/stable/cli/serve and vllm/engine/arg_utils.py.
"""

import json
from collections.abc import Iterator

from farthing.exporters.manifests.choice import Choice, Speculation
from farthing.exporters.manifests.command import (
    Engine,
    Fault,
    Setting,
    converted,
    dtype_of,
    kv_faults,
    vendor,
    weight_faults,
    weights_of,
)


def settings(choice: Choice) -> tuple[Setting, ...]:
    """Every flag of one replica, in the order of a reader's questions: who, on what, in what, how much."""
    return (
        Setting("--served-model-name", choice.model_id, "what callers ask for"),
        Setting("--host", "0.0.0.0", "reached from other machines: let only the gateway reach it"),  # noqa: S104
        Setting("--port", choice.port, "of the API, /health and /metrics"),
        *_parallel(choice),
        *_precision(choice),
        Setting("--max-num-seqs", choice.deployment.max_sequences, "sequences in one iteration, as predicted with"),
        Setting(
            "--max-num-batched-tokens",
            choice.deployment.max_batched_tokens,
            "tokens in one iteration, as predicted with: longer prompts are cut into chunks",
        ),
        Setting(
            "--gpu-memory-utilization", choice.deployment.memory_share, "share of device memory, as predicted with"
        ),
        Setting("--max-model-len", choice.max_model_len, "longest prompt and answer together"),
        Setting(
            "--enable-prefix-caching" if choice.prefix_caching else "--no-enable-prefix-caching",
            None,
            "as predicted with",
        ),
        *(_speculation(choice.speculation) if choice.speculation else ()),
    )


def _parallel(choice: Choice) -> Iterator[Setting]:
    deployment = choice.deployment
    yield Setting("--tensor-parallel-size", deployment.tensor, "devices that share each layer")
    if deployment.pipeline > 1:
        yield Setting("--pipeline-parallel-size", deployment.pipeline, "stages of layers")
    if deployment.data > 1:
        yield Setting("--data-parallel-size", deployment.data, "copies of the attention side by side")
    if deployment.expert > 1:
        yield Setting("--enable-expert-parallel", None, f"experts are split {deployment.expert} ways: tensor x data")


def _precision(choice: Choice) -> Iterator[Setting]:
    deployment = choice.deployment
    if dtype := dtype_of(deployment):
        yield Setting("--dtype", dtype, f"weights in {deployment.weights}")
    elif converted(choice):
        yield Setting("--quantization", weights_of(deployment), "weights are converted while they are loaded")
    yield Setting("--kv-cache-dtype", _KV[deployment.kv], f"KV cache in {deployment.kv}")


def _speculation(speculation: Speculation) -> Iterator[Setting]:
    method = {"draft": "draft_model"}.get(speculation.method, speculation.method)
    config: dict[str, str | int] = {"method": method, "num_speculative_tokens": speculation.tokens}
    if speculation.model:
        config["model"] = speculation.model
    if method == "ngram":
        config["prompt_lookup_max"] = speculation.tokens
    yield Setting("--speculative-config", json.dumps(config), f"{speculation.tokens} tokens drafted at a time")


def faults(choice: Choice) -> Iterator[Fault]:
    """What vLLM cannot do of what was chosen, with what to do instead."""
    deployment = choice.deployment
    model, device = deployment.architecture, deployment.hardware
    if device.kind == "tpu" and deployment.pipeline > 1:  # support_matrices of vllm-project/tpu-inference
        yield f"vLLM does not run {deployment.pipeline} pipeline stages on {device.name}.", "Use tensor parallelism."
    ways = deployment.tensor * deployment.data
    if deployment.expert not in (1, ways):
        yield (
            f"vLLM cannot split experts {deployment.expert} ways on {deployment.tensor} x {deployment.data} devices.",
            f"It splits them {ways} ways, tensor times data, or not at all.",
        )
    if model.experts and deployment.data > 1 and deployment.expert == 1:
        yield (
            f"vLLM keeps no whole copy of {model.name}'s experts on each of {deployment.data} data-parallel ranks.",
            f"Plan with expert = {ways}, or with data = 1 and {deployment.data} times the replicas.",
        )
    if deployment.max_batched_tokens < deployment.max_sequences:
        yield (
            f"{deployment.max_batched_tokens} tokens in one iteration are fewer than its "
            f"{deployment.max_sequences} sequences, which vLLM refuses.",
            "Raise max_batched_tokens.",
        )
    # Its table of hardware for quantisation: Marlin kernels unpack on NVIDIA devices what those cannot multiply.
    yield from weight_faults(choice, _UNPACKS)
    if vendor(deployment) == "amd" and weights_of(deployment) in ("int4", "int4_g32", "int8"):
        yield f"vLLM has no {deployment.weights} kernels for {device.name}.", "Use fp8 or bf16."
    yield from kv_faults(deployment, _KV)
    if choice.speculation and deployment.pipeline > 1:  # docs.vllm.ai/en/v0.14.0/features/spec_decode
        yield "vLLM does not speculate across pipeline stages.", "Use tensor parallelism, or no speculation."


_UNPACKS = {
    "nvfp4": ("nvidia",),
    "mxfp4": ("nvidia", "amd"),
    "fp8": ("nvidia",),
    "fp8_block": ("nvidia",),
}
_KV = {"bf16": "auto", "fp16": "auto", "fp32": "auto", "fp8": "fp8"}

ENGINE = Engine(
    name="vllm",
    program=("vllm", "serve"),
    model_flag="",
    settings=settings,
    faults=faults,
    running="sum(vllm:num_requests_running{%s})",
    waiting="sum(vllm:num_requests_waiting{%s})",
    images={"nvidia": "vllm/vllm-openai", "amd": "vllm/vllm-openai-rocm", "google": "vllm/vllm-tpu"},
)
