"""Reading: the facts of a provider's answer; and how a plain answer is read."""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from farthing.dialects import wire
from farthing.dialects.usage import completion_usage, message_tally, messages_usage, plain_usage, response_usage
from farthing.schema import Call, Usage, UsageSource

GARBAGE: Final = "upstream_garbage"
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_FAILED: Final = ("failed", "cancelled")
_LISTS: Final = ("embeddings", "classify")
"""Endpoints whose answers are lists, one member for each text."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The facts of one answer.

    `model` and `tier` are what was served; `usage` is `None` when nothing is known of it; `finish` is the provider's
    own stop reason; `error` is a stable code, empty when the answer is one; `unknown_usage` names reported usage
    that has no bucket.
    """

    model: str | None = None
    tier: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource = "none"
    finish: str | None = None
    error: str = ""
    unknown_usage: tuple[str, ...] = ()


def read(call: Call, status: int, body: bytes) -> Reading:
    """Read a plain answer. An error is named by the provider's own code, whatever its status; usage that is
    missing is `None`, and a reported zero stays zero.
    """
    if status >= 400:
        return Reading(error=_refusal(status, body))
    try:
        return _READERS[call.endpoint](call, body)
    except wire.NOT_JSON:
        return Reading(error=GARBAGE)


def is_object(body: bytes) -> bool:
    """Whether a body is a JSON object, and so can be passed on in its dialect."""
    try:
        return isinstance(wire.ANY.decode(body), dict)
    except wire.NOT_JSON:
        return False


def error_code(error: object, status: int = 200) -> str:
    """The stable code in a provider's error object: its code, or else its type, or else one made of the status."""
    if isinstance(error, dict):
        for name in ("code", "type", "status"):
            code = error.get(name)
            if isinstance(code, str) and _CODE.fullmatch(code):
                return code
    return f"http_{status}" if status >= 400 else "upstream_error"


def _refusal(status: int, body: bytes) -> str:
    try:
        said = wire.ANY.decode(body)
    except wire.NOT_JSON:
        return f"http_{status}"
    if isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, dict):
        return f"http_{status}"
    return error_code(said.get("error", said), status)


def source_of(usage: Usage | None) -> UsageSource:
    """Where usage comes from that was read off an answer."""
    return "none" if usage is None else "provider"


def _unanswered(model: str | None, error: object) -> Reading:
    """A body with status 200 that is no answer: an error in disguise, or nothing that makes sense."""
    return Reading(model or None, error=error_code(error) if error else GARBAGE)


def _completion(call: Call, body: bytes) -> Reading:
    """Read a completion, embeddings or labels: one decoding does where its usage is plain, as it mostly is."""
    try:
        answer = wire.METERED_COMPLETION.decode(body)
    except wire.NOT_JSON:
        return unusual_completion(call, body)
    answered = answer.choices is not None if call.endpoint not in _LISTS else answer.data is not wire.ABSENT
    usage = plain_usage(answer.usage) if answered and answer.usage is not None else None
    if usage is None or answer.error:
        return unusual_completion(call, body)
    return Reading(answer.model or None, answer.service_tier, usage, "provider", answer.finish)


def unusual_completion(call: Call, body: bytes) -> Reading:
    """Read any completion, embeddings or labels, whatever is reported of their usage."""
    answer = wire.COMPLETION.decode(body)
    answered = answer.choices is not None if call.endpoint not in _LISTS else answer.data is not wire.ABSENT
    if not answered:
        return _unanswered(answer.model, answer.error)
    usage, unknown, _ = completion_usage(answer.reported, call.cache_ttl)
    error = error_code(answer.error) if answer.error else ""
    return Reading(answer.model or None, answer.service_tier, usage, source_of(usage), answer.finish, error, unknown)


def response_reading(call: Call, answer: wire.Response) -> Reading:
    """The facts of a response, whole or as a stream's last event carries it."""
    usage, unknown, _ = response_usage(answer.usage, answer.tool_usage, call.cache_ttl)
    failed = bool(answer.error) or answer.status in _FAILED
    return Reading(
        answer.model or None,
        answer.service_tier,
        usage,
        source_of(usage),
        answer.finish,
        error_code(answer.error) if failed else "",
        unknown,
    )


def _response(call: Call, body: bytes) -> Reading:
    answer = wire.RESPONSE.decode(body)
    if answer.output is wire.ABSENT:
        return _unanswered(answer.model, answer.error)
    return response_reading(call, answer)


def _message(call: Call, body: bytes) -> Reading:
    """Read a message: one decoding does where all its usage is known, as it mostly is."""
    try:
        answer = wire.METERED_MESSAGE.decode(body)
    except wire.NOT_JSON:
        return unusual_message(call, body)
    if answer.usage is None or answer.content is wire.ABSENT:
        return unusual_message(call, body)
    usage, unknown, tier = message_tally(answer.usage)
    return Reading(answer.model or None, tier, usage, "provider", answer.stop_reason, unknown_usage=unknown)


def unusual_message(_: Call, body: bytes) -> Reading:
    """Read any message, whatever is reported of its usage."""
    answer = wire.MESSAGE.decode(body)
    if answer.content is wire.ABSENT:
        return _unanswered(answer.model, answer.error)
    usage, unknown, tier = messages_usage(answer.usage)
    return Reading(answer.model or None, tier, usage, source_of(usage), answer.stop_reason, unknown_usage=unknown)


def _token_count(call: Call, body: bytes) -> Reading:
    answer = wire.MESSAGE.decode(body)
    if answer.input_tokens is None:
        return _unanswered(None, answer.error)
    return Reading(call.model, None, Usage(), "provider")


def _ranking(_: Call, body: bytes) -> Reading:
    answer = wire.RANKING.decode(body)
    if answer.results is wire.ABSENT:
        return _unanswered(answer.model, answer.error)
    usage = None if answer.tokens is None else Usage(input=answer.tokens)
    return Reading(answer.model or None, None, usage, source_of(usage))


def _listing(_: Call, body: bytes) -> Reading:
    answer = wire.LISTING.decode(body)
    if answer.id is None and answer.data is wire.ABSENT:
        return _unanswered(None, answer.error)
    return Reading(answer.id, None, Usage(), "provider")


_READERS: Final[dict[str, Callable[[Call, bytes], Reading]]] = {
    "chat": _completion,
    "completions": _completion,
    "embeddings": _completion,
    "classify": _completion,
    "rerank": _ranking,
    "responses": _response,
    "messages": _message,
    "count_tokens": _token_count,
    "models": _listing,
}
