"""Memory: what weights, KV cache and the engine itself take, and how much context then fits. Bytes, per formula below.

Formulas: grouped-query attention (arXiv 2305.13245), latent attention (DeepSeek-V2, arXiv 2405.04434), mixtures of
experts, windows, and layers that keep a state of fixed size; sharding as vLLM, SGLang and TensorRT-LLM do it.
"""

import math
from typing import NamedTuple

from farthing.economics.architecture import Architecture
from farthing.economics.deployment import Deployment
from farthing.economics.precision import precision_named
from farthing.errors import RequestError

BLOCK_TOKENS = 16
"""KV cache is handed out in blocks of so many tokens (vLLM's default)."""

ROUTER_BITS = 16.0
INDEXER_SCALE_BYTES = 4
"""An indexer keeps one key per token and layer in FP8, with one FP32 scale."""


class Parameters(NamedTuple):
    """How many parameters each part of a model has. A tied embedding is counted once, as the head."""

    attention: float
    dense_ffn: float
    """Feed-forward networks that every token passes: dense layers and shared experts."""
    experts: float
    router: float
    embeddings: float
    head: float
    other: float
    """Beside the decoder, such as an image encoder."""
    active: float
    """What multiplies one token: all but embeddings and others, and of the experts `top_k`."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.attention + self.dense_ffn + self.experts + self.router + self.embeddings + self.head + self.other


class WeightBytes(NamedTuple):
    """Bytes of the weights of a whole model, by how often they are read."""

    shared: float
    """Read in every iteration, whatever the tokens: attention, dense feed-forward networks, routers."""
    experts: float
    """Read as far as the tokens of an iteration are routed to them."""
    head: float
    """Read in every iteration, on the last pipeline stage."""
    resident: float
    """Held but hardly read: the table of embeddings, encoders of images."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.shared + self.experts + self.head + self.resident


class KvBytes(NamedTuple):
    """Bytes of cache that a sequence takes, over all layers."""

    full_per_token: float
    """Of every token of its context, in the layers that keep all of it."""
    window_per_token: float
    """Of every token within the window, in the layers that keep only that."""
    state_per_sequence: float
    """Whatever the context, in the layers that keep a state."""


class Capacity(NamedTuple):
    """What one device of a deployment holds, in bytes, and how much context one copy then has room for."""

    weights_bytes: float
    runtime_bytes: float
    kv_pool_bytes: float
    kv_tokens: float
    """Tokens of context if every layer that attends kept all of them: what engines print when they start."""
    kv: KvBytes
    """What a sequence takes on one device."""
    window: int


def parameters(architecture: Architecture) -> Parameters:
    """Count the parameters of a model, without norms and biases (below 0.1 %).

    >>> from farthing.economics.architecture import Architecture
    >>> llama = Architecture("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, full_layers=32, dense_layers=32)
    >>> round(parameters(llama).total / 1e9, 2), round(parameters(llama).active / 1e9, 2)
    (8.03, 7.5)
    """
    a = architecture
    matrices = 3 if a.gated else 2
    routed = routed_layers(a)
    attention = (
        a.full_layers * (_attention(a, a.kv_heads, a.head_dim, a.shared_kv) + _indexer(a))
        + a.window_layers * _attention(a, a.window_kv_heads or a.kv_heads, a.window_head_dim or a.head_dim, False)
        + a.linear_layers * _linear_attention(a)
    )
    dense = matrices * a.hidden * (a.dense_layers * a.ffn + routed * a.shared_ffn)
    dense += 2 * routed * a.hidden * a.expert_hidden
    experts = routed * a.experts * matrices * (a.expert_hidden or a.hidden) * a.expert_ffn
    router = routed * a.experts * a.hidden
    head = a.vocabulary * a.hidden
    embeddings = (0 if a.tied_embeddings else head) + a.positions * a.hidden
    active = attention + dense + router + head + (experts * a.top_k / a.experts if a.experts else 0.0)
    return Parameters(attention, dense, experts, router, embeddings, head, a.other_parameters, active)


