"""Usage of OpenAI's Responses API: inclusive like chat, with cache writes split by time to live."""

from typing import Final

from farthing.dialects.usage.counts import (
    NOTHING,
    Fields,
    Tally,
    UnreadableCountError,
    count,
    nested,
    shares,
    strangers,
)
from farthing.dialects.usage.openai import written_for
from farthing.schema import Usage

_KNOWN: Final = frozenset(
    (
        "input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details",
        "cost", "cost_details", "is_byok",
    )
)  # fmt: skip
_KNOWN_INPUT: Final = frozenset(
    (
        "cached_tokens", "cache_write_tokens", "cache_write_tokens_details",
        "audio_tokens", "image_tokens", "text_tokens",
    )
)  # fmt: skip
_KNOWN_OUTPUT: Final = frozenset(("reasoning_tokens", "audio_tokens", "image_tokens", "text_tokens"))
_KNOWN_WRITTEN: Final = frozenset(("ttl_30m_tokens", "ttl_12h_tokens"))
_KNOWN_TOOLS: Final = frozenset(("web_search", "image_gen"))


def response_usage(reported: object, tools: object = None, cache_ttl: str | None = None) -> Tally:
    """The `usage` and `tool_usage` of a response, in buckets that sum to its total.

    Image generation inside a response is billed as another model's tokens, which these buckets cannot hold: when
    there was any, `tool_usage.image_gen` is named as unknown.
    """
    if reported is None:
        return NOTHING
    if not isinstance(reported, dict):
        return Tally(None, ("usage",))
    try:
        return _response_usage(reported, tools if isinstance(tools, dict) else {}, cache_ttl)
    except UnreadableCountError as error:
        return Tally(None, (str(error),))


def _response_usage(reported: Fields, tools: Fields, cache_ttl: str | None) -> Tally:
    asked = count(reported, "input_tokens")
    said = count(reported, "output_tokens")
    left_out = max(0, count(reported, "total_tokens") - asked - said)
    details = nested(reported, "input_tokens_details")
    spoken = nested(reported, "output_tokens_details")
    split = nested(details, "cache_write_tokens_details")
    read, written, audio, image, text = shares(
        asked,
        count(details, "cached_tokens"),
        count(details, "cache_write_tokens"),
        count(details, "audio_tokens"),
        count(details, "image_tokens"),
    )
    half_day, half_hour, rest = shares(written, count(split, "ttl_12h_tokens"), count(split, "ttl_30m_tokens"))
    ttl, unknown = written_for(cache_ttl, rest)
    writes = {"cache_write_30m": half_hour, "cache_write_12h": half_day}
    writes[ttl] = writes.get(ttl, 0) + rest
    hidden, voice, picture, visible = shares(
        said,
        max(0, count(spoken, "reasoning_tokens") - left_out),
        count(spoken, "audio_tokens"),
        count(spoken, "image_tokens"),
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
        web_search=count(nested(tools, "web_search"), "num_requests"),
        **writes,
    )
    drawn = count(nested(tools, "image_gen"), "total_tokens")
    return Tally(
        usage,
        strangers(reported, _KNOWN)
        + strangers(details, _KNOWN_INPUT, "input_tokens_details.")
        + strangers(split, _KNOWN_WRITTEN, "input_tokens_details.cache_write_tokens_details.")
        + strangers(spoken, _KNOWN_OUTPUT, "output_tokens_details.")
        + strangers(tools, _KNOWN_TOOLS, "tool_usage.")
        + (("tool_usage.image_gen",) if drawn else ())
        + unknown,
    )
