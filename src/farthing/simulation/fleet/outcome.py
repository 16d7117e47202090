"""What a simulation found."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.simulation.fleet.scaling import Operator
from farthing.simulation.fleet.sketch import quantile
from farthing.simulation.fleet.state import E2E, QUEUE, TPOT, TTFT, Records, State

SHARES = (0.5, 0.9, 0.95, 0.99)


class Times(msgspec.Struct, frozen=True):
    """Seconds: the mean and percentiles, exact for runs whose requests are kept and else within 1 %; NaN for none."""

    mean_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float


class Hour(msgspec.Struct, frozen=True):
    """One hour from the first arrival on. What is busy or paid is counted over all replicas, in seconds."""

    arrived: int
    finished: int
    input_tokens: int
    output_tokens: int
    busy_s: float
    replica_s: float
    ttft_p50_s: float
    ttft_p99_s: float


class Outcome(msgspec.Struct, frozen=True):
    """What a fleet did with a trace.

    `span_s` is from the first arrival to the last token. Queue time ends when a request is first scheduled; a request
    that started again elsewhere has the times of the attempt that finished. `busy_share` is the share of replica time
    in which an iteration ran, `prompt_share` the share of that which prompts added; `batch_s[n]` the seconds with `n`
    sequences in the batch. `prefix_hit_share` is of the input tokens. `retries` counts the starts after an interruption
    or a failure, `interrupted` the requests that had any. `on_demand_s` and `spot_s` are what is paid for, cold starts
    and repairs included. `iterations` are those of the engines.
    """

    requests: int
    finished: int
    span_s: float
    queue: Times
    ttft: Times
    tpot: Times
    e2e: Times
    input_tokens: int
    output_tokens: int
    prefilled_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    prefix_hit_share: float
    busy_share: float
    prompt_share: float
    mean_batch: float
    preemptions: int
    interrupted: int
    retries: int
    interruptions: int
    failures: int
    cold_starts: int
    most_replicas: int
    on_demand_s: float
    spot_s: float
    iterations: int
    hours: tuple[Hour, ...]
    batch_s: tuple[float, ...]
    served: Records | None
    """Each finished request with the fields of `FINISHED`, in the order of the trace; `None` for more than are kept."""

    @property
    def unfinished(self) -> int:
        """Requests that had no last token when the simulation ended."""
        return self.requests - self.finished


def outcome(state: State, operator: Operator, served: Records | None, offset_s: float) -> Outcome:
    """The sums of a run that has ended."""
    totals = state.totals[0]
    span_s = float(totals["last_s"])
    batch_s = state.batch_s
    busy_s = float(batch_s.sum())
    paid_s = operator.on_demand_s + operator.spot_s
    per_s = 1.0 / span_s if span_s > 0 else math.nan
    return Outcome(
        requests=int(totals["arrived"]),
        finished=int(totals["finished"]),
        span_s=span_s,
        **_latencies(state, served, offset_s),
        input_tokens=int(state.hours["input_tokens"].sum()),
        output_tokens=int(totals["output_tokens"]),
        prefilled_tokens=int(totals["prefilled_tokens"]),
        requests_per_s=int(totals["finished"]) * per_s,
        output_tokens_per_s=int(totals["output_tokens"]) * per_s,
        prefix_hit_share=int(totals["cached_tokens"]) / max(int(totals["input_tokens"]), 1),
        busy_share=busy_s / paid_s if paid_s > 0 else math.nan,
        prompt_share=float(totals["prompt_s"]) / busy_s if busy_s > 0 else math.nan,
        mean_batch=float(batch_s @ np.arange(len(batch_s))) / busy_s if busy_s > 0 else math.nan,
        preemptions=int(totals["preemptions"]),
        interrupted=int(totals["interrupted"]),
        retries=int(totals["retries"]),
        interruptions=operator.interruptions,
        failures=operator.failures,
        cold_starts=operator.cold_starts,
        most_replicas=operator.most,
        on_demand_s=operator.on_demand_s,
        spot_s=operator.spot_s,
        iterations=int(totals["iterations"]),
        hours=_hours(state),
        batch_s=tuple(batch_s.tolist()),
        served=served,
    )


def _latencies(state: State, served: Records | None, offset_s: float) -> dict[str, Times]:
    if served is None:
        kinds = {"queue": QUEUE, "ttft": TTFT, "tpot": TPOT, "e2e": E2E}
        return {name: _sketched(state, kind) for name, kind in kinds.items()}
    arrived, first, last = served["arrival_s"], served["first_s"], served["last_s"]
    more = served["output_tokens"] > 1
    return {
        "queue": exact(served["scheduled_s"] - arrived),
        "ttft": exact(first - arrived + offset_s),
        "tpot": exact((last - first)[more] / (served["output_tokens"][more] - 1)),
        "e2e": exact(last - arrived + offset_s),
    }


def exact(seconds: NDArray[np.float64]) -> Times:
    """The mean and percentiles of durations, NaN for none."""
    if not len(seconds):
        return Times(*[math.nan] * 5)
    return Times(float(seconds.mean()), *np.quantile(seconds, SHARES).tolist())


def _sketched(state: State, kind: int) -> Times:
    counts = state.sketches[kind]
    number = int(counts.sum())
    mean = float(state.sums[kind]) / number if number else math.nan
    return Times(mean, *(quantile(counts, share) for share in SHARES))


def _hours(state: State) -> tuple[Hour, ...]:
    """The hours up to the last in which anything was paid for."""
    used = np.flatnonzero(state.hours["replica_s"])
    return tuple(
        Hour(
            arrived=int(state.hours["arrived"][hour]),
            finished=int(state.hours["finished"][hour]),
            input_tokens=int(state.hours["input_tokens"][hour]),
            output_tokens=int(state.hours["output_tokens"][hour]),
            busy_s=float(state.hours["busy_s"][hour]),
            replica_s=float(state.hours["replica_s"][hour]),
            ttft_p50_s=quantile(state.hourly[hour], 0.5),
            ttft_p99_s=quantile(state.hourly[hour], 0.99),
        )
        for hour in range(int(used[-1]) + 1 if len(used) else 0)
    )
