"""Clocks: what a lower clock of the cores costs in time and saves in energy, and the clock a power cap leads to.

    t(f) = fixed + memory + compute * f0/f        (what memory and compute hide of one another taken off)
    P(f) = idle + memory_w * t(f0)/t(f) + core_w * (f/f0)^2.7

Memory has a clock of its own, so reading it takes as long and as many joules at any clock of the cores. Cores draw the
clock times the square of the voltage, which falls with the clock: powers of 2.5 to 3 are measured.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farthing.economics.energy.power import PICO, Activity, PowerModel, drawn_w
from farthing.economics.hardware import Hardware
from farthing.economics.money.plausible import number
from farthing.economics.serving import Load
from farthing.economics.step import Real, StepCosts, step_seconds
from farthing.errors import RequestError

EXPONENT = 2.7
"""Of the clock in the power of the cores."""

HBM_PJ_PER_BYTE = 31.0
"""3.9 pJ/bit: M. O'Connor et al., Fine-Grained DRAM, MICRO 2017, for HBM2."""

GDDR_PJ_PER_BYTE = 60.0
"""7.5 pJ/bit: Micron, GDDR6X technical brief, 2020, for GDDR6."""

_GRID = 2001
_HALVINGS = 60


class Phases(NamedTuple):
    """Seconds that one iteration spends at the full clock. `overlap` is that of `StepCosts`: 1 a roofline, 0 a sum."""

    memory_s: float
    compute_s: float
    fixed_s: float = 0.0
    """Host and links, which have clocks of their own."""
    overlap: float = 1.0


class Draw(NamedTuple):
    """Watts of one device at the full clock, by what they depend on."""

    idle_w: float
    memory_w: float
    core_w: float


class Clocked(NamedTuple):
    """One device at `clock`, a share of its full clock; floats, or arrays of them."""

    clock: Real
    step_s: Real
    power_w: Real

    @property
    def joule_per_step(self) -> Real:
        """What one iteration takes."""
        return self.power_w * self.step_s


def phases_of(costs: StepCosts, load: Load) -> Phases:
    """The phases of an iteration that decodes `load.concurrency` sequences, half-way through their answers."""
    sequences = float(load.concurrency)
    context = float(load.input_tokens + load.output_tokens / 2)
    near = float(np.minimum(context, load.window))

    def of(alone: StepCosts) -> float:
        return float(step_seconds(alone, sequences, sequences * context, sequences * near, 0.0, 0.0, 0.0))

    no_compute = costs._replace(token_s=0.0, sampled_s=0.0, pair_s=0.0)
    moved = {"link_s": 0.0, "link_token_s": 0.0, "host_s": 0.0, "host_sequence_s": 0.0}
    memory = of(no_compute._replace(**moved))
    compute = of(costs._replace(weights_s=0.0, experts_s=0.0, context_s=0.0, window_s=0.0, **moved))
    return Phases(memory, compute, of(no_compute) - memory, float(costs.overlap))


def draw_of(
    hardware: Hardware, activity: Activity, model: PowerModel, memory_pj_per_byte: float = HBM_PJ_PER_BYTE
) -> Draw:
    """How the watts that a device draws at its full clock split up; raises RequestError for a senseless energy.

    The memory's own joules do not depend on the clock of the cores, nor does what a device draws idle.
    """
    if number(hardware.name, "energy per byte", memory_pj_per_byte) <= 0:
        raise RequestError(f"{memory_pj_per_byte:g} pJ/byte were given for memory.", hint="Give a number above 0.")
    whole = float(drawn_w(hardware.tdp_w, activity, model))
    idle = hardware.idle_w or float(drawn_w(hardware.tdp_w, Activity(0.0, 0.0), model))
    busy = max(whole - idle, 0.0)
    memory = min(memory_pj_per_byte * PICO * float(activity.bytes_per_s), busy)
    return Draw(idle, memory, busy - memory)


