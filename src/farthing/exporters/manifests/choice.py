"""Choice: what was decided to deploy, with the figures that a manifest is written from."""

import math
import re
from collections.abc import Iterator

import msgspec

from farthing.economics.deployment import Deployment
from farthing.errors import RequestError

METHODS = ("ngram", "eagle3", "mtp", "draft")
SPOT = ("", "gke", "aks", "karpenter")
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Replicas(msgspec.Struct, frozen=True):
    """Between how many replicas the autoscaler moves; equal bounds mean that nothing scales."""

    least: int
    most: int


class Speculation(msgspec.Struct, frozen=True):
    """Speculative decoding: `method` of `METHODS`, how many tokens are drafted, and the drafting model's HF id."""

    method: str
    tokens: int
    model: str = ""


class Toleration(msgspec.Struct, frozen=True):
    """A taint that the pods put up with; an empty `value` tolerates any."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


class Choice(msgspec.Struct, frozen=True):
    """One deployment with what is needed to run it. Figures marked (model) are predictions; the rest is the user's.

    `running_per_replica` (model) is how many requests of one replica may run at once before the time per output token
    breaks its target, `waiting_per_replica` (model) how many may wait before the time to first token does, and
    `requests_per_s_per_replica` (model) what it then serves; the last is only needed to scale to zero.
    `cold_start_s` (model) is from a scheduled pod to its first answer, `longest_request_s` (model) what the slowest
    request takes, which a replica that is to stop still answers. `static_memory_share` (model) is the share of device
    memory for weights and KV cache alone, which is what SGLang asks for.
    """

    deployment: Deployment
    model_id: str
    """HF id of the model; callers ask for it by this name."""
    max_model_len: int
    replicas: Replicas
    running_per_replica: float
    waiting_per_replica: float
    cold_start_s: float
    image_tag: str
    checkpoint: str = ""
    """HF id of a checkpoint that is in the deployment's precision already; empty when weights are converted at load."""
    longest_request_s: float = 120.0
    requests_per_s_per_replica: float | None = None
    static_memory_share: float | None = None
    prefix_caching: bool = True
    speculation: Speculation | None = None
    name: str = ""
    """Of every object, a DNS label; empty to make it from `model_id`."""
    namespace: str = ""
    image: str = ""
    """Image without its tag; empty for the one that the engine's makers publish."""
    resource: str = ""
    """What Kubernetes calls the device, as "nvidia.com/gpu"; empty to take it from the vendor."""
    devices_per_node: int = 8
    node_selector: dict[str, str] = {}
    """Labels of nodes that have the device; empty for the labels that are known for it."""
    region: str = ""
    spot: str = ""
    """Whose spot nodes to run on, one of `SPOT`; empty for none."""
    tolerations: tuple[Toleration, ...] = ()
    device_groups: tuple[int, ...] = ()
    """Groups that own the device files on the nodes (AMD: video and render)."""
    cpus_per_device: int = 4
    memory_gib_per_device: int = 48
    cache_claim: str = ""
    """PersistentVolumeClaim that keeps downloaded weights; empty to download at every start."""
    hf_token_secret: str = ""
    """Secret with the key `token`; empty for a model that anyone may download."""
    prometheus: str = "http://prometheus-operated.monitoring:9090"
    port: int = 8000
    source: str = "farthing plan"
    """Where the figures come from, for the comments."""

    @property
    def label(self) -> str:
        """The name of every object: `name`, or one made from the model's."""
        if self.name:
            return self.name
        words = re.sub(r"[^a-z0-9]+", "-", self.model_id.rpartition("/")[2].lower()).strip("-")
        return (words if words[:1].isalpha() else f"model-{words}")[:53].strip("-")

    @property
    def loaded(self) -> str:
        """The HF id that is loaded."""
        return self.checkpoint or self.model_id

    @property
    def scales(self) -> bool:
        """Whether the number of replicas moves."""
        return self.replicas.least != self.replicas.most


def check(choice: Choice) -> None:
    """Raises RequestError for the first thing in a choice that no manifest can be written from."""
    for message, hint in _faults(choice):
        raise RequestError(message, hint=hint)


def _faults(choice: Choice) -> Iterator[tuple[str, str]]:
    yield from _text_faults(choice)
    yield from _figure_faults(choice)
    yield from _shape_faults(choice.deployment)
    yield from _speculation_faults(choice.speculation)


def _text_faults(choice: Choice) -> Iterator[tuple[str, str]]:
    for what, text in (("model_id", choice.model_id), ("checkpoint", choice.checkpoint), ("image", choice.image)):
        if not _carried(text):
            yield f"{what} {text!r} is not a name that a command line can carry.", "Give a Hugging Face id or a path."
    if not choice.model_id:
        yield "No model_id was given.", "Give the model's Hugging Face id, as Qwen/Qwen3-8B."
    if not _TAG.fullmatch(choice.image_tag) or choice.image_tag == "latest":
        yield f"Image tag {choice.image_tag!r} names no release.", "Name one, as v0.11.0: flags differ among releases."
    for what, text in (("name", choice.label), ("namespace", choice.namespace)):
        if text and not _LABEL.fullmatch(text):
            yield f"{what} {text!r} is not a DNS label.", "Use at most 53 of a-z, 0-9 and -, beginning with a letter."
    for what, text in (("hf_token_secret", choice.hf_token_secret), ("cache_claim", choice.cache_claim)):
        if text and not _SECRET.fullmatch(text):
            yield f"{what} {text!r} is not the name of a Kubernetes object.", "Give its name, never its content."
    if not choice.prometheus.startswith(("http://", "https://")):
        yield f"prometheus {choice.prometheus!r} is no address.", "Give one, as http://prometheus.monitoring:9090."
    if choice.spot not in SPOT:
        yield f"spot {choice.spot!r} is not known.", f"Known are {', '.join(SPOT[1:])}; or give tolerations yourself."


