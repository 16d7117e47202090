"""What to deploy: a choice of the planner as the files that run it, every figure with where it comes from."""

from collections.abc import Callable

from farthing.exporters.manifests import compose, kubernetes, ray
from farthing.exporters.manifests.choice import Choice, Replicas, Speculation, Toleration
from farthing.exporters.manifests.engines import ENGINES, engine_of
from farthing.exporters.manifests.keda import scaled_object

__all__ = ["ENGINES", "FORMATS", "Choice", "Replicas", "Speculation", "Toleration", "command_line", "written"]


def command_line(choice: Choice) -> str:
    """A bash script that starts one replica on this machine; raises RequestError for what the engine cannot do."""
    return engine_of(choice).shell(choice)


FORMATS: dict[str, tuple[str, Callable[[Choice], str]]] = {
    "command": ("serve.sh", command_line),
    "kubernetes": ("kubernetes.yaml", kubernetes.objects),
    "keda": ("scaledobject.yaml", scaled_object),
    "ray": ("ray-serve.yaml", ray.config),
    "compose": ("compose.yaml", compose.project),
}
"""Each form of a deployment by name: what its file is called, and what writes it."""


def written(choice: Choice, form: str) -> tuple[str, str]:
    """The name and the text of one file; raises RequestError for what that form or the engine cannot do."""
    file, write = FORMATS[form]
    return file, write(choice)