def routed_layers(architecture: Architecture) -> int:
    """How many layers route tokens to experts."""
    return (architecture.ffn_layers or architecture.layers) - architecture.dense_layers


def _attention(a: Architecture, kv_heads: int, head_dim: int, shared_kv: bool) -> int:
    if a.latent is not None:
        m = a.latent
        heads = a.query_heads
        query = (a.hidden + heads * (m.nope_dim + m.rope_dim)) * m.query_rank
        if not m.query_rank:
            query = a.hidden * heads * (m.nope_dim + m.rope_dim)
        keys = a.hidden * (m.kv_rank + m.rope_dim) + m.kv_rank * heads * (m.nope_dim + m.value_dim)
        return query + keys + heads * m.value_dim * a.hidden
    value_dim = a.value_dim or head_dim
    queries = a.query_heads * head_dim * (2 if a.gated_attention else 1)
    values = 0 if shared_kv else kv_heads * value_dim
    return a.hidden * (queries + kv_heads * head_dim + values + a.query_heads * value_dim)


def _indexer(a: Architecture) -> int:
    if a.indexer is None:
        return 0
    source = a.latent.query_rank if a.latent is not None else a.hidden
    return a.indexer.heads * (a.indexer.dim * source + a.hidden) + a.indexer.dim * a.hidden


def _linear_attention(a: Architecture) -> int:
    if a.linear is None:
        return 0
    keys, values = a.linear.key_heads * a.linear.key_dim, a.linear.value_heads * a.linear.value_dim
    mixed = 2 * keys + values
    return a.hidden * (mixed + 2 * values + 2 * a.linear.value_heads) + a.linear.convolution * mixed


def weights_bytes(architecture: Architecture, precision: str) -> WeightBytes:
    """Bytes of the weights of a whole model in a precision; raises RequestError for an unknown one.

    Quantised formats leave embeddings and head in 16 bits, and those made for experts also all that is none.

    >>> from farthing.economics.architecture import Architecture
    >>> llama = Architecture("Llama-2-7B", 32, 4096, 32, 32, 128, 11008, 32000, full_layers=32, dense_layers=32)
    >>> round(weights_bytes(llama, "fp32").total / 1e9), round(weights_bytes(llama, "int4").total / 1e9, 1)
    (27, 3.9)
    """
    known = precision_named(precision, architecture)
    count = parameters(architecture)
    elsewhere = precision_named(known.elsewhere) if known.elsewhere and architecture.experts else known
    outside = precision_named(known.head).bits / 8
    return WeightBytes(
        shared=(count.attention + count.dense_ffn) * elsewhere.bits / 8 + count.router * ROUTER_BITS / 8,
        experts=count.experts * known.bits / 8,
        head=count.head * outside,
        resident=(count.embeddings + count.other) * outside,
    )


def kv_bytes_per_token(architecture: Architecture, kv: str) -> KvBytes:
    """Bytes of cache per token and sequence of a whole model, with the cache in precision `kv`.

    >>> from farthing.economics.architecture import Architecture
    >>> llama = Architecture("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, full_layers=32, dense_layers=32)
    >>> kv_bytes_per_token(llama, "bf16").full_per_token
    131072.0
    """
    a, element = architecture, precision_named(kv).bits / 8
    state = 0.0
    if a.linear is not None:
        mixed = 2 * a.linear.key_heads * a.linear.key_dim + a.linear.value_heads * a.linear.value_dim
        held = a.linear.value_heads * a.linear.key_dim * a.linear.value_dim * a.linear.state_bytes
        state = a.linear_layers * (held + 2.0 * mixed * max(a.linear.convolution - 1, 0))
    indexed = a.full_layers * (a.indexer.dim + INDEXER_SCALE_BYTES) if a.indexer else 0
    window = _kept(a, a.window_kv_heads or a.kv_heads, a.window_head_dim or a.head_dim, False)
    return KvBytes(
        full_per_token=a.full_layers * _kept(a, a.kv_heads, a.head_dim, a.shared_kv) * element + indexed,
        window_per_token=a.window_layers * window * element,
        state_per_sequence=state,
    )


