"""A small bridge that lets an ASGI application answer on the data plane's connections: the control plane's way in."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from farthing.server.wire import status_line

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class ControlPlane:
    """Runs one ASGI application and returns each response whole: its pages are small."""

    def __init__(self, application: Application, server: tuple[str, int]) -> None:
        self._application = application
        self._server = server

    async def __call__(
        self,
        method: str,
        target: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        keep_alive: bool,
        peer: tuple[str, int] | None,
    ) -> bytes:
        """The bytes of the response to what `peer` asks, without a body when it is HEAD."""
        path, _, query = target.partition("?")
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": headers,
            "server": self._server,
            "client": peer,
        }
        start: Message = {"status": 500, "headers": []}
        parts: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._application(scope, receive, send)
        content = b"".join(parts)
        lines = [status_line(start["status"])]
        lines += [b"%b: %b\r\n" % (name, value) for name, value in start["headers"] if name != b"content-length"]
        lines.append(b"content-length: %d\r\n" % len(content))
        lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines) + (b"" if method == "HEAD" else content)
