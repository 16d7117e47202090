"""SqliteBudgets: what limits count, in one SQLite file that the processes of one host share.

Every batch is one transaction that has the file to itself, and a few statements however many holds it carries; what
they read comes back as one row of JSON, for the reason given in `farthing.stores.bulk`. The file survives the death of
any process; a loss of power may take the last moments, which the ledger still has.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import msgspec

from farthing.budgets.cells import KEPT_SLICES, Cells, Held
from farthing.errors import StoreError
from farthing.ports import LEASE_SECONDS
from farthing.schema import Balance, Claim, Hold, Resolution, Verdict
from farthing.stores import bulk
from farthing.stores.sqlite_files import explained, make_private, transaction, write_ahead

FORMAT = 1
DAY = 86_400
DORMANT = 62 * DAY
"""Seconds after which a slice counts in no period but a lifetime."""
REMEMBERED = 65_536
"""Accounts that are remembered to be known."""

# Only constants of this package are formatted into statements; values are always bound.
TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (account TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cells (
    account TEXT, slice INTEGER, spent INTEGER NOT NULL, held INTEGER NOT NULL, expired INTEGER NOT NULL,
    PRIMARY KEY (account, slice)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, expired INTEGER NOT NULL, claims TEXT NOT NULL, entry BLOB NOT NULL
);
PRAGMA user_version = {FORMAT};
COMMIT;
"""
_HELD = "group_concat(printf('[%s,%s,%d,%s]', json_quote(id), json_quote(owner), expired, claims))"
HOLDS = f"SELECT {_HELD} FROM holds WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
SILENT = f"""
SELECT {_HELD} FROM holds WHERE NOT expired AND owner IN (SELECT owner FROM owners WHERE seen < ?)
"""  # noqa: S608
KNOWN = "SELECT json_group_array(account) FROM known WHERE account IN (SELECT value FROM json_each(?))"
ACCOUNTS = "SELECT json_group_array(account) FROM (SELECT account FROM known UNION SELECT account FROM cells)"
CELLS = """
SELECT json_group_array(json_array(account, slice, spent, held, expired))
FROM json_each(?) AS reach CROSS JOIN cells ON account = reach.key AND slice >= reach.value
"""
WRITE_CELLS = """
INSERT OR REPLACE INTO cells (account, slice, spent, held, expired)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]') FROM json_each(?)
"""
DELETE_HOLDS = "DELETE FROM holds WHERE id IN (SELECT value FROM json_each(?))"
WRITE_HOLDS = f"""
INSERT INTO holds (id, owner, expired, claims, entry)
SELECT id, :owner, 0, CAST(substr(document, 1, claims) AS TEXT), substr(document, claims + 1)
FROM (SELECT {bulk.TEXT} AS id, {bulk.NUMBER} AS claims, {bulk.DOCUMENT} AS document FROM {bulk.SOURCE})
"""  # noqa: S608
EXPIRE_HOLDS = "UPDATE holds SET expired = 1 WHERE id IN (SELECT value FROM json_each(?))"
ORPHANS = "SELECT id, claims, entry FROM holds WHERE owner = ? ORDER BY rowid"
BEAT = "INSERT OR REPLACE INTO owners (owner, seen) VALUES (?, ?)"
LEARN = "INSERT OR IGNORE INTO known (account) VALUES (?)"
FORGET_OLD = f"""
DELETE FROM cells WHERE held = 0 AND expired = 0 AND (account, slice) IN (
    SELECT account, slice FROM (
        SELECT account, slice, row_number() OVER (PARTITION BY account ORDER BY slice DESC) AS place
        FROM cells WHERE account IN (SELECT value FROM json_each(?))
    ) WHERE place > {KEPT_SLICES}
)
"""  # noqa: S608
FORGET_DORMANT = "DELETE FROM cells WHERE slice > 0 AND slice < ? AND held = 0 AND expired = 0"

_CLAIMS = msgspec.json.Decoder(tuple[Claim, ...])
_HOLDS = msgspec.json.Decoder(list[tuple[str, str, int, tuple[Claim, ...]]])
_CELLS = msgspec.json.Decoder(list[tuple[str, int, int, int, int]])
_ACCOUNTS = msgspec.json.Decoder(list[str])

T = TypeVar("T")


