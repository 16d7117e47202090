"""Farthing's own errors in the caller's dialect, so that official SDKs raise the class they would raise."""

from typing import Final

import msgspec

from farthing.dialects import sse
from farthing.errors import FarthingError
from farthing.schema import dialect_of

_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_TYPES: Final = {401: "authentication_error", 402: "insufficient_quota",
                        403: "permission_error", 404: "not_found_error",
                        429: "rate_limit_error", 504: "timeout"}  # fmt: skip


def error_body(endpoint: str, error: FarthingError, call_id: str) -> bytes:
    """An error's JSON body as the provider of this endpoint's dialect would write it."""
    return msgspec.json.encode(_said(endpoint, error, call_id))


def error_frame(endpoint: str, error: FarthingError, call_id: str) -> bytes:
    """An error as one frame of a stream that has already begun; the stream ends after it."""
    said = _said(endpoint, error, call_id)
    if dialect_of(endpoint) == "anthropic":
        return sse.frame(msgspec.json.encode(said), "error")
    if endpoint == "responses":
        # The event as the API describes it, and the `error` member by which SDKs know to raise.
        event = {"type": "error", "code": error.code, "message": str(error), "param": None, "sequence_number": 0}
        return sse.frame(msgspec.json.encode(event | said), "error")
    return sse.frame(msgspec.json.encode(said))


def _said(endpoint: str, error: FarthingError, call_id: str) -> dict[str, object]:
    if dialect_of(endpoint) == "anthropic":
        kind = _ANTHROPIC_TYPES.get(error.status) or _family(error.status, "api_error")
        said = {"type": kind, "message": str(error)}
        return {"type": "error", "error": said | _details(error), "request_id": call_id}
    kind = _OPENAI_TYPES.get(error.status) or _family(error.status, "server_error")
    return {"error": {"message": str(error), "type": kind, "param": None, "code": error.code} | _details(error)}


def _details(error: FarthingError) -> dict[str, object]:
    return {"details": error.facts} if error.facts else {}


def _family(status: int, failure: str) -> str:
    return failure if status >= 500 else "invalid_request_error"
