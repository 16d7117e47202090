"""What could be run: every way of laying a model out on every kind of hardware that is worth asking about."""

from collections.abc import Iterator

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment
from farthing.economics.hardware import Hardware

TENSOR = (1, 2, 4, 8, 16)
PIPELINE = (1, 2, 4)
BATCHES = (8, 16, 32, 64, 128, 256, 512, 1024)


class Space(msgspec.Struct, frozen=True):
    """The bounds of a search. `weights` and `kv` are precisions; batches are sequences per copy."""

    weights: tuple[str, ...] = ("bf16", "fp8")
    kv: tuple[str, ...] = ("bf16",)
    max_devices: int = 16
    """Of one replica."""
    batches: tuple[int, ...] = BATCHES
    engine: str = "vllm"
    max_batched_tokens: int | None = None
    """Of one iteration; `None` is what engines choose by themselves."""
    memory_share: float = 0.9


def layouts(hardware: Hardware, architecture: Architecture, max_devices: int) -> Iterator[tuple[int, int, int, int]]:
    """Every (tensor, pipeline, data, expert) that divides the model evenly, the fewest devices first.

    Tensor parallelism keeps to the devices that the fast link joins. Layers of a pipeline need not divide evenly.
    Experts are split with the tensors of one copy, or over copies of the attention.
    """
    for tensor in TENSOR:
        if tensor > hardware.link_devices or architecture.query_heads % tensor:
            continue
        for pipeline in PIPELINE:
            if pipeline <= architecture.layers and tensor * pipeline <= max_devices:
                yield tensor, pipeline, 1, 1
        if architecture.experts:
            yield from _spread(tensor, architecture.experts, min(max_devices, hardware.link_devices))


def _spread(tensor: int, experts: int, most: int) -> Iterator[tuple[int, int, int, int]]:
    for data in TENSOR:
        ways = tensor * data
        if 1 < ways <= most and experts % ways == 0:
            yield tensor, 1, data, ways


def usual_batched_tokens(hardware: Hardware) -> int:
    """Tokens of one iteration that an engine allows unless told: fewer on small devices, where activations weigh.

    vLLM 0.9 to 0.19, `get_batch_defaults`: 8,192 from 70 GiB on except on an A100, else 2,048.
    """
    return 8192 if hardware.memory_bytes >= 70 * 2**30 and "A100" not in hardware.name else 2048


def deployments(hardware: Hardware, architecture: Architecture, space: Space) -> list[Deployment]:
    """Every deployment of a model on one kind of hardware within a space, with the largest batch of the space.

    Precisions that the hardware has no arithmetic for are taken too where the engine computes in a wider type; what
    that costs is the model's affair.
    """
    return [
        Deployment(
            hardware=hardware,
            architecture=architecture,
            weights=weights,
            kv=kv,
            tensor=tensor,
            pipeline=pipeline,
            data=data,
            expert=expert,
            engine=space.engine,
            max_sequences=max(space.batches),
            max_batched_tokens=space.max_batched_tokens or usual_batched_tokens(hardware),
            memory_share=space.memory_share,
        )
        for weights in space.weights
        for kv in space.kv
        for tensor, pipeline, data, expert in layouts(hardware, architecture, space.max_devices)
    ]


def in_words(deployment: Deployment) -> str:
    """Precision and parallelism of a deployment, as people write them."""
    ways = [
        f"{name}{ways}"
        for name, ways in (
            ("TP", deployment.tensor),
            ("PP", deployment.pipeline),
            ("DP", deployment.data),
            ("EP", deployment.expert),
        )
        if ways > 1 or name == "TP"
    ]
    kv = f", {deployment.kv} KV" if deployment.kv != "bf16" else ""
    return f"{deployment.weights}{kv}, {' '.join(ways)}"


def usual_precisions(architecture: Architecture) -> tuple[str, ...]:
    """The precisions of weights that hardly change answers, and the one the maker publishes, each once."""
    return tuple(dict.fromkeys((architecture.native, "bf16", "fp8", "int8")))
