"""Guard: what every request to the control plane must satisfy, and what every answer carries."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farthing.dashboard.login import PATH, Login
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
"""Answered to everyone, under any host name: orchestrators ask by address, and there is nothing in them to steal."""

ASSETS = "/assets/"
"""The style and script of the pages, which the log-in needs too; they are the same in every installation."""


def problem(status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    """An error as JSON."""
    body = msgspec.json.encode(Problem(Trouble(code, message, hint)))
    return Response(body, status, headers, "application/json")


class Guard:
    """Lets nobody in but who is entitled to, and protects every answer.

    With a log-in, that is who brings its token or cookie. Without one, it is this machine, under its own names only: a
    page elsewhere could point its own name here.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str], login: Login | None) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def protect(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PROTECTION.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await (await self._other_than_app(Request(scope, receive)) or self._app)(scope, receive, protect)

    async def _other_than_app(self, request: Request) -> Response | None:
        """The log-in, or a refusal; `None` when the application is to answer."""
        path = request.scope["path"]
        if path in PROBES:
            return None
        if self._login is None:
            return _elsewhere(request.scope) or self._under_another_name(request)
        if path == PATH:
            return await self._login.answer(request)
        if path.startswith(ASSETS) or self._login.admits(request):
            return None
        if "text/html" in request.headers.get("accept", ""):
            return self._login.form(401)
        return problem(
            401,
            "admin_token_needed",
            "This is the gateway's control plane, and the request carried no admin token, or another one.",
            'Send "Authorization: Bearer TOKEN" with the token that server.admin_token refers to.',
            {"www-authenticate": 'Bearer realm="farthing"'},
        )

    def _under_another_name(self, request: Request) -> Response | None:
        hosts = request.headers.getlist("host")
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


def _elsewhere(scope: Scope) -> Response | None:
    """The refusal of a peer on another machine; one without an address is on this one."""
    try:
        address = ip_address(scope["client"][0])
    except (TypeError, ValueError):
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    return problem(
        403,
        "admin_token_needed",
        "Without an admin token, the control plane answers this machine only.",
        'Set server.admin_token to "env:NAME" or "file:/path", and send it as a bearer token.',
    )


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("LocalHost:8787"), host_name("[::1]:8787"), host_name("127.0.0.1")
    ('localhost', '[::1]', '127.0.0.1')
    """
    name, colon, port = host.rpartition(":")
    whole = not colon or (host.startswith("[") and "]" in port)
    return (host if whole else name).rstrip(".").lower()
