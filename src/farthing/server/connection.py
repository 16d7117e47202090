"""One client connection: llhttp parses, a task takes the call through the pipeline, the answer follows its entry."""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

import httptools
import msgspec

from farthing import dialects
from farthing.errors import FarthingError, RequestError, TooLarge, Unavailable, UnknownEndpoint
from farthing.gateway.refusal import error_reply
from farthing.ports import Flow
from farthing.schema import Call, Caller, Endpoint, Exchange, Headers, Reply
from farthing.server.intake import Intake, tagged
from farthing.server.wire import header_lines, receipt_lines, status_line

if TYPE_CHECKING:
    from farthing.server.service import Service

log = logging.getLogger(__name__)

CLOSING = b"connection: close\r\n"
OVERLOADED = Unavailable(
    "This gateway has as many calls under way as it serves at once.",
    hint="Ask again in a second; server.max_in_flight and server.workers say how many it serves.",
    retry_after=1.0,
)
AHEAD = 16
"""Requests that a client may send ahead of their turn before it is read no further."""
AHEAD_BYTES = 64 * 1024
"""Bytes of their bodies, likewise."""


class Request(msgspec.Struct):
    """One request as parsed."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool
    http10: bool


class ClientStream:
    """The caller's end of a streamed answer; implements `farthing.ports.Outlet` in chunked encoding."""

    def __init__(self, connection: "Connection", exchange_id: str, http10: bool) -> None:
        self._connection = connection
        self._id = exchange_id.encode()
        self._raw = http10
        self.begun = False

    def begin(self, status: int, headers: Headers) -> None:
        self.begun = True
        connection = self._connection
        if self._raw:
            connection.keep_alive = False  # only its end tells where such a stream ends
        framing = b"" if self._raw else b"transfer-encoding: chunked\r\n"
        closing = b"" if connection.keep_alive else CLOSING
        head = b"%b%bx-farthing-call: %b\r\n%b%b\r\n"
        connection.write(head % (status_line(status), header_lines(headers), self._id, framing, closing))

    def write(self, chunk: bytes) -> None:
        self._connection.write(chunk if self._raw else b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def end(self, tail: bytes) -> bytes:
        """The last bytes of the stream."""
        if self._raw:
            return tail
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail) if tail else b"0\r\n\r\n"

    def throttle(self, flow: Flow) -> None:
        self._connection.throttle(flow)