def _figure_faults(choice: Choice) -> Iterator[tuple[str, str]]:
    least, most = choice.replicas.least, choice.replicas.most
    if not (0 <= least <= most and most >= 1):
        yield f"Replicas from {least} to {most} cannot be.", "Give 0 <= least <= most, and most at least 1."
    for what, figure in (
        ("max_model_len", choice.max_model_len),
        ("running_per_replica", choice.running_per_replica),
        ("waiting_per_replica", choice.waiting_per_replica),
        ("cold_start_s", choice.cold_start_s),
        ("longest_request_s", choice.longest_request_s),
        ("devices_per_node", choice.devices_per_node),
        ("cpus_per_device", choice.cpus_per_device),
        ("memory_gib_per_device", choice.memory_gib_per_device),
        ("max_sequences", choice.deployment.max_sequences),
        ("max_batched_tokens", choice.deployment.max_batched_tokens),
        ("requests_per_s_per_replica", choice.requests_per_s_per_replica),
    ):
        if figure is not None and not (math.isfinite(figure) and figure > 0):
            yield f"{what} is {figure}, which is not above 0.", "Give what the prediction says."
    for what, share in (
        ("memory_share", choice.deployment.memory_share),
        ("static_memory_share", choice.static_memory_share),
    ):
        if share is not None and not 0 < share <= 1:
            yield f"{what} is {share}, which is no share of memory.", "Give a number above 0 and at most 1."
    if not 1024 <= choice.port <= 65535:
        yield f"Port {choice.port} is not one that a user without root may open.", "Give one of 1024 to 65535."
    if least == 0 and choice.requests_per_s_per_replica is None:
        yield (
            "Scaling to zero needs requests_per_s_per_replica: with no replica, no gauge of the engine says anything.",
            "Give what a replica serves per second, or at least one replica.",
        )
    seats = choice.deployment.max_sequences * choice.deployment.data
    if choice.running_per_replica > seats:
        yield (
            f"{choice.running_per_replica:g} requests cannot run at once: the engine takes "
            f"{choice.deployment.max_sequences} on each of {choice.deployment.data} copies.",
            f"Raise max_sequences, or aim at {seats} or fewer.",
        )


def _shape_faults(deployment: Deployment) -> Iterator[tuple[str, str]]:
    model, device = deployment.architecture, deployment.hardware
    for what in ("tensor", "pipeline", "data", "expert"):
        if getattr(deployment, what) < 1:
            yield f"{what} parallelism of {getattr(deployment, what)} cannot be.", "Give 1 or more."
    if device.kind == "cpu":
        yield (
            f"No manifest is written for {device.name}: engines on CPUs are set up by environment, not by flags.",
            "Plan for a GPU or a TPU, or follow the engine's guide for CPUs.",
        )
    if model.query_heads % max(deployment.tensor, 1):
        yield (
            f"{model.name} has {model.query_heads} attention heads, which {deployment.tensor} devices cannot share.",
            f"Let tensor parallelism be a divisor of {model.query_heads}.",
        )
    if deployment.pipeline > model.layers:
        yield f"{model.name} has {model.layers} layers, fewer than {deployment.pipeline} stages.", "Use fewer stages."
    if deployment.expert > 1 and not model.experts:
        yield (
            f"{model.name} has no experts to split {deployment.expert} ways.",
            "Leave expert at 1 and use tensor parallelism.",
        )
    ways = deployment.tensor * deployment.data
    if deployment.expert > 1 and ways % deployment.expert:
        yield (
            f"Experts split {deployment.expert} ways do not fit on {deployment.tensor} x {deployment.data} devices.",
            f"Split them {ways} ways, tensor times data.",
        )


def _speculation_faults(speculation: Speculation | None) -> Iterator[tuple[str, str]]:
    if speculation is None:
        return
    if speculation.method not in METHODS:
        yield f"Speculation by {speculation.method!r} is not known.", f"Known are {', '.join(METHODS)}."
    if speculation.tokens < 1:
        yield f"Speculation of {speculation.tokens} tokens cannot be.", "Draft at least one token."
    if speculation.method in ("eagle3", "draft") and not speculation.model:
        yield f"Speculation by {speculation.method} needs a model that drafts.", "Name its Hugging Face id."
    if not _carried(speculation.model):
        yield f"Draft model {speculation.model!r} is not a name that a command line can carry.", "Give its id."


def _carried(text: str) -> bool:
    """Whether an argument can hold the text, and no program would take it for a flag."""
    return text.isprintable() and not text.startswith("-") and not any(map(str.isspace, text))
