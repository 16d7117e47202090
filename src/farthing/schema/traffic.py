"""Traffic: recorded exchanges, as Farthing writes them down and as other tools' exports are read."""

import difflib
import re
from typing import Annotated

import msgspec

from farthing.errors import TrafficError
from farthing.schema.call import Endpoint
from farthing.schema.usage import METERS, Usage

OFFSETS_END = 10**17
"""Instants below this (3 March 1973, in Unix nanoseconds) are offsets from the start of a recording, not dates."""


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One exchange that took place: what was asked, on whose behalf, and what came back.

    `at` is when it was asked, in nanoseconds: Unix time, or an offset from the start of the recording (see
    `OFFSETS_END`). `request` and `reply` are JSON bodies, empty when they were not recorded. `prompt` names the prompt
    when only a digest of it is known: equal prompts have equal names. `blocks` are digests of the prompt's successive
    blocks of `block_tokens` tokens, each covering all before it, so that a shared prefix shows.
    `served` is the model the reply named, when it differs from the `model` asked. `usage` is `None` when no tokens were
    recorded. `ttft` and `latency` are in microseconds. `cost` is what the recording says was paid, in pico-dollars.
    `graded` says which models answer the question correctly. `note` is where the record is from.
    """

    at: int
    model: str
    endpoint: Endpoint = "chat"
    tenant: str = ""
    team: str = ""
    key: str = ""
    feature: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    request: msgspec.Raw = msgspec.Raw()
    prompt: str = ""
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0
    stream: bool = False
    served: str = ""
    tier: str | None = None
    usage: Usage | None = None
    status: int = 200
    ttft: int | None = None
    latency: int | None = None
    reply: msgspec.Raw = msgspec.Raw()
    cost: int | None = None
    graded: dict[str, bool] = {}
    note: str = ""


class _Buckets(msgspec.Struct):
    """The usage of a line by bucket name, to see that none is negative and that no tokens vanish unknown."""

    usage: dict[str, Annotated[int, msgspec.Meta(ge=0)]] | None = None


_RECORDED = msgspec.json.Decoder(Recorded)
_BUCKETS = msgspec.json.Decoder(_Buckets)
_METERS = frozenset(METERS)
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


def read_recorded(line: bytes) -> Recorded:
    """Read one line of Farthing's traffic format.

    Raises TrafficError, saying what is wrong with the line and, for a name nobody knows, which one is nearest.
    """
    try:
        recorded = _RECORDED.decode(line)
        buckets = _BUCKETS.decode(line).usage if recorded.usage is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown:
            raise _unknown(unknown[1], unknown[1], Recorded.__struct_fields__) from None
        raise TrafficError(f"this line cannot be read: {error}.", hint="Each line is one JSON object.") from None
    for name in (buckets or {}).keys() - _METERS:
        raise _unknown(f"usage.{name}", name, METERS)
    if _is_null(recorded.request):
        recorded = msgspec.structs.replace(recorded, request=msgspec.Raw())
    if _is_null(recorded.reply):
        recorded = msgspec.structs.replace(recorded, reply=msgspec.Raw())
    return recorded


def _is_null(body: msgspec.Raw) -> bool:
    return len(body) == 4 and bytes(body) == b"null"  # its length first: looking at the bytes copies them


def write_recorded(recorded: Recorded) -> bytes:
    """One line of Farthing's traffic format, without its line end."""
    return msgspec.json.encode(recorded)


def _unknown(place: str, name: str, known: tuple[str, ...]) -> TrafficError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Known names: {', '.join(known)}."
    return TrafficError(f"nothing is known of `{place}`.", hint=hint)
