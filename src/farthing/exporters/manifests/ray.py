"""Ray Serve LLM: the file for `serve run`, with the same engine arguments as `vllm serve`.

Fields as in docs.ray.io/en/latest/serve/llm/user-guides/configuration and ray.serve.config.AutoscalingConfig.
"""

import json
import math

from farthing.errors import RequestError
from farthing.exporters.manifests.choice import Choice
from farthing.exporters.manifests.command import Setting, compact, summary
from farthing.exporters.manifests.document import Noted, write
from farthing.exporters.manifests.engines import engine_of

ACCELERATORS = {
    "t4": "T4",
    "l4": "L4",
    "a10": "A10G",
    "a10g": "A10G",
    "l40s": "L40S",
    "v10016gbsxm": "V100",
    "v10032gbsxm": "V100",
    "a10040gbsxm": "A100",
    "a10080gbsxm": "A100",
    "a10040gbpcie": "A100",
    "a10080gbpcie": "A100",
    "h100pcie": "H100",
    "h100sxm": "H100",
    "h100nvl": "H100",
    "h20": "H20",
    "h200sxm": "H200",
    "h200nvl": "H200",
    "mi210": "AMD-Instinct-MI210",
    "mi300x": "AMD-Instinct-MI300X-OAM",
    "gaudi2": "Intel-GAUDI",
    "gaudi3": "Intel-GAUDI",
    "tpuv4": "TPU-V4",
    "tpuv5e": "TPU-V5LITEPOD",
    "tpuv5p": "TPU-V5P",
    "tpuv6e": "TPU-V6E",
}
"""Hardware by its compact name, as ray.util.accelerators names it."""
_SERVED_BY_RAY = ("--served-model-name", "--host", "--port")


def config(choice: Choice) -> str:
    """The Serve config in YAML; raises RequestError for what the engine or Ray Serve LLM cannot do."""
    engine = engine_of(choice)
    deployment = choice.deployment
    if engine.name != "vllm":
        raise RequestError(f"Ray Serve LLM runs vLLM, not {engine.name}.", hint="Plan with the engine vllm.")
    if deployment.data > 1:
        raise RequestError(
            f"A replica of {deployment.data} data-parallel copies cannot be scaled by Ray Serve's build_openai_app.",
            hint=f"Plan with data = 1 and {deployment.data} times the replicas.",
        )
    application = {
        "name": choice.label,
        "import_path": "ray.serve.llm:build_openai_app",
        "route_prefix": "/",
        "args": {"llm_configs": [_llm(choice, engine.settings(choice))]},
    }
    head = (*summary(choice), "HF_TOKEN comes from the environment of the Ray workers, not from this file.")
    return write({"applications": [application]}, "\n".join(head))


def _llm(choice: Choice, settings: tuple[Setting, ...]) -> dict[str, object]:
    llm: dict[str, object] = {"model_loading_config": {"model_id": choice.model_id, "model_source": choice.loaded}}
    if accelerator := ACCELERATORS.get(compact(choice.deployment.hardware.name)):
        llm["accelerator_type"] = Noted(accelerator, "the figures hold for this hardware alone")
    least, most = choice.replicas.least, choice.replicas.most
    llm |= {
        "engine_kwargs": dict(_argument(setting) for setting in settings if setting.flag not in _SERVED_BY_RAY),
        "deployment_config": {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": Noted(
                    choice.running_per_replica,
                    "predicted: with more at once in a replica, the time per output token misses its target",
                ),
                "upscale_delay_s": Noted(0.0, f"a replica is late by its start of {choice.cold_start_s:g} s anyway"),
                "downscale_delay_s": Noted(
                    float(max(math.ceil(2 * choice.cold_start_s), 300)),
                    "a replica goes when it was not needed for twice the time it takes to come back",
                ),
                **({"downscale_to_zero_delay_s": _last(choice)} if least == 0 else {}),
            },
            "max_ongoing_requests": Noted(
                math.ceil(choice.running_per_replica + choice.waiting_per_replica),
                "running and waiting: with more, the time to first token misses its target",
            ),
            "graceful_shutdown_timeout_s": Noted(float(math.ceil(choice.longest_request_s)), "the longest request"),
        },
    }
    return llm


def _last(choice: Choice) -> Noted:
    delay_s = float(math.ceil(choice.cold_start_s))
    return Noted(
        delay_s, f"the last replica idles for as long as a start would take and cost: {choice.cold_start_s:g} s"
    )


def _argument(setting: Setting) -> tuple[str, Noted]:
    """A flag as the keyword argument that it sets."""
    name, value = setting.flag.removeprefix("--").replace("-", "_"), setting.value
    if value is None:
        return name.removeprefix("no_"), Noted(not name.startswith("no_"), setting.why)
    return name, Noted(json.loads(str(value)) if name == "speculative_config" else value, setting.why)
