"""The anatomy of an option: what its money buys, and what callers see of it as the load grows."""

import math
from collections.abc import Callable

import msgspec
import numpy as np

from farthing.economics import terms
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.factors import Factors
from farthing.economics.operating import (
    FULL,
    Bounds,
    Operating,
    capacity_per_s,
    closed_loop_at,
    most_held,
    open_loop,
)
from farthing.economics.predicting import curves_of
from farthing.economics.searching.options import Option, Slo
from farthing.economics.step import StepCosts

SHARES = (*(round(0.05 * step, 2) for step in range(1, 20)), FULL - 0.005)


class Loaded(msgspec.Struct, frozen=True):
    """What callers see at one load of all replicas: requests per second, or callers at once. Times in seconds."""

    load: float
    ttft_s: float
    tpot_s: float


def cost_parts(
    option: Option, workload: Workload, factors_of: Callable[[Deployment], Factors]
) -> tuple[tuple[str, float], ...]:
    """Dollars per million output tokens by what the machines do in that time; they sum to the cost of the option.

    An iteration at the mean batch is split into its terms. Of reading and multiplying, which overlap, the longer counts
    in full and the shorter as far as it shows.
    """
    costs = _costs(option.deployment, factors_of(option.deployment))
    context = workload.input_tokens + workload.output_tokens / 2
    held = max(option.held, 1e-6)
    prompt = workload.input_tokens * (1 - workload.cached_share)
    starting = held / workload.output_tokens
    tokens = held + starting * prompt
    touched = 1.0 - costs.expert_miss ** (tokens**costs.expert_spread)
    weights = float(costs.weights_s + costs.experts_s * touched)
    window = min(context, terms.attention_window(option.deployment.architecture))
    cache = float((costs.context_s * context + costs.window_s * window) * held)
    pairs = starting * prompt * (workload.input_tokens - prompt / 2)
    compute = float(costs.token_s * tokens + costs.sampled_s * (held + starting) + costs.pair_s * pairs)
    hidden = float(costs.overlap) * min(weights + cache, compute)
    if weights + cache < compute:
        shown = 1 - hidden / (weights + cache)
        weights, cache = weights * shown, cache * shown
    else:
        compute -= hidden
    seconds = {
        "weights": weights,
        "KV cache": cache,
        "compute": compute,
        "links": float(costs.link_s + costs.link_token_s * tokens),
        "host": float(costs.host_s + costs.host_sequence_s * (held + starting)),
    }
    usd = option.usd_per_million_output_tokens
    busy = usd * (1 - option.idle) / sum(seconds.values())
    parts = [(name, took * busy) for name, took in seconds.items()]
    return tuple((name, part) for name, part in (*parts, ("idle", usd * option.idle)) if part > 0)


def under_load(
    option: Option, workload: Workload, percentile: float, factors_of: Callable[[Deployment], Factors]
) -> tuple[Loaded, ...]:
    """What callers see from nearly no load to nearly all that the replicas of an option can serve."""
    deployment = option.deployment
    factors = factors_of(deployment)
    open_ended = workload.requests_per_s is not None
    factors = factors._replace(burst=0.0) if open_ended else factors
    curves = curves_of(deployment, factors, workload, deployment.max_sequences)
    copies = option.replicas * deployment.data
    full = capacity_per_s(curves).item() if open_ended else curves.slots.item()
    found = []
    for share in SHARES:
        each = np.array([share * full])
        seen: Operating = (
            open_loop(curves, each, workload.output_tokens, percentile / 100)
            if open_ended
            else closed_loop_at(curves, each, workload.output_tokens)
        )
        found.append(Loaded(share * full * copies, seen.ttft_s.item(), seen.tpot_s.item()))
    return tuple(found)


def _costs(deployment: Deployment, factors: Factors) -> StepCosts:
    return terms.step_costs(terms.demand(deployment), factors)


class Thresholds(msgspec.Struct, frozen=True):
    """When one replica of an option has too much to do: requests running and waiting, and what it then serves."""

    running: float
    waiting: float
    requests_per_s: float


def thresholds(option: Option, workload: Workload, slo: Slo, factors_of: Callable[[Deployment], Factors]) -> Thresholds:
    """How many requests may run in one replica before a token takes too long, and wait before the first one does.

    Without a limit of the time per token all slots may be taken; without one of the first token, one request in ten.
    """
    deployment = option.deployment
    factors = factors_of(deployment)._replace(burst=0.0)
    curves = curves_of(deployment, factors, workload, deployment.max_sequences)
    limits = Bounds(math.inf, math.inf if slo.tpot_s is None else slo.tpot_s, math.inf, slo.percentile / 100)
    running = min(max(1.0, most_held(curves, workload.output_tokens, limits).item()), curves.slots.item())
    seen = closed_loop_at(curves, np.array([running]), workload.output_tokens)
    served = (seen.utilisation * capacity_per_s(curves)).item()
    slack = None if slo.ttft_s is None else slo.ttft_s - seen.ttft_s.item()
    waiting = 0.1 * running if slack is None else max(1.0, slack * served)
    copies = deployment.data
    return Thresholds(running * copies, max(1.0, waiting) * copies, served * copies)
