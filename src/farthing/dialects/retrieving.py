"""Responses that the provider keeps, and that can be asked for again once their caller has left."""

import re
from typing import Final

from farthing.dialects import sse, wire
from farthing.dialects.answers import Reading, response_reading
from farthing.schema import Call

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ENDED: Final = ("completed", "incomplete", "failed", "cancelled")


def retrievable(call: Call, answer: bytes) -> str | None:
    """The id under which the response to a call can be asked for, read off as much as came of it, be it events or JSON;
    `None` when it is not kept, or its id never came.
    """
    if call.endpoint != "responses" or not _is_kept(call):
        return None
    for frame in [answer] if answer.startswith(b"{") else sse.split(answer):
        try:
            said = wire.OBJECT.decode(sse.data_of(frame) or frame)
        except wire.NOT_JSON:
            continue
        response = said.get("response", said)
        found = response.get("id") if isinstance(response, dict) else None
        if isinstance(found, str) and _ID.fullmatch(found):
            return found
    return None


def read_retrieved(call: Call, body: bytes) -> Reading | None:
    """The facts of a kept response to a call, once it has ended; `None` while it has not, or makes no sense."""
    try:
        response = wire.RESPONSE.decode(body)
    except wire.NOT_JSON:
        return None
    return response_reading(call, response) if response.status in _ENDED else None


def _is_kept(call: Call) -> bool:
    """Whether the provider keeps it: it does unless told not to."""
    try:
        return wire.OBJECT.decode(call.body).get("store") is not False
    except wire.NOT_JSON:
        return False
