"""Summaries of AIPerf (profile_export_aiperf.json) and of GenAI-Perf before it (profile_export_genai_perf.json)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, completed
from farthing.importers.serving.documents import Document, documents
from farthing.importers.serving.runs import Run, measured

NAMES = frozenset(("input_config", "request_throughput", "output_token_throughput"))

_TOOL = "aiperf"
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}


def read(path: Path, setup: Setup) -> Iterator[Measurement]:
    """One measurement per summary, of means; units are those that the file names."""
    for document in map(_flat, documents(path)):
        missing = [name for name in sorted(NAMES) if not isinstance(document.find(name), Mapping)]
        if missing:
            raise document.error(f"this is no summary of {_TOOL}: it has no {', '.join(missing)}")
        said = Setup(model=_model(document.find("input_config")))
        found = completed(setup, said, document.place)
        yield measured(_run(document, found.devices or 0), found)


def _flat(document: Document) -> Document:
    """Early versions kept the metrics apart, as records."""
    nested = document.find("records")
    return Document(document.place, {**document.data, **nested}) if isinstance(nested, Mapping) else document


def _run(document: Document, devices: int) -> Run:
    config = document.find("input_config")
    rate = _configured(config, "request_rate")
    callers = _configured(config, "concurrency")
    per_s = document.needed("request_throughput", "avg")
    output = document.needed("output_sequence_length", "avg")
    count = document.number("request_count", "avg") or document.number("request_latency", "count")
    return Run(
        place=document.place,
        tool=_TOOL,
        completed=count or max(callers or 0.0, 1.0),
        failed=document.number("error_request_count", "avg") or 0.0,
        input_tokens=document.needed("input_sequence_length", "avg"),
        output_tokens=output,
        output_tokens_per_s=per_s * output,
        ttft_s=_seconds(document, "time_to_first_token"),
        tpot_s=_seconds(document, "inter_token_latency"),
        e2e_s=_seconds(document, "request_latency"),
        callers=callers,
        requests_per_s=rate,
        power_w=_power_w(document, devices),
        note="" if count else "number of requests not said",
    )


def _seconds(document: Document, metric: str) -> float | None:
    value = document.number(metric, "avg")
    if not value:
        return None
    unit = document.text(metric, "unit")
    if unit not in _SECONDS:
        raise document.error(f"{metric}.unit is {unit!r}, not one of {', '.join(_SECONDS)}")
    return value * _SECONDS[unit]


def _configured(config: object, name: str) -> float | None:
    """The first number under a name, wherever a version of the tool put it; warm-up is another load."""
    if isinstance(config, list):
        return next((found for item in config if (found := _configured(item, name)) is not None), None)
    if not isinstance(config, Mapping) or config.get("name") == "warmup":
        return None
    value = config.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    inner = (_configured(item, name) for key, item in config.items() if "warmup" not in str(key))
    return next((found for found in inner if found is not None), None)


def _model(config: object) -> str:
    """The model that was asked for: a text, or the first of a list."""
    if not isinstance(config, Mapping):
        return ""
    for key in ("model", "model_names", "models"):
        value = config.get(key)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, Mapping):
            first = first.get("name")
        if isinstance(first, str) and first:
            return first
    return next((name for item in config.values() if (name := _model(item))), "")


def _power_w(document: Document, devices: int) -> float | None:
    """The mean power of all devices, where the run watched as many as the replica has."""
    endpoints = document.find("telemetry_data", "endpoints")
    if not isinstance(endpoints, Mapping):
        return None
    watts = [
        power
        for endpoint in endpoints
        for gpu in _keys(document, "telemetry_data", "endpoints", endpoint, "gpus")
        for metric in _keys(document, "telemetry_data", "endpoints", endpoint, "gpus", gpu, "metrics")
        if metric.endswith("power_usage")
        and (power := document.number("telemetry_data", "endpoints", endpoint, "gpus", gpu, "metrics", metric, "avg"))
    ]
    return sum(watts) if watts and len(watts) == devices else None


def _keys(document: Document, *path: str) -> list[str]:
    value = document.find(*path)
    return [str(key) for key in value] if isinstance(value, Mapping) else []
