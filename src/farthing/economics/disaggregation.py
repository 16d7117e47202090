"""Disaggregation: prompts on some devices and answers on others, against both in the same iterations.

Collocated, each prompt stretches the iterations of those who wait for their next token; apart, it does not, but the two
pools must be sized to one another, and each cache has to travel from one to the other (DistServe, arXiv 2401.09670;
Splitwise, arXiv 2311.18677).
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from farthing.economics.deployment import Deployment
from farthing.economics.factors import Factors
from farthing.economics.memory import kv_bytes_per_token
from farthing.economics.money.plausible import number, require
from farthing.economics.serving import Load, closed_loop, decode_step_s
from farthing.economics.step import StepCosts, step_seconds
from farthing.errors import RequestError


class Pool(NamedTuple):
    """One copy of a deployment in a pool: its costs and factors, on how many devices it runs, and what it holds."""

    costs: StepCosts
    factors: Factors
    devices: int
    slots: float


class Asked(msgspec.Struct, frozen=True):
    """What is asked of the pools: the mean request, requests per second, and how full prefill may get.

    `window` is the model's attention window in tokens; `cached_share` of input tokens is found in the prefix cache.
    """

    input_tokens: float
    output_tokens: float
    requests_per_s: float
    tpot_s: float
    """Time per output token that decoding is allowed."""
    window: float = math.inf
    cached_share: float = 0.0
    prefill_utilisation: float = 0.7


class Transfer(msgspec.Struct, frozen=True):
    """How caches travel: bytes of one request's, the rate of one link, and the share hidden behind the prefill."""

    kv_bytes: float
    bytes_per_s: float
    latency_s: float = 1e-3
    hidden_share: float = 0.0

    @property
    def seconds(self) -> float:
        """What the first token waits for it."""
        return self.latency_s + (1.0 - self.hidden_share) * self.kv_bytes / self.bytes_per_s


class Split(msgspec.Struct, frozen=True):
    """Two pools that serve as many requests per second, against copies that do both.

    Copies are as many as the rate needs, not rounded; `prefill_per_decode_device` is the ratio of the two pools. `None`
    for the collocated side where no batch keeps the time per token.
    """

    prefill_copies: float
    decode_copies: float
    devices: float
    prefill_per_decode_device: float
    ttft_s: float
    tpot_s: float
    batch: float
    """Sequences that decode at once in one copy."""
    transfer_s: float
    collocated_devices: float | None
    collocated_ttft_s: float | None
    collocated_tpot_s: float | None

    @property
    def pays(self) -> bool:
        """Whether the pools take fewer devices for the same time per token."""
        return self.collocated_devices is None or self.devices < self.collocated_devices


def transfer_of(deployment: Deployment, input_tokens: float, bytes_per_s: float, hidden_share: float = 0.0) -> Transfer:
    """How the cache of a prompt travels; raises RequestError. A window's layers send no more than the window."""
    architecture = deployment.architecture
    kept = kv_bytes_per_token(architecture, deployment.kv)
    near = min(input_tokens, float(architecture.window or input_tokens))
    size = kept.full_per_token * input_tokens + kept.window_per_token * near + kept.state_per_sequence
    return Transfer(kv_bytes=size, bytes_per_s=bytes_per_s, hidden_share=hidden_share)