def _kept(a: Architecture, kv_heads: int, head_dim: int, shared_kv: bool) -> int:
    """Elements that one layer keeps of one token."""
    if a.latent is not None:
        return a.latent.kv_rank + a.latent.rope_dim
    return kv_heads * (head_dim if shared_kv else head_dim + (a.value_dim or head_dim))


def device_kv_bytes(deployment: Deployment) -> KvBytes:
    """Bytes of cache per token and sequence on one device of a deployment.

    Tensor parallelism splits KV heads and repeats them once there are fewer than devices; a latent cache has one head,
    so every device keeps all of it. A pipeline splits layers.
    """
    a, whole = deployment.architecture, kv_bytes_per_token(deployment.architecture, deployment.kv)
    stage = stage_share(deployment)
    full = 1 if a.latent is not None else min(deployment.tensor, a.kv_heads)
    window = min(deployment.tensor, a.window_kv_heads or a.kv_heads)
    states = min(deployment.tensor, a.linear.value_heads) if a.linear else 1
    return KvBytes(
        full_per_token=whole.full_per_token * stage / full,
        window_per_token=whole.window_per_token * stage / window,
        state_per_sequence=whole.state_per_sequence * stage / states,
    )


def device_weights_bytes(deployment: Deployment) -> WeightBytes:
    """Bytes of the weights on the fullest device of a deployment; raises RequestError for an unknown precision.

    Experts are split over all devices of a stage when `expert` is above 1, and like other weights when it is 1. The
    projections into the latent space have one head and are repeated on every device.
    """
    whole = weights_bytes(deployment.architecture, deployment.weights)
    stage, ways = stage_share(deployment), deployment.tensor
    repeated = _repeated_share(deployment.architecture)
    expert_ways = ways * (deployment.data if deployment.expert > 1 else 1)
    alone = deployment.pipeline == 1
    return WeightBytes(
        shared=whole.shared * stage * (repeated + (1.0 - repeated) / ways),
        experts=whole.experts * stage / expert_ways,
        head=whole.head / ways,
        resident=whole.resident / ways if alone else max(whole.resident - whole.head, 0.0) / ways,
    )


def stage_share(deployment: Deployment) -> float:
    """The share of all layers that the fullest pipeline stage has."""
    layers = deployment.architecture.layers
    return math.ceil(layers / deployment.pipeline) / layers


def _repeated_share(a: Architecture) -> float:
    if a.latent is None:
        return 0.0
    count = parameters(a)
    repeated = a.layers * (a.hidden * (a.latent.query_rank + a.latent.kv_rank + a.latent.rope_dim) + _indexer(a))
    return repeated / (count.attention + count.dense_ffn)


class Runtime(NamedTuple):
    """Bytes that an engine takes on one device beside weights and cache."""

    libraries: float
    communication: float
    activations: float
    sampling: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.libraries + self.communication + self.activations + self.sampling


LIBRARIES_BYTES = 0.3 * 2**30
"""Workspaces of cuBLAS and attention kernels, CUDA graphs, and what the allocator cannot hand out (docs: Memory)."""

NCCL_BYTES = {1: 0, 2: 342 * 2**20, 4: 392 * 2**20}
"""Buffers of NCCL by the number of devices it joins; from 4 on they stay as large (aiconfigurator, systems/*.yaml)."""

HIDDEN_COPIES = 2
"""Copies of the hidden state alive at the peak: the residual, and input or output of a projection."""

LOGIT_BYTES = 24
"""Bytes per logit while a whole batch is sampled: copies of 16 and 32 bits, sorted with indices, and their sums."""


