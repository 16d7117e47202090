"""Kubernetes: a Deployment of the engine, the Service in front of it, and a PodDisruptionBudget.

Objects of apps/v1, v1 and policy/v1 as of Kubernetes 1.30, the first with a `sleep` before a container is stopped.
"""

import math

from farthing.errors import RequestError
from farthing.exporters.manifests.choice import Choice, Toleration
from farthing.exporters.manifests.command import compact, summary, vendor
from farthing.exporters.manifests.document import Noted, write
from farthing.exporters.manifests.engines import engine_of, image_of, one_node

RESOURCES = {
    "nvidia": "nvidia.com/gpu",
    "amd": "amd.com/gpu",
    "google": "google.com/tpu",
    "intel": "habana.ai/gaudi",
    "aws": "aws.amazon.com/neuron",
}
PRODUCTS = {
    "t4": "Tesla-T4",
    "l4": "NVIDIA-L4",
    "a10": "NVIDIA-A10",
    "a10g": "NVIDIA-A10G",
    "a30": "NVIDIA-A30",
    "l40": "NVIDIA-L40",
    "l40s": "NVIDIA-L40S",
    "rtx3090": "NVIDIA-GeForce-RTX-3090",
    "rtx4090": "NVIDIA-GeForce-RTX-4090",
    "rtx5090": "NVIDIA-GeForce-RTX-5090",
    "rtxa6000": "NVIDIA-RTX-A6000",
    "v10016gbsxm": "Tesla-V100-SXM2-16GB",
    "v10032gbsxm": "Tesla-V100-SXM2-32GB",
    "a10040gbsxm": "NVIDIA-A100-SXM4-40GB",
    "a10080gbsxm": "NVIDIA-A100-SXM4-80GB",
    "a10040gbpcie": "NVIDIA-A100-PCIE-40GB",
    "a10080gbpcie": "NVIDIA-A100-80GB-PCIe",
    "h100pcie": "NVIDIA-H100-PCIe",
    "h100sxm": "NVIDIA-H100-80GB-HBM3",
    "h100nvl": "NVIDIA-H100-NVL",
    "h20": "NVIDIA-H20",
    "h200sxm": "NVIDIA-H200",
    "h200nvl": "NVIDIA-H200-NVL",
    "b200sxm": "NVIDIA-B200",
    "gb200": "NVIDIA-GB200",
}
"""Hardware by its compact name, as NVIDIA's feature discovery labels nodes with nvidia.com/gpu.product."""
SPOT_NODES = {
    "gke": ({"cloud.google.com/gke-spot": "true"}, Toleration("cloud.google.com/gke-spot", "true")),
    "aks": (
        {"kubernetes.azure.com/scalesetpriority": "spot"},
        Toleration("kubernetes.azure.com/scalesetpriority", "spot"),
    ),
    "karpenter": ({"karpenter.sh/capacity-type": "spot"}, None),
}
USER = 10001
LEAVE_S = 10
"""How long it takes at most until no one sends requests to a pod that is to stop."""
PROBE_S = 10
STARTS = 3
"""How many times the predicted start a pod is given before it is started over: downloads vary."""


def objects(choice: Choice) -> str:
    """All three objects in one YAML file; raises RequestError for what the engine or one node cannot do."""
    engine = engine_of(choice)
    one_node(choice, "a Deployment")
    documents = (
        _deployment(choice, engine.program, engine.arguments(choice), image_of(choice, engine)),
        _service(choice),
        _budget(choice),
    )
    head, *rest = documents
    notice = ("Spot nodes leave with 30 s of notice (GKE, AKS) or 120 s (AWS): a request that takes longer is lost.",)
    top = (*summary(choice), *(notice if choice.spot else ()))
    return "---\n".join((write(head, "\n".join(top)), *map(write, rest)))


def _metadata(choice: Choice) -> dict[str, object]:
    labels = {**_selector(choice), "app.kubernetes.io/managed-by": "farthing-plan"}
    return {"name": choice.label, **({"namespace": choice.namespace} if choice.namespace else {}), "labels": labels}


def _selector(choice: Choice) -> dict[str, object]:
    return {"app.kubernetes.io/name": choice.label}


