"""Fit the power model to measured rows and print it as TOML, with its held-out errors on standard error.

It takes about a minute.

python -m benchmarks.power ../shared/data/serving/calibration.csv > src/farthing/economics/data/power.toml
"""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from farthing.economics.calibrating.calibrate import calibrate, resolved
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.energy.power import PowerModel
from farthing.economics.energy.power_fit import Floats, Point, fit_power, grouped, held_out, off_by, power_points
from farthing.economics.facts.catalogue import Catalogue
from farthing.importers.serving.rows import read_measurements
from farthing.wiring.planning import catalogue, shipped_calibration

BLOCK_SCALED = ("qwen3",)
SEED = 1
UNSEEN = ("llama-3-70b", "gpt-oss-120b", "qwen3-8b", "gemma-3-27b", "llama-4-scout")
"""Models that neither power nor throughput is fitted on, to see both errors at once."""


def main(rows: Path) -> None:
    """Fit, judge, print."""
    facts, measured = catalogue(), read_measurements(rows)
    points, refused = power_points(measured, facts, BLOCK_SCALED)
    source = f"fitted by python -m benchmarks.power to {len(points)} rows of ml-energy/leaderboard"
    model = fit_power(points, BLOCK_SCALED, source, str(date.today()))
    print(f"{len(points)} points, {len(refused)} refused", file=sys.stderr)
    for by in ("model", "hardware"):
        _say(f"each {by} left out", points, held_out(points, model, np.array([getattr(p, by) for p in points])), model)
    _third(points)
    _nested(points)
    _say("all rows, as fitted", points, off_by(points, model), model)
    calibrated, _ = power_points(measured, facts, BLOCK_SCALED, shipped_calibration())
    _say("the same, throughput predicted", calibrated, off_by(calibrated, model), model)
    _unseen(measured, facts)
    print("# What a device draws, as docs/concepts/plan/energy.md explains. Written by `python -m benchmarks.power`.")
    for name in model.__struct_fields__:
        value = getattr(model, name)
        quoted = value if name == "date" else msgspec.json.encode(value).decode()
        print(f"{name} = {f'{value:.4g}' if isinstance(value, float) else quoted}")


def _third(points: Sequence[Point]) -> None:
    """A random third of the rows calibrates, the rest is predicted."""
    order = np.random.default_rng(SEED).permutation(len(points))
    cut = len(points) // 3
    seen, unseen = ([points[place] for place in part] for part in (order[:cut], order[cut:]))
    model = fit_power(seen, BLOCK_SCALED)
    _say("two thirds of the rows left out", unseen, off_by(unseen, model), model)


def _nested(points: Sequence[Point]) -> None:
    """Each model is left out of fit and interval alike."""
    inside = []
    for name in sorted({point.model for point in points}):
        model = fit_power([point for point in points if point.model != name], BLOCK_SCALED)
        out = [point for point in points if point.model == name]
        ratio = np.exp(-off_by(out, model))
        inside.extend((ratio >= model.low) & (ratio <= model.high))
    print(f"each model left out of its interval too: {100 * np.mean(inside):.1f} % inside", file=sys.stderr)


def _unseen(measured: Sequence[Measurement], facts: Catalogue) -> None:
    """Some models are left out of the power model and of the calibration that predicts their throughput."""
    out = [case.measurement for case in resolved(measured, facts)[0] if case.deployment.architecture.name in UNSEEN]
    names = {row.model for row in out}
    seen = [row for row in measured if row.model not in names]
    model = fit_power(power_points(seen, facts, BLOCK_SCALED)[0], BLOCK_SCALED)
    calibration = calibrate(seen, facts, progress=lambda _: None)
    for what, used in (("measured", None), ("predicted", calibration)):
        points, _ = power_points(out, facts, BLOCK_SCALED, used)
        _say(f"{len(UNSEEN)} models unseen, throughput {what}", points, off_by(points, model), model)


def _say(what: str, points: Sequence[Point], off: Floats, model: PowerModel) -> None:
    found = next(iter(grouped(points, off, model))).errors["power"]
    print(
        f"{what}: mean {100 * found.mean:.1f} %, median {100 * found.median:.1f} %, {100 * found.covered:.1f} % inside",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
