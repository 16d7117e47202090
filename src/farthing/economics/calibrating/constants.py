"""The constants that calibration fits: where each starts, how far it may wander, and what they make of a deployment.

Every constant is fitted as its natural logarithm (`expert_spread` and `overlap`, which are shares, as log-odds), with a
normal prior around `start` of standard deviation `spread`. Few of them differ by engine and none by GPU: what a GPU
does differently is what its data sheet says, and a constant of its own would say nothing about the next one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from farthing.economics.deployment import Deployment
from farthing.economics.factors import Factors
from farthing.economics.precision import compute_type, precision_named
from farthing.economics.step import Real


class Constant(NamedTuple):
    """One constant: its start and spread on the scale it is fitted on; `by_engine` is the spread between engines."""

    name: str
    start: float
    spread: float
    by_engine: float = 0.0


def _of(name: str, start: float, spread: float, by_engine: float = 0.0) -> Constant:
    return Constant(name, math.log(start), spread, by_engine)


CONSTANTS = (
    _of("memory", 0.75, 0.3),
    _of("memory_fp8", 1.0, 0.08),
    _of("memory_fp4", 0.8, 0.1),
    _of("memory_widened", 0.8, 0.3),
    _of("memory_experts", 1.0, 0.2),
    _of("context", 1.5, 0.3),
    _of("compute", 0.5, 0.3),
    _of("compute_fp8", 0.9, 0.1),
    _of("compute_fp4", 0.75, 0.2),
    _of("compute_experts", 0.75, 0.3),
    _of("attention", 0.4, 0.4),
    Constant("expert_spread", 2.5, 1.0),
    Constant("overlap", 0.0, 1.0),
    _of("link_latency", 1.0, 0.5),
    _of("link", 0.6, 0.4),
    _of("link_staged", 0.5, 0.2),
    _of("layer_s", 35e-6, 0.5, 0.3),
    _of("layer_fp8_s", 5e-6, 0.7),
    _of("layer_fp4_s", 8e-6, 0.7),
    _of("layer_widened_s", 10e-6, 0.7),
    _of("layer_experts_s", 15e-6, 0.7),
    _of("layer_latent_s", 8e-6, 0.7),
    _of("layer_indexed_s", 30e-6, 0.7),
    _of("step_s", 0.5e-3, 0.7),
    _of("sequence_s", 15e-6, 0.5, 0.4),
    _of("ttft_s", 0.04, 0.6, 0.3),
    _of("ttft_experts_s", 0.03, 1.0),
    _of("ttft_steps", 1.2, 0.4, 0.3),
    _of("waiting", 0.4, 0.7),
    _of("burst", 0.1, 0.7, 0.5),
)
"""Every constant. Starts are handbook figures (`docs/concepts/plan/model.md` names their sources)."""


PCIE_BYTES_PER_S = 64e9
"""The most that PCI Express 5.0 x16 sends in one direction. GPUs joined by no more pass through host memory."""


class Traits(NamedTuple):
    """What of a deployment decides which constants hold: 1 where it is so, 0 where not; floats, or arrays of them."""

    fp8: Real
    fp4: Real
    widened: Real
    experts: Real
    staged: Real


def traits(deployment: Deployment) -> Traits:
    """The traits of a deployment; weights are widened when they have fewer bits than what they are multiplied in."""
    precision = precision_named(deployment.weights, deployment.architecture)
    compute = compute_type(deployment.weights, deployment.hardware, deployment.architecture)
    widened = (precision.bits < 8 and compute == "bf16") or (precision.bits <= 9 and compute == "fp32")
    return Traits(
        fp8=float(8 <= precision.bits < 9),
        fp4=float(precision.bits < 8 and compute != "bf16"),
        widened=float(widened),
        experts=float(deployment.architecture.experts > 0),
        staged=float(deployment.hardware.kind == "gpu" and deployment.hardware.link_bytes_per_s <= PCIE_BYTES_PER_S),
    )


def factors_of(value: Callable[[str], Real], of: Traits) -> Factors:
    """The factors of deployments with these traits; `value` gives each constant on the scale it is fitted on."""

    def natural(name: str) -> Real:
        return np.exp(value(name))

    def share(name: str) -> Real:
        return 1.0 / (1.0 + np.exp(-value(name)))

    memory = value("memory")
    stored = of.fp8 * value("memory_fp8") + of.fp4 * value("memory_fp4") + of.widened * value("memory_widened")
    compute = value("compute") + of.fp8 * value("compute_fp8") + of.fp4 * value("compute_fp4")
    return Factors(
        memory_efficiency=np.exp(memory + stored),
        expert_memory_efficiency=np.exp(memory + stored + value("memory_experts")),
        context_efficiency=np.exp(memory + value("context")),
        compute_efficiency=np.exp(compute),
        expert_compute_efficiency=np.exp(compute + value("compute_experts")),
        attention_efficiency=natural("attention"),
        expert_spread=share("expert_spread"),
        overlap=share("overlap"),
        link_latency=natural("link_latency"),
        link_efficiency=np.exp(value("link") + of.staged * value("link_staged")),
        layer_s=(
            natural("layer_s")
            + of.fp8 * natural("layer_fp8_s")
            + of.fp4 * natural("layer_fp4_s")
            + of.widened * natural("layer_widened_s")
        ),
        expert_layer_s=natural("layer_experts_s"),
        latent_layer_s=natural("layer_latent_s"),
        indexed_layer_s=natural("layer_indexed_s"),
        step_s=natural("step_s"),
        sequence_s=natural("sequence_s"),
        ttft_s=natural("ttft_s") + of.experts * natural("ttft_experts_s"),
        ttft_steps=natural("ttft_steps"),
        waiting=natural("waiting"),
        burst=natural("burst"),
    )