def _deployment(choice: Choice, program: tuple[str, ...], arguments: tuple[str, ...], image: str) -> dict[str, object]:
    start_s = STARTS * choice.cold_start_s
    spec: dict[str, object] = {}
    if not choice.scales:  # otherwise the ScaledObject sets the number, and two would fight over it
        spec["replicas"] = choice.replicas.least
    spec |= {
        "selector": {"matchLabels": _selector(choice)},
        "strategy": Noted(
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            f"an update needs {choice.deployment.devices} devices to spare; without them, swap these two numbers",
        ),
        "progressDeadlineSeconds": math.ceil(start_s) + 60,
        "template": {
            "metadata": {
                "labels": _selector(choice),
                "annotations": {
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(choice.port),
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": _pod(choice, program, arguments, image),
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(choice), "spec": spec}


def _pod(choice: Choice, program: tuple[str, ...], arguments: tuple[str, ...], image: str) -> dict[str, object]:
    stop_s = LEAVE_S + math.ceil(choice.longest_request_s)
    pod: dict[str, object] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": Noted(False, "a Service of the name vllm would set VLLM_PORT, which vLLM reads"),
        "terminationGracePeriodSeconds": Noted(
            stop_s + 30,
            f"{LEAVE_S} s to be left alone, {choice.longest_request_s:g} s for the longest request, 30 s to end",
        ),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            **({"supplementalGroups": list(choice.device_groups)} if choice.device_groups else {}),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selector(choice)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
    }
    if nodes := _nodes(choice):
        pod["nodeSelector"] = Noted(nodes, "the figures hold for this hardware alone")
    pod["tolerations"] = _tolerations(choice)
    pod["containers"] = [_container(choice, program, arguments, image, stop_s)]
    cache = {"persistentVolumeClaim": {"claimName": choice.cache_claim}} if choice.cache_claim else {"emptyDir": {}}
    kept = (
        "weights stay"
        if choice.cache_claim
        else "weights are downloaded at every start: name a cache_claim to keep them"
    )
    shared = {"medium": "Memory", "sizeLimit": f"{2 * choice.deployment.devices}Gi"}
    pod["volumes"] = [
        Noted({"name": "cache", **cache}, kept),
        Noted(
            {"name": "shm", "emptyDir": shared}, "the processes of several devices talk through it; it counts as memory"
        ),
        {"name": "tmp", "emptyDir": {}},
    ]
    return pod


def _container(
    choice: Choice, program: tuple[str, ...], arguments: tuple[str, ...], image: str, stop_s: int
) -> dict[str, object]:
    amounts = {
        "cpu": str(choice.cpus_per_device * choice.deployment.devices),
        "memory": f"{choice.memory_gib_per_device * choice.deployment.devices}Gi",
        resource_of(choice): str(choice.deployment.devices),
    }
    health = {"httpGet": {"path": "/health", "port": "http"}}
    attempts = math.ceil(STARTS * choice.cold_start_s / PROBE_S)
    return {
        "name": choice.deployment.engine,
        "image": image,
        "command": list(program),
        "args": [word.replace("$", "$$") for word in arguments],  # Kubernetes replaces $(NAME), and $$ by $
        "env": _environment(choice),
        "ports": [{"name": "http", "containerPort": choice.port}],
        "startupProbe": {
            **health,
            "periodSeconds": PROBE_S,
            "timeoutSeconds": 5,
            "failureThreshold": Noted(attempts, f"{STARTS} times the predicted start of {choice.cold_start_s:g} s"),
        },
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": Noted(
            {**health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
            "slow to judge: a start costs more than a stall",
        ),
        "lifecycle": {"preStop": {"sleep": {"seconds": Noted(stop_s, "requests under way end, and no new ones come")}}},
        "resources": {"requests": amounts, "limits": {name: amounts[name] for name in amounts if name != "cpu"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _environment(choice: Choice) -> list[object]:
    given: list[object] = [
        {"name": "HOME", "value": "/cache"},
        Noted({"name": "USER", "value": "engine"}, "PyTorch asks who runs it, and this user is in no passwd"),
        {"name": "HF_HOME", "value": "/cache/huggingface"},
    ]
    if choice.hf_token_secret:
        token = {"secretKeyRef": {"name": choice.hf_token_secret, "key": "token"}}
        given.append({"name": "HF_TOKEN", "valueFrom": token})
    return given


def resource_of(choice: Choice) -> str:
    """What Kubernetes calls the device; raises RequestError where nobody told."""
    resource = choice.resource or RESOURCES.get(vendor(choice.deployment), "")
    if not resource:
        raise RequestError(
            f"What Kubernetes calls a {choice.deployment.hardware.name} is not known.",
            hint="Give it as resource, as nvidia.com/gpu.",
        )
    return resource


def _nodes(choice: Choice) -> dict[str, str]:
    nodes = dict(choice.node_selector)
    product = PRODUCTS.get(compact(choice.deployment.hardware.name))
    if not nodes and product:
        nodes["nvidia.com/gpu.product"] = product
    if not nodes and choice.deployment.hardware.kind == "tpu":
        raise RequestError(
            f"Which slice of {choice.deployment.hardware.name} to run on is not said, so no node would be made for it.",
            hint="Give node_selector: cloud.google.com/gke-tpu-accelerator and cloud.google.com/gke-tpu-topology.",
        )
    if choice.region:
        nodes["topology.kubernetes.io/region"] = choice.region
    return nodes | (SPOT_NODES[choice.spot][0] if choice.spot else {})


def _tolerations(choice: Choice) -> list[object]:
    spot = SPOT_NODES[choice.spot][1] if choice.spot else None
    tolerated = (Toleration(resource_of(choice)), *((spot,) if spot else ()), *choice.tolerations)
    return [
        {
            "key": each.key,
            "operator": "Equal" if each.value else "Exists",
            **({"value": each.value} if each.value else {}),
            "effect": each.effect,
        }
        for each in tolerated
    ]


def _service(choice: Choice) -> dict[str, object]:
    ports = [{"name": "http", "port": choice.port, "targetPort": "http"}]
    spec = {"type": "ClusterIP", "selector": _selector(choice), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(choice), "spec": spec}


def _budget(choice: Choice) -> dict[str, object]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(choice)}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _metadata(choice), "spec": spec}
