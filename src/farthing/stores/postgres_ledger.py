"""PostgresLedger: one ledger for many gateways, in a PostgreSQL database.

An entry is a thin row in the table of its month: the journal and record it came from, its arrival, exchange, and the
JSON that was journalled; the view `farthing.calls` shows its fields as columns. A batch of entries, the roll-ups they
change and the new position of their journal are one transaction, so that a batch whose outcome was never learnt can be
handed over again.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import asyncpg  # type: ignore[import-untyped]
import msgspec

from farthing.errors import LedgerError
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify, verify_rollups
from farthing.ports import Stored
from farthing.schema import HOUR, Entry, Rollup
from farthing.stores.memory_ledger import missing_records
from farthing.stores.postgres_link import PATIENCE, BlockingLink, Fetch

PAGE = 1000
"""Rows read at a time."""
PRUNE_CHUNK = 5000
"""Entries forgotten per transaction, where not the whole month is."""
EVER = 2**63 - 1

POSITION = "SELECT position FROM farthing.journals WHERE name = $1"
BEGIN_JOURNAL = "INSERT INTO farthing.journals (name) VALUES ($1) ON CONFLICT DO NOTHING"
LOCK_JOURNAL = "SELECT id, position FROM farthing.journals WHERE name = $1 FOR UPDATE"
TAKE = "SELECT farthing.take($1, $2, $3, $4, $5, $6, $7) AS doc"
WRITE = """
WITH moved AS (UPDATE farthing.journals SET position = $2 WHERE id = $1)
UPDATE farthing.rollups SET doc = sums.doc
FROM unnest($3::bigint[], $4::bytea[], $5::text[]) AS sums (hour, cell, doc)
WHERE rollups.hour = sums.hour AND rollups.cell = sums.cell
"""
ROLLUPS = """
SELECT hour, cell, doc FROM farthing.rollups
WHERE hour >= $1 AND (hour, cell) > ($1, $2) AND hour < $3 ORDER BY hour, cell LIMIT $4
"""
OLDEST = """
SELECT at, seq, doc FROM farthing.entries
WHERE at >= $1 AND (at, seq) > ($1, $2) AND at < $3 ORDER BY at, seq LIMIT $4
"""
NEWEST = """
SELECT at, seq, doc FROM farthing.entries
WHERE at <= $1 AND (at, seq) < ($1, $2) AND at >= $3 ORDER BY at DESC, seq DESC LIMIT $4
"""
GROUP = "SELECT doc FROM farthing.entries WHERE grp = $1 ORDER BY seq"
PRUNED = "UPDATE farthing.retention SET pruned = greatest(pruned, $1)"
DROP = "SELECT farthing.drop_month($1)"
FORGET = """
WITH gone AS (
    DELETE FROM farthing.entries WHERE at < $1
        AND (at, seq) IN (SELECT at, seq FROM farthing.entries WHERE at < $1 ORDER BY at, seq LIMIT $2)
    RETURNING 1
)
SELECT count(*) FROM gone
"""
CHECK = """
SELECT name, position, count(record) AS held, max(record) AS last,
    (SELECT pruned FROM farthing.retention) AS pruned
