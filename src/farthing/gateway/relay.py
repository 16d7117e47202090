"""The sink between upstream and caller: forwards a stream as it comes, gathers a plain answer, reads the meter."""

import msgspec

from farthing import dialects
from farthing.errors import FarthingError, UpstreamError, UpstreamGarbage, UpstreamTimeout, UpstreamUnreachable
from farthing.gateway.refusal import error_reply
from farthing.ports import Clock, Flow, Outcome, Outlet
from farthing.prompts.estimate import estimate_input
from farthing.schema import Call, Headers, Reply, Usage

MAX_PLAIN_REPLY = 48 * 1024 * 1024
"""A plain answer is gathered before it is sent, so it is bounded; 48 MiB holds 1,500 embeddings of 3,072 floats."""

KEEP_STREAM = 4 * 1024 * 1024
"""Streams longer than this are relayed but not kept for the cache."""

UNBILLED = frozenset(("models", "count_tokens"))
"""Endpoints that providers answer for nothing."""

LEFT = 499
"""The status under which a call is entered whose caller left before it was answered."""

FAILURES: dict[str, type[UpstreamError]] = {
    "unreachable": UpstreamUnreachable,
    "timeout": UpstreamTimeout,
    "reset": UpstreamError,
    "garbage": UpstreamGarbage,
    "disconnected": UpstreamError,
}


class Relay:
    """Implements `farthing.ports.Sink` for one attempt."""

    def __init__(
        self, call: Call, call_id: str, outlet: Outlet | None, clock: Clock, *, running_usage: bool = False
    ) -> None:
        self._call = call
        self._id = call_id
        self._outlet = outlet
        self._clock = clock
        self._running_usage = running_usage
        self._status = 0
        self._headers: Headers = ()
        self._parts: list[bytes] = []
        self._size = 0
        self._flow: Flow | None = None
        self._stream: dialects.StreamReader | None = None
        self.begun = False
        self.first_byte: int | None = None

    # -- Sink

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self._status = status
        self._headers = headers
        self._flow = flow
        if self._call.stream and status == 200 and _is_event_stream(headers):
            self._stream = dialects.StreamReader(self._call, KEEP_STREAM, running_usage=self._running_usage)
            if self._outlet is not None and flow is not None:
                self._outlet.throttle(flow)

    def chunk(self, data: bytes) -> None:
        if self.first_byte is None:
            self.first_byte = self._clock.now()
        if self._stream is not None:
            if forward := self._stream.feed(data):
                self._send(forward)
            return
        self._size += len(data)
        if self._size > MAX_PLAIN_REPLY:
            self._parts.clear()
            if self._flow is not None:
                self._flow.stop(f"the answer is larger than {MAX_PLAIN_REPLY} bytes")
            return
        self._parts.append(data)

    def _send(self, data: bytes) -> None:
        if self._outlet is None:
            return
        if not self.begun:
            self.begun = True
            self._outlet.begin(self._status, self._headers)
        self._outlet.write(data)

    # -- the end

    @property
    def so_far(self) -> bytes:
        """What came of the answer, as far as it was kept."""
        return self._stream.body if self._stream is not None else b"".join(self._parts)

    def close(self, outcome: Outcome) -> Reply:
        """The reply, given how the answer ended."""
        if self._stream is not None:
            return self._close_stream(self._stream, outcome)
        if outcome.ending != "complete":
            return self._failed(outcome, self._unread(outcome))
        return self._close_plain(b"".join(self._parts))

    def _close_plain(self, body: bytes) -> Reply:
        reading = dialects.read(self._call, self._status, body)
        redirected = 300 <= self._status < 400  # never followed, and never passed on: a client might follow it
        if redirected or ((reading.error or self._status >= 400) and not dialects.is_object(body)):
            strange = Outcome("garbage", f"it answered status {self._status} with {_glimpse(body)}")
            if self._status < 300:
                return self._failed(strange, self._unread(strange))
            return msgspec.structs.replace(self._failed(strange, None), ending="complete")  # refused, so not billed
        if self._status >= 400:
            return Reply(self._status, body, headers=self._headers, error=reading.error or "upstream_error")
        reply = self._read(reading, 502 if reading.error else self._status, body)
        if reading.usage is not None or reading.error or self._call.endpoint in UNBILLED:
            return reply
        visible, hidden = dialects.answered_tokens(body)
        guess = Usage(input=estimate_input(self._call), output=visible, reasoning=hidden)
        return msgspec.structs.replace(reply, usage=guess, usage_source="estimated")

    def _read(self, reading: dialects.Reading, status: int, body: bytes) -> Reply:
        """A reply with the facts that were read of it."""
        return Reply(
            status=status,
            body=body,
            headers=self._headers,
            model=reading.model,
            tier=reading.tier,
            usage=reading.usage,
            usage_source=reading.usage_source,
            finish=reading.finish,
            error=reading.error,
            unknown_usage=reading.unknown_usage,
        )

    def _close_stream(self, stream: dialects.StreamReader, outcome: Outcome) -> Reply:
        reading = stream.close()
        if stream.finished:
            outcome = Outcome("complete")
        elif outcome.ending == "complete" and not reading.error:
            outcome = Outcome("reset", "the stream stopped before its last event")
        reply = msgspec.structs.replace(
            self._read(reading, 200, stream.body if outcome.ending == "complete" else b""),
            tail=stream.tail(),
            streamed=True,
            ending=outcome.ending,
        )
        if outcome.ending == "complete" and not (reading.error and not self.begun):
            return reply
        if not self.begun:
            bad = outcome if outcome.ending != "complete" else Outcome("garbage", f"its stream held {reading.error}")
            failed = self._failed(bad, reply.usage)
            return msgspec.structs.replace(
                failed,
                model=reply.model,
                tier=reply.tier,
                usage_source=reply.usage_source,
                error=(outcome.ending == "complete" and reading.error) or failed.error,
            )
        error = self._error(outcome)
        frame = dialects.error_frame(self._call.endpoint, error, self._id)
        return msgspec.structs.replace(reply, error=_code(outcome, error), tail=frame)

    def _failed(self, outcome: Outcome, usage: Usage | None) -> Reply:
        error = self._error(outcome)
        return msgspec.structs.replace(
            error_reply(self._call.endpoint, error, self._id),
            status=LEFT if outcome.ending == "disconnected" else error.status,
            ending=outcome.ending,
            error=_code(outcome, error),
            usage=usage,
            usage_source="estimated" if usage is not None else "none",
        )

    def _unread(self, outcome: Outcome) -> Usage | None:
        """What was probably processed by an upstream that was asked but whose answer was lost."""
        if not outcome.sent or self._status >= 400:
            return None
        return Usage(input=estimate_input(self._call))

    def _error(self, outcome: Outcome) -> FarthingError:
        left = outcome.ending == "disconnected"
        what = "The answer was cut off" if left else "The upstream did not give a usable answer"
        return FAILURES[outcome.ending](
            f"{what}: {outcome.detail or outcome.ending}.",
            hint="It may have been charged; the ledger entry says so." if outcome.sent else "Nothing was charged.",
        )


def _code(outcome: Outcome, error: FarthingError) -> str:
    return {"disconnected": "client_disconnected", "reset": "upstream_reset"}.get(outcome.ending, error.code)


def _is_event_stream(headers: Headers) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def _glimpse(body: bytes) -> str:
    if dialects.is_object(body):
        return "a JSON object"
    return f"{len(body)} bytes that are not a JSON object" if body else "an empty body"
