"""The time of one iteration of a serving engine: one formula, for arrays in closed form and for scalars when compiled.

Written with arithmetic that numpy broadcasts and numba compiles, so predictions and simulations cannot disagree.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Real: TypeAlias = "float | NDArray[np.float64]"


class StepCosts(NamedTuple):
    """What one iteration of one copy of a deployment costs, in seconds per unit of work, efficiencies applied.

    Each field is a float, or an array with one element per deployment.
    """

    weights_s: Real
    """Reading every weight that all tokens share, once."""
    experts_s: Real
    """Reading all experts that this device holds, once; 0 for a dense model."""
    expert_miss: Real
    """The chance that one token needs none of a given expert: 1 - top_k / experts; 1 for a dense model."""
    context_s: Real
    """Reading the KV cache of one token in the layers that attend to everything."""
    window_s: Real
    """Reading the KV cache of one token in the layers that attend to a window."""
    token_s: Real
    """Multiplying one token with the weights of every layer."""
    sampled_s: Real
    """Multiplying one sampled token with the output head."""
    pair_s: Real
    """Attending from one token to one token of its context, in a prefill."""
    link_s: Real
    """Communication between devices per iteration, whatever its size."""
    link_token_s: Real
    """Communication between devices per token."""
    host_s: Real
    """Launching kernels and scheduling, whatever the batch."""
    host_sequence_s: Real
    """Scheduling, sampling and detokenising, per sequence in the batch."""
    expert_spread: Real = 1.0
    """How evenly tokens spread over experts: a batch of n touches as many as n**expert_spread independent ones."""
    overlap: Real = 1.0
    """The share of the shorter of memory and compute time that hides behind the longer: 1 is a roofline, 0 a sum."""


def step_seconds(
    costs: StepCosts, decoding: Real, context: Real, window: Real, prefilling: Real, pairs: Real, finishing: Real
) -> Real:
    """Seconds of one iteration.

    `decoding` sequences produce a token each, reading `context` tokens of KV cache in all (sum over sequences), of
    which `window` lie within the attention window. Beside them `prefilling` prompt tokens are processed, which attend
    to `pairs` (token, context token) pairs in all, and of which `finishing` sequences sample their first token.
    """
    tokens = decoding + prefilling
    sequences = decoding + finishing
    touched = 1.0 - costs.expert_miss ** (tokens**costs.expert_spread)
    read = costs.weights_s + costs.experts_s * touched
    memory = read + costs.context_s * context + costs.window_s * window
    compute = costs.token_s * tokens + costs.sampled_s * sequences + costs.pair_s * pairs
    busy = memory + compute - costs.overlap * np.minimum(memory, compute)
    moved = costs.link_s + costs.link_token_s * tokens
    return busy + moved + costs.host_s + costs.host_sequence_s * sequences