def runtime(deployment: Deployment) -> Runtime:
    """Bytes that the engine takes on one device: libraries, NCCL, the widest layer's activations, and sampling."""
    a, tokens = deployment.architecture, deployment.max_batched_tokens
    joined = deployment.tensor * (deployment.data if deployment.expert > 1 else 1)
    buffers = NCCL_BYTES[max(size for size in NCCL_BYTES if size <= joined)]
    width = max(a.ffn if a.dense_layers else 0, a.top_k * a.expert_ffn + a.shared_ffn)
    wide = (3 if a.gated else 2) * width / deployment.tensor
    return Runtime(
        libraries=LIBRARIES_BYTES,
        communication=buffers if joined * deployment.pipeline > 1 else 0.0,
        activations=2.0 * tokens * (HIDDEN_COPIES * a.hidden + wide),
        sampling=LOGIT_BYTES * float(deployment.max_sequences) * a.vocabulary,
    )


def capacity(deployment: Deployment) -> Capacity:
    """What fits into the devices of a deployment.

    Raises RequestError when weights and engine leave no room for one block of cache, saying what is missing.
    """
    _check(deployment)
    weights, engine = device_weights_bytes(deployment).total, runtime(deployment).total
    allowed = deployment.hardware.memory_bytes * deployment.memory_share
    pool, kv = allowed - weights - engine, device_kv_bytes(deployment)
    per_token = kv.full_per_token + kv.window_per_token
    if pool < max(per_token * BLOCK_TOKENS, kv.state_per_sequence, 1.0):
        raise _does_not_fit(deployment, weights, engine, allowed)
    tokens = pool / per_token if per_token else math.inf
    return Capacity(weights, engine, pool, tokens, kv, deployment.architecture.window)


def sequences_that_fit(capacity: Capacity, tokens: float) -> int:
    """How many sequences of `tokens` context one copy holds at once, in whole blocks; raises RequestError below 1.

    >>> held = Capacity(0, 0, kv_pool_bytes=1e9, kv_tokens=1e4, kv=KvBytes(1e5, 0.0, 0.0), window=0)
    >>> sequences_that_fit(held, 1000)
    9
    """
    if not 1 <= tokens < math.inf:
        raise RequestError(f"A sequence has {tokens} tokens.", hint="Give a number of 1 or more.")
    blocks = math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS
    kv = capacity.kv
    each = kv.full_per_token * blocks + kv.window_per_token * min(blocks, capacity.window) + kv.state_per_sequence
    return int(capacity.kv_pool_bytes / each)


def _check(deployment: Deployment) -> None:
    for name in ("tensor", "pipeline", "data", "expert", "max_sequences", "max_batched_tokens"):
        if getattr(deployment, name) < 1:
            raise RequestError(f"A deployment has {name} = {getattr(deployment, name)}.", hint="Give 1 or more.")
    if not 0 < deployment.memory_share <= 1:
        raise RequestError(
            f"A deployment takes {deployment.memory_share} of memory.", hint="Give a share above 0, at most 1."
        )
    if deployment.pipeline > deployment.architecture.layers:
        raise RequestError(
            f"A pipeline of {deployment.pipeline} stages has no layer of {deployment.architecture.name} for each.",
            hint=f"It has {deployment.architecture.layers} layers.",
        )


def _does_not_fit(deployment: Deployment, weights: float, engine: float, allowed: float) -> RequestError:
    missing = weights + engine - allowed
    where = f"{deployment.devices} x {deployment.hardware.name}"
    return RequestError(
        f"{deployment.architecture.name} in {deployment.weights} does not fit on {where}: "
        f"each takes {weights / 2**30:.1f} GiB of weights and {engine / 2**30:.1f} GiB for the engine, and has "
        f"{allowed / 2**30:.1f} GiB; {max(missing, 0) / 2**30:.1f} GiB and room for the KV cache are missing.",
        hint="Split it over more devices, quantise it, or lower max_batched_tokens and max_sequences.",
        facts={"weights_bytes": weights, "runtime_bytes": engine, "allowed_bytes": allowed},
    )
