"""Usage of OpenAI's Responses API: inclusive like chat, with cache writes split by time to live."""

from typing import Final

import msgspec

from farthing.dialects.usage.openai import written_for
from farthing.dialects.usage.reports import NOTHING, Count, Given, Report, Tally, shares
from farthing.schema import Usage


class _Written(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ttl_30m_tokens: Count | None = None
    ttl_12h_tokens: Count | None = None


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is inside `input_tokens`."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_write_tokens_details: _Written | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    text_tokens: Count | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is inside `output_tokens`."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    text_tokens: Count | None = None


class _Reported(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    input_tokens_details: _Input | None = None
    output_tokens_details: _Output | None = None
    # OpenRouter's price in dollars, known and not used
    cost: object = None
    cost_details: object = None
    is_byok: object = None


class _Searches(msgspec.Struct, gc=False):
    num_requests: Count | None = None


class _Drawings(msgspec.Struct, gc=False):
    total_tokens: Count | None = None


class _Tools(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    web_search: _Searches | None = None
    image_gen: _Drawings | None = None


_REPORT: Final = Report(_Reported)
_TOOLS: Final = Report(_Tools)
_NO_INPUT: Final = _Input()
_NO_OUTPUT: Final = _Output()
_NO_WRITTEN: Final = _Written()


def response_usage(given: Given, tools: Given = b"", cache_ttl: str | None = None) -> Tally:
    """The `usage` and `tool_usage` of a response, in buckets that sum to its total.

    `cache_ttl` is the time to live the call asked for, for writes that the report does not split.
    """
    reported, unknown = _REPORT.read(given) if given else (None, ())
    if reported is None:
        return Tally(None, unknown) if unknown else NOTHING
    inside = reported.input_tokens_details or _NO_INPUT
    spoken = reported.output_tokens_details or _NO_OUTPUT
    asked, said = reported.input_tokens or 0, reported.output_tokens or 0
    left_out = max(0, (reported.total_tokens or 0) - asked - said)
    read, written, audio, image, text = shares(
        asked,
        inside.cached_tokens or 0,
        inside.cache_write_tokens or 0,
        inside.audio_tokens or 0,
        inside.image_tokens or 0,
    )
    hidden, voice, picture, visible = shares(
        said, max(0, (spoken.reasoning_tokens or 0) - left_out), spoken.audio_tokens or 0, spoken.image_tokens or 0
    )
    usage = Usage(
        input=text,
        cache_read=read,
        input_audio=audio,
        input_image=image,
        output=visible,
        reasoning=hidden + left_out,
        output_audio=voice,
        output_image=picture,
    )
    if written:
        usage, stranger = _with_writes(usage, written, inside.cache_write_tokens_details or _NO_WRITTEN, cache_ttl)
        unknown += stranger
    if tools:
        usage, strangers = _with_tools(usage, tools)
        unknown += strangers
    return Tally(usage, unknown)


def _with_writes(usage: Usage, written: int, split: _Written, cache_ttl: str | None) -> tuple[Usage, tuple[str, ...]]:
    """Usage with its cache writes by time to live; what the report does not split lives as long as the call asked."""
    half_day, half_hour, rest = shares(written, split.ttl_12h_tokens or 0, split.ttl_30m_tokens or 0)
    writes = {"cache_write_30m": half_hour, "cache_write_12h": half_day}
    unknown: tuple[str, ...] = ()
    if rest:
        bucket, unknown = written_for(cache_ttl)
        writes[bucket] = writes.get(bucket, 0) + rest
    return msgspec.structs.replace(usage, **writes), unknown


def _with_tools(usage: Usage, given: Given) -> tuple[Usage, tuple[str, ...]]:
    """Usage with the fees of its tools.

    Images drawn inside a response are billed as another model's tokens, which these buckets cannot hold: when there
    were any they are named as unknown.
    """
    tools, unknown = _TOOLS.read(given)
    unknown = tuple([f"tool_usage.{name}" for name in unknown])
    if tools is None:
        return usage, unknown
    if tools.image_gen is not None and tools.image_gen.total_tokens:
        unknown += ("tool_usage.image_gen",)
    if tools.web_search is not None and tools.web_search.num_requests:
        usage = msgspec.structs.replace(usage, web_search=tools.web_search.num_requests)
    return usage, unknown
