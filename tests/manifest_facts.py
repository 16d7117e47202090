"""What engines and clusters take, from their own documentation: flags, gauges, and the parts of schemas that are written.

No schema lets anything through that is not in it, so that a name nobody knows is found.
"""

COUNT, SHARE, TEXT, SWITCH = "count", "share", "text", "switch"
VLLM = {  # docs.vllm.ai/en/stable/cli/serve; vllm/engine/arg_utils.py, --host and --port: vllm/entrypoints/openai/cli_args.py
    "--served-model-name": TEXT,
    "--host": TEXT,
    "--port": COUNT,
    "--tensor-parallel-size": COUNT,
    "--pipeline-parallel-size": COUNT,
    "--data-parallel-size": COUNT,
    "--enable-expert-parallel": SWITCH,
    "--dtype": {"auto", "half", "float16", "bfloat16", "float", "float32"},
    "--quantization": {"fp8", "mxfp4", "modelopt_fp4", "awq", "gptq", "compressed-tensors", "fp8_per_block"},
    "--kv-cache-dtype": {"auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"},  # CacheDType in vllm/config/cache.py
    "--max-num-seqs": COUNT,
    "--max-num-batched-tokens": COUNT,
    "--gpu-memory-utilization": SHARE,
    "--max-model-len": COUNT,
    "--enable-prefix-caching": SWITCH,
    "--no-enable-prefix-caching": SWITCH,  # BooleanOptionalAction
    "--speculative-config": TEXT,
}
SGLANG = {  # docs.sglang.io/advanced_features/server_arguments; python/sglang/srt/server_args.py
    "--served-model-name": TEXT,
    "--host": TEXT,
    "--port": COUNT,
    "--model-path": TEXT,
    "--tp-size": COUNT,
    "--pp-size": COUNT,
    "--dp-size": COUNT,
    "--ep-size": COUNT,
    "--enable-dp-attention": SWITCH,
    "--dtype": {"auto", "half", "float16", "bfloat16", "float", "float32"},
    "--quantization": {"fp8", "awq", "gptq", "mxfp4", "modelopt_fp4", "w8a8_int8", "w8a8_fp8", "compressed-tensors"},
    "--kv-cache-dtype": {"auto", "fp8_e5m2", "fp8_e4m3", "bf16", "bfloat16", "nvfp4"},
    "--max-running-requests": COUNT,
    "--chunked-prefill-size": COUNT,
    "--mem-fraction-static": SHARE,
    "--context-length": COUNT,
    "--disable-radix-cache": SWITCH,
    "--speculative-algorithm": {"EAGLE", "EAGLE3", "NGRAM", "STANDALONE"},
    "--speculative-draft-model-path": TEXT,
    "--speculative-num-steps": COUNT,
    "--speculative-eagle-topk": COUNT,
    "--speculative-num-draft-tokens": COUNT,
    "--enable-metrics": SWITCH,
    "--enable-metrics-for-all-schedulers": SWITCH,
}
FLAGS = {"vllm": VLLM, "sglang": SGLANG}
GAUGES = {  # vllm/v1/metrics/loggers.py; python/sglang/srt/metrics/collector.py
    "vllm": {"vllm:num_requests_running", "vllm:num_requests_waiting"},
    "sglang": {"sglang:num_running_reqs", "sglang:num_queue_reqs"},
}
SPECULATIVE = {"method", "num_speculative_tokens", "model", "prompt_lookup_max"}  # vllm/config/speculative.py


def closed(required: dict, **optional: object) -> dict:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def only(*values: object) -> dict:
    return {"enum": list(values)}


def some(items: dict) -> dict:
    return {"type": "array", "items": items, "minItems": 1}


def among(low: float, high: float, kind: str = "integer") -> dict:
    return {"type": kind, "minimum": low, "maximum": high}


