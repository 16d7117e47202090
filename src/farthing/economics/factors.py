"""Factors: how far from its data sheet a deployment runs, and what its engine adds; what calibration finds out."""

from typing import NamedTuple

from farthing.economics.step import Real


class Factors(NamedTuple):
    """Constants of the model of one deployment, or arrays with one element per deployment.

    Efficiencies are shares of the data sheet's peak; times are in seconds.
    """

    memory_efficiency: Real
    """Reading weights that all tokens share."""
    expert_memory_efficiency: Real
    """Reading experts of a mixture."""
    context_efficiency: Real
    """Reading the KV cache."""
    compute_efficiency: Real
    """Multiplying tokens with weights that all share, in the compute type of the weights."""
    expert_compute_efficiency: Real
    """Multiplying tokens with the experts they are routed to."""
    attention_efficiency: Real
    """Attending within a prompt, in 16 bits."""
    expert_spread: Real
    """See `StepCosts.expert_spread`."""
    overlap: Real
    """See `StepCosts.overlap`."""
    link_latency: Real
    """Hops of the data sheet's latency that one all-reduce takes per doubling of the devices."""
    link_efficiency: Real
    layer_s: Real
    """Launching the kernels of one layer."""
    expert_layer_s: Real
    """What one layer of experts adds to that: routing, sorting, combining."""
    latent_layer_s: Real
    """What latent attention adds to it."""
    indexed_layer_s: Real
    """What choosing the tokens of sparse attention adds to it."""
    step_s: Real
    """Scheduling one iteration."""
    sequence_s: Real
    """Sampling, detokenising and streaming for one sequence in one iteration."""
    ttft_s: Real
    """From a request's arrival to the engine's queue, and from the engine back to the caller."""
    ttft_steps: Real
    """How many times its own iteration the first token takes: it waits for the one under way."""
    waiting: Real
    """How much of the wait of a queue with random arrivals a prompt sees behind other prompts."""
    burst: Real
    """The share of requests that arrive together, as when a load generator starts."""
    scale: Real = 1.0
    """What is left of measured over predicted iteration time, for this class of deployment."""
    load_scale: Real = 1.0
    """The same of what grows with sequences and their context, beside `scale`."""
    token_scale: Real = 1.0
    """The same of what grows with tokens, which are mostly those of prompts, beside `scale`."""
    ttft_scale: Real = 1.0
    """The same of the time to the first token."""
