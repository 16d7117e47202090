"""Which engine a choice asks for, and whether that engine can do it."""

from farthing.errors import RequestError
from farthing.exporters.manifests import sglang, vllm
from farthing.exporters.manifests.choice import Choice, check
from farthing.exporters.manifests.command import Engine, vendor

ENGINES = {engine.name: engine for engine in (vllm.ENGINE, sglang.ENGINE)}


def engine_of(choice: Choice) -> Engine:
    """The engine, after everything about the choice was checked; raises RequestError for what cannot be done."""
    check(choice)
    name = choice.deployment.engine
    if name not in ENGINES:
        raise RequestError(f"No manifest is written for the engine {name!r}.", hint=f"Known are {', '.join(ENGINES)}.")
    engine = ENGINES[name]
    for message, hint in engine.faults(choice):
        raise RequestError(message, hint=hint)
    return engine


def image_of(choice: Choice, engine: Engine) -> str:
    """The container image with its tag; raises RequestError where the makers of the engine publish none."""
    image = choice.image or engine.images.get(vendor(choice.deployment), "")
    if not image:
        raise RequestError(
            f"No image of {engine.name} for {choice.deployment.hardware.name} is known.", hint="Name yours as image."
        )
    return f"{image}:{choice.image_tag}"


def one_node(choice: Choice, what: str) -> None:
    """Raises RequestError when a replica is larger than the one node that `what` can describe."""
    devices = choice.deployment.devices
    if devices > choice.devices_per_node:
        raise RequestError(
            f"A replica of {devices} devices does not fit on a node of {choice.devices_per_node}, and {what} has one.",
            hint="Plan with fewer devices per replica, or run it with Ray Serve or a LeaderWorkerSet.",
        )
