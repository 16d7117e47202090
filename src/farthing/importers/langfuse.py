"""Langfuse exports: observations from the API, the UI (CSV, JSON) or blob storage (CSV, JSON, JSON lines)."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
from blake3 import blake3

from farthing.importers.reading import Reading, Row, instant, pico, rows, shaped, unreadable
from farthing.schema import Endpoint, Recorded, Usage

NAMES = frozenset(("traceId", "startTime"))
BLOB_NAMES = frozenset(("trace_id", "start_time"))
_ENDPOINTS: dict[str, Endpoint] = {"GENERATION": "chat", "EMBEDDING": "embeddings"}
_MICROSECONDS = 1_000

_METERS = {
    "input": "input",
    "input_tokens": "input",
    "prompt_tokens": "input",
    "input_text": "input",
    "input_text_tokens": "input",
    "input_cached_tokens": "cache_read",
    "input_cache_read": "cache_read",
    "cache_read_input_tokens": "cache_read",
    "input_cache_creation": "cache_write_5m",
    "input_cache_creation_5m": "cache_write_5m",
    "input_cache_creation_1h": "cache_write_1h",
    "cache_creation_input_tokens": "cache_write_5m",
    "input_audio": "input_audio",
    "input_audio_tokens": "input_audio",
    "input_image": "input_image",
    "input_image_tokens": "input_image",
    "output": "output",
    "output_tokens": "output",
    "completion_tokens": "output",
    "output_text": "output",
    "output_text_tokens": "output",
    "output_reasoning": "reasoning",
    "output_reasoning_tokens": "reasoning",
    "output_audio": "output_audio",
    "output_audio_tokens": "output_audio",
    "output_rejected_prediction_tokens": "rejected_prediction",
}
"""Langfuse's usage keys, which never overlap, by our bucket."""

_SUMS = ("total", "total_tokens")
_PARAMETERS = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed")

Count = Annotated[int, msgspec.Meta(ge=0)]


class _OldUsage(msgspec.Struct, frozen=True):
    input: Count | None = None
    output: Count | None = None
    unit: str | None = None


class _Observation(msgspec.Struct, rename="camel"):
    start_time: str
    end_time: str = ""
    completion_start_time: str = ""
    type: str = "GENERATION"
    name: str = ""
    model: str = ""
    provided_model_name: str = ""
    model_parameters: object = None
    input: object = None
    usage: _OldUsage = _OldUsage()
    usage_details: dict[str, Count] = {}
    input_usage: Count | None = None
    output_usage: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_cost: Decimal | None = None
    calculated_total_cost: Decimal | None = None
    level: str = ""
    environment: str = ""
    user_id: str = ""


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """One record per generation or embedding, by time; spans, events and what names no model are skipped.

    The table is read whole.
    """
    records = []
    for place, row in rows(path):
        seen = shaped(path, place, {_camel(name): value for name, value in row.items()}, _Observation)
        model = seen.provided_model_name or seen.model or reading.model
        endpoint = _ENDPOINTS.get(seen.type.upper())
        if endpoint is None:
            reading.skipped[f"observation of type {seen.type}"] += 1
        elif not model:
            reading.skipped["generation without a model"] += 1
        else:
            records.append(_record(path, place, seen, endpoint, model))
    return iter(sorted(records, key=lambda recorded: recorded.at))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _record(path: Path, place: str, seen: _Observation, endpoint: Endpoint, model: str) -> Recorded:
    at = instant(path, place, seen.start_time)
    ended = instant(path, place, seen.end_time) if seen.end_time else None
    first = instant(path, place, seen.completion_start_time) if seen.completion_start_time else None
    failed = seen.level == "ERROR"
    request = _request(seen, endpoint, model)
    return Recorded(
        at=at,
        model=model,
        endpoint=endpoint,
        feature=seen.name,
        tags=tuple((n, v) for n, v in (("environment", seen.environment), ("user", seen.user_id)) if v),
        request=request,
        prompt="" if request or seen.input is None else _name_of(seen.input),
        stream=first is not None and endpoint == "chat",
        usage=None if failed else _usage(path, place, seen),
        status=500 if failed else 200,
        ttft=None if first is None else max(0, first - at) // _MICROSECONDS,
        latency=None if ended is None else max(0, ended - at) // _MICROSECONDS,
        cost=pico(seen.calculated_total_cost if seen.total_cost is None else seen.total_cost),
        note="langfuse",
    )


def _name_of(prompt: object) -> str:
    return blake3(msgspec.json.encode(prompt, order="sorted")).hexdigest(8)


def _request(seen: _Observation, endpoint: Endpoint, model: str) -> msgspec.Raw:
    """The request's body, where the observation's input can be one."""
    asked = seen.input
    body: Row = {}
    if endpoint == "embeddings":
        body = {"input": asked} if isinstance(asked, str | list) else {}
    elif isinstance(asked, dict) and isinstance(asked.get("messages"), list):
        body = dict(asked)
    elif isinstance(asked, list) and asked and all(isinstance(turn, dict) and "role" in turn for turn in asked):
        body = {"messages": asked}
    elif isinstance(asked, str):
        body = {"messages": [{"role": "user", "content": asked}]}
    if not body:
        return msgspec.Raw()
    settings = seen.model_parameters if isinstance(seen.model_parameters, dict) else {}
    body |= {name: value for name in _PARAMETERS if (value := settings.get(name)) is not None}
    if seen.completion_start_time and endpoint == "chat":
        body["stream"] = True
    return msgspec.Raw(msgspec.json.encode({**body, "model": model}))


def _usage(path: Path, place: str, seen: _Observation) -> Usage | None:
    if seen.usage_details:
        return _detailed(path, place, seen.usage_details)
    if seen.usage.unit not in (None, "TOKENS"):
        return None
    counts = (
        (seen.usage.input, seen.usage.output),
        (seen.input_usage, seen.output_usage),
        (seen.prompt_tokens, seen.completion_tokens),
    )
    for tokens_in, tokens_out in counts:
        if tokens_in is not None or tokens_out is not None:
            return Usage(input=tokens_in or 0, output=tokens_out or 0)
    return None


def _detailed(path: Path, place: str, details: dict[str, int]) -> Usage | None:
    known: dict[str, int] = {}
    for name, amount in details.items():
        if name in _SUMS:
            continue
        meter = _METERS.get(name)
        if meter is None:
            raise unreadable(path, place, f'nothing is known of the usage "{name}".', "Known: " + ", ".join(_METERS))
        known[meter] = known.get(meter, 0) + amount
    return Usage(**known) if known else None
