"""From a deployment to the cost of its iterations: what each one reads, multiplies and sends, and how fast that goes.

`demand` says the amounts, which follow from shapes and data sheets; `step_costs` divides them by what is reached.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment
from farthing.economics.factors import Factors
from farthing.economics.memory import (
    INDEXER_SCALE_BYTES,
    device_kv_bytes,
    device_weights_bytes,
    parameters,
    routed_layers,
)
from farthing.economics.precision import compute_type
from farthing.economics.step import Real, StepCosts

Row = TypeVar("Row", bound=tuple[Real, ...])

_ACTIVATION_BYTES = 2.0  # activations travel between devices in 16 bits


class Demand(NamedTuple):
    """What one iteration of one copy needs, per device, and what the device offers; floats, or arrays of them.

    Bytes and FLOPs are per iteration, per token, per token of context or per pair of tokens, as the names say.
    """

    shared_bytes: Real
    head_bytes: Real
    expert_bytes: Real
    expert_miss: Real
    context_bytes: Real
    window_bytes: Real
    state_bytes: Real
    token_flop: Real
    expert_token_flop: Real
    window_token_flop: Real
    sampled_flop: Real
    pair_flop: Real
    link_hops: Real
    link_token_bytes: Real
    layers: Real
    expert_layers: Real
    latent_layers: Real
    indexed_layers: Real
    memory_bytes_per_s: Real
    flop_per_s: Real
    flop_16_bit_per_s: Real
    link_bytes_per_s: Real
    link_latency_s: Real


def demand(deployment: Deployment) -> Demand:
    """What one iteration of one copy of a deployment needs; raises RequestError when it cannot be run.

    Formulas: 2 FLOPs per weight and token; attention 4 x heads x head_dim per pair of tokens (latent: 2 x heads x
    (nope + rope + value)); two all-reduces of the hidden state per layer over the tensor-parallel devices. Layers of a
    pipeline take turns, each on its share of the batch, so weights are read in series and tokens are shared out.
    """
    hardware, architecture = deployment.hardware, deployment.architecture
    weights, cache, counts = device_weights_bytes(deployment), device_kv_bytes(deployment), parameters(architecture)
    tensor, stages = deployment.tensor, deployment.pipeline
    chosen = architecture.top_k / architecture.experts if architecture.experts else 0.0
    indexed = _indexed_bytes(deployment)
    compute = compute_type(deployment.weights, hardware, architecture)
    wide = hardware.flop_per_s.get("bf16") or hardware.flop_per_s["fp32"]
    pair = _pair_flop(architecture)
    return Demand(
        shared_bytes=weights.shared * stages,
        head_bytes=weights.head,
        expert_bytes=weights.experts * stages,
        expert_miss=(1.0 - chosen) ** deployment.data,
        context_bytes=indexed or cache.full_per_token,
        window_bytes=cache.window_per_token + (cache.full_per_token - indexed if indexed else 0.0),
        state_bytes=cache.state_per_sequence,
        token_flop=2.0 * (counts.attention + counts.dense_ffn + counts.router) / tensor / stages,
        expert_token_flop=2.0 * counts.experts * chosen / tensor / stages,
        window_token_flop=pair * architecture.window_layers * architecture.window / tensor / stages,
        sampled_flop=2.0 * architecture.vocabulary * architecture.hidden / tensor,
        pair_flop=pair * architecture.full_layers / tensor / stages,
        link_hops=2.0 * architecture.layers * np.log2(tensor) + (stages - 1.0),
        link_token_bytes=(
            (2.0 * architecture.layers * 2.0 * (tensor - 1) / tensor + (stages - 1.0) / stages)
            * architecture.hidden
            * _ACTIVATION_BYTES
        ),
        layers=architecture.layers,
        expert_layers=routed_layers(architecture),
        latent_layers=architecture.layers if architecture.latent else 0,
        indexed_layers=architecture.full_layers if indexed else 0,
        memory_bytes_per_s=hardware.memory_bytes_per_s,
        flop_per_s=hardware.flop_per_s[compute],
        flop_16_bit_per_s=wide,
        link_bytes_per_s=hardware.link_bytes_per_s or 1.0,
        link_latency_s=hardware.link_latency_s,
    )


def attention_window(architecture: Architecture) -> float:
    """Tokens of context that the layers with a bound attend to at most; infinite where all layers attend to all.

    Sparse attention reads its `sparse_top_k` chosen tokens, and the index of all of them.
    """
    return float(architecture.window or (architecture.sparse_top_k if architecture.indexer else 0) or np.inf)


def stacked(rows: Sequence[Row]) -> Row:
    """Rows of one kind as one row of arrays, an element per row."""
    return type(rows[0])(*(np.array(column, dtype=float) for column in zip(*rows, strict=True)))


def step_costs(demand: Demand, factors: Factors) -> StepCosts:
    """What an iteration costs in seconds per unit of work."""
    fixed, grows, tokens = factors.scale, factors.scale * factors.load_scale, factors.scale * factors.token_scale
    reads = demand.memory_bytes_per_s / fixed
    cached = demand.memory_bytes_per_s * factors.context_efficiency / grows
    rate = demand.flop_per_s / tokens
    wide = demand.flop_16_bit_per_s / tokens
    token = demand.token_flop / (rate * factors.compute_efficiency)
    routed = demand.expert_token_flop / (rate * factors.expert_compute_efficiency)
    host = (
        factors.step_s
        + factors.layer_s * demand.layers
        + factors.expert_layer_s * demand.expert_layers
        + factors.latent_layer_s * demand.latent_layers
        + factors.indexed_layer_s * demand.indexed_layers
    )
    return StepCosts(
        weights_s=(demand.shared_bytes + demand.head_bytes) / (reads * factors.memory_efficiency),
        experts_s=demand.expert_bytes / (reads * factors.expert_memory_efficiency),
        expert_miss=demand.expert_miss,
        context_s=demand.context_bytes / cached,
        window_s=demand.window_bytes / cached,
        token_s=token + routed + demand.window_token_flop / (wide * factors.attention_efficiency),
        sampled_s=demand.sampled_flop / (wide * factors.compute_efficiency),
        pair_s=demand.pair_flop / (wide * factors.attention_efficiency),
        link_s=demand.link_hops * demand.link_latency_s * factors.link_latency * fixed,
        link_token_s=demand.link_token_bytes / (demand.link_bytes_per_s * factors.link_efficiency) * tokens,
        host_s=host * fixed,
        host_sequence_s=factors.sequence_s * grows + demand.state_bytes / cached,
        expert_spread=factors.expert_spread,
        overlap=factors.overlap,
    )


def _pair_flop(architecture: Architecture) -> float:
    if (latent := architecture.latent) is not None:
        return 2.0 * architecture.query_heads * (latent.nope_dim + latent.rope_dim + latent.value_dim)
    return 4.0 * architecture.query_heads * architecture.head_dim


def _indexed_bytes(deployment: Deployment) -> float:
    """Bytes of index per token of context on one device, of a model whose attention is sparse; else 0."""
    architecture = deployment.architecture
    if architecture.indexer is None or not architecture.sparse_top_k:
        return 0.0
    return architecture.full_layers * (architecture.indexer.dim + INDEXER_SCALE_BYTES) / deployment.pipeline
