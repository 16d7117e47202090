"""Paying for machines only while they are used: serverless against dedicated, and replicas that follow the demand."""

import math
from collections.abc import Sequence

import msgspec

from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError

DAY_S = 86_400.0
HALVINGS = 200


class Burst(msgspec.Struct, frozen=True):
    """Requests that come at random, so many per second on the mean of a day, to one instance.

    `busy_s_per_request` is how long one request keeps the instance from others: its latency over how many run at once.
    """

    requests_per_s: float
    busy_s_per_request: float


class Serverless(msgspec.Struct, frozen=True):
    """An instance paid by the second: it stops `keep_warm_s` after its last request, and takes `cold_start_s` to start.

    The seconds kept warm are billed; those of a cold start are too, unless the provider says otherwise.
    """

    usd_per_s: float | None
    cold_start_s: float
    keep_warm_s: float = 0.0
    cold_start_billed: bool = True


class Duty(msgspec.Struct, frozen=True):
    """What an instance by the second and one by the hour cost at one load, and from where the latter is cheaper.

    `duty` is the share of time spent on requests, `billed_share` what is paid for; `cold_share` of requests wait for a
    start. `break_even_duty` is the duty at which both cost the same with these requests, and
    `break_even_duty_without_starts` the plain ratio of the prices; `None` where the serverless price stays lower.
    """

    duty: float
    billed_share: float
    cold_share: float
    cold_starts_per_day: float
    serverless_usd_per_day: float
    dedicated_usd_per_day: float
    break_even_duty: float | None
    break_even_duty_without_starts: float | None
    break_even_requests_per_s: float | None

    @property
    def serverless_wins(self) -> bool:
        """Whether paying by the second is cheaper at this load."""
        return self.serverless_usd_per_day < self.dedicated_usd_per_day


def serverless_against_dedicated(burst: Burst, serverless: Serverless, dedicated_usd_per_h: float | None) -> Duty:
    """Weigh an instance paid by the second against one paid by the hour. Raises RequestError.

    Poisson arrivals at rate l of work S, one at a time, with set-up C after an idle time above T: a queue with set-up
    (P. D. Welch, Operations Research 12, 1964). Over a cycle of an idle and a busy period the share of time that is not
    billed comes to (1 - l S) / (exp(l T) + l C), which falls with l, so there is one break-even at most.

    >>> duty = serverless_against_dedicated(Burst(0.01, 2.0), Serverless(0.001, 0.0), dedicated_usd_per_h=0.9)
    >>> round(duty.duty, 4), round(duty.billed_share, 4), duty.break_even_duty_without_starts, duty.serverless_wins
    (0.02, 0.02, 0.25, True)
    """
    require(burst, above_zero=("requests_per_s", "busy_s_per_request"))
    require(serverless, above_zero=("usd_per_s",), at_least_zero=("cold_start_s", "keep_warm_s"))
    by_second = number("the serverless instance", "usd_per_s", serverless.usd_per_s)
    by_hour = number("the dedicated instance", "usd_per_h", dedicated_usd_per_h)
    if by_hour <= 0:
        raise RequestError(f"The dedicated instance costs ${by_hour:g} an hour.", hint="Give a price above 0.")
    duty = burst.requests_per_s * burst.busy_s_per_request
    if duty >= 1:
        raise RequestError(
            f"{burst.requests_per_s:g} requests/s of {burst.busy_s_per_request:g} s each keep {duty:.3g} instances "
            "busy.",
            hint="One instance is weighed here: give the load of one, or plan replicas that follow the demand.",
        )
    ratio = by_hour / 3600 / by_second
    cold = _cold_share(burst.requests_per_s, burst.busy_s_per_request, serverless)
    billed = _billed_share(burst.requests_per_s, burst.busy_s_per_request, serverless)
    crossing = _crossing(burst.busy_s_per_request, serverless, ratio) if ratio < 1 else None
    return Duty(
        duty=duty,
        billed_share=billed,
        cold_share=cold,
        cold_starts_per_day=DAY_S * burst.requests_per_s * _start_share(burst, serverless),
        serverless_usd_per_day=DAY_S * billed * by_second,
        dedicated_usd_per_day=24 * by_hour,
        break_even_duty=None if crossing is None else crossing * burst.busy_s_per_request,
        break_even_duty_without_starts=ratio if ratio < 1 else None,
        break_even_requests_per_s=crossing,
    )


def _cold_share(rate: float, busy_s: float, serverless: Serverless) -> float:
    """The share of requests that begin a start or come during one; 0 where starting takes no time."""
    if not serverless.cold_start_s:
        return 0.0
    starting = rate * serverless.cold_start_s
    return (1 - rate * busy_s) * (1 + starting) / (_grown(rate, serverless) + starting)


