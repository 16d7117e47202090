"""PostgresBudgets: what limits count, in a PostgreSQL database that the gateways of many hosts share.

Every batch is one transaction of four short round trips, which locks the accounts it touches in a fixed order. So
batches that share no account do not wait for one another, and those that do come one after the other.
"""

import asyncio
from collections.abc import Mapping, Sequence

import asyncpg  # type: ignore[import-untyped]
import msgspec

from farthing.budgets.cells import KEPT_SLICES, MOST, Cells, Held
from farthing.ports import LEASE_SECONDS
from farthing.schema import Balance, Claim, Hold, Resolution, Verdict
from farthing.stores.postgres_link import PATIENCE, PostgresLink

DAY = 86_400
DORMANT = 62 * DAY
"""Seconds after which a slice counts in no period but a lifetime."""
EXPIRED_AT_ONCE = 1000
"""Holds that expire in one transaction."""

OPEN = "SELECT farthing.open_accounts($1, $2, $3, $4)"
WRITE = """
WITH ended AS (DELETE FROM farthing.holds WHERE id = ANY ($1)),
made AS (
    INSERT INTO farthing.holds (id, owner, claims, entry)
    SELECT id, $2, claims, entry FROM unnest($3::text[], $4::json[], $5::bytea[]) AS made (id, claims, entry)
    ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, expired = false, claims = excluded.claims,
        entry = excluded.entry
),
expired AS (UPDATE farthing.holds SET expired = true WHERE id = ANY ($6))
INSERT INTO farthing.cells (account, slice, spent, held, expired)
SELECT accounts.id, slice, spent, held, expired
FROM unnest($7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
    AS changed (name, slice, spent, held, expired)
JOIN farthing.accounts USING (name)
ON CONFLICT (account, slice) DO UPDATE SET spent = excluded.spent, held = excluded.held, expired = excluded.expired
"""
LEARN = "UPDATE farthing.accounts SET known = true WHERE name = $1"
BALANCE = """
SELECT coalesce(sum(spent), 0), coalesce(sum(held), 0), coalesce(sum(expired), 0)
FROM farthing.cells JOIN farthing.accounts ON accounts.id = cells.account WHERE name = $1 AND slice >= $2
"""
ACCOUNTS = """
SELECT name FROM farthing.accounts
WHERE known OR EXISTS (SELECT FROM farthing.cells WHERE account = accounts.id) ORDER BY id
"""
BEAT = """
INSERT INTO farthing.owners (owner, seen) VALUES ($1, clock_timestamp())
ON CONFLICT (owner) DO UPDATE SET seen = excluded.seen
"""
SILENT = """
SELECT id FROM farthing.holds WHERE NOT expired AND owner <> $1 AND NOT EXISTS (
    SELECT FROM farthing.owners
    WHERE owners.owner = holds.owner AND seen >= clock_timestamp() - make_interval(secs => $2)
) ORDER BY number LIMIT $3
"""
FORGET_OLD = """
DELETE FROM farthing.cells WHERE held = 0 AND expired = 0 AND (account, slice) IN (
    SELECT account, slice FROM (
        SELECT account, slice, row_number() OVER (PARTITION BY account ORDER BY slice DESC) AS place
        FROM farthing.cells JOIN farthing.accounts ON accounts.id = account WHERE name = ANY ($1)
    ) AS placed WHERE place > $2
)
"""
FORGET_DORMANT = """
DELETE FROM farthing.cells
WHERE slice > 0 AND slice < extract(epoch FROM clock_timestamp()) - $1 AND held = 0 AND expired = 0
"""
FORGET_OWNERS = """
DELETE FROM farthing.owners WHERE seen < clock_timestamp() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM farthing.holds WHERE holds.owner = owners.owner)
"""
ORPHANS = "SELECT id, claims, entry FROM farthing.holds WHERE owner = $1 ORDER BY number"

_CLAIMS = msgspec.json.Decoder(tuple[Claim, ...])


class _Opened(msgspec.Struct, frozen=True, gc=False):
    """What `open_accounts` gives: holds (id, owner, expired, claims), accounts, and cells (account, slice, amounts)."""

    holds: list[tuple[str, str, bool, tuple[Claim, ...]]]
    known: list[str]
    cells: list[tuple[str, int, int, int, int]]


_OPENED = msgspec.json.Decoder(_Opened)


