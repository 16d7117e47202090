"""Predicting: what one deployment will do under a load, between what bounds, and what holds it back."""

import math

import numpy as np

from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.factors import Factors
from farthing.economics.memory import capacity, sequences_that_fit
from farthing.economics.operating import FULL, Curves, capacity_per_s, open_loop
from farthing.economics.prediction import Prediction
from farthing.economics.serving import Load, closed_loop
from farthing.economics.step import StepCosts
from farthing.economics.terms import Demand, attention_window, demand, step_costs
from farthing.errors import RequestError

_POINTS = 40


def predict(deployment: Deployment, workload: Workload, calibration: Calibration) -> Prediction:
    """What callers see of one replica under a load, with the intervals of its evidence; times are means.

    Random arrivals (`requests_per_s`) are served by as many sequences as that rate keeps busy. Raises RequestError when
    the model does not fit, the load makes no sense, or the replica cannot serve the rate.
    """
    _check(workload)
    held = capacity(deployment)
    fits = sequences_that_fit(held, math.ceil(workload.input_tokens + workload.output_tokens / 2))
    slots = min(fits, deployment.max_sequences)
    if slots < 1:
        raise RequestError(
            f"No sequence of {workload.input_tokens + workload.output_tokens:g} tokens fits: one copy holds "
            f"{held.kv_tokens:,.0f} tokens of context.",
            hint="Use more devices, a narrower precision of weights or KV cache, or shorter requests.",
        )
    concurrency = workload.concurrency or _inside(deployment, workload, calibration, slots)
    asked = Workload(workload.input_tokens, workload.output_tokens, concurrency, cached_share=workload.cached_share)
    factors = calibration.factors(deployment, asked)
    if workload.requests_per_s is not None:
        factors = factors._replace(burst=0.0)  # random arrivals do not start together, as load generators do
    needs = demand(deployment)
    costs = step_costs(needs, factors)
    window = attention_window(deployment.architecture)
    each = concurrency / deployment.data
    load = Load(each, workload.input_tokens, workload.output_tokens, slots, window, workload.cached_share)
    served = closed_loop(costs, factors, load)
    rate = float(served.output_tokens_per_s) * deployment.data
    decoding, tpot = float(served.decoding), float(served.tpot_s)
    terms = _terms_s(costs, load, decoding)
    bound = "queue" if each > slots else max(terms, key=lambda name: terms[name])
    evidence = calibration.evidence(deployment)
    memory, compute = _utilisations(needs, load, decoding, tpot)
    return Prediction(
        ttft_s=calibration.estimate(float(served.ttft_s), "ttft", evidence),
        tpot_s=calibration.estimate(tpot, "tpot", evidence),
        output_tokens_per_s=calibration.estimate(rate, "throughput", evidence),
        batch=decoding * deployment.data,
        bound=bound,
        prefill_share=float(served.prefill_share),
        utilisation_memory=memory,
        utilisation_compute=compute,
        extrapolated=(
            *((evidence,) if evidence.startswith("new") else ()),
            *calibration.beyond(
                concurrency=each, input_tokens=workload.input_tokens, output_tokens=workload.output_tokens
            ),
        ),
    )


def _inside(deployment: Deployment, workload: Workload, calibration: Calibration, slots: int) -> float:
    """How many requests are in a replica at once when they arrive at random at a rate."""
    rate = (workload.requests_per_s or 0.0) / deployment.data
    curves = curves_of(deployment, calibration.factors(deployment), workload, slots)
    most = float(capacity_per_s(curves)[0])
    if rate >= FULL * most:
        raise RequestError(
            f"{rate * deployment.data:g} requests per second are more than the replica serves: "
            f"{most * deployment.data:.3g} with all of its {slots * deployment.data} sequences taken.",
            hint=f"Run {math.ceil(rate / (FULL * most))} replicas, or allow more sequences at once.",
        )
    seen = open_loop(curves, np.array([rate]), workload.output_tokens, 0.5)
    return max(1.0, float(seen.held[0])) * deployment.data


def curves_of(deployment: Deployment, factors: Factors, workload: Workload, slots: float) -> Curves:
    """How one copy of a deployment serves any number of requests at once, up to its slots."""
    held = np.unique(np.round(np.geomspace(1.0, max(slots, 2.0), _POINTS)))
    window = attention_window(deployment.architecture)
    load = Load(held, workload.input_tokens, workload.output_tokens, math.inf, window, workload.cached_share)
    served = closed_loop(step_costs(demand(deployment), factors), factors, load)
    rate, tpot, ttft = (
        np.asarray(table, dtype=np.float64)[None, :]
        for table in (served.output_tokens_per_s / workload.output_tokens, served.tpot_s, served.ttft_s)
    )
    return Curves(held, rate, tpot, ttft, np.array([float(slots)]))


def _terms_s(costs: StepCosts, load: Load, decoding: float) -> dict[str, float]:
    """Seconds of an iteration by what they go into; reading and multiplying hide behind one another."""
    context = load.input_tokens + load.output_tokens / 2
    prompt = load.input_tokens * (1.0 - load.cached_share) * decoding / load.output_tokens
    tokens = decoding + prompt
    read = costs.weights_s + costs.experts_s * (1.0 - costs.expert_miss ** (tokens**costs.expert_spread))
    cached = decoding * (costs.context_s * context + costs.window_s * np.minimum(context, load.window))
    multiplied = costs.token_s * tokens + costs.sampled_s * decoding + costs.pair_s * prompt * load.input_tokens / 2
    return {
        "memory": float(read + cached),
        "compute": float(multiplied),
        "link": float(costs.link_s + costs.link_token_s * tokens),
        "host": float(costs.host_s + costs.host_sequence_s * decoding),
    }


def _utilisations(needs: Demand, load: Load, decoding: float, tpot_s: float) -> tuple[float, float]:
    """Shares of the data sheet's bandwidth and FLOP/s that an iteration uses."""
    context = load.input_tokens + load.output_tokens / 2
    tokens = decoding * (1.0 + load.input_tokens * (1.0 - load.cached_share) / load.output_tokens)
    moved = needs.shared_bytes + needs.head_bytes + needs.expert_bytes * (1.0 - needs.expert_miss**tokens)
    moved += decoding * (needs.context_bytes * context + needs.window_bytes * np.minimum(context, load.window))
    flop = tokens * (needs.token_flop + needs.expert_token_flop) + decoding * needs.sampled_flop
    return (
        min(1.0, float(moved / needs.memory_bytes_per_s / tpot_s)),
        min(1.0, float(flop / needs.flop_per_s / tpot_s)),
    )


def _check(workload: Workload) -> None:
    for name in ("input_tokens", "output_tokens", "concurrency", "requests_per_s"):
        value = getattr(workload, name)
        if value is not None and not 0 < value < math.inf:
            raise RequestError(f"A workload has {value:g} {name.replace('_', ' ')}.", hint="Give a number above 0.")
    if not 0 <= workload.cached_share < 1:
        raise RequestError(
            f"A share of {workload.cached_share:g} of the input is said to be cached.", hint="Give 0 to below 1."
        )
    if (workload.concurrency is None) == (workload.requests_per_s is None):
        raise RequestError(
            "A workload needs either callers at once or requests per second, and one of them only.",
            hint="Give concurrency or requests_per_s.",
        )
