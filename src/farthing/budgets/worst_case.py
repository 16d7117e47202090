"""The most that one attempt can cost, before it is made.

A token of a byte-level vocabulary is one byte or more, and the JSON around a message is longer than the tokens that
frame it: so the bytes of a body bound the tokens of its text. What is sent by reference has no such bound; it is taken
to fill what the longest context windows hold.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

from farthing.pricing import PriceBook, hosted_charge
from farthing.schema import CACHE_WRITE_METERS, METERS, Call

IMAGE_TOKENS: Final = 50_000
"""The most that providers count for one image (gpt-4o-mini, 2048 x 2048 in high detail: 48,169)."""

CONTEXT_TOKENS: Final = 1_048_576
"""What documents, kept conversations and the results of a provider's own tools are taken to come to, together."""

TOOL_USES: Final = 16
"""Uses of a provider's own tools that are provided for where the call does not bound them."""

UNBILLED: Final = frozenset(("models", "count_tokens"))
"""Endpoints that providers answer for nothing."""

_MEDIUM: Final = re.compile(
    rb'"type"\s*:\s*"(?:(image|image_url|input_image)|(input_audio|document|file|input_file|video_url))"'
)
_TOOLS: Final = re.compile(
    rb'"type"\s*:\s*"(web_search|web_fetch|file_search|code_interpreter|code_execution|mcp|tool_search)'
)
_USES: Final = re.compile(rb'"(?:max_uses|max_tool_calls)"\s*:\s*([0-9]{1,6})')
_INPUT: Final = tuple(METERS.index(name) for name in ("input", "cache_write_5m", "cache_write_30m"))
_LASTING: Final = tuple(METERS.index(name) for name in CACHE_WRITE_METERS)
_MEDIA: Final = tuple(METERS.index(name) for name in ("input_audio", "input_image", "input_video"))
_OUTPUT: Final = tuple(METERS.index(name) for name in ("output", "reasoning"))
_OTHER_OUTPUT: Final = tuple(METERS.index(name) for name in ("output_audio", "output_image", "rejected_prediction"))
_FEES: Final = tuple(METERS.index(name) for name in ("web_search", "web_fetch"))

_READERS: Final = frozenset(("embeddings", "classify", "rerank"))
"""Endpoints that write no tokens."""

_Prices = tuple[int | None, int | None, int]
"""Pico-dollars of an input token, of an output token, and of a tool's use, each the dearest that may apply."""


class WorstCase(msgspec.Struct, frozen=True, gc=False):
    """The most an attempt can use: tokens, and pico-dollars (`None` where a price is unknown).

    `base` is the cost of all but the output; an output token costs `per_output`, and there can be `output_tokens`.
    """

    input_tokens: int
    output_tokens: int
    base: int | None
    per_output: int | None

    @property
    def usd(self) -> int | None:
        """The most it can cost."""
        if self.base is None or self.per_output is None:
            return None
        return self.base + self.output_tokens * self.per_output


NOTHING: Final = WorstCase(0, 0, 0, 0)


def worst_case(book: PriceBook, *, provider: str, model: str, call: Call, max_output: int, at: int) -> WorstCase:
    """The most that `call` can cost at `at` (Unix ns) when a provider's `model` answers it.

    `max_output` bounds an answer, in tokens, where the call sets no cap of its own; neither is relied upon for more
    than it says: a provider that writes beyond the cap is beyond this bound.
    """
    if call.endpoint in UNBILLED:
        return NOTHING
    body = call.body
    tokens, media, unbounded = len(body), False, call.stateful
    if b'"image' in body or b'"input_' in body or b'"document' in body or b'"file' in body or b'"video_url' in body:
        for image, _ in _MEDIUM.findall(body):
            media = True
            if image:
                tokens += IMAGE_TOKENS
            else:
                unbounded = True
    uses = _tool_uses(body) if call.has_tools or b"web_search_options" in body else 0
    if unbounded or uses:
        tokens = max(tokens, CONTEXT_TOKENS)
    lasting = b'"ttl"' in body
    special = b'"modalities"' in body or b'"prediction"' in body or b'"image_generation"' in body
    inputs = _INPUT + (_LASTING if lasting else ()) + (_MEDIA if media else ())
    outputs = _OUTPUT + _OTHER_OUTPUT if special else _OUTPUT
    unit, per_output, fee = _dearest(book, (provider, model, call.tier), tokens, at, inputs, outputs)
    output = 0 if call.endpoint in _READERS else cap_of(call, max_output) * call.choices
    base = None if unit is None else tokens * unit + uses * fee
    return WorstCase(tokens, output, base, per_output if output else 0)


def cap_of(call: Call, max_output: int) -> int:
    """The most tokens of one answer to a call."""
    return max_output if call.max_output is None else min(call.max_output, max_output)


def hosted_worst_case(call: Call, *, hourly: int, concurrency: int, deadline: int, max_output: int) -> WorstCase:
    """The most that a call can cost on an owned machine: its share of the hour, for as long as `deadline` (ns)."""
    cost = hosted_charge(hourly=hourly, latency=deadline, concurrency=concurrency).amount
    return WorstCase(len(call.body), cap_of(call, max_output) * call.choices, cost, 0)


def affordable_output(worst: WorstCase, room: int, choices: int) -> int:
    """How many tokens each answer may have so that all of it costs `room` (pico-dollars) at most.

    >>> affordable_output(WorstCase(100, 1000, 500, 3), room=2000, choices=2)
    250
    """
    if worst.base is None or not worst.per_output:
        return 0
    return max((room - worst.base) // (worst.per_output * choices), 0)


def _tool_uses(body: bytes) -> int:
    """How often a provider's own tools may be used."""
    if not _TOOLS.search(body) and b"web_search_options" not in body:
        return 0
    bounds = [int(uses) for uses in _USES.findall(body)]
    return sum(bounds) if bounds else TOOL_USES


def _dearest(
    book: PriceBook,
    sold: tuple[str, str, str | None],
    tokens: int,
    at: int,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
) -> _Prices:
    """The dearest unit prices that may apply to what is `sold` (provider, model, tier).

    They are those of the tier asked for or the standard one, of a short or a long prompt, of these meters.
    """
    provider, model, tier = sold
    tariffs = {tier, None}  # one tier, when it is the standard one that is asked for
    found: list[_Prices] = []
    last = None
    for one in tariffs:
        tariff = book.tariff(provider, model, one)
        for length in (tokens, 0):
            sheet = tariff.sheet(length, at)
            if sheet is not None and sheet is not last:
                found.append(_prices(sheet.units, inputs, outputs))
                last = sheet
    if len(found) == 1:
        return found[0]
    units, per_outputs, fees = zip(*found, strict=True) if found else ((None,), (None,), (0,))
    known = None not in units
    return max(units) if known else None, max(per_outputs) if None not in per_outputs else None, max(fees)


@lru_cache(maxsize=4096)
def _prices(units: tuple[int | None, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> _Prices:
    """The dearest prices of one sheet; unknown when plain input or output has none."""
    return (
        _most(units, inputs) if units[_INPUT[0]] is not None else None,
        _most(units, outputs),
        _most(units, _FEES) or 0,
    )


def _most(units: tuple[int | None, ...], meters: tuple[int, ...]) -> int | None:
    known = [price for meter in meters if (price := units[meter]) is not None]
    return max(known, default=None)
