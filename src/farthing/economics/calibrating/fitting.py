"""Fitting the constants to measured rows: least squares on log errors, robust, with priors from physics."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.constants import CONSTANTS, Constant, Traits, factors_of, traits
from farthing.economics.calibrating.engines import FAMILIES, engine_family
from farthing.economics.serving import Load, Served, closed_loop, decode_step_s, static_batch
from farthing.economics.step import Real, step_seconds
from farthing.economics.terms import Demand, demand, stacked, step_costs

Floats = NDArray[np.float64]

PRIOR = 2.0
"""Weight of one standard deviation of a prior against a log error of 1."""

_STATIC_PRIOR = 0.3  # engines of years before differ by more than those of today

_ROBUST = 0.06  # errors beyond 6 % count less and less: they are another configuration, not another constant
_ROUNDS = 30
_WEIGHTS = {"closed_loop": 1.0, "open_loop": 1.0, "steady_batch": 0.7, "max_throughput": 0.3}
_TTFT_WEIGHT = 0.5  # what generators call TTFT differs more than what they call TPOT


class Scales(NamedTuple):
    """What is left of measured over predicted times, as `Factors` has it; floats, or arrays."""

    scale: Real = 1.0
    load_scale: Real = 1.0
    token_scale: Real = 1.0
    ttft_scale: Real = 1.0


UNSCALED = Scales()


class Table(NamedTuple):
    """Cases as arrays, an element per case; what was not measured is NaN."""

    demand: Demand
    traits: Traits
    load: Load
    engine: NDArray[np.intp]
    """Index into FAMILIES, or -1."""
    kind: NDArray[np.str_]
    devices: Floats
    copies: Floats
    tpot_s: Floats
    ttft_s: Floats
    output_tokens_per_s: Floats
    """Of all devices."""
    sound: NDArray[np.bool_]
    """Whether the row says something about the time of an iteration: its requests did not wait for memory or a slot."""


def tabled(cases: Sequence[Case]) -> Table:
    """Cases as arrays."""
    rows = [case.measurement for case in cases]
    devices = np.array([case.deployment.devices for case in cases], dtype=float)
    ttft, tpot = _floats([row.ttft_s for row in rows]), _floats([row.tpot_s for row in rows])
    output = np.array([case.output_tokens for case in cases])
    waited = ttft > output * tpot
    return Table(
        demand=stacked([demand(case.deployment) for case in cases]),
        traits=stacked([traits(case.deployment) for case in cases]),
        load=stacked([case.load for case in cases]),
        engine=np.array([_family(case.deployment.engine) for case in cases]),
        kind=np.array([row.kind for row in rows]),
        devices=devices,
        copies=np.array([case.deployment.data for case in cases], dtype=float),
        tpot_s=tpot,
        ttft_s=ttft,
        output_tokens_per_s=_floats([row.output_tokens_per_s_per_device for row in rows]) * devices,
        sound=~waited & ~np.array([case.over for case in cases]),
    )


def chosen(table: Table, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Table:
    """Some rows of a table."""
    return table._replace(
        demand=Demand(*(column[rows] for column in map(np.asarray, table.demand))),
        traits=Traits(*(column[rows] for column in map(np.asarray, table.traits))),
        load=Load(*(column[rows] for column in map(np.asarray, table.load))),
        **{name: getattr(table, name)[rows] for name in Table._fields[3:]},
    )


def predicted(table: Table, values: Mapping[str, float], scales: Scales = UNSCALED) -> Served:
    """What the model says of every case, by the kind of its load; rates are of one copy."""
    factors = factors_of(lambda name: _value(values, name, table.engine), table.traits)
    factors = factors._replace(**scales._asdict())
    costs = step_costs(table.demand, factors)
    loop = closed_loop(costs, factors, table.load)
    static = static_batch(costs, factors, table.load)
    steady = decode_step_s(costs, table.load, table.load.concurrency)
    prompt = step_seconds(costs, 0.0, 0.0, 0.0, table.load.input_tokens, table.load.input_tokens**2 / 2, 1.0)
    alone = loop._replace(ttft_s=prompt)  # timed inside the engine
    kept = loop._replace(tpot_s=steady)  # its pace is that of iterations without prompts; its rate is not
    kinds = ("static_batch", "steady_batch", "prefill_only")
    return Served(
        *(
            np.select(
                [table.kind == kind for kind in kinds],
                columns[:3],
                columns[3],
            )
            for columns in zip(static, kept, alone, loop, strict=True)
        )
    )


def fit(
    table: Table,
    start: Mapping[str, float] | None = None,
    rounds: int = _ROUNDS,
    constants: Sequence[Constant] = CONSTANTS,
) -> dict[str, float]:
    """The constants that fit a table best; those of an engine are called "name@engine".

    Serving is fitted first. What is left of static batches then only says how their engines differ: they were timed
    in ways and with versions of their own, which should not bend what holds for all.
    """
    unknowns = _unknowns(constants)
    at = {one.name: one.start for one in unknowns} | dict(start or {})
    static = [one for one in unknowns if one.name.endswith("-static")]
    serving = [one for one in unknowns if one not in static]
    at |= _least_squares(table, serving, at, _WEIGHTS, PRIOR, rounds)
    return at | _least_squares(table, static, at, {"static_batch": 1.0}, _STATIC_PRIOR, rounds)


class _Unknown(NamedTuple):
    name: str
    start: float
    spread: float


def _unknowns(constants: Sequence[Constant]) -> list[_Unknown]:
    rows = [_Unknown(one.name, one.start, one.spread) for one in constants]
    engines = [(one, engine) for one in constants if one.by_engine for engine in FAMILIES]
    return rows + [_Unknown(f"{one.name}@{engine}", 0.0, one.by_engine) for one, engine in engines]


def _least_squares(
    table: Table,
    unknowns: Sequence[_Unknown],
    at: Mapping[str, float],
    weights: Mapping[str, float],
    prior: float,
    rounds: int,
) -> dict[str, float]:
    held = chosen(table, table.sound & np.isin(table.kind, list(weights)))
    names = [one.name for one in unknowns]
    if not len(held.kind):
        return {name: at[name] for name in names}
    weight = np.array([weights[kind] for kind in held.kind])
    rated = np.isnan(held.tpot_s) | (held.kind == "static_batch")
    begin, spread = (np.array([getattr(one, name) for one in unknowns]) for name in ("start", "spread"))

    def errors(vector: Floats) -> Floats:
        served = predicted(held, {**at, **dict(zip(names, vector, strict=True))})
        rate = np.log(served.output_tokens_per_s * held.copies / held.output_tokens_per_s)
        pace = np.where(rated, -rate, np.log(served.tpot_s / held.tpot_s)) * weight
        first = np.log(served.ttft_s / held.ttft_s) * weight * _TTFT_WEIGHT
        return np.concatenate([np.nan_to_num(pace), np.nan_to_num(first), (vector - begin) / spread * prior])

    before = np.array([at[name] for name in names])
    found = least_squares(errors, before, loss="soft_l1", f_scale=_ROBUST, max_nfev=rounds, x_scale=spread)
    return dict(zip(names, (float(value) for value in found.x), strict=True))


def _value(values: Mapping[str, float], name: str, engine: NDArray[np.intp]) -> Real:
    offsets = [values.get(f"{name}@{one}", 0.0) for one in FAMILIES]
    if not any(offsets):
        return values[name]
    return values[name] + np.array([*offsets, 0.0])[engine]


def _family(engine: str) -> int:
    family = engine_family(engine)
    return FAMILIES.index(family) if family in FAMILIES else -1


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
