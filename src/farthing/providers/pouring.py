"""What simulated upstreams share: where a question goes, and how an answer is poured."""

import asyncio

from farthing import dialects
from farthing.ports import Outcome, Question, Sink
from farthing.schema import Endpoint, Headers
from farthing.simulation import wire


def simulated_endpoint(question: Question) -> Endpoint | None:
    """The endpoint a question is for, `None` when no simulation answers at its path and method."""
    endpoint = dialects.endpoint_at(question.method, f"/v1{question.path.partition('?')[0]}")
    return None if endpoint == "other" else endpoint


def json_headers(by: bytes) -> Headers:
    """The headers of a plain answer simulated by the named adapter."""
    return ((b"content-type", b"application/json"), (b"x-farthing-simulated", by))


def sse_headers(by: bytes) -> Headers:
    """The headers of a streamed answer simulated by the named adapter."""
    return ((b"content-type", b"text/event-stream; charset=utf-8"), (b"x-farthing-simulated", by))


def pour(sink: Sink, status: int, headers: Headers, body: bytes) -> Outcome:
    """Pour a whole plain answer."""
    sink.begin(status, headers, None)
    sink.chunk(body)
    return Outcome("complete")


def refuse(sink: Sink, endpoint: Endpoint, status: int, message: str, headers: Headers) -> Outcome:
    """Pour an error in the endpoint's dialect."""
    return pour(sink, status, headers, wire.refusal(endpoint, status, message))


class Tap:
    """A stream that can be held up or stopped; `opened` says whether to go on, once it is not held up."""

    def __init__(self) -> None:
        self.stopped = ""
        self._paused = False
        self._waiter: asyncio.Event | None = None

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._wake()

    def stop(self, reason: str) -> None:
        self.stopped = reason
        self.resume()

    async def opened(self) -> bool:
        while self._paused:
            self._waiter = asyncio.Event()
            await self._waiter.wait()
        return not self.stopped

    def _wake(self) -> None:
        if self._waiter:
            self._waiter.set()
