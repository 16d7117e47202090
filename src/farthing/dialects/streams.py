"""StreamReader: relays a stream byte for byte, and reads from it only what it must."""

from typing import Final

import msgspec

from farthing.dialects import sse, wire
from farthing.dialects.answers import GARBAGE, Reading, is_object, read
from farthing.dialects.endpoints import USAGE_ON_REQUEST
from farthing.dialects.relayed import relayed_tokens
from farthing.dialects.watches import watch_over
from farthing.prompts.estimate import estimate_input
from farthing.schema import Call, Usage

MAX_FRAME: Final = 16 * 1024 * 1024
"""A frame longer than this, in bytes, is no frame: the stream is garbage."""

SAMPLE: Final = 64 * 1024
"""How much of a stream is kept at least, in bytes, to estimate its tokens from should it end without its usage."""

_FRAME_ENDS: Final = (b"\n\n", b"\r\n\r\n")
_FRAME_STARTS: Final = (b"data:", b"event:", b":")

_CHOICES: Final = b'"choices":'
"""Chunks of one stream are alike up to here. No mark, and no null usage, begins before the end of this and ends after
it, so a beginning that was looked through once needs no second look.
"""


class StreamReader:
    """One streamed answer on its way to the caller.

    Every chunk is fed as it arrives, and what `feed` returns is forwarded: whole frames, byte for byte, without the
    usage that the caller did not ask for. The frames that end the stream wait in `tail`, and nothing is forwarded
    before the first frame that makes sense. `close` gives the facts once the upstream has ended, well or not.
    `keep` is the most bytes that `body` will hold; `running_usage` says that `encode` asked for usage in every frame.
    """

    __slots__ = (
        "_call", "_chunked", "_doubtful", "_ended", "_framer", "_head", "_keep", "_kept", "_limit", "_marks", "_plain",
        "_silent", "_size", "_strips", "_told_at", "_watch", "opened",
    )  # fmt: skip

    def __init__(self, call: Call, keep: int, *, running_usage: bool = False) -> None:
        self.opened = False
        self._call = call
        self._framer = sse.Framer(MAX_FRAME)
        self._watch = watch_over(call, running_usage)
        self._marks = self._watch.marks
        self._chunked = call.endpoint in USAGE_ON_REQUEST
        self._strips = self._chunked and not call.wants_usage
        self._head = b""
        self._doubtful = b""
        self._kept: list[bytes] = []
        self._keep = keep
        self._limit = max(keep, SAMPLE)
        self._size = 0
        self._told_at = 0
        self._ended = False
        self._silent = False
        self._plain: Reading | None = None

    @property
    def finished(self) -> bool:
        """Whether the stream said that it is over; after its end, having a stop reason for every choice will do."""
        return self._watch.finished or (self._ended and self._watch.stopped)

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes as they arrive; what may be forwarded now."""
        framer = self._framer
        if framer.rest or framer.endless or not chunk.endswith(_FRAME_ENDS):
            chunk = framer.feed(chunk)
            if not chunk:
                return b""
        head, seen = b"", chunk
        if self._chunked:
            if chunk.startswith(self._head):
                head = self._head  # looked through before
            seen = chunk[len(head) :].replace(wire.NULL_USAGE, b"")
            if self._strips:
                chunk = head + seen
        find = seen.rfind  # `in` takes twice as long: it tries the mark for a number first
        for mark in self._marks:
            if find(mark) >= 0:
                chunk = self._inspected(chunk)
                break
        else:
            if self._chunked and not head:
                self._head = self._beginning(chunk)
        self._size += len(chunk)
        if self._size <= self._limit:
            self._kept.append(chunk)
        return chunk

    def tail(self) -> bytes:
        """The frames held back, which end the stream; to be asked for once the upstream has ended."""
        self._settle_rest()
        return b"".join(self._watch.tail)

    @property
    def body(self) -> bytes:
        """Every frame as the caller sees it, or nothing when longer than `keep`; once the upstream has ended."""
        tail = self.tail()
        if self._size + len(tail) > self._keep:
            return b""
        return b"".join([*self._kept, tail])

    def close(self) -> Reading:
        """The facts of the stream, however it ended; usage is estimated when the provider did not come to tell it."""
        self._settle_rest()
        if self._plain is not None:
            return self._plain
        watch = self._watch
        reading = watch.reading()
        if not watch.valid or self._framer.endless:
            reading = msgspec.structs.replace(reading, error=reading.error or GARBAGE)
        if watch.told and (self.finished or self._told_at == self._size):
            return reading
        return self._estimated(reading) if watch.valid or self._silent else reading

    @staticmethod
    def _beginning(chunk: bytes) -> bytes:
        before, choices, _ = chunk.partition(_CHOICES)
        return before + choices if choices else b""

    def _inspected(self, chunk: bytes) -> bytes:
        """What may be forwarded of a chunk in which some frame may carry facts."""
        out: list[bytes] = []
        position = self._size
        for frame in sse.split(chunk):
            told = self._watch.told
            out.append(self._shown(frame))
            position += len(out[-1])
            if self._watch.told != told:
                self._told_at = position
        self._marks = self._watch.marks
        return b"".join(out)

    def _shown(self, frame: bytes) -> bytes:
        """Show one frame to the watch, if it may carry facts; what may be forwarded."""
        watch = self._watch
        seen = frame.replace(wire.NULL_USAGE, b"")
        if not any(mark in seen for mark in watch.marks):
            return frame
        data = sse.data_of(frame)
        out = frame if data is None else watch.see(frame, data)
        if not watch.valid:
            return frame if sse.is_comment(frame) else self._doubted(out)
        if self._doubtful:
            out, self._doubtful = self._doubtful + out, b""
        self.opened = self.opened or (data is not None and out != b"")
        return out

    def _doubted(self, frame: bytes) -> bytes:
        """Hold back a frame that means nothing, until one that does shows that this is a stream after all."""
        self._doubtful += frame
        self._framer.endless = len(self._doubtful) > MAX_FRAME
        return b""

    def _settle_rest(self) -> None:
        """Deal with what no blank line followed: a last frame without one, or a plain answer; a fragment is dropped."""
        if self._ended:
            return
        self._ended = True
        rest = bytes(self._framer.rest)
        self._framer.rest.clear()
        watch = self._watch
        self._silent = not watch.valid and not self._doubtful and (not rest or rest.startswith(_FRAME_STARTS))
        data = sse.data_of(rest)
        if data is not None and (data == sse.DONE or is_object(data)):
            told = watch.told
            frame = sse.completed(rest)
            out = watch.see(frame.replace(wire.NULL_USAGE, b"") if self._strips else frame, data)
            if watch.valid and self._doubtful + out:
                watch.tail.insert(0, self._doubtful + out)
            self._told_at = self._size if watch.told != told else -1
        if not watch.valid and self._doubtful + rest:
            self._settle_plain(self._doubtful + rest)

    def _settle_plain(self, body: bytes) -> None:
        """Some providers answer a stream with plain JSON, mostly when they refuse it."""
        reading = read(self._call, 200, body)
        if reading.error != GARBAGE:
            self._plain = reading
            self._watch.tail.append(body)

    def _estimated(self, reading: Reading) -> Reading:
        """A reading with output counted from the text relayed, and input as the provider told or else estimated."""
        kept = sum(map(len, self._kept))
        visible, hidden = relayed_tokens(self._call.endpoint, [*self._kept, *self._watch.tail])
        if kept and self._size > kept:
            visible, hidden = visible * self._size // kept, hidden * self._size // kept
        if reading.error and self._watch.valid and not visible and not hidden:
            return reading  # refused before anything was said
        told = reading.usage or Usage(input=estimate_input(self._call))
        usage = msgspec.structs.replace(told, output=max(visible, told.output), reasoning=max(hidden, told.reasoning))
        return msgspec.structs.replace(reading, usage=usage, usage_source="estimated")
