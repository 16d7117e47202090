"""Deployment and Workload: what is run, on what, how; and what is asked of it."""

import msgspec

from farthing.economics.architecture import Architecture
from farthing.economics.hardware import Hardware


class Deployment(msgspec.Struct, frozen=True):
    """One replica of a model on `tensor * pipeline * data` devices of one kind.

    `weights` and `kv` name precisions of `farthing.economics.precision`. `expert` is how many ways the experts of a
    mixture are split among those devices (1: they are split like every other weight). `data` is how many copies of
    the attention run side by side in the replica (attention data parallelism, or plain data parallelism when
    `expert` is 1). `max_sequences` and `max_batched_tokens` bound one iteration of one copy; `memory_share` is the
    share of device memory that the engine may take.
    """

    hardware: Hardware
    architecture: Architecture
    weights: str = "bf16"
    kv: str = "bf16"
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    engine: str = "vllm"
    max_sequences: int = 256
    max_batched_tokens: int = 8192
    memory_share: float = 0.9

    @property
    def devices(self) -> int:
        """How many devices one replica takes."""
        return self.tensor * self.pipeline * self.data


class Workload(msgspec.Struct, frozen=True):
    """What one replica is asked to serve: requests of a mean size, from so many callers at once or at a rate.

    Exactly one of `concurrency` (closed loop: each caller asks again when answered) and `requests_per_s` (open loop:
    Poisson arrivals) is given. `cached_share` is the share of input tokens found in the prefix cache.
    """

    input_tokens: float
    output_tokens: float
    concurrency: float | None = None
    requests_per_s: float | None = None
    cached_share: float = 0.0
