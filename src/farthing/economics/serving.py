"""What callers see of a deployment under a steady load, in closed form."""

from typing import NamedTuple

import numpy as np

from farthing.economics.factors import Factors
from farthing.economics.step import Real, StepCosts, step_seconds

_ROUNDS = 10  # of the fixed point between the batch and its pace; the last ones change nothing beyond 0.1 %
_FULL = 0.95  # beyond, the wait behind other prompts is bounded by how many callers there are


class Load(NamedTuple):
    """What is asked of one copy; floats, or arrays of them.

    `concurrency` callers each ask again when answered; `slots` is how many sequences the copy can hold at once, by
    memory and by the engine's limit. `window` is the model's attention window in tokens, infinite without one.
    """

    concurrency: Real
    input_tokens: Real
    output_tokens: Real
    slots: Real
    window: Real = np.inf
    cached_share: Real = 0.0


class Served(NamedTuple):
    """What callers see of one copy; floats, or arrays of them."""

    ttft_s: Real
    tpot_s: Real
    output_tokens_per_s: Real
    decoding: Real
    """Sequences that decode at once."""
    prefill_share: Real
    """The share of busy time that goes into prompts."""
    queued_s: Real
    """Of the time to the first token, what is spent waiting for a slot."""


def decode_step_s(costs: StepCosts, load: Load, decoding: Real) -> Real:
    """Seconds of an iteration that only decodes so many sequences, half-way through their answers."""
    context = load.input_tokens + load.output_tokens / 2
    return step_seconds(costs, decoding, decoding * context, decoding * np.minimum(context, load.window), 0.0, 0.0, 0.0)


def closed_loop(costs: StepCosts, factors: Factors, load: Load) -> Served:
    """The steady state in which every caller asks again when answered.

    Each answer of n tokens brings one prompt every n iterations, whose tokens are processed beside those that decode
    (chunked prefill): the time per output token is a decoding iteration plus that share of a prompt. The first token
    waits for the iteration under way, for prompts before it, and for a slot where those are too few (Little's law).
    """
    active = np.minimum(load.concurrency, load.slots)
    prompt = load.input_tokens * (1.0 - load.cached_share)
    # Each new token attends to all before it, cached ones included.
    pairs = prompt * (load.input_tokens - prompt / 2)
    context = load.input_tokens + load.output_tokens / 2
    near = np.minimum(context, load.window)
    decoding = active
    tpot = decode = prefill = ttft = np.zeros_like(active)
    for _ in range(_ROUNDS):
        decode = step_seconds(costs, decoding, decoding * context, decoding * near, 0.0, 0.0, 0.0)
        ending = decoding / load.output_tokens
        together = np.maximum(ending, 1.0)
        mixed = step_seconds(
            costs, decoding, decoding * context, decoding * near, together * prompt, together * pairs, together
        )
        prefill = (mixed - decode) / together
        tpot = decode + prefill * ending
        busy = np.minimum(prefill * ending / tpot, _FULL)
        behind = np.minimum(busy / (1.0 - busy), active / 2) * prefill
        started = factors.burst * np.maximum(active - 1.0, 0.0) / 2 * prefill
        engine = factors.ttft_steps * (decode + prefill) + factors.waiting * behind + started
        answering = load.output_tokens * tpot
        ttft = (factors.ttft_s + engine) * factors.ttft_scale
        decoding = (decoding + active * answering / (engine + answering)) / 2
    queued = np.maximum(load.concurrency / active - 1.0, 0.0) * (ttft + answering)
    rate = active * load.output_tokens / (ttft + (load.output_tokens - 1.0) * tpot)
    return Served(ttft + queued, tpot, rate, decoding, prefill * ending / tpot, queued)


def static_batch(costs: StepCosts, factors: Factors, load: Load) -> Served:
    """So many requests at once, processed together from first prompt to last token; more than fit take turns."""
    turns = np.maximum(load.concurrency / load.slots, 1.0)
    batch = load.concurrency / turns
    tokens = batch * load.input_tokens
    prefill = step_seconds(costs, 0.0, 0.0, 0.0, tokens, tokens * load.input_tokens / 2, batch)
    tpot = decode_step_s(costs, load, batch)
    decode = (load.output_tokens - 1.0) * tpot
    ttft = (factors.ttft_s + prefill) * factors.ttft_scale
    rate = batch * load.output_tokens / (prefill + decode)
    return Served(ttft, tpot, rate, batch, prefill / (prefill + decode), (turns - 1.0) * (prefill + decode) / 2)
