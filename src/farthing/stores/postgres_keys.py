"""PostgresKeys: gateway keys in a PostgreSQL database, shared by every gateway that is given it."""

import asyncpg  # type: ignore[import-untyped]
import msgspec

from farthing.errors import RequestError
from farthing.schema import GatewayKey
from farthing.stores.postgres_link import BlockingLink

REVISION = "SELECT number FROM farthing.revision"
KEYS = "SELECT doc FROM farthing.keys ORDER BY id"
SAME = "SELECT doc FROM farthing.keys WHERE name = $1"
ADD = """
WITH added AS (INSERT INTO farthing.keys (name, doc) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id)
UPDATE farthing.revision SET number = number + 1 WHERE EXISTS (SELECT FROM added) RETURNING number
"""
CHANGE = """
WITH changed AS (UPDATE farthing.keys SET doc = $2 WHERE name = $1 RETURNING id)
UPDATE farthing.revision SET number = number + 1 WHERE EXISTS (SELECT FROM changed) RETURNING number
"""

KEY = msgspec.json.Decoder(GatewayKey)


class PostgresKeys:
    """Implements `farthing.ports.KeyStore` in a database; `deadline` is in seconds."""

    def __init__(self, dsn: str, deadline: float = 2.0) -> None:
        self._link = BlockingLink(dsn, deadline, "The key store", connections=2)

    def revision(self) -> int:
        """A number that grows with every change; 0 while there never was a key."""
        return int(self._link.ask(REVISION)[0]["number"])

    def keys(self) -> list[GatewayKey]:
        """Every key, revoked ones too, oldest first."""
        return [KEY.decode(row["doc"]) for row in self._link.ask(KEYS)]

    def add(self, key: GatewayKey) -> None:
        """Keep a new key. Raises `RequestError` when its name is taken."""
        if not self._write(ADD, key):
            raise RequestError(f'There is a key "{key.name}" already.', hint="A name stands for one key for good.")

    def change(self, key: GatewayKey) -> None:
        """Put a key in the place of the one of its name. Raises `RequestError` when there is none."""
        if not self._write(CHANGE, key):
            raise RequestError(f'There is no key "{key.name}".', hint="See `farthing key list`.")

    def close(self) -> None:
        """Let the database go."""
        self._link.close()

    def _write(self, statement: str, key: GatewayKey) -> bool:
        """Change one row and the revision with it; whether there was one to change."""
        name, doc = (msgspec.json.encode(value).decode() for value in (key.name, key))  # JSON has no NUL
        tries = 0

        async def write(db: asyncpg.Connection) -> bool:
            nonlocal tries
            tries += 1
            if await db.fetchval(statement, name, doc) is not None:
                return True
            return tries > 1 and bool(await db.fetchval(SAME, name) == doc)  # done before, but the answer was lost

        return self._link.transact(write)
