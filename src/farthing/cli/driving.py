"""Sends calls to a gateway as SDKs would: the same requests, over a few connections that are kept alive."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from farthing.dialects.endpoints import ENDPOINTS, endpoint_at
from farthing.schema import Recorded

PATHS = {endpoint_at(method, path): path for method, path in ENDPOINTS if method == "POST"}


async def drive(
    host: str, port: int, calls: Iterable[Recorded], *, connections: int, done: Callable[[int], None]
) -> int:
    """Send the calls in order, as fast as the connections allow; how many were answered with an error.

    `done` is told after each call how many are. Raises OSError when the gateway cannot be reached.
    """
    waiting = iter(calls)
    count = 0

    def answered() -> None:
        nonlocal count
        count += 1
        done(count)

    failures = await asyncio.gather(*(_send_all(host, port, waiting, answered) for _ in range(connections)))
    return sum(failures)


async def _send_all(host: str, port: int, waiting: Iterator[Recorded], answered: Callable[[], None]) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    failures = 0
    try:
        for call in waiting:
            writer.write(_request(call, host, port))
            failures += await _status(reader) >= 400
            answered()
    finally:
        writer.close()
    return failures


def _request(call: Recorded, host: str, port: int) -> bytes:
    body = bytes(call.request)
    head = (
        f"POST {PATHS[call.endpoint]} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {call.tenant}-{call.team}\r\nx-farthing-tenant: {call.tenant}\r\n"
        f"x-farthing-team: {call.team}\r\nx-farthing-feature: {call.feature}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _status(reader: asyncio.StreamReader) -> int:
    """Read one whole answer; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, marked, rest = head.partition(b"\r\ncontent-length:")
    if marked:
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    else:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head.split(b" ", 2)[1])