FROM farthing.journals LEFT JOIN farthing.entries ON journal = id GROUP BY name, position ORDER BY name
"""

ENTRY = msgspec.json.Decoder(Entry)
ROLLUP = msgspec.json.Decoder(Rollup)


class PostgresLedger:
    """Implements `farthing.ports.LedgerStore` in a database; `deadline` is in seconds, for each question to it.

    Nothing is asked of the database before the first call. Raises `LedgerError` when it cannot be used.
    """

    def __init__(self, dsn: str, deadline: float = 5.0) -> None:
        self._link = BlockingLink(dsn, deadline, "The ledger", error=LedgerError)

    def position(self, journal: str = "") -> int:
        """The number of records taken so far of a journal."""
        found = self._link.ask(POSITION, journal)
        return int(found[0]["position"]) if found else 0

    def ingest(self, records: Sequence[Stored], position: int, journal: str = "") -> None:
        """Take the records not taken before and move to `position`, in one transaction that is on disk at its end."""
        first = position - len(records)

        async def act(db: asyncpg.Connection) -> None:
            if (row := await db.fetchrow(LOCK_JOURNAL, journal)) is None:
                await db.execute(BEGIN_JOURNAL, journal)
                row = await db.fetchrow(LOCK_JOURNAL, journal)
            held = row["position"]
            if first > held:
                raise missing_records(held, first)
            if fresh := records[held - first :]:
                await take(db, row["id"], held, fresh)

        self._link.transact(act)

    def rollups(self, since: int = 0, until: int = EVER) -> Iterator[Rollup]:
        """Hourly sums of the hours that begin in [since, until), by hour."""
        return read_rollups(self._link.ask, since, until)

    def entries(
        self, since: int = 0, until: int = EVER, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[Entry]:
        """Entries that arrived in [since, until), by arrival, then in the order taken; read a page at a time."""
        if newest_first:
            return read_entries(self._link.ask, NEWEST, (until, 0), since, limit)
        return read_entries(self._link.ask, OLDEST, (since, 0), until, limit)

    def group(self, group: str) -> list[Entry]:
        """Every entry of one exchange, in the order taken."""
        found = [ENTRY.decode(row["doc"]) for row in self._link.ask(GROUP, text(group))]
        return [entry for entry in found if entry.group == group]

    def prune(self, before: int) -> int:
        """Forget entries (not roll-ups) that arrived before an instant: whole months at once, then the rest."""
        gone = 0
        self._link.ask(PRUNED, before)
        while (month := self._link.transact(lambda db: db.fetchval(DROP, before), PATIENCE)) is not None:
            gone += month
        chunk = PRUNE_CHUNK
        while chunk == PRUNE_CHUNK:
            chunk = self._link.ask(FORGET, before, PRUNE_CHUNK)[0]["count"]
            gone += chunk
        return gone

    def check(self) -> list[str]:
        """What is wrong with the record numbers, the entries or the roll-ups, in sentences."""
        problems: list[str] = []
        pruned = 0
        with self._link.snapshot() as fetch:
            for row in fetch(CHECK):
                pruned = row["pruned"]
                problems += wrong_numbers(row)
            problems += verify(read_entries(fetch, OLDEST, (0, 0), EVER))
            kept_whole = -(-pruned // HOUR) * HOUR
            problems += verify_rollups(
                read_entries(fetch, OLDEST, (kept_whole, 0), EVER), read_rollups(fetch, kept_whole, EVER)
            )
        return problems

    def close(self) -> None:
        """Let the database go."""
        self._link.close()


async def take(db: asyncpg.Connection, journal: int, first: int, records: Sequence[Stored]) -> None:
    """Add records, the first of which is number `first` of its journal, and what they come to."""
    tally = Tally()
    for record in records:
        tally.add(record.entry)
    added = tally.rollups()
    found = await db.fetch(
        TAKE,
        journal,
        first,
        [record.entry.at for record in records],
        [text(record.entry.group) for record in records],
        [record.line for record in records],
        [rollup.hour for rollup in added],
        [digest(rollup) for rollup in added],
    )
    tally.merge(ROLLUP.decode(row["doc"]) for row in found if row["doc"])
    sums = tally.rollups()
    await db.execute(
        WRITE,
        journal,
        first + len(records),
        [rollup.hour for rollup in sums],
        [digest(rollup) for rollup in sums],
        [msgspec.json.encode(rollup).decode() for rollup in sums],
    )


def read_entries(
    fetch: Fetch, query: str, start: tuple[int, int], end: int, limit: int | None = None
) -> Iterator[Entry]:
    """Entries from beyond `start` (arrival and place) to the arrival `end`, a page at a time."""
    left = EVER if limit is None else limit
    while rows := fetch(query, *start, end, min(left, PAGE)):
        for row in rows:
            yield ENTRY.decode(row["doc"])
        start = rows[-1]["at"], rows[-1]["seq"]
        left -= len(rows)


def read_rollups(fetch: Fetch, since: int, until: int) -> Iterator[Rollup]:
    """Roll-ups of the hours that begin in [since, until), a page at a time."""
    start = since, b""
    while rows := fetch(ROLLUPS, *start, until, PAGE):
        for row in rows:
            yield ROLLUP.decode(row["doc"])
        start = rows[-1]["hour"], rows[-1]["cell"]


def wrong_numbers(row: asyncpg.Record) -> Iterator[str]:
    """What is wrong with the record numbers of a journal."""
    taken = f'The ledger has taken {row["position"]} records of journal "{row["name"]}", yet holds'
    if row["last"] is not None and row["last"] >= row["position"]:
        yield f"{taken} record {row['last']}."
    if not row["pruned"] and row["held"] != row["position"]:
        yield f"{taken} {row['held']}."


def digest(rollup: Rollup) -> bytes:
    """What tells a roll-up from the others of its hour, however long its dimensions are."""
    return blake2b(msgspec.json.encode(rollup.cell[1:]), digest_size=16).digest()


def text(value: str) -> str:
    """A text as PostgreSQL takes it: without NUL."""
    return value.replace("\0", "\ufffd")
