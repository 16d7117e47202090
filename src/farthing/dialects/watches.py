"""What each family's stream says of itself, frame by frame: its model, its usage, why it stopped, and that it ended.

A watch is shown only the frames that may carry such facts: those that hold one of its `marks`. All others are content
and are never parsed. It answers with the bytes that may go on at once; the frames that end a stream it keeps in
`tail`, because an entry must be written before the caller sees the end.
"""

from typing import Final, Protocol

import msgspec

from farthing.dialects import sse, wire
from farthing.dialects.answers import Reading, error_code, response_reading, source_of
from farthing.dialects.usage import completion_usage, merged, messages_usage
from farthing.schema import Call

Marks = tuple[bytes, ...]
EVERY_FRAME: Final[Marks] = (b"",)


class Watch(Protocol):
    """One stream's observer: `valid` once a frame was understood, `finished` once the stream said it was over,
    `stopped` once all that it could still say is that.

    `told` counts the usage reports that covered all that was said until then.
    """

    tail: list[bytes]
    valid: bool
    finished: bool
    stopped: bool
    told: int

    @property
    def marks(self) -> Marks:
        """What a frame must hold to be shown: anything, until the first facts are in."""
        ...

    def see(self, frame: bytes, data: bytes) -> bytes:
        """Take note of a frame and its data; what may be forwarded now."""
        ...

    def reading(self) -> Reading:
        """The facts so far; its usage is what the provider reported, or `None`."""
        ...


class CompletionWatch:
    """Chat and text completions: chunks with `choices`, perhaps a chunk with usage alone, then [DONE].

    `running` says that usage was asked for in every chunk, so that it is taken out of those that the caller gets.
    """

    _QUIET: Final[Marks] = (b'"usage"', sse.DONE, b'"error"', b'finish_reason":"', b'finish_reason": "')

    def __init__(self, call: Call, running: bool) -> None:
        self.tail: list[bytes] = []
        self.valid = False
        self.finished = False
        self.stopped = False
        self.told = 0
        self._call = call
        self._choices_left = call.choices
        self._running = running and b'"continuous_usage_stats"' not in call.body
        self._model: str | None = None
        self._tier: str | None = None
        self._finish: str | None = None
        self._error = ""
        self._reported = b""

    @property
    def marks(self) -> Marks:
        return self._QUIET if self._model and not self.tail else EVERY_FRAME

    def see(self, frame: bytes, data: bytes) -> bytes:
        if data == sse.DONE:
            self.valid = self.finished = True
            return self._hold(frame)
        try:
            chunk = wire.COMPLETION.decode(data)
        except wire.NOT_JSON:
            return self._release(frame)
        self.valid = True
        self._model = chunk.model or self._model
        self._tier = chunk.service_tier or self._tier
        self._finish = chunk.finish or self._finish
        self._choices_left -= chunk.stops
        self.stopped = self._choices_left <= 0
        if chunk.error:
            self._error = error_code(chunk.error)
            if not chunk.choices:
                return self._hold(frame)
        reported = chunk.reported
        if not reported:
            return self._release(frame)
        self._reported = reported
        self.told += 1
        if chunk.choices:
            return self._release(_without(reported, frame, data) if self._running else frame)
        return self._hold(frame) if self._call.wants_usage else b""

    def _hold(self, frame: bytes) -> bytes:
        self.tail.append(frame)
        return b""

    def _release(self, frame: bytes) -> bytes:
        """Forward a frame; content after what looked like the end shows that it was not, and frees what was held."""
        if not self.tail:
            return frame
        if self.finished:
            return self._hold(frame)
        frames = b"".join([*self.tail, frame])
        self.tail.clear()
        return frames

    def reading(self) -> Reading:
        usage, unknown, _ = completion_usage(self._reported, self._call.cache_ttl)
        return Reading(self._model, self._tier, usage, source_of(usage), self._finish, self._error, unknown)


def _without(reported: bytes, frame: bytes, data: bytes) -> bytes:
    """A frame without its usage."""
    member = b',"usage":' + reported
    if frame.count(member) == 1:
        return frame.replace(member, b"")
    members = wire.MEMBERS.decode(data)
    members.pop("usage", None)
    return sse.frame(msgspec.json.encode(members))


