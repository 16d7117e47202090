"""How fast a model can be served at what cost when devices may be added without end: the frontier, and its limit law.

After E. Erdil, Inference economics of language models (arXiv 2506.04645, 2025). A token takes

    t = 4 L launches of 4 us + all-reduces + max(bytes / (N BW), FLOP / (N FLOP/s))

on N devices, the least over tensor parallelism in one or two dimensions and a pipeline of 1 to 6 stages. All-reduces
cost what NCCL needs for them, so speed has a limit: devices read weights faster together, but agree on results more
slowly. This is how far physics goes, without an engine's host time; what an engine really does, `predict` says.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.economics.architecture import Architecture
from farthing.economics.energy.power import wide_flop_per_s
from farthing.economics.hardware import Hardware
from farthing.economics.memory import kv_bytes_per_token, parameters, weights_bytes
from farthing.economics.money.plausible import number, require
from farthing.economics.precision import compute_type
from farthing.economics.searching.frontier import frontier
from farthing.errors import RequestError

Floats = NDArray[np.float64]

LAUNCH_S = 4e-6
LAUNCHES_PER_LAYER = 4
HOP_S = 2e-6
"""Of the simple form: one step of an all-reduce, and as much to begin."""

NETWORK_BYTES_PER_S = 50e9
"""Between nodes, per device: 400 Gb/s."""

PIPELINES = (1, 2, 4, 6)
DIMENSIONS = (1, 2)
DEVICES = tuple(sorted({scale * 2**step for scale in (1, 3) for step in range(12)}))
BATCHES = tuple(2**step for step in range(15))

_BYTES = 2.0  # of an activation
_TIMES = 2  # an all-reduce scatters, then gathers


class Protocol(NamedTuple):
    """How NCCL runs a collective: its latencies in seconds, and the share of the link's rate it reaches."""

    base_s: float
    hop_s: float
    node_s: float
    bandwidth: float


PROTOCOLS = (
    Protocol(6.8e-6, 0.6e-6, 5e-6, 0.5),
    Protocol(14e-6, 1.25e-6, 8.5e-6, 0.95),
    Protocol(0.0, 28e-6, 28e-6, 1.0),
)
"""LL, LL128 and Simple, as the model of arXiv 2506.04645 takes them from NCCL's tuning tables."""


class Scaled(msgspec.Struct, frozen=True):
    """A model and the devices it is spread over, in the figures that the law depends on.

    `weights_bytes` and `experts_bytes` are read per iteration, the latter as far as tokens choose them;
    `flop_per_token` is 2 per active weight.
    """

    layers: int
    hidden: int
    weights_bytes: float
    flop_per_token: float
    kv_bytes_per_token: float
    memory_bytes: float
    memory_bytes_per_s: float
    flop_per_s: float
    link_bytes_per_s: float
    node_devices: int
    experts_bytes: float = 0.0
    expert_share: float = 1.0
    """The share of experts that one token chooses."""
    network_bytes_per_s: float = NETWORK_BYTES_PER_S


class FrontierPoint(msgspec.Struct, frozen=True):
    """One way of serving that nothing else beats in both speed and cost."""

    tokens_per_s_per_user: float
    usd_per_million_tokens: float
    devices: int
    batch: int
    tensor_dimensions: int
    pipeline: int


def scaled_model(architecture: Architecture, hardware: Hardware, weights: str = "bf16", kv: str = "bf16") -> Scaled:
    """The figures of a model in a precision on a kind of device; raises RequestError for an unknown precision."""
    stored, counts = weights_bytes(architecture, weights), parameters(architecture)
    kept = kv_bytes_per_token(architecture, kv)
    compute = compute_type(weights, hardware, architecture)
    return Scaled(
        layers=architecture.layers,
        hidden=architecture.hidden,
        weights_bytes=stored.shared + stored.head,
        flop_per_token=2.0 * counts.active,
        kv_bytes_per_token=kept.full_per_token + kept.window_per_token,
        memory_bytes=hardware.memory_bytes,
        memory_bytes_per_s=hardware.memory_bytes_per_s,
        flop_per_s=hardware.flop_per_s.get(compute, wide_flop_per_s(hardware)),
        link_bytes_per_s=hardware.link_bytes_per_s,
        node_devices=hardware.link_devices,
        experts_bytes=stored.experts,
        expert_share=architecture.top_k / architecture.experts if architecture.experts else 1.0,
    )


