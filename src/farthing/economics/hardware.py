"""Hardware: what one accelerator can do, as its data sheet says it."""

import msgspec


class Hardware(msgspec.Struct, frozen=True):
    """One accelerator, or one socket of a CPU server. Peaks are dense, without structured sparsity.

    `flop_per_s` maps a compute type ("fp32", "bf16", "fp8", "int8", "fp4") to its peak in FLOP/s (integer operations
    count the same). `link_bytes_per_s` is what one device can send to its neighbours in one direction, and
    `link_latency_s` what one hop costs. `idle_w` is drawn doing nothing; `None` where nobody published it.
    """

    name: str
    vendor: str
    kind: str
    """"gpu", "tpu", "accelerator" or "cpu"."""
    flop_per_s: dict[str, float]
    memory_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    link_latency_s: float
    link_devices: int
    """How many devices the fast link joins; beyond, the network between nodes is used."""
    tdp_w: float
    idle_w: float | None
    source: str
    date: str
    aliases: tuple[str, ...] = ()
