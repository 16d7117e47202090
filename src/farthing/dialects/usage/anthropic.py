"""Usage of Anthropic messages: exclusive, with cache reads and writes reported beside `input_tokens`.

`output_tokens` is the authoritative total; `thinking_tokens` are inside it. In a stream every report is cumulative,
so a later one replaces an earlier one and nothing is ever added up.
"""

from collections.abc import Mapping
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
from farthing.schema import Usage

_KNOWN: Final = frozenset(
    (
        "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation",
        "output_tokens_details", "server_tool_use", "service_tier", "speed", "inference_geo", "iterations",
        "fallback_credit", "cost", "cost_details", "is_byok",
    )
)  # fmt: skip
_KNOWN_CREATION: Final = frozenset(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"))
_KNOWN_OUTPUT: Final = frozenset(("thinking_tokens",))
_KNOWN_TOOLS: Final = frozenset(("web_search_requests", "web_fetch_requests"))
_INSIDE_THE_TOTALS: Final = frozenset(("message", "fallback_message"))
_COUNTED_ONCE: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def merged(earlier: Fields, later: Fields) -> dict[str, object]:
    """Two cumulative reports of one stream as one: the later wins, unless it forgets what the earlier told.

    Some gateways report the input as 0 first and truly later, others the other way round; a 0 never replaces a
    count of the input side.

    >>> merged({"input_tokens": 25, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 15})
    {'input_tokens': 25, 'output_tokens': 15}
    """
    both = dict(earlier)
    for name, value in later.items():
        if value is None or (not value and name in _COUNTED_ONCE and both.get(name)):
            continue
        both[name] = value
    return both


def messages_usage(reported: object) -> Tally:
    """The `usage` object of a message, in buckets that sum to all the input and output tokens it reports.

    A `compaction` iteration is documented as outside the totals and on the same model, so it is added; an
    `advisor_message` is outside them and on another model, which these buckets cannot hold, so it is named as unknown.
    """
    if reported is None:
        return NOTHING
    if not isinstance(reported, dict):
        return Tally(None, ("usage",))
    try:
        return _messages_usage(reported)
    except UnreadableCountError as error:
        return Tally(None, (str(error),))


def _messages_usage(reported: Fields) -> Tally:
    usage, unknown = _buckets(reported)
    for iteration in _iterations(reported):
        kind = iteration.get("type")
        if kind == "compaction":
            usage = _sum(usage, _buckets(iteration)[0])
        elif kind not in _INSIDE_THE_TOTALS:
            unknown += (f"iterations.{kind}",)
    tools = nested(reported, "server_tool_use")
    if tools:
        usage = _sum(
            usage, Usage(web_search=count(tools, "web_search_requests"), web_fetch=count(tools, "web_fetch_requests"))
        )
    return Tally(
        usage,
        strangers(reported, _KNOWN) + unknown + strangers(tools, _KNOWN_TOOLS, "server_tool_use."),
    )


def _iterations(reported: Fields) -> list[Mapping[str, object]]:
    listed = reported.get("iterations")
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise UnreadableCountError("iterations")
    return [iteration for iteration in listed if isinstance(iteration, dict)]


def _buckets(report: Fields) -> tuple[Usage, tuple[str, ...]]:
    """The buckets of one report: the message as a whole, or an iteration of it."""
    creation = nested(report, "cache_creation")
    five, hour = count(creation, "ephemeral_5m_input_tokens"), count(creation, "ephemeral_1h_input_tokens")
    written = count(report, "cache_creation_input_tokens") or five + hour
    for_hour, for_five, rest = shares(written, hour, five)
    only_hours = hour > 0 and five == 0
    details = nested(report, "output_tokens_details")
    thinking, visible = shares(count(report, "output_tokens"), count(details, "thinking_tokens"))
    usage = Usage(
        input=count(report, "input_tokens"),
        cache_read=count(report, "cache_read_input_tokens"),
        cache_write_5m=for_five + (0 if only_hours else rest),
        cache_write_1h=for_hour + (rest if only_hours else 0),
        output=visible,
        reasoning=thinking,
    )
    return usage, (
        strangers(creation, _KNOWN_CREATION, "cache_creation.")
        + strangers(details, _KNOWN_OUTPUT, "output_tokens_details.")
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(*[getattr(one, meter) + getattr(other, meter) for meter in Usage.__struct_fields__])