def all_reduce_s(scaled: Scaled, ranks: Floats, payload_bytes: Floats) -> Floats:
    """Seconds of an all-reduce of so many bytes over so many ranks, by the quickest protocol; arrays of one shape.

    A ring sends 2 (R - 1)/R of the payload over the slowest link on its way; beyond a node, that is the network.
    """
    nodes = np.ceil(ranks / scaled.node_devices)
    link = np.where(nodes > 1, scaled.network_bytes_per_s, scaled.link_bytes_per_s)
    sent = _TIMES * (ranks - 1) / ranks * payload_bytes / link
    best = np.full(np.broadcast_shapes(ranks.shape, payload_bytes.shape), np.inf)
    for protocol in PROTOCOLS:
        hops = _TIMES * ((ranks / nodes - 1) * protocol.hop_s + protocol.node_s * np.log2(nodes))
        best = np.minimum(best, protocol.base_s + hops + sent / protocol.bandwidth)
    return np.where(ranks > 1, best, 0.0)


def layout_s(
    scaled: Scaled, devices: Floats, batch: Floats, context_tokens: float, dimensions: int, pipeline: int
) -> Floats:
    """Seconds per token of every sequence in one layout, arrays of one shape; infinite where memory does not hold it.

    One dimension takes two all-reduces per layer over all ranks, two take four over their square root. The stages of a
    pipeline each process their own share of the batch, one after the other for a token.
    """
    ranks = devices / pipeline
    each = batch / pipeline
    group = ranks if dimensions == 1 else np.sqrt(ranks)
    payload = each * scaled.hidden * _BYTES / (ranks / group)
    sync = scaled.layers * 2 * dimensions * all_reduce_s(scaled, group, payload)
    hops = (pipeline - 1) * (PROTOCOLS[0].base_s + each * scaled.hidden * _BYTES / ranks / scaled.network_bytes_per_s)
    held = scaled.weights_bytes + scaled.experts_bytes + batch * context_tokens * scaled.kv_bytes_per_token
    touched = 1.0 - (1.0 - scaled.expert_share) ** each
    read = scaled.weights_bytes + scaled.experts_bytes * touched + each * context_tokens * scaled.kv_bytes_per_token
    busy = np.maximum(
        read / (ranks * scaled.memory_bytes_per_s), each * scaled.flop_per_token / (ranks * scaled.flop_per_s)
    )
    seconds = LAUNCHES_PER_LAYER * scaled.layers * LAUNCH_S + sync + hops + busy
    possible = (devices % pipeline == 0) & (each >= 1) & (devices * scaled.memory_bytes >= held)
    return np.where(possible, seconds, np.inf)


