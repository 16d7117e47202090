"""Usage of Anthropic messages: exclusive, with cache reads and writes reported beside `input_tokens`.

`output_tokens` is the authoritative total; `thinking_tokens` are inside it. In a stream every report is cumulative,
so a later one replaces an earlier one and nothing is ever added up.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from farthing.dialects.usage.reports import NOTHING, Count, Given, Report, Tally, shares
from farthing.schema import Usage


class _Creation(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    thinking_tokens: Count | None = None


class _Tools(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    web_search_requests: Count | None = None
    web_fetch_requests: Count | None = None


class _Counts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The counts of a message as a whole, or of one iteration of it."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: _Creation | None = None
    output_tokens_details: _Output | None = None


class _Iteration(_Counts, forbid_unknown_fields=True, gc=False):
    type: str = ""
    model: object = None


class MessageReport(_Counts, forbid_unknown_fields=True, gc=False):
    server_tool_use: _Tools | None = None
    service_tier: str | None = None
    speed: str | None = None
    iterations: list[_Iteration] | None = None
    inference_geo: object = None
    fallback_credit: object = None
    # OpenRouter's price in dollars, known and not used
    cost: object = None
    cost_details: object = None
    is_byok: object = None


_REPORT: Final = Report(MessageReport)
_NO_CREATION: Final = _Creation()
_INSIDE_THE_TOTALS: Final = ("message", "fallback_message")
_INPUT_SIDE: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def merged(earlier: Mapping[str, object], later: Mapping[str, object]) -> dict[str, object]:
    """Two cumulative reports of one stream as one: the later wins, unless it forgets what the earlier told.

    Some gateways report the input as 0 first and truly later, others the other way round: a 0 never replaces a
    count of the input side.

    >>> merged({"input_tokens": 25, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 15})
    {'input_tokens': 25, 'output_tokens': 15}
    """
    both = dict(earlier)
    for name, value in later.items():
        if value is None or (not value and name in _INPUT_SIDE and both.get(name)):
            continue
        both[name] = value
    return both


def messages_usage(given: Given) -> Tally:
    """The `usage` object of a message, in buckets that sum to all the input and output tokens it reports."""
    reported, unknown = _REPORT.read(given) if given else (None, ())
    if reported is None:
        return Tally(None, unknown) if unknown else NOTHING
    return message_tally(reported, unknown)


def message_tally(reported: MessageReport, unknown: tuple[str, ...] = ()) -> Tally:
    """The buckets of a report in which the `unknown` names were found, and the tier it tells.

    A `compaction` iteration is documented as outside the totals and on the same model, so it is added; an
    `advisor_message` is outside them and on another model, which these buckets cannot hold, so it is named as unknown.
    """
    usage = _buckets(reported)
    for iteration in reported.iterations or ():
        if iteration.type == "compaction":
            usage = _sum(usage, _buckets(iteration))
        elif iteration.type not in _INSIDE_THE_TOTALS:
            unknown += (f"iterations.{iteration.type}",)
    tools = reported.server_tool_use
    if tools is not None:
        usage = msgspec.structs.replace(
            usage, web_search=tools.web_search_requests or 0, web_fetch=tools.web_fetch_requests or 0
        )
    # Fast mode has prices of its own, whatever the tier.
    return Tally(usage, unknown, "fast" if reported.speed == "fast" else reported.service_tier)


def _buckets(counts: _Counts) -> Usage:
    for_five = for_hour = 0
    split = counts.cache_creation
    if counts.cache_creation_input_tokens or split is not None:
        for_five, for_hour = _writes(counts.cache_creation_input_tokens or 0, split or _NO_CREATION)
    said, details = counts.output_tokens or 0, counts.output_tokens_details
    thinking = min(said, details.thinking_tokens or 0) if details is not None else 0
    return Usage(
        input=counts.input_tokens or 0,
        cache_read=counts.cache_read_input_tokens or 0,
        cache_write_5m=for_five,
        cache_write_1h=for_hour,
        output=said - thinking,
        reasoning=thinking,
    )


def _writes(written: int, split: _Creation) -> tuple[int, int]:
    """What was written to live for five minutes, and for an hour."""
    five, hour = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
    for_hour, for_five, rest = shares(written or five + hour, hour, five)
    return (for_five, for_hour + rest) if hour and not five else (for_five + rest, for_hour)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(*[getattr(one, meter) + getattr(other, meter) for meter in Usage.__struct_fields__])