class PostgresBudgets:
    """Implements `farthing.ports.BudgetStore` in a database; `deadline` is in seconds.

    Nothing is asked of the database before the first call. Leases are measured by its clock.
    """

    def __init__(self, dsn: str, owner: str, deadline: float = 2.0) -> None:
        self._link = PostgresLink(dsn, deadline, "What limits count")
        self._owner = owner
        self._opened: set[str] = set()
        self._tidy_at = 0.0

    async def apply(self, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        """Resolve, then hold, in one transaction."""
        ids = [*(resolution.id for resolution in resolutions), *(hold.id for hold in holds)]
        reach = Cells().reach((), holds)

        async def act(db: asyncpg.Connection) -> list[Verdict]:
            cells = await self._open(db, ids, reach)
            verdicts = cells.apply(self._owner, resolutions, holds)
            await self._write(db, cells)
            return verdicts

        return await self._link.transact(act)

    async def seed(self, account: str, spent: Mapping[int, int]) -> None:
        """Make an account known, with what was spent already by slice."""

        async def act(db: asyncpg.Connection) -> None:
            cells = await self._open(db, [], {account: 0})
            cells.seed(account, spent)
            await self._write(db, cells)
            await db.execute(LEARN, account)

        await self._link.transact(act)

    async def balance(self, account: str, oldest: int) -> Balance:
        """What counts in an account from the slice `oldest` on."""
        return Balance(*map(int, (await self._link.ask(BALANCE, account, oldest))[0]))

    async def accounts(self) -> list[str]:
        """The name of every account held from or seeded."""
        return [row["name"] for row in await self._link.ask(ACCOUNTS)]

    async def beat(self) -> None:
        """Say that this owner lives; what those hold who were silent for too long expires."""
        opened, self._opened = self._opened, set()
        await self._link.ask(BEAT, self._owner)
        await self._link.transact(lambda db: self._expire(db, list(opened)))
        if (now := asyncio.get_running_loop().time()) > self._tidy_at:
            self._tidy_at = now + DAY
            await self._link.transact(self._tidy, PATIENCE)

    async def orphans(self) -> list[Hold]:
        """This owner's holds, oldest first."""

        async def act(db: asyncpg.Connection) -> list[Hold]:
            await self._open(db, [], {})  # waits for what a process before this one had under way
            return [
                Hold(row["id"], _CLAIMS.decode(row["claims"]), row["entry"])
                for row in await db.fetch(ORPHANS, self._owner)
            ]

        return await self._link.transact(act)

    async def close(self) -> None:
        """Let the database go."""
        await self._link.close()

    async def _expire(self, db: asyncpg.Connection, opened: list[str]) -> None:
        """Note whose owner is silent, and forget old slices of the accounts in `opened`."""
        silent = [row["id"] for row in await db.fetch(SILENT, self._owner, float(LEASE_SECONDS), EXPIRED_AT_ONCE)]
        if not silent and not opened:
            return
        cells = await self._open(db, silent, dict.fromkeys(opened, MOST))
        cells.expire(list(cells.holds))
        await self._write(db, cells)
        await db.execute(FORGET_OLD, opened, KEPT_SLICES)

    async def _tidy(self, db: asyncpg.Connection) -> None:
        await db.execute(FORGET_DORMANT, DORMANT)
        await db.execute(FORGET_OWNERS, DAY)

    async def _open(self, db: asyncpg.Connection, ids: Sequence[str], reach: Mapping[str, int]) -> Cells:
        """The holds with these ids, and the accounts that they and `reach` touch, locked until the transaction ends."""
        found = _OPENED.decode(await db.fetchval(OPEN, self._owner, ids, list(reach), list(reach.values())))
        cells = Cells()
        cells.known.update(found.known)
        for ident, owner, expired, claims in found.holds:
            cells.holds[ident] = Held(Hold(ident, claims), owner, expired)
        for account, slice_, *amounts in found.cells:
            cells.cells.setdefault(account, {})[slice_] = amounts
        return cells

    async def _write(self, db: asyncpg.Connection, cells: Cells) -> None:
        """Write what changed."""
        made = [held.hold for held in cells.kept.values() if not held.expired]
        expired = [ident for ident, held in cells.kept.items() if held.expired]
        rows = list(cells.rows())
        if not (made or expired or rows or cells.gone):
            return
        await db.execute(
            WRITE,
            list(cells.gone - cells.kept.keys()),
            self._owner,
            [hold.id for hold in made],
            [msgspec.json.encode(hold.claims).decode() for hold in made],
            [hold.entry for hold in made],
            expired,
            *([row[place] for row in rows] for place in range(5)),
        )
        self._opened |= cells.opened