class SqliteBudgets:
    """Implements `farthing.ports.BudgetStore` in a file, created where there is none; `deadline` is in seconds.

    Raises `StoreError` when the file is damaged, locked for longer than `deadline`, or of a later format.
    """

    def __init__(self, path: Path, owner: str, deadline: float = 2.0) -> None:
        self._path = path
        self._owner = owner
        self._deadline = deadline
        self._known: set[str] = set()
        self._opened: set[str] = set()
        self._tidied = 0.0
        self._closed = False
        with self._explained():
            make_private(path)
            self._db = sqlite3.connect(path, deadline, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        self._thread = ThreadPoolExecutor(1, "farthing-budgets")

    async def apply(self, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        """Resolve, then hold, in one transaction."""
        return await self._do(lambda: self._apply(resolutions, holds))

    async def seed(self, account: str, spent: Mapping[int, int]) -> None:
        """Make an account known, with what was spent already by slice."""
        await self._do(lambda: self._seed(account, spent))

    async def balance(self, account: str, oldest: int) -> Balance:
        """What counts in an account from the slice `oldest` on."""
        return await self._do(lambda: self._balance(account, oldest))

    async def accounts(self) -> list[str]:
        """Every account that was seeded, or has something to count."""
        return await self._do(lambda: _ACCOUNTS.decode(self._db.execute(ACCOUNTS).fetchone()[0]))

    async def beat(self) -> None:
        """Say that this owner lives; what those hold who were silent for too long expires."""
        await self._do(self._beat)

    async def orphans(self) -> list[Hold]:
        """This owner's holds, oldest first."""
        return await self._do(self._orphans)

    async def close(self) -> None:
        """Finish what was asked for, and let the file go."""
        if not self._closed:
            try:
                await self._do(self._db.close)
            finally:
                self._closed = True
                self._thread.shutdown(wait=False)

    async def _do(self, action: Callable[[], T]) -> T:
        """Run an action in the store's thread; one that has not begun when its deadline passes never does."""
        if self._closed:
            raise StoreError(f"The budgets in {self._path} are asked for after they were closed.")
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._explaining, action)
        except TimeoutError:
            raise StoreError(
                f"The budgets in {self._path} did not answer within {self._deadline:g} s.",
                hint="See whether its disk is busy, or another process holds it.",
            ) from None

    def _explaining(self, action: Callable[[], T]) -> T:
        with self._explained():
            return action()

    def _apply(self, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        cells = Cells()
        cells.known = self._known
        ids = [one.id for one in resolutions]
        with transaction(self._db) as db:
            self._learn(db, {claim.account for hold in holds for claim in hold.claims if claim.meter == "usd"})
            load_holds(cells, db.execute(HOLDS, (json_of([*ids, *(hold.id for hold in holds)]),)))
            load_cells(db, cells, cells.reach(ids, holds))
            verdicts = cells.apply(self._owner, resolutions, holds)
            write_cells(db, cells)
            if cells.gone:
                db.execute(DELETE_HOLDS, (json_of(list(cells.gone)),))
            if cells.kept:
                db.execute(WRITE_HOLDS, {"owner": self._owner, **packed(cells.kept.values())})
        self._opened |= cells.opened
        return verdicts

    def _learn(self, db: sqlite3.Connection, accounts: set[str]) -> None:
        """Find out which of these accounts are known; once known, always known."""
        unsure = accounts - self._known
        if unsure:
            if len(self._known) > REMEMBERED:
                self._known.clear()
                unsure = accounts
            self._known.update(_ACCOUNTS.decode(db.execute(KNOWN, (json_of(list(unsure)),)).fetchone()[0]))

    def _seed(self, account: str, spent: Mapping[int, int]) -> None:
        cells = Cells()
        cells.seed(account, spent)
        with transaction(self._db) as db:
            if db.execute(LEARN, (account,)).rowcount:
                write_cells(db, cells)
        self._opened.add(account)

    def _balance(self, account: str, oldest: int) -> Balance:
        cells = Cells()
        load_cells(self._db, cells, {account: oldest})
        return cells.balance(account, oldest)

    def _beat(self) -> None:
        now = time.time()
        cells = Cells()
        with transaction(self._db) as db:
            db.execute(BEAT, (self._owner, now))
            load_holds(cells, db.execute(SILENT, (now - LEASE_SECONDS,)))
            silent = list(cells.holds)
            load_cells(db, cells, cells.reach(silent))
            cells.expire(silent)
            write_cells(db, cells)
            db.execute(EXPIRE_HOLDS, (json_of(silent),))
            db.execute(FORGET_OLD, (json_of(list(self._opened)),))
            if abs(now - self._tidied) > DAY:
                db.execute(FORGET_DORMANT, (now - DORMANT,))
                self._tidied = now
        self._opened.clear()

    def _orphans(self) -> list[Hold]:
        rows = self._db.execute(ORPHANS, (self._owner,))
        return [Hold(ident, _CLAIMS.decode(claims), entry) for ident, claims, entry in rows]

    def _prepare(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise StoreError(
                f"{self._path} is in budget format {found}; this version of Farthing reads up to format {FORMAT}.",
                hint="Use the version that wrote it.",
            )
        write_ahead(self._db, self._deadline)
        self._db.execute("PRAGMA synchronous = NORMAL")
        if found < FORMAT:
            self._db.executescript(TABLES)
        self._db.execute(BEAT, (self._owner, time.time()))

    def _explained(self) -> AbstractContextManager[None]:
        return explained(
            "The budgets",
            self._path,
            "Stop every gateway and delete the file: what was spent is counted again from the ledger.",
        )


def json_of(value: object) -> str:
    """A parameter of a statement, as text."""
    return msgspec.json.encode(value).decode()


def load_holds(cells: Cells, found: sqlite3.Cursor) -> None:
    """Put the holds that were found into `cells`; their entries stay behind."""
    for ident, owner, expired, claims in _HOLDS.decode(f"[{found.fetchone()[0] or ''}]"):
        cells.holds[ident] = Held(Hold(ident, claims), owner, bool(expired))


def load_cells(db: sqlite3.Connection, cells: Cells, reach: Mapping[str, int]) -> None:
    """Put the cells of accounts, each from a slice on, into `cells`."""
    for account, slice_, *amounts in _CELLS.decode(db.execute(CELLS, (json_of(reach),)).fetchone()[0]):
        cells.cells.setdefault(account, {})[slice_] = amounts


def write_cells(db: sqlite3.Connection, cells: Cells) -> None:
    """Write the cells that changed."""
    rows = list(cells.rows())
    if rows:
        db.execute(WRITE_CELLS, (json_of(rows),))


def packed(kept: Iterable[Held]) -> dict[str, str | bytes]:
    """Holds as the parameters of a statement."""
    holds = [held.hold for held in kept]
    claims = [msgspec.json.encode(hold.claims) for hold in holds]
    documents = [text + hold.entry for text, hold in zip(claims, holds, strict=True)]
    return bulk.pack([hold.id for hold in holds], [len(text) for text in claims], documents)