def clocked(phases: Phases, draw: Draw, clock: Real) -> Clocked:
    """Time and power at a share of the full clock, above 0 and at most 1; a float or an array. Raises RequestError.

    >>> decode = Phases(memory_s=0.02, compute_s=0.001)
    >>> slow = clocked(decode, Draw(idle_w=100.0, memory_w=60.0, core_w=140.0), 0.5)
    >>> round(float(slow.step_s), 6), round(float(slow.power_w), 1)
    (0.02, 181.5)
    """
    _check(phases, draw)
    if not (np.all(np.asarray(clock) > 0) and np.all(np.asarray(clock) <= 1)):
        raise RequestError(
            f"A clock of {clock} of the full one was asked for.", hint="Give a share above 0, at most 1."
        )
    return _clocked(phases, draw, clock)


def _clocked(phases: Phases, draw: Draw, clock: Real) -> Clocked:
    step, full = _step_s(phases, clock), _step_s(phases, 1.0)
    return Clocked(clock, step, draw.idle_w + draw.memory_w * full / step + draw.core_w * clock**EXPONENT)


def _step_s(phases: Phases, clock: Real) -> Real:
    compute = phases.compute_s / clock
    both = phases.memory_s + compute
    return phases.fixed_s + both - phases.overlap * np.minimum(phases.memory_s, compute)


def thriftiest(phases: Phases, draw: Draw, lowest: float, most_s: float = math.inf) -> Clocked:
    """The clock of the least energy per iteration, from `lowest` up, at which an iteration takes `most_s` at most.

    Raises RequestError when it takes longer at the full clock, saying by how much.
    """
    _check(phases, draw)
    _check_lowest(lowest)
    fastest = float(_step_s(phases, 1.0))
    if not fastest <= most_s:
        raise RequestError(
            f"An iteration takes {1e3 * fastest:.3g} ms at the full clock, {fastest / most_s:.3g} times the "
            f"{1e3 * most_s:.3g} ms allowed.",
            hint="Allow more time, or use smaller batches, more devices or narrower weights.",
        )
    clocks: NDArray[np.float64] = np.linspace(lowest, 1.0, _GRID)
    seen = _clocked(phases, draw, clocks)
    joules = np.where(np.asarray(seen.step_s) <= most_s, seen.joule_per_step, np.inf)
    return _at(phases, draw, float(clocks[int(np.argmin(joules))]))


def capped(phases: Phases, draw: Draw, cap_w: float, lowest: float) -> Clocked:
    """The highest clock from `lowest` up at which a device stays within a power cap: what its firmware settles at.

    Raises RequestError when it draws more even at the lowest.
    """
    _check(phases, draw)
    _check_lowest(lowest)
    if number("the power cap", "watts", cap_w) <= 0:
        raise RequestError(f"A power cap of {cap_w:g} W was given.", hint="Give watts above 0.")
    least = float(_clocked(phases, draw, lowest).power_w)
    if least > cap_w:
        raise RequestError(
            f"A device draws {least:.0f} W at {lowest:.0%} of its clock, {least - cap_w:.0f} W above the cap.",
            hint="Raise the cap, lower the load, or allow a lower clock.",
        )
    low, high = lowest, 1.0
    if float(_clocked(phases, draw, high).power_w) <= cap_w:
        return _at(phases, draw, high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = float(_clocked(phases, draw, middle).power_w) <= cap_w
        low, high = (middle, high) if within else (low, middle)
    return _at(phases, draw, low)


def _at(phases: Phases, draw: Draw, clock: float) -> Clocked:
    return Clocked(*(float(value) for value in _clocked(phases, draw, clock)))


def _check(phases: Phases, draw: Draw) -> None:
    for who, figures in (("an iteration", phases), ("a device", draw)):
        for name, value in figures._asdict().items():
            if number(who, name, value) < 0:
                raise RequestError(f"{who.capitalize()} has {value:g} for {name}.", hint="Give 0 or more.")
    if phases.memory_s + phases.compute_s <= 0 or phases.overlap > 1:
        raise RequestError(
            f"An iteration of {phases.memory_s:g} s of memory and {phases.compute_s:g} s of compute overlaps by "
            f"{phases.overlap:g}.",
            hint="Give some time of either, and an overlap between 0 and 1.",
        )


def _check_lowest(lowest: float) -> None:
    if not 0 < number("the device", "lowest clock", lowest) <= 1:
        raise RequestError(f"The lowest clock is {lowest:g} of the full one.", hint="Give a share above 0, at most 1.")
