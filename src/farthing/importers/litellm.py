"""LiteLLM spend logs: the LiteLLM_SpendLogs table, exported as CSV, JSON or JSON lines."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec

from farthing.importers.reading import Reading, instant, pico, rows, shaped
from farthing.schema import Endpoint, Recorded, Usage

NAMES = frozenset(("call_type", "spend", "startTime"))
_UNCACHED = ("", "Cache OFF")
_MICROSECOND = 1_000
_KEY_DIGITS = 12

_ENDPOINTS: dict[str, Endpoint] = {
    "completion": "chat",
    "text_completion": "completions",
    "embedding": "embeddings",
    "responses": "responses",
    "anthropic_messages": "messages",
}

Count = Annotated[int, msgspec.Meta(ge=0)]


class _PromptDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    audio_tokens: Count | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: Count | None = None


class _UsageObject(msgspec.Struct):
    """What the provider reported, as LiteLLM rewrites it: OpenAI's names, with Anthropic's beside them."""

    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None


class _Metadata(msgspec.Struct, frozen=True):
    user_api_key_alias: str | None = None
    usage_object: _UsageObject | None = None
    additional_usage_values: _UsageObject | None = None


class _Log(msgspec.Struct):
    startTime: str  # noqa: N815 (the table's own name)
    endTime: str = ""  # noqa: N815
    completionStartTime: str = ""  # noqa: N815
    call_type: str = ""
    model: str = ""
    model_group: str = ""
    api_key: str = ""
    organization_id: str = ""
    team_id: str = ""
    end_user: str = ""
    request_tags: list[str] | str = []
    spend: Decimal | None = None
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    metadata: _Metadata = _Metadata()
    cache_key: str = ""
    status: str = ""
    messages: object = None
    proxy_server_request: object = None


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """One record per row, by time; rows of other kinds of call (images, audio, passed through) are skipped.

    The table is read whole. Prompts that were not stored are known by LiteLLM's cache key, where it has one.
    """
    records = []
    for place, row in rows(path):
        log = shaped(path, place, row, _Log)
        endpoint = _ENDPOINTS.get(
            log.call_type.removeprefix("a") if log.call_type != "anthropic_messages" else log.call_type
        )
        if endpoint is None:
            reading.skipped[f"call_type {log.call_type}"] += 1
        else:
            records.append(_record(path, place, log, endpoint, reading))
    return iter(sorted(records, key=lambda recorded: recorded.at))


def _record(path: Path, place: str, log: _Log, endpoint: Endpoint, reading: Reading) -> Recorded:
    at = instant(path, place, log.startTime)
    ended = instant(path, place, log.endTime) if log.endTime else None
    first = instant(path, place, log.completionStartTime) if log.completionStartTime else None
    stream = first is not None and ended is not None and at < first < ended
    failed = log.status == "failure"
    model = log.model_group or log.model or reading.trace_model
    tags = [log.request_tags] if isinstance(log.request_tags, str) else log.request_tags
    return Recorded(
        at=at,
        model=model,
        endpoint=endpoint,
        tenant=log.organization_id,
        team=log.team_id,
        key=log.metadata.user_api_key_alias or log.api_key[:_KEY_DIGITS],
        tags=(*(("tag", tag) for tag in tags), *((("end_user", log.end_user),) if log.end_user else ())),
        request=_request(log, endpoint, model),
        prompt="" if log.cache_key in _UNCACHED else log.cache_key,
        stream=stream,
        served=log.model if log.model != model else "",
        usage=None if failed else _usage(log),
        status=500 if failed else 200,
        ttft=(first - at) // _MICROSECOND if stream and first is not None else None,
        latency=None if ended is None else max(0, ended - at) // _MICROSECOND,
        cost=pico(log.spend),
        note="litellm",
    )


def _request(log: _Log, endpoint: Endpoint, model: str) -> msgspec.Raw:
    """The request's body, where LiteLLM was set to store prompts."""
    sent = log.proxy_server_request
    if isinstance(sent, dict) and sent.keys() & {"messages", "input", "prompt"}:
        return msgspec.Raw(msgspec.json.encode({**sent, "model": model}))
    if isinstance(log.messages, list) and log.messages and endpoint in ("chat", "messages"):
        return msgspec.Raw(msgspec.json.encode({"messages": log.messages, "model": model}))
    return msgspec.Raw()


def _usage(log: _Log) -> Usage:
    """Disjoint buckets. LiteLLM counts cached and written tokens inside prompt_tokens, in old versions beside them."""
    seen = log.metadata.usage_object or log.metadata.additional_usage_values or _UsageObject()
    prompt = seen.prompt_tokens_details or _PromptDetails()
    reply = seen.completion_tokens_details or _CompletionDetails()
    cached = seen.cache_read_input_tokens or prompt.cached_tokens or 0
    written = seen.cache_creation_input_tokens or 0
    lasting = min(written, (seen.cache_creation and seen.cache_creation.ephemeral_1h_input_tokens) or 0)
    audio = prompt.audio_tokens or 0
    within = cached + written + audio
    hidden = (reply.reasoning_tokens or 0) + (reply.audio_tokens or 0) + (reply.rejected_prediction_tokens or 0)
    return Usage(
        input=log.prompt_tokens - within if log.prompt_tokens >= within else log.prompt_tokens,
        cache_read=cached,
        cache_write_5m=written - lasting,
        cache_write_1h=lasting,
        input_audio=audio,
        output=max(0, log.completion_tokens - hidden),
        reasoning=reply.reasoning_tokens or 0,
        output_audio=reply.audio_tokens or 0,
        rejected_prediction=reply.rejected_prediction_tokens or 0,
    )
