"""SGLang: `python3 -m sglang.launch_server` and its flags.

Flags as in docs.sglang.io/advanced_features/server_arguments and python/sglang/srt/server_args.py.
"""

from collections.abc import Iterator

from farthing.economics.deployment import Deployment
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


def attention_copies(deployment: Deployment) -> bool:
    """Whether data parallelism is of the attention alone, over experts that are split among all devices."""
    return deployment.data > 1 and deployment.expert > 1


def settings(choice: Choice) -> tuple[Setting, ...]:
    """Every flag of one replica. With attention copies SGLang divides two limits by their number; ours are per copy."""
    deployment = choice.deployment
    copies = deployment.data if attention_copies(deployment) else 1
    each = f" of each of {copies} copies" if copies > 1 else ""
    return (
        Setting("--served-model-name", choice.model_id, "what callers ask for"),
        Setting("--host", "0.0.0.0", "reached from other machines: let only the gateway reach it"),  # noqa: S104
        Setting("--port", choice.port, "of the API, /health and /metrics"),
        *_parallel(deployment),
        *_precision(choice),
        Setting(
            "--max-running-requests",
            deployment.max_sequences * copies,
            f"{deployment.max_sequences} sequences in one iteration{each}, as predicted with",
        ),
        Setting(
            "--chunked-prefill-size",
            deployment.max_batched_tokens * copies,
            f"{deployment.max_batched_tokens} tokens of prompts in one iteration{each}, as predicted with",
        ),
        *_memory(choice),
        Setting("--context-length", choice.max_model_len, "longest prompt and answer together"),
        *(() if choice.prefix_caching else (Setting("--disable-radix-cache", None, "as predicted with"),)),
        *(_speculation(choice.speculation) if choice.speculation else ()),
        Setting("--enable-metrics", None, "the autoscaler reads them"),
        *(
            (Setting("--enable-metrics-for-all-schedulers", None, "each copy of the attention has its own queue"),)
            if copies > 1
            else ()
        ),
    )


def _parallel(deployment: Deployment) -> Iterator[Setting]:
    if attention_copies(deployment):
        devices = deployment.tensor * deployment.data
        yield Setting(
            "--tp-size", devices, f"devices of one stage: tensor {deployment.tensor} x data {deployment.data}"
        )
        yield Setting("--dp-size", deployment.data, "copies of the attention side by side")
        yield Setting("--enable-dp-attention", None, "attention is copied, experts are split among all devices")
    else:
        yield Setting("--tp-size", deployment.tensor, "devices that share each layer")
        if deployment.data > 1:
            yield Setting("--dp-size", deployment.data, "whole copies side by side")
    if deployment.pipeline > 1:
        yield Setting("--pp-size", deployment.pipeline, "stages of layers")
    if deployment.expert > 1:
        yield Setting("--ep-size", deployment.expert, "ways in which experts are split")


def _precision(choice: Choice) -> Iterator[Setting]:
    deployment = choice.deployment
    if dtype := dtype_of(deployment):
        yield Setting("--dtype", dtype, f"weights in {deployment.weights}")
    elif converted(choice):
        yield Setting("--quantization", weights_of(deployment), "weights are converted while they are loaded")
    yield Setting("--kv-cache-dtype", _KV[deployment.kv], f"KV cache in {deployment.kv}")


def _memory(choice: Choice) -> Iterator[Setting]:
    if choice.static_memory_share is not None:
        share = round(choice.static_memory_share, 3)
        yield Setting("--mem-fraction-static", share, "share of device memory for weights and KV cache, as predicted")


def _speculation(speculation: Speculation) -> Iterator[Setting]:
    algorithm = {"ngram": "NGRAM", "eagle3": "EAGLE3", "mtp": "EAGLE", "draft": "STANDALONE"}[speculation.method]
    drafted = f"{speculation.tokens} tokens drafted at a time"
    yield Setting("--speculative-algorithm", algorithm, drafted)
    if speculation.model:
        yield Setting("--speculative-draft-model-path", speculation.model, "the model that drafts")
    if algorithm == "NGRAM":
        yield Setting("--speculative-num-draft-tokens", speculation.tokens, drafted)
        return
    yield Setting("--speculative-num-steps", speculation.tokens, drafted)
    yield Setting("--speculative-eagle-topk", 1, "one chain, not a tree")
    yield Setting("--speculative-num-draft-tokens", speculation.tokens + 1, "checked at a time: those and one more")


def faults(choice: Choice) -> Iterator[Fault]:
    """What SGLang cannot do of what was chosen, with what to do instead."""
    deployment = choice.deployment
    model, device = deployment.architecture, deployment.hardware
    if vendor(deployment) in ("google", "aws"):
        yield f"SGLang does not run on {device.name}.", "Use vLLM."
    if deployment.expert > 1 and model.experts % deployment.expert:
        yield (
            f"SGLang cannot split {model.experts} experts {deployment.expert} ways evenly.",
            f"Let expert be a divisor of {model.experts}.",
        )
    yield from weight_faults(choice, _UNPACKS)
    yield from kv_faults(deployment, _KV)
    if deployment.kv == "nvfp4" and "fp4" not in device.flop_per_s:
        yield f"SGLang keeps no KV cache in nvfp4 on {device.name}.", "Use fp8."
    if choice.speculation and choice.speculation.method == "ngram":
        if vendor(deployment) != "nvidia":
            yield f"SGLang drafts from n-grams on NVIDIA devices alone, not on {device.name}.", "Use eagle3."
        if attention_copies(deployment):
            yield "SGLang does not draft from n-grams with copies of the attention.", "Use eagle3, or data = 1."


_UNPACKS = {"mxfp4": ("nvidia", "amd"), "fp8": ("nvidia",), "fp8_block": ("nvidia",)}
_KV = {"bf16": "auto", "fp16": "auto", "fp32": "auto", "fp8": "fp8_e4m3", "nvfp4": "nvfp4"}

ENGINE = Engine(
    name="sglang",
    program=("python3", "-m", "sglang.launch_server"),
    model_flag="--model-path",
    settings=settings,
    faults=faults,
    # Ranks of one scheduler may each report the same queue: count every queue once.
    running="sum(max by (instance, dp_rank) (sglang:num_running_reqs{%s}))",
    waiting="sum(max by (instance, dp_rank) (sglang:num_queue_reqs{%s}))",
    images={"nvidia": "lmsysorg/sglang", "amd": "lmsysorg/sglang"},
)
