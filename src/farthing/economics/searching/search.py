"""The search for what to run on: every layout, batch and number of replicas, and the cheapest that is fast enough."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.economics import terms
from farthing.economics.deployment import Deployment
from farthing.economics.factors import Factors
from farthing.economics.memory import capacity, sequences_that_fit
from farthing.economics.operating import (
    FULL,
    Curves,
    Operating,
    capacity_per_s,
    closed_loop_at,
    highest_rate,
    met,
    most_held,
    open_loop,
)
from farthing.economics.precision import precision_named
from farthing.economics.searching.frontier import frontier
from farthing.economics.searching.options import Found, Option, Outlook, Question, Tight
from farthing.economics.searching.space import deployments
from farthing.economics.serving import Load, closed_loop
from farthing.economics.step import Real, StepCosts
from farthing.errors import RequestError

LEVELS = (0.95, 0.75, 0.5, 0.3, 0.15)
"""Shares of capacity at which each layout is looked at, beside the highest that meets the bounds."""

GRID = 30
MILLION = 1e6


class _Fitting(NamedTuple):
    """Every layout that fits, how many sequences of the workload each has room for, and why the others do not."""

    deployments: list[Deployment]
    slots: NDArray[np.float64]
    missing: dict[str, list[RequestError]]


class _Rows(NamedTuple):
    """Every layout with every batch worth telling apart: which layout each row is of, and its curves."""

    layout: NDArray[np.intp]
    batch: NDArray[np.float64]
    curves: Curves
    copies: NDArray[np.float64]
    devices: NDArray[np.float64]
    """Of one replica."""
    names: NDArray[np.str_]
    """Of the hardware."""


class _Seen(NamedTuple):
    """Rows with a number of replicas each, and what callers then see."""

    rows: NDArray[np.intp]
    replicas: NDArray[np.float64]
    rate: NDArray[np.float64]
    seen: Operating
    meets: NDArray[np.bool_]


class _Paid(NamedTuple):
    """What rows with a number of replicas each cost: by which offer, per hour and per million output tokens."""

    offer: NDArray[np.intp]
    usd_per_h: NDArray[np.float64]
    usd_per_million: NDArray[np.float64]


class _Table(NamedTuple):
    """Everything that was looked at."""

    question: Question
    fitting: _Fitting
    rows: _Rows
    seen: _Seen
    paid: _Paid


def search(question: Question, factors_of: Callable[[Deployment], Factors]) -> Found:
    """The cheapest way of serving a workload on each kind of hardware, and the frontier over all of them.

    `factors_of` says how far from its data sheet a deployment runs. Raises RequestError for a workload, bounds or
    prices that make no sense.
    """
    _check(question)
    fitting = _fitting(question)
    if not fitting.deployments:
        return Found(_ordered(question, fitting, [], {}), (), (), 0)
    costs, factors = _costs(question, fitting, factors_of)
    rows = _rows(question, fitting, costs, factors)
    seen = _looked_at(question, rows)
    table = _Table(question, fitting, rows, seen, _paid(question, rows, seen))
    options = [_option(table, index) for index in _cheapest(table)]
    front, rest = _scattered(table)
    tight = _unloaded(question, fitting, rows, costs)
    return Found(_ordered(question, fitting, options, tight), front, rest, len(seen.rows))


def _check(question: Question) -> None:
    workload, slo = question.workload, question.slo
    if (workload.requests_per_s is None) == (workload.concurrency is None):
        raise RequestError("a load is either a rate or a number of callers at once.", hint="Give exactly one of them.")
    named = {
        "input tokens": workload.input_tokens,
        "output tokens": workload.output_tokens,
        "requests per second": workload.requests_per_s,
        "callers at once": workload.concurrency,
        "seconds to the first token": slo.ttft_s,
        "seconds per output token": slo.tpot_s,
        "seconds in all": slo.e2e_s,
    }
    for name, value in named.items():
        if value is not None and not 0 < value < math.inf:
            raise RequestError(f"{name} are {value:g}, which is not above 0.", hint="Give a positive number.")
    if not 0 <= workload.cached_share < 1:
        raise RequestError(
            f"the cached share of the prompt is {workload.cached_share:g}.", hint="Give a share from 0 up to 1."
        )
    if not 0 < slo.percentile < 100:
        raise RequestError(f"there is no percentile {slo.percentile:g}.", hint="Give one between 0 and 100.")
    least = (slo.tpot_s or 0.0) * max(workload.output_tokens - 1, 0)
    if slo.e2e_s is not None and slo.ttft_s is not None and slo.ttft_s > slo.e2e_s:
        raise RequestError(
            f"the first token may take {slo.ttft_s:g} s, but the whole answer only {slo.e2e_s:g} s.",
            hint="The limit of the first token has to be below that of the whole answer.",
            facts={"ttft_s": slo.ttft_s, "e2e_s": slo.e2e_s, "tokens_s": least},
        )
    for name in (*question.space.weights, *question.space.kv):
        precision_named(name, question.architecture)
    for offer in question.offers:
        if not 0 < offer.usd_per_device_h < math.inf:
            raise RequestError(
                f"{offer.hardware.name} is said to cost {offer.usd_per_device_h:g} dollars per hour.",
                hint="Give a price above 0.",
            )


def _fitting(question: Question) -> _Fitting:
    kept: list[Deployment] = []
    slots: list[float] = []
    missing: dict[str, list[RequestError]] = {}
    tokens = math.ceil(question.workload.input_tokens + question.workload.output_tokens / 2)
    for hardware in {offer.hardware.name: offer.hardware for offer in question.offers}.values():
        lacking = missing.setdefault(hardware.name, [])
        for deployment in deployments(hardware, question.architecture, question.space):
            try:
                fits = sequences_that_fit(capacity(deployment), tokens)
            except RequestError as error:
                lacking.append(error)
                continue
            if fits >= 1:
                kept.append(deployment)
                slots.append(fits)
    return _Fitting(kept, np.array(slots, dtype=np.float64), missing)


def _costs(
    question: Question, fitting: _Fitting, factors_of: Callable[[Deployment], Factors]
) -> tuple[StepCosts, Factors]:
    """What every layout costs per iteration, in arrays."""
    factors = terms.stacked([factors_of(deployment) for deployment in fitting.deployments])
    if question.workload.requests_per_s is not None:
        factors = factors._replace(burst=0.0)  # random arrivals do not start together, as load generators do
    amounts = terms.stacked([terms.demand(deployment) for deployment in fitting.deployments])
    return terms.step_costs(amounts, factors), factors


def _rows(question: Question, fitting: _Fitting, costs: StepCosts, factors: Factors) -> _Rows:
    """A batch larger than what fits in memory is the same as what fits, so only the first such is kept."""
    batches = np.array(sorted(question.space.batches), dtype=np.float64)
    smaller = np.concatenate([[0.0], batches[:-1]])
    layout, which = np.nonzero(smaller[None, :] < fitting.slots[:, None])
    table = _served(question, fitting, costs, factors, batches)
    curves = Curves(
        table.held,
        table.requests_per_s[layout],
        table.tpot_s[layout],
        table.ttft_s[layout],
        np.minimum(batches[which], fitting.slots[layout]),
    )
    copies = np.array([deployment.data for deployment in fitting.deployments], dtype=np.float64)
    devices = np.array([deployment.devices for deployment in fitting.deployments], dtype=np.float64)
    names = np.array([deployment.hardware.name for deployment in fitting.deployments])
    return _Rows(layout, batches[which], curves, copies[layout], devices[layout], names[layout])


def _served(
    question: Question, fitting: _Fitting, costs: StepCosts, factors: Factors, batches: NDArray[np.float64]
) -> Curves:
    """The curves of every layout, as the model has them in a closed loop of so many callers per copy."""
    workload = question.workload
    held = np.unique(np.concatenate([np.round(np.geomspace(1.0, batches[-1], GRID)), batches]))
    costs = StepCosts(*(_column(cost) for cost in costs))
    factors = Factors(*(_column(factor) for factor in factors))
    window = terms.attention_window(question.architecture)
    load = Load(held[None, :], workload.input_tokens, workload.output_tokens, math.inf, window, workload.cached_share)
    served = closed_loop(costs, factors, load)
    shape = (len(fitting.deployments), len(held))
    rate, tpot, ttft = (
        np.broadcast_to(np.asarray(table, dtype=np.float64), shape)
        for table in (served.output_tokens_per_s / workload.output_tokens, served.tpot_s, served.ttft_s)
    )
    return Curves(held, rate, tpot, ttft, fitting.slots)


def _column(values: Real) -> Real:
    """One row per layout, to be set against the grid; what is the same for all stays as it is."""
    return values[:, None] if isinstance(values, np.ndarray) else values


def _looked_at(question: Question, rows: _Rows) -> _Seen:
    """Every row at the least number of replicas that meets the bounds, and at some that do not or do better."""
    output, bounds = question.workload.output_tokens, question.slo.bounds
    rate, held = question.workload.requests_per_s, question.workload.concurrency
    most = highest_rate(rows.curves, output, bounds) if rate is not None else most_held(rows.curves, output, bounds)
    full = FULL * capacity_per_s(rows.curves) if rate is not None else rows.curves.slots
    asked = rate if rate is not None else held or 0.0
    parts = []
    for level in (None, *LEVELS):
        each = most if level is None else level * full
        index = np.nonzero(each > asked * 1e-9)[0]
        replicas = np.ceil(np.round(asked / (each[index] * rows.copies[index]), 6))
        curves = _of(rows.curves, index)
        share = asked / (replicas * rows.copies[index])
        if rate is not None:
            seen = open_loop(curves, share, output, bounds.percentile)
            served = share
        else:
            seen = closed_loop_at(curves, share, output)
            served = seen.utilisation * capacity_per_s(curves)
        parts.append(_Seen(index, replicas, served, seen, met(seen, bounds)))
    rows_of, replicas_of, rates = (np.concatenate([part[field] for part in parts]) for field in range(3))
    columns = zip(*(part.seen for part in parts), strict=True)
    operating = Operating(*(np.concatenate(column) for column in columns))
    return _Seen(rows_of, replicas_of, rates, operating, np.concatenate([part.meets for part in parts]))


def _of(curves: Curves, index: NDArray[np.intp]) -> Curves:
    return Curves(
        curves.held, curves.requests_per_s[index], curves.tpot_s[index], curves.ttft_s[index], curves.slots[index]
    )


def _paid(question: Question, rows: _Rows, seen: _Seen) -> _Paid:
    """Each row at the offer that is cheapest for as many devices as it takes, in whole units of rent."""
    devices = seen.replicas * rows.devices[seen.rows]
    names = rows.names[seen.rows]
    usd = np.full(len(devices), np.inf)
    chosen = np.zeros(len(devices), dtype=np.intp)
    for place, offer in enumerate(question.offers):
        each = np.ceil(devices / offer.unit) * offer.unit * offer.usd_per_device_h
        cheaper = (names == offer.hardware.name) & (each < usd)
        usd, chosen = np.where(cheaper, each, usd), np.where(cheaper, place, chosen)
    tokens_per_h = 3600.0 * seen.rate * seen.replicas * rows.copies[seen.rows] * question.workload.output_tokens
    return _Paid(chosen, usd, MILLION * usd / tokens_per_h)


def _cheapest(table: _Table) -> list[int]:
    """The cheapest that meets the bounds on each kind of hardware, the cheapest first; of equals the fastest."""
    chosen: dict[str, int] = {}
    order = np.lexsort((table.seen.seen.e2e_s, np.round(table.paid.usd_per_million, 9)))
    names = table.rows.names[table.seen.rows]
    for index in order[table.seen.meets[order]].tolist():
        chosen.setdefault(str(names[index]), index)
    return list(chosen.values())


def _scattered(table: _Table) -> tuple[tuple[Option, ...], tuple[Option, ...]]:
    """The frontier of cost, TPOT and TTFT, and per hardware that of cost and TPOT, to be drawn beside it."""
    seen = table.seen.seen
    finite = np.nonzero(np.isfinite(seen.e2e_s))[0]
    values = np.column_stack([table.paid.usd_per_million, seen.tpot_s, seen.ttft_s])[finite]
    whole = finite[frontier(values)]
    names = table.rows.names[table.seen.rows][finite]
    others: list[int] = []
    for name in np.unique(names):
        mine = names == name
        others += finite[mine][frontier(values[mine][:, :2])].tolist()
    taken = set(whole.tolist())
    return (
        tuple(_option(table, index) for index in whole.tolist()),
        tuple(_option(table, index) for index in others if index not in taken),
    )


def _option(table: _Table, index: int) -> Option:
    rows, seen, paid = table.rows, table.seen, table.paid
    row = int(seen.rows[index])
    replicas = int(seen.replicas[index])
    operating = Operating(*(column[index].item() for column in seen.seen))
    deployment = table.fitting.deployments[int(rows.layout[row])]
    return Option(
        deployment=msgspec.structs.replace(deployment, max_sequences=int(rows.curves.slots[row])),
        offer=table.question.offers[int(paid.offer[index])],
        replicas=replicas,
        usd_per_h=paid.usd_per_h[index].item(),
        usd_per_million_output_tokens=paid.usd_per_million[index].item(),
        requests_per_s=seen.rate[index].item() * rows.copies[row].item() * replicas,
        ttft_s=float(operating.ttft_s),
        tpot_s=float(operating.tpot_s),
        e2e_s=float(operating.e2e_s),
        held=float(operating.held),
        utilisation=float(operating.utilisation),
        idle=float(operating.idle),
        meets=bool(seen.meets[index]),
    )


def _ordered(
    question: Question, fitting: _Fitting, options: Sequence[Option], tight: dict[str, list[Tight]]
) -> tuple[Outlook, ...]:
    served = {option.deployment.hardware.name: Outlook(option.deployment.hardware, option) for option in options}
    for hardware in (offer.hardware for offer in question.offers):
        lacking = sorted(fitting.missing.get(hardware.name, ()), key=lack_bytes)
        alone = tuple(tight.get(hardware.name, ()))
        served.setdefault(hardware.name, Outlook(hardware, None, tuple(lacking), alone))
    return tuple(served.values())


def lack_bytes(error: RequestError) -> float:
    """How many bytes are missing on each device; other refusals come last."""
    facts = error.facts
    if "weights_bytes" not in facts:
        return math.inf
    return float(facts["weights_bytes"] or 0) + float(facts["runtime_bytes"] or 0) - float(facts["allowed_bytes"] or 0)


def _unloaded(question: Question, fitting: _Fitting, rows: _Rows, costs: StepCosts) -> dict[str, list[Tight]]:
    """Every layout that fits with one caller, the fastest per token first."""
    first = np.unique(rows.layout, return_index=True)[1]
    one = closed_loop_at(_of(rows.curves, first), np.ones(len(first)), question.workload.output_tokens)
    tight: dict[str, list[Tight]] = {}
    for place, deployment in enumerate(fitting.deployments):
        own = StepCosts(*(_each(cost, place) for cost in costs))
        layout = Tight(deployment, one.ttft_s[place].item(), one.tpot_s[place].item(), one.e2e_s[place].item(), own)
        tight.setdefault(deployment.hardware.name, []).append(layout)
    return tight


def _each(values: Real, place: int) -> float:
    return values[place].item() if isinstance(values, np.ndarray) else values
