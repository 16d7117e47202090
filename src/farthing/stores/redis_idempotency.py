"""RedisIdempotency: which Idempotency-Keys were used, in a Redis or Valkey that the gateways of many hosts share."""

from collections.abc import Callable

import msgspec

from farthing.ports import Repeated
from farthing.schema import Reply
from farthing.stores.redis_link import Part, RedisLink, Script, Session

MILLISECOND = 10**6

REPLACE = Script("""
-- Puts ARGV[2] in the place of ARGV[1], for a time, where that is what is there; either may be empty, for nothing.
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], ARGV[3], ARGV[4])
end
return found
""")


class Claimed(msgspec.Struct, frozen=True, array_like=True):
    """Who claimed a key for what, and until when (Unix ns); its reply once there is one."""

    digest: bytes
    owner: str
    until: int
    reply: Reply | None = None

    def is_of(self, owner: str) -> bool:
        """Whether it waits for the reply of `owner`."""
        return self.owner == owner and self.reply is None


_pack = msgspec.msgpack.Encoder().encode
_CLAIMED = msgspec.msgpack.Decoder(Claimed)


class RedisIdempotency:
    """Implements `farthing.ports.IdempotencyStore` in a server; `deadline` is in seconds.

    A server that forgets everything forgets which keys were used: their calls can then be made again.
    """

    def __init__(self, url: str, prefix: str = "farthing", deadline: float = 0.5) -> None:
        self._link = RedisLink(url, deadline, "The Idempotency-Keys")
        self._prefix = f"{{{prefix}}}:key:".encode()

    async def claim(self, key: bytes, digest: bytes, owner: str, now: int, until: int) -> Repeated | None:
        """Take a key, or keep it for longer."""
        made = _pack(Claimed(digest, owner, until))
        seen = b""
        async with self._link.session() as redis:
            while (found := await self._replace(redis, key, seen, made, "PX", max(until - now, 0))) != seen:
                claimed = _CLAIMED.decode(found) if found else None
                if claimed is not None and claimed.until > now and not claimed.is_of(owner):
                    return Repeated(claimed.digest, claimed.reply)
                seen = found
        return None

    async def complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        """Keep the reply of a claimed key."""
        await self._end(key, owner, lambda claimed: _pack(Claimed(claimed.digest, owner, until, reply)), "PXAT", until)

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claimed key back."""
        await self._end(key, owner, lambda _: b"", "PX", 0)

    async def close(self) -> None:
        """Let the server go."""
        await self._link.close()

    async def _end(self, key: bytes, owner: str, outcome: Callable[[Claimed], bytes], kind: str, time: int) -> None:
        """Put an outcome in the place of a claim, if it is this owner's."""
        async with self._link.session() as redis:
            while found := await redis.ask("GET", self._prefix + key):
                claimed = _CLAIMED.decode(found)
                if not claimed.is_of(owner):
                    return
                if await self._replace(redis, key, found, outcome(claimed), kind, time) == found:
                    return

    async def _replace(self, redis: Session, key: bytes, seen: bytes, made: Part, kind: str, time: int) -> bytes:
        """What was there, replaced if it is what was seen; for a time (ns) of the `kind` that is an option of SET."""
        replaced: bytes = await redis.run(REPLACE, self._prefix + key, seen, made, kind, time // MILLISECOND + 1)
        return replaced
