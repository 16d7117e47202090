"""Setup: what a measurement was made on, where whoever measured it did not write that down."""

import math

import msgspec

from farthing.economics.calibrating.measurement import Measurement
from farthing.errors import RequestError

MOST_APART = 10.0
"""Figures of one measurement that contradict one another by more than this factor are in the wrong unit."""

LEAST_TPOT_S = 1e-4
"""No engine writes the tokens of one answer faster than this: a smaller figure is in seconds and was taken for ms."""

MOST_WAITING = 50.0
"""Callers per sequence that runs, at most, where nobody measured how long callers waited."""


class Setup(msgspec.Struct, frozen=True):
    """One replica as people say it: names, and how many ways it is split. What is not said is "" or None."""

    hardware: str = ""
    devices: int | None = None
    model: str = ""
    precision: str = ""
    engine: str = ""
    tensor: int | None = None
    data: int | None = None
    expert: int | None = None
    pipeline: int | None = None


class Layout(msgspec.Struct, frozen=True):
    """How one replica is split: tensor * data * pipeline = devices; `None` is not known."""

    devices: int
    tensor: int | None
    data: int | None
    expert: int | None
    pipeline: int | None


def completed(setup: Setup, said: Setup, place: str) -> Setup:
    """The setup that a person gave, with what a file says where the person said nothing, and the layout worked out.

    Raises RequestError when hardware, model, precision, engine or devices are said by neither.

    >>> completed(Setup("H100", tensor=2, precision="fp8"), Setup(model="Qwen3-8B", engine="vllm"), "run.json").devices
    2
    """
    found = Setup(
        *(
            mine if mine not in ("", None) else theirs
            for mine, theirs in zip(msgspec.structs.astuple(setup), msgspec.structs.astuple(said), strict=True)
        )
    )
    missing = [name for name in ("hardware", "model", "precision", "engine") if not getattr(found, name).strip()]
    devices = found.devices
    if devices is None and found.tensor is not None:
        devices = found.tensor * (found.data or 1) * (found.pipeline or 1)
    if devices is None:
        missing.append("devices")
    if devices is None or missing:
        raise RequestError(
            f"{place} does not say its {_listed(missing)}.",
            hint="Say it: " + ", ".join(f"{name}={_EXAMPLES[name]}" for name in missing) + ".",
        )
    layout = laid_out(place, Layout(devices, found.tensor, found.data, found.expert, found.pipeline))
    return msgspec.structs.replace(found, **msgspec.structs.asdict(layout))


def measured_on(setup: Setup, kind: str) -> Measurement:
    """A measurement on a setup that is `completed`, without figures yet."""
    assert setup.devices is not None
    return Measurement(
        hardware=setup.hardware,
        devices=setup.devices,
        model=setup.model,
        precision=setup.precision,
        engine=setup.engine,
        kind=kind,
        tensor=setup.tensor,
        data=setup.data,
        expert=setup.expert,
        pipeline=setup.pipeline,
    )


def laid_out(place: str, said: Layout) -> Layout:
    """A layout with what follows from the rest of it.

    What is left of the devices beside `tensor` and `pipeline` are copies of the attention (`data`). Where `data` is
    said to be 1 and the experts are split over more devices than `tensor`, only the split of the experts was written
    down and the attention is split over the same devices: engines that split experts over devices split the attention
    over the same ones, by heads unless told to copy it. An unknown `tensor` stays unknown. Raises RequestError when
    they do not multiply to the devices.

    >>> laid_out("line 2", Layout(devices=8, tensor=4, data=None, expert=None, pipeline=None)).data
    2
    >>> laid_out("line 2", Layout(devices=8, tensor=1, data=1, expert=8, pipeline=None)).tensor
    8
    """
    for name in Layout.__struct_fields__:
        value = getattr(said, name)
        if value is not None and value < 1:
            raise RequestError(f"{place}: {name} is {value}.", hint="Give a whole number of 1 or more.")
    if said.tensor is None:
        return said
    pipeline = said.pipeline or 1
    tensor, data = said.tensor, said.data
    experts_alone = data is not None and (said.expert or 1) > tensor * data
    if experts_alone and said.devices % (data * pipeline) == 0:  # type: ignore[operator]  # data is not None here
        tensor = said.devices // (data * pipeline)  # type: ignore[operator]
    if data is None:
        data = max(said.devices // (tensor * pipeline), 1)
    if tensor * data * pipeline != said.devices:
        raise RequestError(
            f"{place}: {said.devices} devices are not tensor {tensor} x data {data} x pipeline {pipeline}.",
            hint="Correct one of them; devices are counted over all copies of the replica.",
        )
    if said.expert is not None and tensor * data % said.expert:
        raise RequestError(
            f"{place}: experts are split {said.expert} ways, which does not divide the {tensor * data} devices.",
            hint="Give how many ways the experts are split, 1 for like every other weight.",
        )
    return Layout(said.devices, tensor, data, said.expert, pipeline)


def refuse_contradiction(measurement: Measurement, place: str) -> None:
    """Raise RequestError when the figures of a measurement cannot all be true, as when one is in another unit.

    By Little's law, callers = requests per second x seconds per request. Bursts and requests that never ended keep
    honest figures from agreeing better than a few tens of percent; a wrong unit is off by 1000.
    """
    tpot, ttft = measurement.tpot_s, measurement.ttft_s
    if tpot is not None and tpot < LEAST_TPOT_S:
        raise RequestError(
            f"{place}: a time per output token of {tpot * 1e3:g} ms is faster than any engine.",
            hint="Is it in seconds? Columns that end in _ms are in milliseconds.",
        )
    rate, callers, length = (
        measurement.output_tokens_per_s_per_device,
        measurement.concurrency,
        measurement.output_tokens,
    )
    if rate is None or callers is None or tpot is None:
        return
    rate *= measurement.devices
    if ttft is not None and length is not None:
        at_once, waiting = rate / length * (ttft + (length - 1) * tpot), MOST_APART
        said = f"a time to first token of {ttft:.4g} s and per output token of {tpot:.4g} s"
    else:
        at_once, waiting = rate * tpot, MOST_WAITING
        said = f"a time per output token of {tpot:.4g} s"
    if at_once > callers * MOST_APART or at_once * waiting < callers:
        raise RequestError(
            f"{place}: {rate:.4g} output tokens per second with {said} are {at_once:.4g} requests at once, "
            f"not {callers:g}.",
            hint="Check the units: milliseconds for ttft_ms and tpot_ms, tokens per second of one device.",
        )


def figure(value: object, place: str, name: str) -> float:
    """A number above 0 as a file has it; raises RequestError for text, NaN, infinity, zero and less."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{place}: {name} is {value!r}, which is not a number.", hint=_BLANK)
    if not math.isfinite(value):
        raise RequestError(f"{place}: {name} is {value}.", hint=_BLANK)
    if value <= 0:
        raise RequestError(f"{place}: {name} is {value:g}, which is not above 0.", hint=_BLANK)
    return float(value)


_BLANK = "Give a number above 0, or nothing where it was not measured."

_EXAMPLES = {
    "hardware": '"H100 SXM"',
    "devices": "1",
    "model": '"meta-llama/Llama-3.1-8B-Instruct"',
    "precision": '"bf16"',
    "engine": '"vllm"',
}


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
