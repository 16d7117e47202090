"""MemoryIdempotency: which Idempotency-Keys were used, for one process that need not remember: tests."""

from itertools import islice

import msgspec

from farthing.errors import StoreError
from farthing.ports import Repeated
from farthing.schema import Reply

PRUNED_TOGETHER = 10
"""How many keys are looked at, oldest first, to see whether they have expired, with each one that is claimed."""


class Claim(msgspec.Struct, frozen=True):
    """Who claimed a key for what, and until when (Unix ns); its reply once there is one."""

    known: Repeated
    owner: str
    until: int


class MemoryIdempotency:
    """Implements `farthing.ports.IdempotencyStore` in memory."""

    def __init__(self) -> None:
        self._claims: dict[bytes, Claim] = {}
        self._closed = False

    async def claim(self, key: bytes, digest: bytes, owner: str, now: int, until: int) -> Repeated | None:
        """Take a key, or keep it for longer."""
        claims = self._open()
        for name, old in list(islice(claims.items(), PRUNED_TOGETHER)):
            if old.until <= now:
                del claims[name]
        held = claims.get(key)
        if held is not None and held.until > now and (held.owner != owner or held.known.reply is not None):
            return held.known
        claims[key] = Claim(Repeated(digest, None), owner, until)
        return None

    async def complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        """Keep the reply of a claimed key."""
        held = self._open().get(key)
        if held is not None and held.owner == owner and held.known.reply is None:
            del self._claims[key]  # it goes to the end of the line
            self._claims[key] = Claim(Repeated(held.known.digest, reply), owner, until)

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claimed key back."""
        held = self._open().get(key)
        if held is not None and held.owner == owner and held.known.reply is None:
            del self._claims[key]

    async def close(self) -> None:
        """Others that share it find it closed."""
        self._closed = True

    def _open(self) -> dict[bytes, Claim]:
        if self._closed:
            raise StoreError("An Idempotency-Key is asked for after its store was closed.", hint="Report this.")
        return self._claims
