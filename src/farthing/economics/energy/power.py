"""Energy: the watts a device draws by what it does per second, and what that comes to in joules, carbon and dollars.

A device draws a floor while it is up, and energy for each byte it reads and each operation it multiplies, until its
power limit bends the curve:

    P = TDP * u / sqrt(1 + u^2),   u = floor + (bytes/s * J/byte + FLOP/s * J/FLOP + ...) / TDP

Energies per byte and per operation belong to memories and transistors, not to a product, so they carry from one device
to the next better than shares of its peaks do (docs/concepts/plan/energy.md shows by how much).
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from farthing.economics.deployment import Deployment, Workload
from farthing.economics.hardware import Hardware
from farthing.economics.money.plausible import number, require
from farthing.economics.precision import compute_type, precision_named
from farthing.economics.prediction import Estimate, Prediction
from farthing.economics.serving import Load
from farthing.economics.step import Real
from farthing.economics.terms import attention_window, demand
from farthing.errors import RequestError

JOULE_PER_KWH = 3.6e6
PICO = 1e-12

_WIDE_BITS = 16.0
_EIGHT_BITS = (8.0, 9.0)


class PowerModel(msgspec.Struct, frozen=True):
    """Fitted constants of the power of one device, and what they rest on.

    `floor` is a share of TDP; energies are in picojoules, operations are counted as if of 16 bits. A measurement lies
    between `low` and `high` times the prediction in 90 of 100 cases of a model that the fit had not seen.
    """

    floor: float
    pj_per_byte: float
    pj_per_flop: float
    pj_per_expert_flop: float
    pj_per_widened_byte: float
    pj_per_block_byte: float
    low: float
    high: float
    rows: int
    hardware: tuple[str, ...]
    block_scaled: tuple[str, ...]
    """Beginnings of the names of models whose 8-bit checkpoints scale blocks of 128 x 128 weights."""
    source: str = ""
    date: str = ""


class Activity(NamedTuple):
    """What one device does per second; floats, or arrays of them. Operations count by the share of a peak they take.

    A device that multiplies 8 bits twice as fast spends half the energy on each, so FLOPs are those of 16 bits that
    would take as long.
    """

    bytes_per_s: Real
    """Read from memory: weights, and the cache."""
    flop_per_s: Real
    """With weights that all tokens share, and in attention."""
    expert_flop_per_s: Real = 0.0
    """With experts, whose small matrices leave much of a tensor core idle but not dark."""
    widened_bytes_per_s: Real = 0.0
    """Weights unpacked to 16 bits because the device does not multiply what is stored, in bytes after unpacking."""
    block_bytes_per_s: Real = 0.0
    """Experts with a scale per block of weights, which kernels apply on the way."""


class Site(msgspec.Struct, frozen=True):
    """Where the devices stand: what the building draws over what its computers draw, and its electricity.

    `host_w_per_device` is what the rest of the server draws per device. Unknown carbon or price stays unknown.
    """

    pue: float = 1.0
    host_w_per_device: float = 0.0
    g_per_kwh: float | None = None
    usd_per_kwh: float | None = None


class Energy(msgspec.Struct, frozen=True):
    """What serving takes. `device_w` is of the devices of a replica alone; all else is of the building.

    Per 1k requests: kWh, grams of CO2 equivalent, and dollars of electricity; `None` where the site does not say.
    """

    device_w: Estimate
    joule_per_output_token: Estimate
    kwh_per_1k_requests: Estimate
    g_co2e_per_1k_requests: Estimate | None
    usd_per_1k_requests: Estimate | None
    extrapolated: tuple[str, ...] = ()


def drawn_w(tdp_w: Real, activity: Activity, model: PowerModel) -> Real:
    """Watts that one device of `tdp_w` draws; floats, or arrays of one length.

    The form is that of the module: below the limit watts add up, near it they saturate.
    """
    watts = PICO * (
        model.pj_per_byte * activity.bytes_per_s
        + model.pj_per_flop * activity.flop_per_s
        + model.pj_per_expert_flop * activity.expert_flop_per_s
        + model.pj_per_widened_byte * activity.widened_bytes_per_s
        + model.pj_per_block_byte * activity.block_bytes_per_s
    )
    asked = model.floor + watts / tdp_w
    return tdp_w * asked / np.sqrt(1.0 + asked * asked)


def power_w(hardware: Hardware, utilisation_memory: float, utilisation_compute: float, model: PowerModel) -> float:
    """Watts of one device from the shares (0 to 1) of its data sheet's bandwidth and FLOP/s that it uses.

    For dense models with weights the device multiplies as they are. Raises RequestError for what is no share.
    """
    for name, share in (("memory", utilisation_memory), ("compute", utilisation_compute)):
        if not 0 <= number(hardware.name, f"utilisation of {name}", share) <= 1:
            raise RequestError(
                f"{hardware.name} is said to use {share:g} of its {name}.", hint="Give a share between 0 and 1."
            )
    activity = Activity(
        bytes_per_s=utilisation_memory * hardware.memory_bytes_per_s,
        flop_per_s=utilisation_compute * wide_flop_per_s(hardware),
    )
    return float(drawn_w(hardware.tdp_w, activity, model))


def wide_flop_per_s(hardware: Hardware) -> float:
    """The peak in 16 bits, or in 32 where there is none."""
    return hardware.flop_per_s.get("bf16") or hardware.flop_per_s["fp32"]


def activity_of(deployment: Deployment, load: Load, step_s: Real, block_scaled: tuple[str, ...]) -> Activity:
    """What each device of a deployment does per second, when `load.concurrency` sequences of a copy get a token every
    `step_s` seconds, measured or predicted.

    Prompts are processed beside answers, so many of their tokens per token of an answer. Raises RequestError when the
    deployment cannot be run.
    """
    needs, hardware, architecture = demand(deployment), deployment.hardware, deployment.architecture
    compute = compute_type(deployment.weights, hardware, architecture)
    precision = precision_named(deployment.weights, architecture)
    widened = precision.bits < _EIGHT_BITS[0] and "fp4" not in hardware.flop_per_s
    narrower = wide_flop_per_s(hardware) / hardware.flop_per_s["bf16" if widened else compute]
    sequences, context = load.concurrency, load.input_tokens + load.output_tokens / 2
    prompt = load.input_tokens * (1.0 - load.cached_share) / load.output_tokens
    tokens = sequences * (1.0 + prompt)
    experts = needs.expert_bytes * (1.0 - needs.expert_miss**tokens)
    cached = needs.context_bytes * context + needs.window_bytes * np.minimum(context, load.window) + needs.state_bytes
    pairs = sequences * (context + prompt * load.input_tokens / 2)
    shared_flop = (tokens * needs.token_flop + sequences * needs.sampled_flop) * narrower + pairs * needs.pair_flop
    unpacked = experts if architecture.experts else needs.shared_bytes
    return Activity(
        bytes_per_s=(needs.shared_bytes + needs.head_bytes + experts + sequences * cached) / step_s,
        flop_per_s=shared_flop / step_s,
        expert_flop_per_s=tokens * needs.expert_token_flop * narrower / step_s,
        widened_bytes_per_s=unpacked * (_WIDE_BITS / precision.bits if widened else 0.0) / step_s,
        block_bytes_per_s=experts * float(_is_block_scaled(deployment, block_scaled)) / step_s,
    )


def _is_block_scaled(deployment: Deployment, block_scaled: tuple[str, ...]) -> bool:
    architecture = deployment.architecture
    bits = precision_named(deployment.weights, architecture).bits
    if not architecture.experts or not _EIGHT_BITS[0] <= bits < _EIGHT_BITS[1]:
        return False
    published = "fp8_block" in (deployment.weights, architecture.native)
    return published or architecture.name.lower().startswith(block_scaled)


def predicted_energy(
    deployment: Deployment, workload: Workload, prediction: Prediction, model: PowerModel, site: Site
) -> Energy:
    """What a deployment draws under a load that `predict` has answered; raises RequestError for a senseless site.

    The interval of energy per token holds both errors, of power and of throughput, as if they were independent.
    """
    rate = prediction.output_tokens_per_s
    step_s = prediction.batch / rate.value
    load = Load(
        concurrency=prediction.batch / deployment.data,
        input_tokens=workload.input_tokens,
        output_tokens=workload.output_tokens,
        slots=math.inf,
        window=attention_window(deployment.architecture),
        cached_share=workload.cached_share,
    )
    watts = float(drawn_w(deployment.hardware.tdp_w, activity_of(deployment, load, step_s, model.block_scaled), model))
    device_w = Estimate(*(watts * deployment.devices * factor for factor in (1.0, model.low, model.high)))
    found = energy(device_w, rate, workload.output_tokens, deployment.devices, site)
    if deployment.hardware.name in model.hardware:
        return found
    note = f"power of {deployment.hardware.name}, fitted on {', '.join(model.hardware)}"
    return msgspec.structs.replace(found, extrapolated=(note,))


def energy(device_w: Estimate, output_tokens_per_s: Estimate, output_tokens: float, devices: int, site: Site) -> Energy:
    """Joules, kWh, carbon and dollars of `devices` that draw `device_w` together while they serve so many tokens per
    second, in requests of `output_tokens` each. Raises RequestError.

    J/token = (P + host) * PUE / (tokens/s); 1 kWh = 3.6 MJ.

    >>> watts, rate = Estimate(700.0, 600.0, 800.0), Estimate(1000.0, 1000.0, 1000.0)
    >>> drawn = energy(watts, rate, 360.0, 1, Site(pue=1.2, g_per_kwh=400.0, usd_per_kwh=0.1))
    >>> drawn.joule_per_output_token.value, round(drawn.kwh_per_1k_requests.value, 6)
    (0.84, 0.084)
    >>> round(drawn.g_co2e_per_1k_requests.value, 3), round(drawn.usd_per_1k_requests.value, 6)
    (33.6, 0.0084)
    """
    _check_site(site)
    for who, figures in (("power", device_w), ("rate", output_tokens_per_s)):
        low, value, high = (
            number(f"the {who}", "bound", bound) for bound in (figures.low, figures.value, figures.high)
        )
        if not 0 < low <= value <= high:
            raise RequestError(f"The {who} runs from {low:g} over {value:g} to {high:g}.", hint="Give all above 0.")
    if number("a request", "output tokens", output_tokens) <= 0 or devices < 1:
        raise RequestError(f"{devices} devices give {output_tokens:g} tokens per request.", hint="Give 1 or more each.")
    host_w = site.host_w_per_device * devices
    joule = (device_w.value + host_w) * site.pue / output_tokens_per_s.value
    down = math.hypot(
        math.log((device_w.value + host_w) / (device_w.low + host_w)),
        math.log(output_tokens_per_s.high / output_tokens_per_s.value),
    )
    up = math.hypot(
        math.log((device_w.high + host_w) / (device_w.value + host_w)),
        math.log(output_tokens_per_s.value / output_tokens_per_s.low),
    )
    per_token = Estimate(joule, joule * math.exp(-down), joule * math.exp(up))
    kwh = _times(per_token, 1000 * output_tokens / JOULE_PER_KWH)
    return Energy(
        device_w=device_w,
        joule_per_output_token=per_token,
        kwh_per_1k_requests=kwh,
        g_co2e_per_1k_requests=None if site.g_per_kwh is None else _times(kwh, site.g_per_kwh),
        usd_per_1k_requests=None if site.usd_per_kwh is None else _times(kwh, site.usd_per_kwh),
    )


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor)


def _check_site(site: Site) -> None:
    known = tuple(name for name in ("g_per_kwh", "usd_per_kwh") if getattr(site, name) is not None)
    require(site, above_zero=("pue",), at_least_zero=("host_w_per_device", *known))
    if site.pue < 1:
        raise RequestError(
            f"The site has a PUE of {site.pue:g}: the building would draw less than its computers.",
            hint="PUE is 1 or more; 1.1 to 1.6 is usual.",
        )
