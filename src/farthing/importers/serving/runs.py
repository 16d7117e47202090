"""Runs of load generators, whoever made them, as measurements."""

import msgspec

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, measured_on, refuse_contradiction
from farthing.errors import TrafficError

MOST_FAILED = 0.1
"""The share of requests that may fail before a run no longer says what its load was."""


class Run(msgspec.Struct, frozen=True):
    """What a load generator saw. Rates are of the whole replica, lengths and times are means per request.

    `callers` ask again when answered; `requests_per_s` arrive by themselves. With neither, all were sent at once.
    """

    place: str
    tool: str
    completed: float
    failed: float
    input_tokens: float
    output_tokens: float
    output_tokens_per_s: float
    ttft_s: float | None
    tpot_s: float | None
    callers: float | None = None
    requests_per_s: float | None = None
    e2e_s: float | None = None
    power_w: float | None = None
    cached_share: float | None = None
    note: str = ""


def measured(run: Run, setup: Setup) -> Measurement:
    """The measurement of a run on a completed setup.

    Callers at once under arrivals are requests per second x seconds per request (Little's law). Of a burst that is sent
    at once, the time to first token is left out: it is that of waiting for one another. Raises TrafficError when too
    many requests failed, RequestError when the figures contradict one another.
    """
    asked = run.completed + run.failed
    if run.failed > MOST_FAILED * asked:
        raise TrafficError(
            f"{run.place}: {run.failed:g} of {asked:g} requests failed.",
            hint="The load was not what was asked for: measure again with less of it.",
        )
    ttft, e2e = run.ttft_s, run.e2e_s
    if e2e is None and ttft is not None and run.tpot_s is not None:
        e2e = ttft + (run.output_tokens - 1) * run.tpot_s
    if run.requests_per_s is not None:
        kind = "open_loop"
        concurrency = None if e2e is None else e2e * run.output_tokens_per_s / run.output_tokens
    elif run.callers is not None:
        kind, concurrency = "closed_loop", min(run.callers, run.completed)
    else:
        kind, concurrency, ttft = "max_throughput", run.completed, None
    assert setup.devices is not None
    found = msgspec.structs.replace(
        measured_on(setup, kind),
        concurrency=concurrency,
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        output_tokens_per_s_per_device=run.output_tokens_per_s / setup.devices,
        ttft_s=ttft,
        tpot_s=run.tpot_s,
        power_w=run.power_w,
        source=f"{run.tool}: {run.place}",
        note="; ".join(part for part in (f"{run.completed:g} requests", run.note) if part),
        cached_share=run.cached_share,
    )
    if kind != "max_throughput":
        refuse_contradiction(found, run.place)
    return found
