"""Server-sent events as bytes: where frames end, what a frame says, and how to write one.

A frame is the lines up to and including a blank line; a line ends in LF, CRLF or CR. A CR at the very end of what
has arrived may be half a CRLF, so it ends nothing until the next byte shows which.
"""

import re
from itertools import pairwise
from typing import Final

_BREAK: Final = re.compile(rb"(?:\r\n|\n|\r(?=[^\n])){2}")
_LINE_ENDS: Final = b"\r\n"
_BOM: Final = b"\xef\xbb\xbf"
DONE: Final = b"[DONE]"
_CLOSING: Final = 4096
"""Bytes in which the last two frames of a stream are looked for first."""


def whole(data: bytes | bytearray, start: int = 0) -> int:
    """The length of `data` up to the end of its last complete frame, looking from `start` on; 0 when there is none."""
    end = 0
    if data.find(b"\r", start) < 0 and data.find(b"\n\n\n", start) < 0:
        last = data.rfind(b"\n\n", start)
        return last + 2 if last >= 0 else 0
    for found in _BREAK.finditer(data, start):
        end = found.end()
    return end


class Framer:
    """Cuts arriving bytes at the ends of frames. `rest` is what has arrived of a frame that is not yet complete.

    A frame longer than `limit` bytes is no frame: the stream is then `endless`, and nothing more comes of it.
    """

    __slots__ = ("_limit", "endless", "rest")

    def __init__(self, limit: int) -> None:
        self.rest = bytearray()
        self.endless = False
        self._limit = limit

    def feed(self, chunk: bytes) -> bytes:
        """The complete frames of all that has arrived and was not yet returned."""
        if self.endless:
            return b""
        rest = self.rest
        start = max(0, len(rest) - 2)  # a break is two line ends: at most one and a half of them came before
        rest += chunk
        end = whole(rest, start)
        frames = bytes(memoryview(rest)[:end])
        del rest[:end]
        if len(rest) > self._limit:
            self.endless = True
            rest.clear()
        return frames


def split(data: bytes) -> list[bytes]:
    """The frames of `data`, each with its blank line; what follows the last blank line comes last, if anything.

    Line ends before a frame are a piece of their own, so that they stay when the frame goes.

    >>> split(b"data: 1\\n\\n: hello\\r\\n\\r\\ndata: 2")
    [b'data: 1\\n\\n', b': hello\\r\\n\\r\\n', b'data: 2']
    """
    if b"\r" not in data:
        *frames, rest = data.split(b"\n\n")
        frames = [frame + b"\n\n" for frame in frames]
    else:
        ends = [0, *(found.end() for found in _BREAK.finditer(data))]
        frames = [data[start:end] for start, end in pairwise(ends)]
        rest = data[ends[-1] :]
    pieces = [*frames, rest] if rest else frames
    if any(piece[0] in _LINE_ENDS for piece in pieces):
        return [part for piece in pieces for part in _apart(piece)]
    return pieces


def _apart(piece: bytes) -> tuple[bytes, ...]:
    frame = piece.lstrip(_LINE_ENDS)
    before = len(piece) - len(frame)
    return (piece[:before], frame) if before and frame else (piece,)


def closing(data: bytes) -> tuple[bytes, bytes]:
    """The last two frames of `data`, which ends in a blank line; the first is empty when there is only one."""
    end = data[-_CLOSING:]
    parts = end.rsplit(b"\n\n", 3)
    if len(parts) == 4 and b"\r" not in end:
        return parts[1] + b"\n\n", parts[2] + b"\n\n"
    if b"\r" in data:
        frames = [b"", b"", *split(data)]
        return frames[-2], frames[-1]
    parts = data.rsplit(b"\n\n", 3)
    last = parts[-2] + b"\n\n" if len(parts) > 1 else b""
    return parts[-3] + b"\n\n" if len(parts) > 2 else b"", last


def data_of(frame: bytes) -> bytes | None:
    """What a frame says, several data lines joined by LF; `None` when it has none, like a comment.

    >>> data_of(b"event: ping\\ndata: {}\\n\\n"), data_of(b": keep-alive\\n\\n")
    (b'{}', None)
    """
    if frame.startswith(b"data: ") and frame.count(b"\n") == 2 and frame.endswith(b"\n\n") and b"\r" not in frame:
        return frame[6:-2]
    said: list[bytes] = []
    for line in frame.removeprefix(_BOM).splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            said.append(value.removeprefix(b" "))
    return b"\n".join(said) if said else None


def frame(data: bytes, event: str = "") -> bytes:
    """One frame that says `data`, which holds no line end, under an event name if one is given."""
    if event:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    return b"data: %b\n\n" % data


def completed(rest: bytes) -> bytes:
    """A last frame whose blank line never came, with it."""
    return rest.rstrip(_LINE_ENDS) + b"\n\n"


def is_comment(frame: bytes) -> bool:
    """Whether a frame says nothing: a keep-alive, or a stray blank line."""
    return all(not line or line.startswith(b":") for line in frame.splitlines())
