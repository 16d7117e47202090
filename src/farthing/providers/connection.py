"""One keep-alive HTTP/1.1 connection to an upstream; llhttp parses, this keeps the state around it."""

import asyncio
import zlib
from collections.abc import Callable

import httptools

from farthing.ports import Outcome, Sink
from farthing.schema import Headers

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade", b"content-length", b"content-encoding")
)  # fmt: skip
MAX_HEAD = 64 * 1024
"""Bytes of an answer that may come in a row and be no part of its body: headers, hints, trailers."""

INFLATE_STEP = 256 * 1024
"""Compressed answers are inflated in steps of this many bytes, so that a bomb meets the reply limit, not memory."""


class UpstreamConnection(asyncio.Protocol):
    """Carries one question at a time; `idle` is called when it can carry another, `gone` when it no longer can."""

    def __init__(self, idle: Callable[["UpstreamConnection"], None], gone: Callable[["UpstreamConnection"], None]):
        self._idle = idle
        self._gone = gone
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.closed = False
        self.deadline = 0.0
        self.last_byte = 0.0
        self.idle_since = 0.0
        self.paused = False
        self.outcome = Outcome("complete")
        self._sink: Sink | None = None
        self._future: asyncio.Future[Outcome] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._inflate: zlib._Decompress | None = None
        self._framed = False
        self.began = False
        self._bodiless = 0
        self._parser = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()

    # -- asking

    def ask(self, head: bytes, body: bytes, sink: Sink, deadline: float) -> asyncio.Future[Outcome]:
        """Send one request; the future ends with how the answer ended. `deadline` is in loop time."""
        self._sink = sink
        self._future = future = self._loop.create_future()
        self.began = False
        self._bodiless = 0
        self.deadline = deadline
        self.last_byte = self._loop.time()
        if len(body) < 16384:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        return future

    def fail(self, outcome: Outcome) -> None:
        """End the question in flight and close: after this nothing on the wire can be trusted."""
        self.closed = True
        self.transport.abort()
        self._end(outcome)

    def carries(self, future: asyncio.Future[Outcome]) -> bool:
        """Whether the question whose end `future` waits for, even in vain, has not ended; else see `outcome`."""
        return self._future is future

    def divert(self, future: asyncio.Future[Outcome]) -> None:
        """Go on reading for another future: the one that waited was cancelled."""
        self._future = future
        self.resume()

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        future, self._future, self._sink = self._future, None, None
        if future is not None and not future.done():
            future.set_result(outcome)

    # -- flow control: the caller's side slows this connection down

    def pause(self) -> None:
        if not self.paused and not self.closed:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            self.last_byte = self._loop.time()
            self.transport.resume_reading()

    def stop(self, reason: str) -> None:
        self.fail(Outcome("garbage", reason))

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_connection

    def data_received(self, data: bytes) -> None:
        if self._future is None:
            self.closed = True  # an upstream that speaks unasked cannot be trusted with the next question
            self.transport.abort()
            return
        self.last_byte = self._loop.time()
        self._bodiless += len(data)
        try:
            self._parser.feed_data(data)
            if self._bodiless > MAX_HEAD:
                self.fail(Outcome("garbage", f"its headers exceed {MAX_HEAD} bytes"))
        except httptools.HttpParserUpgrade:
            self.fail(Outcome("garbage", "it changes to a protocol that nobody asked for"))
        except httptools.HttpParserError as error:
            self.fail(Outcome("garbage", f"the answer is not HTTP: {error}"))
        except zlib.error as error:
            self.fail(Outcome("garbage", f"the compressed answer is damaged: {error}"))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._future is not None:
            if self.began and not self._framed and exc is None:
                self._end(Outcome("complete"))  # a body without length or chunks ends with its connection
            else:
                where = "part way through the answer" if self.began else "before it answered"
                self._end(Outcome("reset", f"the connection was lost {where}{f': {exc}' if exc else ''}"))
        self._gone(self)

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self._future is None:
            self.fail(self.outcome)  # an answer too many: whoever asked next would get it
        self._headers = []
        self._framed = False
        self._inflate = None

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in HOP_BY_HOP:
            if name in (b"content-length", b"transfer-encoding"):
                self._framed = True
            elif name == b"content-encoding" and value.lower() in (b"gzip", b"x-gzip", b"deflate"):
                self._inflate = zlib.decompressobj(47)
            return
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._sink is not None:
            self.began = True
            headers: Headers = tuple(self._headers)
            self._sink.begin(status, headers, self)

    def on_body(self, body: bytes) -> None:
        self._bodiless = 0
        if self._sink is None:
            return
        if self._inflate is None:
            self._sink.chunk(body)
            return
        while body and self._sink is not None:
            self._sink.chunk(self._inflate.decompress(body, INFLATE_STEP))
            body = self._inflate.unconsumed_tail

    def on_message_complete(self) -> None:
        if not self.began:
            return  # an informational answer (1xx) precedes the real one
        unsent = self.transport.get_write_buffer_size()  # of a question answered early: it is in the next one's way
        keep = self._parser.should_keep_alive() and not self.closed and not unsent
        self._end(Outcome("complete"))
        if keep and not self.paused:
            self.idle_since = self._loop.time()
            self._idle(self)
        else:
            self.closed = True
            self.transport.close()
