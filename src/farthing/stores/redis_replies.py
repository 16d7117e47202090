"""RedisReplies: a level of the exact cache in a Redis or Valkey that many gateways share."""

import asyncio
from collections import deque
from contextlib import suppress

import msgspec

from farthing.errors import StoreError
from farthing.ports import Kept
from farthing.schema import Reply
from farthing.stores.redis_link import RedisLink

MILLISECOND = 10**6
WAITING = 16 * 1024 * 1024
"""Bytes that may wait to be written; replies that come on top of that are not kept."""
WRITING = 1.0
"""Seconds for writing a reply, which nobody waits for."""
CLOSING = 1.0
"""Seconds that closing waits for what is to be written."""

_pack = msgspec.msgpack.Encoder().encode
_KEPT = msgspec.msgpack.Decoder(Kept)


class RedisReplies:
    """Implements `farthing.ports.SharedReplies` in a server; `deadline` is in seconds, `max_bytes` bounds each reply.

    While the server does not answer, nothing is found and nothing is kept.
    """

    def __init__(
        self, url: str, prefix: str = "farthing", deadline: float = 0.05, max_bytes: int = 4 * 1024 * 1024
    ) -> None:
        self._link = RedisLink(url, deadline, "The shared level of the cache", connections=8)
        self._prefix = f"{{{prefix}}}:reply:".encode()
        self._max_bytes = max_bytes
        self._room = WAITING
        self._waiting: deque[tuple[bytes, bytes, int]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now`."""
        with suppress(StoreError, msgspec.DecodeError):  # another version may have written it
            found = await self._link.ask("GET", self._prefix + key)
            if found is not None and (kept := _KEPT.decode(found)).expires > now:
                return kept
        return None

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep a reply, in the background; not where it is too large, or too much waits already."""
        packed = _pack(Kept(reply, expires))
        if len(packed) > min(self._max_bytes, self._room):
            return
        self._room -= len(packed)
        self._waiting.append((key, packed, expires // MILLISECOND + 1))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Write what waits, within `CLOSING` seconds, and let the server go."""
        if (writer := self._writer) is not None:
            await asyncio.wait([writer], timeout=CLOSING)
            writer.cancel()
        await self._link.close()

    async def _write(self) -> None:
        try:
            while self._waiting:
                key, packed, until = self._waiting.popleft()
                self._room += len(packed)
                with suppress(StoreError):
                    async with self._link.session(WRITING) as redis:
                        await redis.ask("SET", self._prefix + key, packed, "PXAT", until)
        finally:
            self._writer = None