class ResponseWatch:
    """Responses: events, of which the first and the last carry the response itself."""

    _QUIET: Final[Marks] = (b'"response"', b'"error"', sse.DONE)
    _ENDS: Final = ("response.completed", "response.incomplete", "response.failed")

    def __init__(self, call: Call) -> None:
        self.tail: list[bytes] = []
        self.valid = False
        self.finished = False
        self.stopped = False
        self.told = 0
        self._call = call
        self._reading = Reading()
        self._error = ""

    @property
    def marks(self) -> Marks:
        return self._QUIET if self.valid and not self.tail else EVERY_FRAME

    def see(self, frame: bytes, data: bytes) -> bytes:
        ended = bool(self.tail)
        if data != sse.DONE:
            try:
                event = wire.RESPONSE_EVENT.decode(data)
            except wire.NOT_JSON:
                event = wire.ResponseEvent()
            self.valid = self.valid or event.type != ""
            ended = self._note(event) or ended
        else:
            self.valid = ended = True
        if not ended:
            return frame
        self.tail.append(frame)
        return b""

    def _note(self, event: wire.ResponseEvent) -> bool:
        """Take an event's facts; whether it ends the stream."""
        if event.response is not None:
            self._reading = response_reading(self._call, event.response)
            self.told += self._reading.usage is not None
        if event.type in self._ENDS:
            self.finished = True
            return True
        if event.type == "error" or (not event.type and event.error):
            self.valid = True
            self._error = event.code or error_code(event.error)
            return True
        return False

    def reading(self) -> Reading:
        reading = self._reading
        finish = reading.finish if self.finished else None
        return msgspec.structs.replace(reading, finish=finish, error=self._error or reading.error)


class MessageWatch:
    """Anthropic messages: message_start has the input, message_delta the running total, message_stop the end."""

    _QUIET: Final[Marks] = (b'"message_', b'"error"')

    def __init__(self, call: Call) -> None:
        self.tail: list[bytes] = []
        self.valid = False
        self.finished = False
        self.stopped = False
        self.told = 0
        self._call = call
        self._model: str | None = None
        self._finish: str | None = None
        self._error = ""
        self._reported = b""

    @property
    def marks(self) -> Marks:
        return self._QUIET if self._model and not self.tail else EVERY_FRAME

    def see(self, frame: bytes, data: bytes) -> bytes:
        try:
            event = wire.MESSAGE_EVENT.decode(data)
        except wire.NOT_JSON:
            event = wire.MessageEvent()
        if not self._note(event) and not self.tail:
            return frame
        self.tail.append(frame)
        return b""

    def _note(self, event: wire.MessageEvent) -> bool:
        """Take an event's facts; whether it ends the stream."""
        self.valid = self.valid or event.type != ""
        if event.type == "message_start" and event.message is not None:
            self._model = event.message.model or self._model
            self._report(event.message.usage)
        elif event.type == "message_delta":
            if event.delta is not None:
                self._finish = event.delta.stop_reason or self._finish
            self.told += self._report(event.usage)
        elif event.type == "message_stop":
            self.finished = True
            return True
        elif event.error:
            self.valid = True
            self._error = error_code(event.error)
            return True
        return False

    def _report(self, usage: msgspec.Raw) -> bool:
        """Take a cumulative report; whether there was one."""
        try:
            later = wire.OBJECT.decode(usage)
        except wire.NOT_JSON:
            return False
        earlier = wire.OBJECT.decode(self._reported) if self._reported else {}
        self._reported = msgspec.json.encode(merged(earlier, later))
        return True

    def reading(self) -> Reading:
        usage, unknown, tier = messages_usage(self._reported)
        return Reading(self._model, tier, usage, source_of(usage), self._finish, self._error, unknown)


def watch_over(call: Call, running_usage: bool) -> Watch:
    """The watch for a call's stream."""
    if call.endpoint == "responses":
        return ResponseWatch(call)
    if call.endpoint == "messages":
        return MessageWatch(call)
    return CompletionWatch(call, running_usage)
