"""The tables in PostgreSQL: made, and brought up to date, by numbered SQL files that never change once released."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

import asyncpg  # type: ignore[import-untyped]
import msgspec

from farthing.errors import StoreError

FILES = ("postgres-1-ledger.sql", "postgres-2-budgets.sql", "postgres-3-keys.sql", "postgres-4-repeats.sql")
FORMAT = len(FILES)

BEGIN = """
BEGIN;
SET LOCAL statement_timeout = 0;
SELECT pg_advisory_xact_lock(hashtextextended('farthing.migrations', 0));
CREATE SCHEMA IF NOT EXISTS farthing;
CREATE TABLE IF NOT EXISTS farthing.migrations (
    number integer PRIMARY KEY, checksum text NOT NULL, applied timestamptz NOT NULL DEFAULT now()
);
"""
EXISTS = "SELECT to_regclass('farthing.migrations') IS NOT NULL"
APPLIED = "SELECT number, checksum FROM farthing.migrations"
APPLY = "INSERT INTO farthing.migrations (number, checksum) VALUES ($1, $2)"


class Migration(msgspec.Struct, frozen=True):
    """One step from an empty database to the present format."""

    number: int
    sql: str

    @property
    def checksum(self) -> str:
        """What tells it from another of its number."""
        return sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All of them, in order."""
    folder = files("farthing.stores") / "data"
    return [Migration(place, (folder / name).read_text("utf-8")) for place, name in enumerate(FILES, 1)]


async def is_current(db: asyncpg.Connection) -> bool:
    """Whether nothing is left to be applied. Raises `StoreError` when the tables are of a later or another format."""
    if not await db.fetchval(EXISTS):
        return False
    return not _pending(dict(await db.fetch(APPLIED)))


async def migrate(db: asyncpg.Connection) -> None:
    """Apply what is left, in one transaction; who comes second finds nothing to do. Raises `StoreError`."""
    await db.execute(BEGIN)
    for migration in _pending(dict(await db.fetch(APPLIED))):
        await db.execute(migration.sql)
        await db.execute(APPLY, migration.number, migration.checksum)
    await db.execute("COMMIT")


def _pending(applied: Mapping[int, str]) -> list[Migration]:
    if (found := max(applied, default=0)) > FORMAT:
        message = f"The database is in format {found}; this version of Farthing reads up to format {FORMAT}."
        raise StoreError(message, hint="Use the version that wrote it.")
    pending = []
    for migration in migrations():
        if migration.number not in applied:
            pending.append(migration)
        elif applied[migration.number] != migration.checksum:
            message = f"Format {migration.number} of the database was made by other statements than this version's."
            raise StoreError(message, hint="Use the version that made it, or another database.")
    return pending
