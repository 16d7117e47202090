"""An answer kept in one form, given in the form that a call asks for: plain JSON, or server-sent events."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from farthing.dialects import sse, wire
from farthing.dialects.endpoints import USAGE_ON_REQUEST
from farthing.dialects.rendering.completions import (
    chat_frames,
    chat_whole,
    completion_frames,
    completion_whole,
    with_usage_frame,
)
from farthing.dialects.rendering.messages import message_frames, message_whole
from farthing.dialects.rendering.responses import response_frames, response_whole
from farthing.dialects.wire import Json
from farthing.errors import UpstreamGarbage
from farthing.schema import Call, Headers, Reply, Usage


class _Form(NamedTuple):
    """How one family's answer is told as frames (the flag: with the usage that the caller asked for), and back."""

    frames: Callable[[Json, bool], list[bytes]]
    whole: Callable[[Sequence[Json], Usage | None], Json]


_FORMS: Final[dict[str, _Form]] = {
    "chat": _Form(chat_frames, chat_whole),
    "completions": _Form(completion_frames, completion_whole),
    "responses": _Form(response_frames, response_whole),
    "messages": _Form(message_frames, message_whole),
}
_PLAIN: Final = (b"content-type", b"application/json")
_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")


def render(call: Call, reply: Reply) -> Reply:
    """The same answer in the form that `call` asks for; the very same reply when it already is.

    A stream whose usage was taken out, or left in, for the first caller gets it back, or loses it, for this one.
    Errors, and answers that have one form only, stay as they are. Raises UpstreamGarbage when the kept answer is not
    what its dialect documents.
    """
    form = _FORMS.get(call.endpoint)
    if form is None or reply.status >= 400 or not reply.body:
        return reply
    if reply.streamed == call.stream:
        if reply.streamed and call.endpoint in USAGE_ON_REQUEST:
            body = with_usage_frame(reply.body, reply.usage, call.wants_usage)
            return reply if body is reply.body else msgspec.structs.replace(reply, body=body)
        return reply
    try:
        if call.stream:
            frames = form.frames(wire.OBJECT.decode(reply.body), call.wants_usage)
            return _as(reply, b"".join(frames), _STREAM, streamed=True)
        whole = form.whole(_events(reply.body), reply.usage)
        return _as(reply, msgspec.json.encode(whole), _PLAIN, streamed=False)
    except (*wire.NOT_JSON, LookupError, TypeError, AttributeError):
        form_asked = "as a stream" if call.stream else "in one piece"
        raise UpstreamGarbage(
            f"The kept answer of {reply.model or call.model} is not as documented, so it cannot be given {form_asked}.",
            hint="Ask for it in the form it was first asked for, or exclude this model from the cache.",
        ) from None


def _events(body: bytes) -> list[Json]:
    said = (sse.data_of(frame) for frame in sse.split(body))
    return [wire.OBJECT.decode(data) for data in said if data is not None and data != sse.DONE]


def _as(reply: Reply, body: bytes, content_type: tuple[bytes, bytes], *, streamed: bool) -> Reply:
    headers: Headers = (content_type, *(header for header in reply.headers if header[0] != b"content-type"))
    return msgspec.structs.replace(reply, body=body, headers=headers, streamed=streamed)
