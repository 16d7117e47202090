"""Many streams at once, each read to its last event."""

import asyncio

import msgspec
import uvloop

from benchmarks.load import Answers
from benchmarks.questions import Question, fresh_serial

END = b"data: [DONE]\n\n"


class Streamed(msgspec.Struct, frozen=True):
    """What came back: events of all streams together, and how many streams did not end as they should."""

    events: int
    failures: int


def read_streams(port: int, question: Question, concurrent: int) -> Streamed:
    """Open `concurrent` streams, one a connection, and read them all to the end."""
    return uvloop.run(_read(port, question, concurrent))


async def _read(port: int, question: Question, concurrent: int) -> Streamed:
    loop = asyncio.get_running_loop()
    first = fresh_serial()
    readers = [Reader(question.numbered(first + n)) for n in range(concurrent)]
    for reader in readers:
        await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(reader.done for reader in readers))
    return Streamed(sum(r.events for r in readers), sum(r.failed for r in readers))


class Reader(Answers):
    """Asks for one stream and counts its events."""

    def __init__(self, message: bytes) -> None:
        super().__init__()
        self._message = message
        self._end = b""
        self.events = 0
        self.failed = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(self._message)

    def on_body(self, body: bytes) -> None:
        """Count blank lines; one that falls between two reads is found by the last byte of the one before."""
        self.events += (self._end[-1:] + body).count(b"\n\n")
        self._end = (self._end + body)[-len(END) :]

    def answer_ended(self, status: int) -> None:
        self.failed = status != 200 or self._end != END
        self._transport.close()
        self.done.set_result(None)
