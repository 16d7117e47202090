"""Asking for a stored response after its caller has left: what it used is known once it has ended."""

import asyncio

from farthing import dialects
from farthing.gateway.relay import MAX_PLAIN_REPLY
from farthing.ports import Flow, Question, Upstream
from farthing.schema import Call, Headers

TRIES = 12
PAUSE_SECONDS = 0.5
"""The first wait between two questions; each is half as long again, so that all take about two minutes."""


class _Whole:
    """Implements `farthing.ports.Sink` by gathering a plain answer."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        self._flow: Flow | None = None

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self.status = status
        self._flow = flow

    def chunk(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > MAX_PLAIN_REPLY and self._flow is not None:
            self._flow.stop(f"the answer is larger than {MAX_PLAIN_REPLY} bytes")


async def retrieve(upstream: Upstream, call: Call, so_far: bytes) -> dialects.Reading | None:
    """The facts of a response of which only `so_far` came; `None` when it is not kept, or does not end in time."""
    name = dialects.retrievable(call, so_far)
    if name is None:
        return None
    question = Question("GET", f"/responses/{name}", call.headers, b"", stream=False, drainable=lambda: False)
    pause = PAUSE_SECONDS
    for _ in range(TRIES):
        await asyncio.sleep(pause)
        whole = _Whole()
        outcome = await upstream.ask(question, whole)
        if outcome.ending == "complete" and whole.status == 200:
            reading = dialects.read_retrieved(call, bytes(whole.body))
            if reading is not None:
                return reading
        elif outcome.ending == "disconnected" or 400 <= whole.status < 500:
            return None
        pause *= 1.5
    return None