class Connection(asyncio.Protocol):
    """Serves the requests of one client, one at a time, in the order they came."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self.busy = False
        self.keep_alive = True
        self.unsent = 0
        self._flow: Flow | None = None
        self._writable = True
        self.closed = False
        self.last_activity = self._loop.time()
        self._rejected: FarthingError | None = None
        self._last_headers: list[tuple[bytes, bytes]] = []
        self._last_intake: Intake | None = None
        self._start_request()

    def _start_request(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = True
        self._head_bytes = 0
        self._length = b"0"
        self._expects = False
        self._body: list[bytes] = []
        self._body_bytes = 0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self._service.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._rejected is not None:
            return  # nobody will answer what follows
        if not (self._in_head and self._head_bytes):  # a head that drips in is no activity
            self.last_activity = self._loop.time()
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._head_bytes > self._service.max_header:
                self._reject(self._head_too_large())
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._reject(RequestError(f"The request is not valid HTTP/1.1: {error}."))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._service.connections.discard(self)
        self._queue.clear()
        if self._flow is not None:
            self._flow.resume()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable = False
        if self._flow is not None:
            self._flow.pause()

    def resume_writing(self) -> None:
        self._writable = True
        if self._flow is not None:
            self._flow.resume()
        if not self.busy:
            self._loop.call_soon(self._next)

    def throttle(self, flow: Flow) -> None:
        """Let `flow` follow this client's pace until the next request."""
        self._flow = flow
        if not self._writable:
            flow.pause()

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.transport.write(data)

    # -- httptools callbacks

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which might pass for a header that was checked
        name = name.lower()
        if name == b"content-length":
            self._length = value
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        limit = self._service.max_header
        if self._head_bytes > limit and sum(len(name) + len(value) for name, value in self._headers) > limit:
            self._reject(self._head_too_large())
        elif int(self._length) > self._service.max_body:
            self._reject(self._too_large(int(self._length)))
        elif self._expects and not self.busy:
            self._go_ahead()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0  # from here on it counts what is neither head nor body: chunk sizes and trailers
        self._body_bytes += len(body)
        if self._rejected is not None:
            return
        if self._body_bytes > self._service.max_body:
            self._body.clear()
            self._reject(self._too_large(self._body_bytes))
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._rejected is not None or self._parser.should_upgrade():
            return  # one is not to be served, the body of the other is still to be read
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
            http10=self._parser.get_http_version() == "1.0",
        )
        self._start_request()
        if self.busy or not self._writable:  # who does not take answers gets no more
            self._queue.append(request)
            if len(self._queue) >= AHEAD or sum(len(waiting.body) for waiting in self._queue) > AHEAD_BYTES:
                self.transport.pause_reading()  # from here on its leaving shows only when it is served
        else:
            self._dispatch(request)

    def _go_ahead(self) -> None:
        """Tell a client that asked first to send its body."""
        self._expects = False
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request again without its offer of another protocol, as HTTP allows; `rest` is what followed its head.

        Java's HTTP client makes that offer with every first request.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._reject(RequestError("This gateway is no proxy to other hosts."))
        if self._rejected is not None:
            return
        headers = [header for header in self._headers if header[0] != b"upgrade"]
        if self._length != b"0":
            headers.append((b"content-length", self._length))
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._target, b"".join([b"%b: %b\r\n" % h for h in headers]))
        self._parser = httptools.HttpRequestParser(self)
        self._start_request()
        self.data_received(head + rest)

    def _head_too_large(self) -> TooLarge:
        return TooLarge(f"The request's headers exceed {self._service.max_header} bytes.")

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"The request body is {size} bytes or more; the limit is {self._service.max_body}.",
            hint="Raise server.max_body in the gateway's configuration, or send less.",
        )

    # -- serving

    def _dispatch(self, request: Request) -> None:
        self.busy = True
        service = self._service
        self.keep_alive = request.keep_alive and not service.stopping
        arrived = service.clock.now()
        path = request.target.partition("?")[0]
        endpoint = dialects.endpoint_at(request.method, path)
        if endpoint is None and not path.startswith("/v1/"):
            self._task = self._loop.create_task(self._serve_control(request))
            return
        if service.overloaded:
            self._shed(endpoint or _nearest(path))
            return
        caller = Caller()
        try:
            if endpoint is None:
                raise _unknown_endpoint(request.method, path)
            intake = self._read_headers(request.headers)
            caller = intake.caller
            call = service.reader.read(
                endpoint, request.body, method=request.method, path=request.target, headers=intake.forward
            )
            if call.tags:
                caller = tagged(caller, call.tags)
            if intake.idempotency_key:
                call = msgspec.structs.replace(call, idempotency_key=intake.idempotency_key)
        except FarthingError as error:
            refused = service.exchange(Call(endpoint or _nearest(path), "", b""), caller, arrived)
            self._answer(self._refused_entered(refused, error), bodiless=request.method == "HEAD")
            return
        exchange = service.exchange(call, caller, arrived)
        self._task = self._loop.create_task(self._serve_call(exchange, request.http10))

    def _shed(self, endpoint: Endpoint) -> None:
        """Refuse a call as cheaply as can be; it is counted, and not entered."""
        self._service.shed += 1
        reply = error_reply(endpoint, OVERLOADED, "")
        head = b"%b%bcontent-length: %d\r\n%b\r\n"
        closing = b"" if self.keep_alive else CLOSING
        self._finish(head % (status_line(503), header_lines(reply.headers), len(reply.body), closing) + reply.body)

    def _read_headers(self, headers: list[tuple[bytes, bytes]]) -> Intake:
        """What the headers say; those of the request before are usually the same."""
        intake = self._last_intake
        if intake is None or headers != self._last_headers or not self._service.intakes.holds(intake):
            intake = self._last_intake = self._service.intakes.read(headers)
            self._last_headers = headers
        return intake

    async def _serve_call(self, exchange: Exchange, http10: bool) -> None:
        outlet = ClientStream(self, exchange.id, http10) if exchange.call.stream else None
        try:
            exchange = await self._service.pipeline.handle(exchange, outlet)
        except asyncio.CancelledError:
            return
        except FarthingError as error:  # its entry could not be written
            exchange = self._service.pipeline.refuse(exchange, error)
        except Exception:  # the one edge: an unexpected failure becomes a 500 with an entry, which settlement wrote
            log.exception("call %s failed unexpectedly", exchange.id)
            exchange = self._service.pipeline.refuse(exchange, FarthingError("The gateway failed unexpectedly."))
        self._answer(exchange, outlet)

    def _answer(self, exchange: Exchange, outlet: ClientStream | None = None, *, bodiless: bool = False) -> None:
        """Send the reply once its entry is written."""
        reply = exchange.reply or error_reply(exchange.call.endpoint, FarthingError("There is no answer."), exchange.id)
        if outlet is not None and outlet.begun:
            data = outlet.end(reply.tail)
        else:
            body = reply.body if not reply.streamed or reply.body else reply.tail
            data = self._head(exchange, reply, len(body)) + (b"" if bodiless else body)
        self._service.journal.after_commit(lambda: self._finish(data))

    def _head(self, exchange: Exchange, reply: Reply, length: int) -> bytes:
        return b"%b%b%bcontent-length: %d\r\n%b\r\n" % (
            status_line(reply.status),
            header_lines(reply.headers),
            receipt_lines(exchange, reply),
            length,
            b"" if self.keep_alive else CLOSING,
        )

    def _finish(self, data: bytes) -> None:
        """The answer is out; serve the next request of this connection, if it stays open."""
        self._task = None
        self._flow = None
        self.busy = False
        if self.closed:
            return
        self.last_activity = self._loop.time()
        self.transport.write(data)
        if not self.keep_alive or self._service.stopping:
            self.transport.close()
        elif self._queue or self._rejected is not None:
            self._loop.call_soon(self._next)
        elif self._expects and not self._in_head:
            self._go_ahead()

    def _next(self) -> None:
        """Serve, or refuse, what came while another request was being served."""
        if self.busy or self.closed or not self._writable:
            return
        if self._queue:
            request = self._queue.popleft()
            if not self._queue and self._rejected is None:
                self.transport.resume_reading()
            self._dispatch(request)
        elif self._rejected is not None and self.keep_alive:
            self._refuse(self._rejected)

    def _refused_entered(self, exchange: Exchange, error: FarthingError) -> Exchange:
        """The exchange refused, and entered if the ledger takes entries."""
        exchange = self._service.pipeline.refuse(exchange, error)
        try:
            self._service.pipeline.enter(exchange)
        except FarthingError as failure:
            return self._service.pipeline.refuse(exchange, failure)
        return exchange

    def _reject(self, error: FarthingError) -> None:
        """Refuse, in its turn, what could not be read to its end; what follows it is dropped."""
        if self._rejected is None:
            self._rejected = error
            if not self.busy and not self._queue:
                self._refuse(error)

    def _refuse(self, error: FarthingError) -> None:
        """Answer what was rejected, as the last answer of this connection."""
        self.busy = True
        self.keep_alive = False
        path = self._target.decode("latin-1").partition("?")[0]
        unread = self._service.exchange(Call(_nearest(path), "", b""), Caller(), self._service.clock.now())
        exchange = self._refused_entered(unread, error)
        reply = exchange.reply or Reply(error.status)
        data = self._head(exchange, reply, len(reply.body)) + reply.body
        self._service.journal.after_commit(lambda: self._part(data))

    def _part(self, data: bytes) -> None:
        """Send the last answer, and let the client get to it: who is still sending is not hung up on meanwhile."""
        self.busy = False
        if not self.closed:
            self.transport.write(data)
            self.transport.write_eof()

    async def _serve_control(self, request: Request) -> None:
        try:
            response = await self._service.control(
                request.method,
                request.target,
                request.headers,
                request.body,
                keep_alive=request.keep_alive,
                peer=self.transport.get_extra_info("peername"),
            )
        except Exception:  # the same edge for the control plane, whose framework has already logged nothing
            log.exception("%s %s failed unexpectedly", request.method, request.target)
            self.keep_alive = False
            response = b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self._finish(response)


def _nearest(path: str) -> Endpoint:
    """The endpoint whose dialect an error on this path is told in."""
    return "messages" if path.startswith("/v1/messages") else "other"


def _unknown_endpoint(method: str, path: str) -> UnknownEndpoint:
    return UnknownEndpoint(
        f"There is no {method} {path[:200]} on this gateway.",
        hint=f"It serves: {', '.join(f'{verb} {where}' for verb, where in dialects.ENDPOINTS)}.",
    )
