"""Calibration: what measurements say about the constants, about classes of deployments, and about the model's error."""

import math
from typing import Literal, get_args

import msgspec

from farthing.economics.calibrating.classes import LAYOUT, Offset, classes_of, summed
from farthing.economics.calibrating.constants import factors_of, traits
from farthing.economics.calibrating.engines import engine_family
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.factors import Factors
from farthing.economics.prediction import Estimate
from farthing.errors import RequestError

Evidence = Literal["two points", "one point", "class", "new model", "new hardware", "new model and hardware"]
"""What of a deployment was measured: points of its own, its class, or less; the order is that of certainty."""

CERTAINTY: tuple[Evidence, ...] = get_args(Evidence)

Quantity = Literal["tpot", "ttft", "throughput"]


Regime = Literal["serving", "offline"]
"""Whether callers come and go, or one batch was timed; the latter is measured in ways that differ far more."""


class Spread(msgspec.Struct, frozen=True):
    """The factors on a prediction between which nine of ten measurements lay that the fit had not seen."""

    low: float
    high: float
    rows: int = 0
    """How many measurements that rests on."""


class Calibration(msgspec.Struct, frozen=True):
    """Fitted constants with the evidence they rest on; JSON by msgspec."""

    constants: dict[str, float]
    offsets: dict[str, Offset]
    spreads: dict[str, dict[str, Spread]]
    """By "regime: evidence", of each quantity."""
    hardware: tuple[str, ...]
    models: tuple[str, ...]
    engines: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    """Of concurrency, input_tokens and output_tokens, what was measured."""
    rows: int
    points: dict[str, Offset] = {}
    """What measured points of single layouts add, by the name of the layout's class."""

    def factors(self, deployment: Deployment, workload: Workload | None = None) -> Factors:
        """The factors of a deployment, by its class and by what was measured at a workload like this one."""
        found = factors_of(lambda name: self._constant(name, deployment.engine), traits(deployment))
        offset = self.offset(deployment, workload)
        scale = math.exp(offset.tpot)
        return found._replace(
            scale=scale,
            load_scale=math.exp(offset.load),
            token_scale=math.exp(offset.token),
            ttft_scale=math.exp(offset.ttft) / scale,
        )

    def offset(self, deployment: Deployment, workload: Workload | None = None) -> Offset:
        """What measurements of a deployment's class, and of itself, add to the logarithm of its times."""
        lengths = (workload.input_tokens, workload.output_tokens) if workload else (0.0, 0.0)
        classes = classes_of(deployment, *lengths)
        own = self.points.get(classes[LAYOUT])
        known = [self.offsets[name] for name in classes if name in self.offsets]
        return summed(known if own is None else [*known, own])

    def evidence(self, deployment: Deployment) -> Evidence:
        """What of a deployment was measured."""
        classes = classes_of(deployment)
        if own := self.points.get(classes[LAYOUT]):
            return "one point" if own.rows == 1 else "two points"
        if classes[0] in self.offsets:
            return "class"
        hardware = deployment.hardware.name in self.hardware
        if deployment.architecture.name in self.models:
            return "class" if hardware else "new hardware"
        return "new model" if hardware else "new model and hardware"

    def estimate(self, value: float, quantity: Quantity, evidence: Evidence, regime: Regime = "serving") -> Estimate:
        """A predicted value with the interval of its evidence."""
        spread = self.spread(quantity, evidence, regime)
        return Estimate(value, value * spread.low, value * spread.high)

    def spread(self, quantity: Quantity, evidence: Evidence, regime: Regime = "serving") -> Spread:
        """The interval of a quantity by its evidence; that of less evidence where too few rows were held out of it."""
        for less in CERTAINTY[CERTAINTY.index(evidence) :]:
            if found := self.spreads.get(f"{regime}: {less}", {}).get(quantity):
                return found
        raise RequestError(
            f"This calibration rests on {self.rows} rows, from which no error of {quantity} can be told.",
            hint="Calibrate with rows of more than one model or kind of hardware, or use the one that is shipped.",
        )

    def beyond(self, **values: float) -> tuple[str, ...]:
        """Which of concurrency, input_tokens and output_tokens lie outside of what was measured, in words."""
        return tuple(
            f"{name.replace('_', ' ')} {value:g} outside of {low:g} to {high:g}"
            for name, value in values.items()
            if name in self.ranges
            for low, high in [self.ranges[name]]
            if not low <= value <= high
        )

    def _constant(self, name: str, engine: str) -> float:
        return self.constants[name] + self.constants.get(f"{name}@{engine_family(engine)}", 0.0)
