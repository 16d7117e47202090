"""KEDA: a ScaledObject whose thresholds are what the model predicts, not what someone guessed.

Fields as of KEDA 2.18: keda.sh/docs/2.18/reference/scaledobject-spec and keda.sh/docs/2.18/scalers/prometheus.
"""

import math
from decimal import Decimal

from farthing.errors import RequestError
from farthing.exporters.manifests.choice import Choice
from farthing.exporters.manifests.command import Engine, summary
from farthing.exporters.manifests.document import Noted, quoted, write
from farthing.exporters.manifests.engines import engine_of

POLL_S = 15
SHORTEST_COOLDOWN_S = 60
"""Below this a pause between two callers would stop the last replica."""
WINDOW_S = 3600
PERIOD_S = 1800
"""The longest that a HorizontalPodAutoscaler takes for a stabilisation window and for the period of a policy."""


def scaled_object(choice: Choice) -> str:
    """The ScaledObject in YAML; raises RequestError when nothing scales, or the engine cannot do what was chosen."""
    engine = engine_of(choice)
    if not choice.scales:
        raise RequestError(
            f"Nothing scales {choice.label}: it has {choice.replicas.least} replicas, no fewer and no more.",
            hint="Give a range of replicas, or leave the ScaledObject out.",
        )
    return write(_document(choice, engine), "\n".join((*summary(choice), "Needs KEDA 2.18 or later.")))


def _document(choice: Choice, engine: Engine) -> dict[str, object]:
    least, most = choice.replicas.least, choice.replicas.most
    metadata = {"name": choice.label, **({"namespace": choice.namespace} if choice.namespace else {})}
    spec: dict[str, object] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": choice.label},
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "pollingInterval": POLL_S,
    }
    if least == 0:
        spec["cooldownPeriod"] = Noted(
            max(math.ceil(choice.cold_start_s), SHORTEST_COOLDOWN_S),
            f"the last replica idles for as long as a start would take and cost: {choice.cold_start_s:g} s",
        )
    spec |= {
        "fallback": Noted(
            {"failureThreshold": 3, "replicas": max(least, 1), "behavior": "currentReplicasIfHigher"},
            "while Prometheus does not answer, no replica is stopped",
        ),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(choice)}},
        "triggers": _triggers(choice, engine),
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": spec}


def _behavior(choice: Choice) -> dict[str, object]:
    window = min(max(math.ceil(2 * choice.cold_start_s), 300), WINDOW_S)
    period = min(max(math.ceil(choice.longest_request_s), 60), PERIOD_S)
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": Noted(
                0, f"a replica is late by its start of {choice.cold_start_s:g} s anyway"
            ),
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 60},
                {"type": "Pods", "value": 2, "periodSeconds": 60},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": Noted(
                window, "a replica goes when it was not needed for twice the time it takes to come back"
            ),
            "policies": [
                Noted(
                    {"type": "Pods", "value": 1, "periodSeconds": period},
                    f"one at a time, each with its longest request of {choice.longest_request_s:g} s to end",
                )
            ],
        },
    }


def _triggers(choice: Choice, engine: Engine) -> list[object]:
    matchers = f"model_name={quoted(choice.model_id)}"
    if choice.namespace:
        matchers += f",namespace={quoted(choice.namespace)}"
    running, waiting = engine.running % matchers, engine.waiting % matchers
    triggers: list[object] = [
        Noted(
            _prometheus(
                choice,
                f"{running} + {waiting}",
                Noted(
                    _plain(choice.running_per_replica),
                    "predicted: with more at once in a replica, the time per output token misses its target",
                ),
            ),
            "all requests in the engines, over the replicas",
        ),
        Noted(
            _prometheus(
                choice,
                waiting,
                Noted(
                    _plain(choice.waiting_per_replica),
                    "predicted: with more waiting for a replica, the time to first token misses its target",
                ),
            ),
            "requests that no engine has begun",
        ),
    ]
    if choice.requests_per_s_per_replica is not None and choice.replicas.least == 0:
        demand = f"sum(rate(farthing_attempts_total{{model={quoted(choice.model_id)}}}[2m]))"
        served = Noted(
            _plain(choice.requests_per_s_per_replica), "predicted: requests per second that a replica serves"
        )
        triggers.append(
            Noted(
                _prometheus(choice, demand, served),
                "what the gateway tries to send: with no replica, this alone tells that there are callers",
            )
        )
    return triggers


def _prometheus(choice: Choice, query: str, threshold: Noted) -> dict[str, object]:
    return {
        "type": "prometheus",
        "metadata": {
            "serverAddress": choice.prometheus,
            "query": query,
            "threshold": threshold,
            "activationThreshold": "0",
            # With no replica there are no gauges: that is no failure. With one it is, and the fallback holds.
            "ignoreNullValues": "true" if choice.replicas.least == 0 else "false",
        },
    }


def _plain(figure: float) -> str:
    """A figure as text without an exponent, to the last digit."""
    return f"{Decimal(repr(figure)):f}"