def cost_speed_frontier(scaled: Scaled, usd_per_device_h: float, context_tokens: float) -> tuple[FrontierPoint, ...]:
    """The frontier of dollars per million tokens against tokens per second per user, the fastest first.

    Over `DEVICES`, `BATCHES`, both dimensions of tensor parallelism and `PIPELINES`; cost per token is
    N t / batch dollars. Raises RequestError when no number of devices holds the model.
    """
    _check(scaled)
    if number("a device", "usd_per_h", usd_per_device_h) <= 0:
        raise RequestError(f"A device costs ${usd_per_device_h:g} an hour.", hint="Give a price above 0.")
    if number("a sequence", "context_tokens", context_tokens) < 0:
        raise RequestError(f"A sequence has a context of {context_tokens:g} tokens.", hint="Give 0 or more.")
    devices, batch = (grid.ravel() for grid in np.meshgrid(np.array(DEVICES, float), np.array(BATCHES, float)))
    layouts = [(dimensions, pipeline) for dimensions in DIMENSIONS for pipeline in PIPELINES]
    seconds = np.stack([layout_s(scaled, devices, batch, context_tokens, *layout) for layout in layouts])
    chosen = np.argmin(seconds, axis=0)
    token_s = seconds.min(axis=0)
    usd = 1e6 * devices * token_s / batch * usd_per_device_h / 3600
    known = np.flatnonzero(np.isfinite(token_s))
    if not len(known):
        raise RequestError(
            f"{DEVICES[-1]} devices of {scaled.memory_bytes / 2**30:.0f} GiB do not hold the model.",
            hint="Use a narrower precision or devices with more memory.",
        )
    best = known[frontier(np.column_stack([token_s[known], usd[known]]))]
    fastest_first = sorted(best.tolist(), key=lambda place: float(token_s[place]))
    return tuple(
        FrontierPoint(
            tokens_per_s_per_user=float(1 / token_s[place]),
            usd_per_million_tokens=float(usd[place]),
            devices=int(devices[place]),
            batch=int(batch[place]),
            tensor_dimensions=layouts[chosen[place]][0],
            pipeline=layouts[chosen[place]][1],
        )
        for place in fastest_first
    )


def simple_token_s(
    layers: Floats, weights_bytes: Floats, memory_bytes_per_s: Floats, devices: Floats, launch_s: float = LAUNCH_S
) -> Floats:
    """Seconds per token of one sequence by the simple form, t = 4 L (2 us (sqrt N - 1) + 2 us + launch) + W / (N BW).

    Four all-reduces per layer over sqrt(N) ranks; with the launch of 4 us a layer of one device takes 24 us.
    """
    synced = HOP_S * (np.sqrt(devices) - 1) + HOP_S + launch_s
    found: Floats = LAUNCHES_PER_LAYER * layers * synced + weights_bytes / (devices * memory_bytes_per_s)
    return found


def fastest_devices(layers: Floats, weights_bytes: Floats, memory_bytes_per_s: Floats) -> Floats:
    """How many devices make the simple form least, as a real number of 1 or more: (2 W / (8 us L BW))^(2/3)."""
    found = (2 * weights_bytes / (LAUNCHES_PER_LAYER * HOP_S * layers * memory_bytes_per_s)) ** (2 / 3)
    least: Floats = np.maximum(found, 1.0)
    return least


def fastest_token_s(
    layers: Floats, weights_bytes: Floats, memory_bytes_per_s: Floats, launch_s: float = LAUNCH_S
) -> Floats:
    """Seconds per token at `fastest_devices`: the limit of speed.

    Without launches it is 12 us L sqrt(N) ~ L^(2/3) (W/BW)^(1/3). Layers grow with the cube root of parameters, so the
    time grows with their power of 5/9, about a square root, and falls with the cube root of bandwidth.
    """
    devices = fastest_devices(layers, weights_bytes, memory_bytes_per_s)
    return simple_token_s(layers, weights_bytes, memory_bytes_per_s, devices, launch_s)


def exponent(x: Floats, y: Floats) -> float:
    """The power of x that y grows with: the slope of a straight line through their logarithms. Raises RequestError.

    >>> round(exponent(np.array([1.0, 10.0, 100.0]), np.array([2.0, 20.0, 200.0])), 9)
    1.0
    """
    if len(x) < 2 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RequestError("An exponent takes two or more points with finite figures.")
    if (x <= 0).any() or (y <= 0).any() or math.isclose(x.min(), x.max()):
        raise RequestError("An exponent takes points above 0 that differ in x.")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _check(scaled: Scaled) -> None:
    require(
        scaled,
        above_zero=(
            "weights_bytes", "flop_per_token", "memory_bytes", "memory_bytes_per_s", "flop_per_s", "link_bytes_per_s",
            "network_bytes_per_s", "expert_share",
        ),
        at_least_zero=("kv_bytes_per_token", "experts_bytes"),
        shares=("expert_share",),
        counts=("layers", "hidden", "node_devices"),
    )  # fmt: skip
