"""How far the planner's predictions are from measurements it had not seen, and how many it makes in a second."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import BenchmarkError
from farthing.economics.calibrating import residuals
from farthing.economics.calibrating.calibrate import resolved
from farthing.economics.calibrating.cases import Case
from farthing.economics.calibrating.constants import CONSTANTS
from farthing.economics.calibrating.fitting import fit, tabled
from farthing.economics.calibrating.held_out import HeldOut, held_out, looked_at, spreads_of
from farthing.economics.factors import Factors
from farthing.economics.serving import Load, closed_loop
from farthing.economics.terms import demand, stacked, step_costs
from farthing.importers.serving.rows import read_measurements
from farthing.wiring.planning import catalogue, shipped_calibration

ROWS = Path(os.environ.get("FARTHING_SHARED", Path(__file__).parents[3] / "shared")) / "data/serving/calibration.csv"

PREDICTIONS = 200_000

TARGETS = {
    "new model": {"tpot": 18, "throughput": 15},
    "new hardware": {"tpot": 20, "throughput": 17},
    "class": {"ttft": 30},
    "two points": {"tpot": 8, "throughput": 8},
}
"""Mean absolute percentage errors that are promised of closed loops, by what was known of them."""


NARROW = 1e-6
GONE = -30.0
"""Natural logarithm of a time that is as good as none."""

WITHOUT: dict[str, dict[str, float]] = {
    "the whole model": {},
    "no time per layer": {"layer_s": GONE, "layer_fp8_s": GONE, "layer_fp4_s": GONE, "layer_widened_s": GONE},
    "no time per layer of experts or latent attention": {
        "layer_experts_s": GONE,
        "layer_latent_s": GONE,
        "layer_indexed_s": GONE,
    },
    "no time per sequence": {"sequence_s": GONE},
    "no time per iteration": {"step_s": GONE},
    "a roofline: the shorter of reading and multiplying is free": {"overlap": 10.0},
    "experts read as if tokens chose alone": {"expert_spread": 10.0},
    "no latency of links": {"link_latency": GONE},
    "no first-token overhead": {"ttft_s": GONE, "ttft_experts_s": GONE},
    "no burst at the start": {"burst": GONE},
    "no wait behind other prompts": {"waiting": GONE},
}
"""What is held at nothing, or at its simplest, on the scale that constants are fitted on."""


def plan_accuracy(effort: Effort) -> list[Figure]:
    """Errors of closed loops that were held out of the fit, and how many of those the stated intervals hold."""
    cases, _ = resolved(read_measurements(_rows()), catalogue())
    parts = list(held_out(cases, fit(tabled(cases)), lambda text: None))
    return [*_errors(parts), *_coverage(parts)]


def _errors(parts: Sequence[HeldOut]) -> list[Figure]:
    found = []
    for evidence in ("new model", "new hardware", "class", "one point", "two points"):
        for quantity in residuals.Residuals._fields:
            values = np.concatenate([_closed(part, quantity) for part in parts if part.evidence == evidence])
            off = 100 * np.abs(np.expm1(-values))
            what = f"{evidence}: {quantity}, mean error of {len(off):,} rows"
            limit = TARGETS.get(evidence, {}).get(quantity)
            note = f"median {np.median(off):.1f} %"
            found.append(Figure(what, Target(limit, None, "%"), (float(off.mean()),), note))
    return found


def _coverage(parts: Sequence[HeldOut]) -> list[Figure]:
    """Each model's rows against intervals made of all others: what an interval says of a model nobody has seen."""
    models = sorted({part.group for part in parts if part.evidence == "new model"})
    found = []
    for quantity in residuals.Residuals._fields:
        inside: list[np.ndarray] = []
        for model in models:
            others = [part for part in parts if part.evidence == "new model" and part.group != model]
            spread = spreads_of(others)["serving: new model"].get(quantity)
            for part in parts:
                if spread and part.evidence == "new model" and part.group == model:
                    ratio = np.exp(_closed(part, quantity))
                    inside.append((ratio >= spread.low) & (ratio <= spread.high))
        covered = 100 * float(np.concatenate(inside).mean())
        found.append(Figure(f"new model: {quantity} within its 90 % interval", Target(85, None, "%", True), (covered,)))
    return found


def plan_terms(effort: Effort) -> list[Figure]:
    """What the error on models left out becomes when a term is taken away and the rest fitted anew."""
    cases, _ = resolved(read_measurements(_rows()), catalogue())
    return [figure for name, without in WITHOUT.items() for figure in _without(cases, name, without)]


def _without(cases: Sequence[Case], name: str, without: dict[str, float]) -> list[Figure]:
    constants = [
        one._replace(start=without[one.name], spread=NARROW, by_engine=0.0) if one.name in without else one
        for one in CONSTANTS
    ]
    start = fit(tabled(cases), constants=constants)
    left: list[HeldOut] = []
    for model in sorted({case.deployment.architecture.name for case in cases if _is_closed(case)}):
        rest = [case for case in cases if case.deployment.architecture.name != model]
        held = [case for case in cases if case.deployment.architecture.name == model and _is_closed(case)]
        left.append(looked_at("new model", model, held, residuals.fitted(rest, start, constants)))
    found = []
    for quantity in residuals.Residuals._fields:
        off = 100 * np.abs(np.expm1(-np.concatenate([_closed(part, quantity) for part in left])))
        found.append(
            Figure(f"{name}: {quantity}", Target(unit="%"), (float(off.mean()),), f"median {np.median(off):.1f} %")
        )
    return found


def _is_closed(case: Case) -> bool:
    return case.measurement.kind == "closed_loop"


def plan_speed(effort: Effort) -> list[Figure]:
    """Closed-form predictions per second on one core: demand to TTFT, TPOT and throughput, in one array."""
    facts, calibration = catalogue(), shipped_calibration()
    cases, _ = resolved(read_measurements(_rows()), facts)
    picked = [cases[place % len(cases)] for place in range(PREDICTIONS)]
    needs, factors, load = _arrays(cases, picked, calibration.factors)
    samples = []
    for _ in range(effort.rounds):
        started = time.process_time()
        closed_loop(step_costs(needs, factors), factors, load)
        samples.append(PREDICTIONS / (time.process_time() - started))
    return [Figure("closed-form predictions", Target(200_000, None, "/s", True), tuple(samples))]


def _arrays(cases: Sequence[Case], picked: Sequence[Case], factors_of) -> tuple:
    rows = {id(case): (demand(case.deployment), factors_of(case.deployment)) for case in cases}
    needs = stacked([rows[id(case)][0] for case in picked])
    factors: Factors = stacked([rows[id(case)][1] for case in picked])
    load: Load = stacked([case.load for case in picked])
    return needs, factors, load


def _closed(part: HeldOut, quantity: str) -> np.ndarray:
    kept = np.array([case.measurement.kind == "closed_loop" for case in part.cases], dtype=bool)
    values = getattr(part.left, quantity)[kept]
    return values[~np.isnan(values)]


def _rows() -> Path:
    if not ROWS.exists():
        raise BenchmarkError(f"{ROWS} is not there: measured rows are not part of the repository")
    return ROWS
