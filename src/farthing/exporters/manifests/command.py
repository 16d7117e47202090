"""Command: what starts an engine, flag by flag, each with its reason; and how an engine is described."""

import shlex
from collections.abc import Callable, Iterator, Mapping

import msgspec

from farthing.economics.deployment import Deployment
from farthing.economics.precision import precision_named
from farthing.exporters.manifests.choice import Choice
from farthing.exporters.manifests.document import comment

Fault = tuple[str, str]


class Setting(msgspec.Struct, frozen=True):
    """One flag of a command line; a flag without a value is a switch."""

    flag: str
    value: str | int | float | None
    why: str

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments that it becomes."""
        return (self.flag,) if self.value is None else (self.flag, str(self.value))


class Engine(msgspec.Struct, frozen=True):
    """A serving engine: how it is started, what it cannot do, and which gauges say how busy it is.

    `running` and `waiting` turn label matchers into PromQL that sums the requests of every replica in that state.
    `images` are by vendor of the device.
    """

    name: str
    program: tuple[str, ...]
    model_flag: str
    """Before the model; empty when it is the first argument."""
    settings: Callable[[Choice], tuple[Setting, ...]]
    faults: Callable[[Choice], Iterator[Fault]]
    running: str
    waiting: str
    images: dict[str, str]

    def arguments(self, choice: Choice) -> tuple[str, ...]:
        """Everything after the program's name."""
        model = (self.model_flag, choice.loaded) if self.model_flag else (choice.loaded,)
        return (*model, *(word for setting in self.settings(choice) for word in setting.words))

    def shell(self, choice: Choice) -> str:
        """A script for bash that starts one replica on this machine, with a comment for each flag."""
        settings = self.settings(choice)
        words = [" ".join(map(shlex.quote, setting.words)) for setting in settings]
        width = min(max(map(len, words)), 56)
        lines = [f"  {word:<{width}}  # {comment(setting.why)}" for word, setting in zip(words, settings, strict=True)]
        start = [*self.program, *([self.model_flag] if self.model_flag else []), choice.loaded]
        head = "\n".join(f"# {comment(line)}" for line in summary(choice))
        return (
            f"#!/usr/bin/env bash\n{head}\narguments=(\n"
            + "\n".join(lines)
            + f'\n)\nexec {shlex.join(start)} "${{arguments[@]}}"\n'
        )


def summary(choice: Choice) -> tuple[str, ...]:
    """What a manifest says at its top: the deployment, and where the figures come from."""
    deployment = choice.deployment
    ways = ", ".join(
        f"{what} {getattr(deployment, what)}"
        for what in ("tensor", "pipeline", "data", "expert")
        if getattr(deployment, what) > 1
    )
    return (
        f"{choice.loaded} on {deployment.devices} x {deployment.hardware.name} per replica"
        + (f" ({ways})" if ways else "")
        + f", weights {deployment.weights}, KV cache {deployment.kv}, {deployment.engine} {choice.image_tag}.",
        f"Figures: {choice.source}. They hold for this hardware, this precision and these limits.",
    )


def vendor(deployment: Deployment) -> str:
    """Who makes the device, in lower case, under one name."""
    name = deployment.hardware.vendor.casefold()
    return "aws" if name in ("amazon", "amazon web services", "annapurna") else name


def weights_of(deployment: Deployment) -> str:
    """The precision of the weights under its one name; raises RequestError for one that is none."""
    return precision_named(deployment.weights, deployment.architecture).name


def dtype_of(deployment: Deployment) -> str | None:
    """The model's data type as engines call it; `None` when the weights are quantised, which decides it."""
    name = weights_of(deployment)
    if name not in ("fp32", "bf16"):
        return None
    half = deployment.weights.lower() in _HALF or compact(deployment.hardware.name) in _NO_BF16
    return "float32" if name == "fp32" else "float16" if half else "bfloat16"


def converted(choice: Choice) -> bool:
    """Whether the engine has to quantise the weights while it loads them."""
    weights, published = weights_of(choice.deployment), choice.deployment.architecture.native
    return not choice.checkpoint and weights not in ("fp32", "bf16", published)


def compact(name: str) -> str:
    """A name of hardware without case and punctuation, to look it up by."""
    return "".join(filter(str.isalnum, name.casefold()))


def weight_faults(choice: Choice, unpacks: Mapping[str, tuple[str, ...]]) -> Iterator[Fault]:
    """What keeps an engine from the weights' precision.

    `unpacks` says on whose devices it has kernels for a precision that they do not compute in.
    """
    deployment = choice.deployment
    device, weights = deployment.hardware, weights_of(deployment)
    if converted(choice) and weights != "fp8":
        yield (
            f"{deployment.engine} cannot make {weights} weights of {choice.model_id} while it loads them.",
            f"Give as checkpoint the id of one that is in {weights} already.",
        )
    compute = _COMPUTE.get(weights)
    unpacked = compact(device.name) not in _VOLTA and vendor(deployment) in unpacks.get(weights, ())
    if compute and compute not in device.flop_per_s and not unpacked:
        yield (
            f"{device.name} does not compute in {compute}, and {deployment.engine} has no kernels that unpack "
            f"{weights} on it.",
            f"It computes in {', '.join(sorted(device.flop_per_s))}.",
        )


def kv_faults(deployment: Deployment, known: Mapping[str, str]) -> Iterator[Fault]:
    """What keeps an engine from the precision of the KV cache; `known` are the ones it has."""
    if deployment.kv not in known:
        yield f"{deployment.engine} keeps no KV cache in {deployment.kv}.", f"Use {', '.join(known)}."
    elif known[deployment.kv] == "auto" and (deployment.kv == "fp32") != (weights_of(deployment) == "fp32"):
        yield (
            f"{deployment.engine} keeps the KV cache in the model's own type: {deployment.kv} does not go with "
            f"{deployment.weights} weights.",
            "Use the same for both, or fp8 for the cache.",
        )


_HALF = ("fp16", "float16", "half")
_VOLTA = ("v10016gbsxm", "v10032gbsxm")
"""Before the kernels that unpack FP8 and FP4, which begin with Turing."""
_NO_BF16 = ("t4", *_VOLTA)
"""Hardware before BF16, whose peak at 16 bits is of FP16."""
_COMPUTE = {"nvfp4": "fp4", "mxfp4": "fp4", "fp8": "fp8", "fp8_block": "fp8", "int8": "int8"}
