"""Errors as replies in the caller's own dialect."""

import math

from farthing import dialects
from farthing.errors import FarthingError
from farthing.schema import Reply

JSON = ((b"content-type", b"application/json"),)


def error_reply(endpoint: str, error: FarthingError, call_id: str) -> Reply:
    """The reply for an expected failure; its tail says the same at the end of a stream that has begun."""
    return Reply(
        status=error.status,
        body=dialects.error_body(endpoint, error, call_id),
        tail=dialects.error_frame(endpoint, error, call_id),
        headers=JSON if error.retry_after is None else (*JSON, (b"retry-after", b"%d" % math.ceil(error.retry_after))),
        error=error.code,
    )
