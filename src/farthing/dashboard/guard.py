"""Guard: what every request to the control plane must satisfy, and what every answer carries."""

from collections.abc import Sequence

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farthing.dashboard.views import Problem, Trouble

PROTECTION = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
PROBES = frozenset(("/healthz", "/readyz"))
"""Answered under any host name: orchestrators ask by address, and there is nothing in them worth stealing."""


def problem(status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    """An error as JSON."""
    body = msgspec.json.encode(Problem(Trouble(code, message, hint)))
    return Response(body, status, headers, "application/json")


class Guard:
    """Refuses foreign host names (a page elsewhere could point its own name here), and protects every answer."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def protect(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(PROTECTION)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = None if scope["path"] in PROBES else self._refusal(scope)
        await (refusal or self._app)(scope, receive, protect)

    def _refusal(self, scope: Scope) -> Response | None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return problem(400, "invalid_host", f"A request needs one Host header and this one has {len(hosts)}.")
        if "*" in self._allowed or host_name(hosts[0]) in self._allowed:
            return None
        return problem(
            421,
            "unknown_host",
            f"The dashboard is not known as {hosts[0][:200]!r}.",
            "Open it under one of the names in server.allowed_hosts, or add this one to them.",
        )


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("LocalHost:8787"), host_name("[::1]:8787"), host_name("127.0.0.1")
    ('localhost', '[::1]', '127.0.0.1')
    """
    name, colon, port = host.rpartition(":")
    whole = not colon or (host.startswith("[") and "]" in port)
    return (host if whole else name).rstrip(".").lower()
