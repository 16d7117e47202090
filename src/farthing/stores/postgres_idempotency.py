"""PostgresIdempotency: which Idempotency-Keys were used, in a PostgreSQL database that many hosts share.

Every step is one statement, so that there is nothing to roll back; one whose answer was lost may be done again.
"""

import msgspec

from farthing.ports import Repeated
from farthing.schema import Reply
from farthing.stores.postgres_link import PostgresLink

PRUNED_EVERY = 64
"""After how many claims expired keys go."""

TAKE = """
INSERT INTO farthing.repeats AS held (key, digest, owner, until) VALUES ($1, $2, $3, $4)
ON CONFLICT (key) DO UPDATE
SET digest = excluded.digest, owner = excluded.owner, until = excluded.until, reply = NULL
WHERE held.until <= $5 OR (held.owner = excluded.owner AND held.reply IS NULL) RETURNING 1
"""
FIND = "SELECT digest, reply FROM farthing.repeats WHERE key = $1"
COMPLETE = "UPDATE farthing.repeats SET reply = $3, until = $4 WHERE key = $1 AND owner = $2 AND reply IS NULL"
RELEASE = "DELETE FROM farthing.repeats WHERE key = $1 AND owner = $2 AND reply IS NULL"
PRUNE = f"""
DELETE FROM farthing.repeats WHERE key IN (
    SELECT key FROM farthing.repeats WHERE until <= $1 ORDER BY until LIMIT {PRUNED_EVERY * 8} FOR UPDATE SKIP LOCKED
)
"""  # noqa: S608  # only a constant is formatted in

_REPLY = msgspec.msgpack.Decoder(Reply)


class PostgresIdempotency:
    """Implements `farthing.ports.IdempotencyStore` in a database; `deadline` is in seconds."""

    def __init__(self, dsn: str, deadline: float = 0.5) -> None:
        self._link = PostgresLink(dsn, deadline, "The Idempotency-Keys")
        self._claims = 0

    async def claim(self, key: bytes, digest: bytes, owner: str, now: int, until: int) -> Repeated | None:
        """Take a key, or keep it for longer."""
        self._claims += 1
        if self._claims % PRUNED_EVERY == 0:
            await self._link.ask(PRUNE, now)
        while not await self._link.ask(TAKE, key, digest, owner, until, now):
            for row in await self._link.ask(FIND, key):  # none where it was given back this moment
                return Repeated(row["digest"], None if row["reply"] is None else _REPLY.decode(row["reply"]))
        return None

    async def complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        """Keep the reply of a claimed key."""
        await self._link.ask(COMPLETE, key, owner, msgspec.msgpack.encode(reply), until)

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claimed key back."""
        await self._link.ask(RELEASE, key, owner)

    async def close(self) -> None:
        """Let the database go."""
        await self._link.close()
