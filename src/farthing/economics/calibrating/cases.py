"""From a measured row to the deployment and load it was measured on."""

import math

import msgspec

from farthing.economics.calibrating.calibration import Regime
from farthing.economics.calibrating.engines import engine_family, engine_of
from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.memory import capacity, sequences_that_fit
from farthing.economics.precision import precision_named
from farthing.economics.serving import Load
from farthing.economics.terms import attention_window
from farthing.errors import RequestError

CHAT_INPUT_TOKENS = 300.0
"""Assumed of a steady batch of chats whose prompts nobody counted: they hardly matter beside the answers."""

OFFLINE_SEQUENCES = 1024
"""How many sequences an engine is allowed that is measured at its most throughput."""

WORTH_RUNNING = 32
"""Sequences that must fit before a layout of unknown width is taken to be the one that was measured."""

_SIXTEEN_BITS = 16.0


SERVING = frozenset({"closed_loop", "steady_batch", "open_loop", "open_loop_trace"})
"""Kinds of load in which callers come and go; the others are offline."""


class Case(msgspec.Struct, frozen=True):
    """A measured row with what it was measured on."""

    measurement: Measurement
    deployment: Deployment
    concurrency: float
    input_tokens: float
    output_tokens: float
    slots: float
    """Sequences that fit into the memory of one replica."""
    window: float

    @property
    def load(self) -> Load:
        """What is asked of the replica."""
        cached = self.measurement.cached_share or 0.0
        return Load(self.concurrency, self.input_tokens, self.output_tokens, self.slots, self.window, cached)

    @property
    def workload(self) -> Workload:
        """The same as people ask it, of all copies together."""
        return Workload(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            concurrency=self.concurrency * self.deployment.data,
            cached_share=self.measurement.cached_share or 0.0,
        )

    @property
    def regime(self) -> Regime:
        """Whether callers came and went."""
        return "serving" if self.measurement.kind in SERVING else "offline"

    @property
    def over(self) -> bool:
        """Whether clearly more callers ask than fit, so that requests wait for memory."""
        return self.concurrency > 1.25 * self.slots


def resolve(measurement: Measurement, catalogue: Catalogue) -> Case:
    """The case of a measured row.

    An engine that stores weights in 8 bits or less is taken to keep its KV cache in 8 bits when it is TensorRT-LLM,
    whose quantised checkpoints do; others keep 16. Raises RequestError when hardware or model are not known, lengths
    or load are missing, or the model does not fit.
    """
    hardware = catalogue.hardware_named(measurement.hardware)
    architecture = catalogue.architecture_named(measurement.model)
    precision = precision_named(measurement.precision, architecture)
    output_tokens = _positive(measurement.output_tokens, "output tokens", measurement)
    known = measurement.input_tokens
    if known is None and measurement.kind == "steady_batch":
        known = CHAT_INPUT_TOKENS
    input_tokens = _positive(known, "input tokens", measurement)
    family = engine_family(measurement.engine)
    offline = measurement.concurrency is None
    narrow = precision.bits < _SIXTEEN_BITS and family == "trtllm"
    deployment = Deployment(
        hardware=hardware,
        architecture=architecture,
        weights=precision.name,
        kv="fp8" if narrow else "bf16",
        tensor=measurement.tensor or 1,
        data=measurement.data or 1,
        expert=measurement.expert or 1,
        engine=engine_of(measurement.engine, measurement.kind),
        pipeline=measurement.pipeline or 1,
        max_sequences=measurement.max_sequences or (OFFLINE_SEQUENCES if offline else 256),
    )
    if measurement.tensor is None:
        deployment = _narrowest(deployment, measurement.devices, input_tokens + output_tokens)
    held = sequences_that_fit(capacity(deployment), math.ceil(input_tokens + output_tokens / 2))
    if held < 1:
        raise RequestError(
            f"No sequence of {input_tokens + output_tokens:g} tokens fits beside {architecture.name} on "
            f"{deployment.devices} x {hardware.name}."
        )
    slots = float(min(held, deployment.max_sequences)) if measurement.max_sequences or offline else float(held)
    concurrency = _inside(measurement, output_tokens) or slots if offline else measurement.concurrency
    concurrency = _positive(concurrency, "concurrency", measurement)
    return Case(
        measurement,
        deployment,
        concurrency / deployment.data,
        input_tokens,
        output_tokens,
        slots,
        attention_window(architecture),
    )


def _inside(measurement: Measurement, output_tokens: float) -> float | None:
    """Requests in the engine at once when they arrive at a rate, by Little's law; `None` for another kind of load."""
    rate, tpot = measurement.output_tokens_per_s_per_device, measurement.tpot_s
    if measurement.kind not in SERVING or rate is None or tpot is None:
        return None
    return rate * measurement.devices * ((measurement.ttft_s or 0.0) / output_tokens + tpot)


def _narrowest(deployment: Deployment, devices: int, tokens: float) -> Deployment:
    """The deployment on as few devices as hold a batch worth running: what one does who wants throughput."""
    tensor = 1
    while tensor < devices:
        narrow = msgspec.structs.replace(deployment, tensor=tensor)
        try:
            if sequences_that_fit(capacity(narrow), math.ceil(tokens)) >= WORTH_RUNNING:
                return narrow
        except RequestError:
            pass  # the next one has twice the memory
        tensor *= 2
    return msgspec.structs.replace(deployment, tensor=devices)


def _positive(value: float | None, what: str, measurement: Measurement) -> float:
    if value is None:
        raise RequestError(f"A row of {measurement.model} on {measurement.hardware} does not say its {what}.")
    if not 0 < value < math.inf:
        raise RequestError(f"A row of {measurement.model} on {measurement.hardware} has {value:g} {what}.")
    return value