STRING, NATURAL, POSITIVE = {"type": "string", "minLength": 1}, among(0, 2**31 - 1), among(1, 2**31 - 1)
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
LABEL = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}
LABELS = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"},
}
METADATA = closed({"name": LABEL}, namespace=LABEL, labels=LABELS)
AMOUNTS = ("requests", "limits")
QUANTITY = {"type": "string", "pattern": "^[0-9]+(Gi)?$"}
# From the OpenAPI of Kubernetes 1.30: only what is written, and nothing else.
PROBE = {
    "httpGet": closed({"path": only("/health"), "port": only("http")}),
    "periodSeconds": POSITIVE,
    "timeoutSeconds": POSITIVE,
    "failureThreshold": POSITIVE,
}
CONTAINER = closed(
    {
        "name": LABEL,
        "image": {"type": "string", "pattern": "^[a-z0-9./-]+:[A-Za-z0-9_.-]+$"},
        "command": some(STRING),
        "args": some(STRING),
        "env": some(
            closed(
                {"name": {"type": "string", "pattern": "^[A-Z_]+$"}},
                value={"type": "string"},
                valueFrom=closed({"secretKeyRef": closed({"name": STRING, "key": STRING})}),
            )
        ),
        "ports": some(closed({"name": LABEL, "containerPort": among(1024, 65535)})),
        "startupProbe": closed(PROBE),
        "readinessProbe": closed(PROBE),
        "livenessProbe": closed(PROBE),
        "lifecycle": closed({"preStop": closed({"sleep": closed({"seconds": POSITIVE})})}),
        "resources": closed(
            {name: {"type": "object", "additionalProperties": QUANTITY, "minProperties": 2} for name in AMOUNTS}
        ),
        "securityContext": closed(
            {"allowPrivilegeEscalation": only(False), "capabilities": closed({"drop": only(["ALL"])})}
        ),
        "volumeMounts": some(closed({"name": LABEL, "mountPath": {"type": "string", "pattern": "^/"}})),
    }
)
POD = closed(
    {
        "automountServiceAccountToken": only(False),
        "enableServiceLinks": only(False),
        "terminationGracePeriodSeconds": POSITIVE,
        "securityContext": closed(
            {
                "runAsNonRoot": only(True),
                "runAsUser": among(1000, 65535),
                "runAsGroup": among(1000, 65535),
                "fsGroup": among(1000, 65535),
                "fsGroupChangePolicy": only("Always", "OnRootMismatch"),
                "seccompProfile": closed({"type": only("RuntimeDefault")}),
            },
            supplementalGroups=some(POSITIVE),
        ),
        "topologySpreadConstraints": some(
            closed(
                {
                    "maxSkew": POSITIVE,
                    "topologyKey": STRING,
                    "whenUnsatisfiable": only("ScheduleAnyway", "DoNotSchedule"),
                    "labelSelector": closed({"matchLabels": LABELS}),
                }
            )
        ),
        "tolerations": some(
            closed(
                {
                    "key": STRING,
                    "operator": only("Exists", "Equal"),
                    "effect": only("NoSchedule", "PreferNoSchedule", "NoExecute"),
                },
                value=STRING,
            )
        ),
        "containers": some(CONTAINER),
        "volumes": some(
            closed(
                {"name": LABEL},
                emptyDir=closed({}, medium=only("Memory"), sizeLimit=QUANTITY),
                persistentVolumeClaim=closed({"claimName": STRING}),
            )
        ),
    },
    nodeSelector=STRINGS,
)
SELECTOR = closed({"matchLabels": LABELS})
KINDS = {
    "Deployment": closed(
        {
            "apiVersion": only("apps/v1"),
            "kind": only("Deployment"),
            "metadata": METADATA,
            "spec": closed(
                {
                    "selector": SELECTOR,
                    "strategy": closed(
                        {
                            "type": only("RollingUpdate", "Recreate"),
                            "rollingUpdate": closed({"maxSurge": NATURAL, "maxUnavailable": NATURAL}),
                        }
                    ),
                    "progressDeadlineSeconds": POSITIVE,
                    "template": closed({"metadata": closed({"labels": LABELS, "annotations": STRINGS}), "spec": POD}),
                },
                replicas=NATURAL,
            ),
        }
    ),
    "Service": closed(
        {
            "apiVersion": only("v1"),
            "kind": only("Service"),
            "metadata": METADATA,
            "spec": closed(
                {
                    "type": only("ClusterIP"),
                    "selector": LABELS,
                    "ports": some(closed({"name": LABEL, "port": among(1, 65535), "targetPort": only("http")})),
                }
            ),
        }
    ),
    "PodDisruptionBudget": closed(
        {
            "apiVersion": only("policy/v1"),
            "kind": only("PodDisruptionBudget"),
            "metadata": METADATA,
            "spec": closed({"maxUnavailable": NATURAL, "selector": SELECTOR}),
        }
    ),
}
# HPAScalingRules of autoscaling/v2: a window of at most 3600 s, a period of at most 1800 s.
RULES = closed(
    {
        "stabilizationWindowSeconds": among(0, 3600),
        "policies": some(closed({"type": only("Pods", "Percent"), "value": POSITIVE, "periodSeconds": among(1, 1800)})),
    },
    selectPolicy=only("Max", "Min", "Disabled"),
)
NUMBER = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"}
# keda.sh_scaledobjects.yaml, and the parameters of its prometheus scaler.
SCALED_OBJECT = closed(
    {
        "apiVersion": only("keda.sh/v1alpha1"),
        "kind": only("ScaledObject"),
        "metadata": METADATA,
        "spec": closed(
            {
                "scaleTargetRef": closed({"apiVersion": only("apps/v1"), "kind": only("Deployment"), "name": LABEL}),
                "minReplicaCount": NATURAL,
                "maxReplicaCount": POSITIVE,
                "pollingInterval": POSITIVE,
                "fallback": closed(
                    {"failureThreshold": POSITIVE, "replicas": POSITIVE},
                    behavior=only("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"),
                ),
                "advanced": closed(
                    {
                        "horizontalPodAutoscalerConfig": closed(
                            {"behavior": closed({"scaleUp": RULES, "scaleDown": RULES})}
                        )
                    }
                ),
                "triggers": some(
                    closed(
                        {
                            "type": only("prometheus"),
                            "metadata": closed(
                                {
                                    "serverAddress": {"type": "string", "pattern": "^https?://"},
                                    "query": STRING,
                                    "threshold": NUMBER,
                                    "activationThreshold": NUMBER,
                                    "ignoreNullValues": only("true", "false"),
                                }
                            ),
                        }
                    )
                ),
            },
            cooldownPeriod=POSITIVE,
        ),
    }
)
ACCELERATORS = (  # ray.util.accelerators
    *("V100", "T4", "A10G", "L4", "L40S", "A100", "H100", "H200", "H20"),
    *("Intel-GAUDI", "AMD-Instinct-MI210", "AMD-Instinct-MI300X-OAM"),
    *("TPU-V4", "TPU-V5P", "TPU-V5LITEPOD", "TPU-V6E"),
)
SECONDS = {"type": "number", "minimum": 0}
KEYWORDS = {flag.removeprefix("--").replace("-", "_") for flag in VLLM} - {"served_model_name", "host", "port"}
# docs.ray.io: LLMConfig, ServeDeploySchema, AutoscalingConfig.
RAY = closed(
    {
        "applications": some(
            closed(
                {
                    "name": LABEL,
                    "import_path": only("ray.serve.llm:build_openai_app"),
                    "route_prefix": only("/"),
                    "args": closed(
                        {
                            "llm_configs": some(
                                closed(
                                    {
                                        "model_loading_config": closed({"model_id": STRING, "model_source": STRING}),
                                        "engine_kwargs": closed({}, **{name: {} for name in KEYWORDS}),
                                        "deployment_config": closed(
                                            {
                                                "autoscaling_config": closed(
                                                    {
                                                        "min_replicas": NATURAL,
                                                        "max_replicas": POSITIVE,
                                                        "target_ongoing_requests": {"exclusiveMinimum": 0},
                                                        "upscale_delay_s": SECONDS,
                                                        "downscale_delay_s": SECONDS,
                                                    },
                                                    downscale_to_zero_delay_s=SECONDS,
                                                ),
                                                "max_ongoing_requests": POSITIVE,
                                                "graceful_shutdown_timeout_s": SECONDS,
                                            }
                                        ),
                                    },
                                    accelerator_type=only(*ACCELERATORS),
                                )
                            )
                        }
                    ),
                }
            )
        )
    }
)
DURATION = {"type": "string", "pattern": "^[0-9]+s$"}
# compose-spec.json
COMPOSE = closed(
    {
        "name": LABEL,
        "services": closed(
            {
                "engine": closed(
                    {
                        "image": STRING,
                        "entrypoint": some(STRING),
                        "command": some(STRING),
                        "restart": only("unless-stopped"),
                        "environment": STRINGS,
                        "ports": some({"type": "string", "pattern": "^127\\.0\\.0\\.1:[0-9]+:[0-9]+$"}),
                        "volumes": some({"type": "string", "pattern": "^cache:/"}),
                        "shm_size": {"type": "string", "pattern": "^[0-9]+gb$"},
                        "cap_drop": only(["ALL"]),
                        "security_opt": only(["no-new-privileges:true"]),
                        "stop_grace_period": DURATION,
                        "healthcheck": closed(
                            {
                                "test": some(STRING),
                                "interval": DURATION,
                                "timeout": DURATION,
                                "retries": POSITIVE,
                                "start_period": DURATION,
                            }
                        ),
                    },
                    deploy=closed(
                        {
                            "resources": closed(
                                {
                                    "reservations": closed(
                                        {
                                            "devices": some(
                                                closed(
                                                    {"driver": STRING, "count": POSITIVE, "capabilities": some(STRING)}
                                                )
                                            )
                                        }
                                    )
                                }
                            )
                        }
                    ),
                    devices=some(STRING),
                    group_add=some({"type": "string"}),
                )
            }
        ),
        "volumes": closed({"cache": closed({})}),
    }
)
SCHEMAS = {"keda": SCALED_OBJECT, "ray": RAY, "compose": COMPOSE}
