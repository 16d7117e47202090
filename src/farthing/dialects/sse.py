"""Server-sent events as bytes: where frames end, what a frame says, and how to write one.

A frame is the lines up to and including a blank line; a line ends in LF, CRLF or CR. A CR at the very end of what
has arrived may be half a CRLF, so it ends nothing until the next byte shows which.
"""

import re
from collections.abc import Iterator
from typing import Final

_BREAK: Final = re.compile(rb"(?:\r\n|\n|\r(?=[^\n])){2}")
_LINE_ENDS: Final = b"\r\n"
_BOM: Final = b"\xef\xbb\xbf"
DONE: Final = b"[DONE]"


def whole(data: bytes | bytearray, start: int = 0) -> int:
    """The length of `data` up to the end of its last complete frame, looking from `start` on; 0 when there is none."""
    if data.find(b"\r", start) < 0:
        return data.rfind(b"\n\n", start) + 2 if data.find(b"\n\n", start) >= 0 else 0
    end = 0
    for found in _BREAK.finditer(data, start):
        end = found.end()
    return end


def split(data: bytes) -> Iterator[bytes]:
    """The frames of `data`, each with its blank line; what follows the last blank line comes last, if anything.

    >>> list(split(b"data: 1\\n\\n: hello\\r\\n\\r\\ndata: 2"))
    [b'data: 1\\n\\n', b': hello\\r\\n\\r\\n', b'data: 2']
    """
    start = 0
    for found in _BREAK.finditer(data):
        yield data[start : found.end()]
        start = found.end()
    if start < len(data):
        yield data[start:]


def parse(frame: bytes) -> tuple[bytes, bytes | None]:
    """A frame's event name and its data (several data lines joined by LF); data is `None` when it has none.

    >>> parse(b"event: ping\\ndata: {}\\n\\n"), parse(b": keep-alive\\n\\n")
    ((b'ping', b'{}'), (b'', None))
    """
    event = b""
    data: list[bytes] = []
    for line in frame.removeprefix(_BOM).splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.removeprefix(b" ")
    return event, b"\n".join(data) if data else None


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