def _start_share(burst: Burst, serverless: Serverless) -> float:
    """Starts per request."""
    rate = burst.requests_per_s
    grown = _grown(rate, serverless)
    return (1 - rate * burst.busy_s_per_request) / (grown + rate * serverless.cold_start_s)


def _billed_share(rate: float, busy_s: float, serverless: Serverless) -> float:
    starting = rate * serverless.cold_start_s
    unbilled = (1 - rate * busy_s) / (_grown(rate, serverless) + starting)
    return 1 - unbilled * (1.0 if serverless.cold_start_billed else 1 + starting)


def _grown(rate: float, serverless: Serverless) -> float:
    """1 over the chance that an idle time outlasts the keep-warm time."""
    return math.exp(min(rate * serverless.keep_warm_s, 700.0))


def _crossing(busy_s: float, serverless: Serverless, ratio: float) -> float | None:
    """The requests per second at which the billed share is the ratio of prices: halving a span, the share rises."""
    low, high = 0.0, 1 / busy_s
    for _ in range(HALVINGS):
        rate = (low + high) / 2
        low, high = (rate, high) if _billed_share(rate, busy_s, serverless) < ratio else (low, rate)
    return high


class Scaling(msgspec.Struct, frozen=True):
    """Replicas that follow the demand: what one serves, how full it may get, its price, its time to start."""

    requests_per_s_per_replica: float
    usd_per_replica_h: float | None
    cold_start_s: float
    target_utilisation: float = 0.8
    minimum_replicas: int = 1
    hours_per_step: float = 1.0


class Scaled(msgspec.Struct, frozen=True):
    """Replicas per step of the demand and what they cost over all steps, starts included.

    `cold_start_usd` pays for replicas that are starting and serve nothing yet. `waiting` is how many requests have
    queued up when the replicas of each step have started; `utilisation` is what is served over what is paid for.
    `static_usd` is the cost of having the replicas of the busiest step all the time.
    """

    replicas: tuple[int, ...]
    usd: float
    cold_start_usd: float
    static_usd: float
    cold_starts: int
    waiting: tuple[float, ...]
    utilisation: float


def scaled(requests_per_s: Sequence[float], scaling: Scaling) -> Scaled:
    """Replicas that follow a demand curve, which comes again from its beginning after its end. Raises RequestError.

    replicas = ceil(demand / (capacity x target utilisation)); a replica that starts is paid `cold_start_s` longer; what
    arrives meanwhile beyond what the former replicas serve, waits.

    >>> day = scaled([1.0, 1.0, 7.0, 2.0], Scaling(1.0, 2.0, cold_start_s=90.0, target_utilisation=1.0))
    >>> day.replicas, day.cold_starts, round(day.usd, 6), day.static_usd, day.waiting
    ((1, 1, 7, 2), 6, 22.3, 56.0, (0.0, 0.0, 540.0, 0.0))
    """
    require(
        scaling,
        above_zero=("requests_per_s_per_replica", "usd_per_replica_h", "target_utilisation", "hours_per_step"),
        at_least_zero=("cold_start_s",),
        shares=("target_utilisation",),
        whole=("minimum_replicas",),
    )
    if not len(requests_per_s):
        raise RequestError("The demand curve has no steps.", hint="Give requests per second for each hour.")
    if scaling.cold_start_s > 3600 * scaling.hours_per_step:
        raise RequestError(
            f"A replica takes {scaling.cold_start_s:g} s to start, longer than a step of the demand.",
            hint="Give the demand in longer steps, or plan without scaling.",
        )
    demand = [number(f"step {step}", "requests_per_s", rate) for step, rate in enumerate(requests_per_s)]
    if min(demand) < 0:
        raise RequestError(f"Step {demand.index(min(demand))} has {min(demand):g} requests/s.", hint="Give 0 or more.")
    one, hours = scaling.requests_per_s_per_replica, scaling.hours_per_step
    hourly = number("the replica", "usd_per_replica_h", scaling.usd_per_replica_h)
    each = one * scaling.target_utilisation
    replicas = [max(int(scaling.minimum_replicas), math.ceil(rate / each - 1e-9)) for rate in demand]
    before = [replicas[-1], *replicas[:-1]]
    starts = sum(max(now - then, 0) for now, then in zip(replicas, before, strict=True))
    cold_usd = starts * scaling.cold_start_s / 3600 * hourly
    waiting = [
        max(rate - then * one, 0.0) * scaling.cold_start_s if now > then else 0.0
        for rate, now, then in zip(demand, replicas, before, strict=True)
    ]
    paid = sum(replicas) * hours + starts * scaling.cold_start_s / 3600
    return Scaled(
        replicas=tuple(replicas),
        usd=sum(replicas) * hours * hourly + cold_usd,
        cold_start_usd=cold_usd,
        static_usd=max(replicas) * len(replicas) * hours * hourly,
        cold_starts=starts,
        waiting=tuple(waiting),
        utilisation=sum(demand) * hours / (paid * one) if paid else 0.0,
    )
