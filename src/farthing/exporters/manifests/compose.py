"""Docker Compose: one replica of the engine on this host.

Fields as of the Compose Specification: compose-spec.json, and deploy.md for devices.
"""

import math

from farthing.errors import RequestError
from farthing.exporters.manifests.choice import Choice
from farthing.exporters.manifests.command import summary, vendor
from farthing.exporters.manifests.document import Noted, write
from farthing.exporters.manifests.engines import engine_of, image_of, one_node

_HEALTH = "import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/health', timeout=4)"


def project(choice: Choice) -> str:
    """The Compose file; raises RequestError for what the engine, one host or Docker cannot do."""
    engine = engine_of(choice)
    one_node(choice, "Docker Compose")
    visible = ",".join(map(str, range(choice.deployment.devices)))
    grace_s = math.ceil(choice.longest_request_s) + 30
    service: dict[str, object] = {
        "image": image_of(choice, engine),
        "entrypoint": list(engine.program),
        "command": [_literal(word) for word in engine.arguments(choice)],
        "restart": "unless-stopped",
        "environment": {
            "HF_HOME": "/cache/huggingface",
            **({"HIP_VISIBLE_DEVICES": visible} if vendor(choice.deployment) == "amd" else {}),
            **({"HF_TOKEN": "${HF_TOKEN:?a token of huggingface.co}"} if choice.hf_token_secret else {}),
        },
        "ports": [Noted(f"127.0.0.1:{choice.port}:{choice.port}", "for the gateway on this host, and no one else")],
        "volumes": ["cache:/cache"],
        "shm_size": Noted(f"{2 * choice.deployment.devices}gb", "the processes of several devices talk through it"),
        **_devices(choice),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": Noted(f"{grace_s}s", f"the longest request of {choice.longest_request_s:g} s, and 30 s"),
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _HEALTH.format(port=choice.port)],
            "interval": "10s",
            "timeout": "5s",
            "retries": 6,
            "start_period": Noted(
                f"{math.ceil(3 * choice.cold_start_s)}s", f"3 times the predicted start of {choice.cold_start_s:g} s"
            ),
        },
    }
    document = {"name": choice.label, "services": {"engine": service}, "volumes": {"cache": {}}}
    more = f"One replica; the plan is for {choice.replicas.least} to {choice.replicas.most}."
    return write(document, "\n".join((*summary(choice), *((more,) if choice.replicas.most > 1 else ()))))


def _devices(choice: Choice) -> dict[str, object]:
    count, maker = choice.deployment.devices, vendor(choice.deployment)
    if maker == "nvidia":
        reserved = [{"driver": "nvidia", "count": count, "capabilities": ["gpu"]}]
        return {"deploy": {"resources": {"reservations": {"devices": reserved}}}}
    if maker == "amd":
        return {
            "devices": ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"],
            "group_add": [str(group) for group in choice.device_groups] or ["video", "render"],
        }
    raise RequestError(
        f"How Docker Compose hands a {choice.deployment.hardware.name} to a container is not known.",
        hint="Use the command line, or Kubernetes.",
    )


def _literal(text: str) -> str:
    """Text in which Compose replaces nothing."""
    return text.replace("$", "$$")