def split(prefill: Pool, decode: Pool, collocated: Pool, asked: Asked, transfer: Transfer) -> Split:
    """Size two pools for a rate and a time per token, and weigh them against copies that do both. Raises RequestError.

    Prefill serves one prompt after the other: copies = rate * prefill / utilisation, and a prompt waits as in an M/D/1
    queue, rho / (2 (1 - rho)) of its own time. Decoding holds the largest batch that keeps the time per token, and by
    Little's law copies = rate * output tokens * step / batch. A link is not busier than its copy of prefill. Callers
    get their first token from decoding, after the transfer and one of its iterations.
    """
    _check(asked, transfer, (prefill, decode, collocated))
    prompt = asked.input_tokens * (1.0 - asked.cached_share)
    prompt_s = _prompt_s(prefill.costs, asked, prompt)
    occupied_s = max(prompt_s, transfer.kv_bytes / transfer.bytes_per_s)
    prefill_copies = asked.requests_per_s * occupied_s / asked.prefill_utilisation
    waiting_s = asked.prefill_utilisation / (2 * (1 - asked.prefill_utilisation)) * occupied_s
    batch = _largest(decode, asked, with_prompts=False)
    if batch is None:
        step = float(decode_step_s(decode.costs, _load(decode, asked, 1.0), 1.0))
        raise RequestError(
            f"One sequence alone takes {1e3 * step:.3g} ms per token, {step / asked.tpot_s:.3g} times the "
            f"{1e3 * asked.tpot_s:.3g} ms allowed.",
            hint="Allow more time per token, or decode on more or faster devices.",
        )
    step_s = float(decode_step_s(decode.costs, _load(decode, asked, batch), batch))
    decode_copies = asked.requests_per_s * asked.output_tokens * step_s / batch
    devices = prefill_copies * prefill.devices + decode_copies * decode.devices
    together = _together(collocated, asked)
    return Split(
        prefill_copies=prefill_copies,
        decode_copies=decode_copies,
        devices=devices,
        prefill_per_decode_device=prefill_copies * prefill.devices / (decode_copies * decode.devices),
        ttft_s=float(prefill.factors.ttft_s) + waiting_s + prompt_s + transfer.seconds + step_s,
        tpot_s=step_s,
        batch=batch,
        transfer_s=transfer.seconds,
        collocated_devices=together[0] if together else None,
        collocated_ttft_s=together[1] if together else None,
        collocated_tpot_s=together[2] if together else None,
    )


def interference_s(pool: Pool, asked: Asked, batch: float) -> float:
    """How much longer each token takes on the mean because prompts share its iterations, at such a batch."""
    load = _load(pool, asked, batch)
    mixed = closed_loop(pool.costs, pool.factors, load)
    return float(mixed.tpot_s) - float(decode_step_s(pool.costs, load, float(mixed.decoding)))


def _prompt_s(costs: StepCosts, asked: Asked, prompt: float) -> float:
    """Seconds of one prompt alone; new tokens attend to all before them, cached ones included."""
    pairs = prompt * (asked.input_tokens - prompt / 2)
    return float(step_seconds(costs, 0.0, 0.0, 0.0, prompt, pairs, 1.0))


def _together(pool: Pool, asked: Asked) -> tuple[float, float, float] | None:
    """Devices, TTFT and TPOT of copies that do both, at the largest batch that keeps the time per token."""
    batch = _largest(pool, asked, with_prompts=True)
    if batch is None:
        return None
    served = closed_loop(pool.costs, pool.factors, _load(pool, asked, batch))
    copies = asked.requests_per_s * asked.output_tokens / float(served.output_tokens_per_s)
    return copies * pool.devices, float(served.ttft_s), float(served.tpot_s)


def _largest(pool: Pool, asked: Asked, with_prompts: bool) -> float | None:
    """The largest batch within the slots that keeps the time per token; `None` where one sequence does not."""

    def keeps(batch: int) -> bool:
        load = _load(pool, asked, float(batch))
        if with_prompts:
            return float(closed_loop(pool.costs, pool.factors, load).tpot_s) <= asked.tpot_s
        return float(decode_step_s(pool.costs, load, float(batch))) <= asked.tpot_s

    low, high = 0, int(pool.slots)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle - 1)
    return float(low) if low else None


def _load(pool: Pool, asked: Asked, batch: float) -> Load:
    # Arrays, since the fixed point of the closed loop starts from one of the shape of its load.
    return Load(
        concurrency=np.float64(batch),
        input_tokens=asked.input_tokens,
        output_tokens=asked.output_tokens,
        slots=np.float64(pool.slots),
        window=asked.window,
        cached_share=asked.cached_share,
    )


def _check(asked: Asked, transfer: Transfer, pools: tuple[Pool, ...]) -> None:
    require(
        asked,
        above_zero=("input_tokens", "output_tokens", "requests_per_s", "tpot_s", "prefill_utilisation"),
        shares=("cached_share", "prefill_utilisation"),
    )
    require(transfer, above_zero=("kv_bytes", "bytes_per_s"), at_least_zero=("latency_s",), shares=("hidden_share",))
    if asked.prefill_utilisation >= 1 or asked.cached_share >= 1:
        raise RequestError(
            f"Prefill is kept {asked.prefill_utilisation:.0%} busy, with {asked.cached_share:.0%} of prompts cached.",
            hint="Both must be below 100 %: queues without idle time grow without bound.",
        )
    for pool in pools:
        if pool.devices < 1 or number("a pool", "slots", pool.slots) < 1:
            raise RequestError(f"A pool has {pool.devices} devices with {pool.slots:g} slots.", hint="Give 1 or more.")
