"""SqliteLedger: the ledger in one SQLite file.

An entry is a thin row: its record number, arrival, exchange, and the JSON that was journalled; the view `calls` shows
its fields as columns. Roll-ups are kept up to record `rolled_up`, and reading them adds the few entries that came
since: so they are exact at any instant, and written seldom.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from farthing.errors import LedgerError
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify, verify_rollups
from farthing.ports import Stored
from farthing.schema import HOUR, Entry, Rollup
from farthing.stores import ledger_schema as sql
from farthing.stores.bulk import pack
from farthing.stores.memory_ledger import missing_records
from farthing.stores.sqlite_files import make_private, transaction

ROLL_UP_EVERY = 8192
"""Entries between two writes of the roll-ups."""
PRUNE_CHUNK = 2000
"""Entries forgotten per transaction."""
BUSY_SECONDS = 1.0
"""How long to wait for a lock that another process holds on the file."""

ENTRY = msgspec.json.Decoder(Entry)
ROLLUP = msgspec.json.Decoder(Rollup)
ROLLUPS = msgspec.json.Decoder(list[Rollup])


class SqliteLedger:
    """A ledger store in one SQLite file, created where there is none.

    Raises `LedgerError` when the file is damaged, locked for longer than a second, or of a later format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._recent = Tally()
        """The sums of the entries from the first to the second record number of `_span`, when there is one."""
        self._span: tuple[int, int] | None = None
        self._alone = True
        """Whether no other process writes. Where others do, roll-ups are written at once, so that nobody has to add up
        what somebody else took."""
        with self._explained():
            make_private(path)
            self._writer = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            sql.prepare(self._writer, path)

    def position(self, journal: str = "") -> int:
        """The number of records taken so far of a journal."""
        with self._reading() as db:
            return sql.position(db, journal)

    def ingest(self, records: Sequence[Stored], position: int, journal: str = "") -> None:
        """Take the records not taken before and move to `position`, in one transaction that is on disk at its end."""
        first = position - len(records)
        with self._lock:
            with self._transaction() as db:
                before = sql.position(db, journal)
                if first > before:
                    raise missing_records(before, first)
                fresh = records[before - first :]
                if not fresh:
                    return
                start, held = sql.progress(db, "rolled_up"), sql.progress(db, "taken")
                if self._span is not None and self._span[1] != held:
                    self._alone = False
                self._catch_up(db, start, held)
                self._span = None
                rows = pack(
                    [record.entry.group for record in fresh],
                    [record.entry.at for record in fresh],
                    [record.line for record in fresh],
                )
                db.execute(sql.TAKE, {"first": held, **rows})
                sql.advance(db, "taken", held + len(fresh))
                db.execute(sql.MOVE, (journal, position))
            for record in fresh:
                self._recent.add(record.entry)
            self._span = start, held + len(fresh)
            if not self._alone or self._span[1] - start >= ROLL_UP_EVERY:
                self._roll_up()

    def rollups(self, since: int = 0, until: int = 2**63 - 1) -> Iterator[Rollup]:
        """Hourly sums of the hours that begin in [since, until)."""
        with self._reading() as db:
            recent = tally(unrolled(db, sql.progress(db, "rolled_up"))).rollups()
            added = {rollup.cell: rollup for rollup in recent if since <= rollup.hour < until}
            for row in db.execute("SELECT doc FROM rollups WHERE hour >= ? AND hour < ?", (since, until)):
                stored = ROLLUP.decode(row[0])
                more = added.pop(stored.cell, None)
                yield stored if more is None else merged([stored, more])[0]
        yield from added.values()

    def entries(
        self, since: int = 0, until: int = 2**63 - 1, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[Entry]:
        """Entries that arrived in [since, until), by arrival, then in the order taken."""
        query = sql.NEWEST if newest_first else sql.OLDEST
        with self._reading() as db:
            for row in db.execute(query, (since, until, -1 if limit is None else limit)):
                yield ENTRY.decode(row[0])

    def group(self, group: str) -> list[Entry]:
        """Every entry of one exchange, in the order taken."""
        with self._reading() as db:
            rows = db.execute("SELECT doc FROM entries WHERE grp = ? ORDER BY seq", (group,))
            return [ENTRY.decode(row[0]) for row in rows]

    def prune(self, before: int) -> int:
        """Forget entries (not roll-ups) that arrived before an instant; how many went."""
        gone = 0
        chunk = PRUNE_CHUNK
        while chunk == PRUNE_CHUNK:
            with self._lock:
                self._roll_up()
                with self._transaction() as db:
                    sql.advance(db, "pruned", before)
                    chunk = db.execute(sql.FORGET, (before, PRUNE_CHUNK)).rowcount
            gone += chunk
        if gone:
            self._give_space_back()
        return gone

    def check(self) -> list[str]:
        """What is wrong with the file, the entries or the roll-ups, in sentences."""
        with self._reading() as db:
            found = [row[0] for row in db.execute("PRAGMA integrity_check")]
            if found != ["ok"]:
                return [f"{self._path}: {sentence}." for sentence in found]
            problems = sql.check_progress(db)
            pruned = sql.progress(db, "pruned")
        problems += verify(self.entries())
        kept_whole = -(-pruned // HOUR) * HOUR
        return problems + list(verify_rollups(self.entries(kept_whole), self.rollups(kept_whole)))

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._writer.close()

    def _catch_up(self, db: sqlite3.Connection, start: int, held: int) -> None:
        """Know the sums of the entries that no stored roll-up holds: those from record `start` up to `held`."""
        if self._span != (start, held):
            self._recent = tally(unrolled(db, start))
            self._span = start, held

    def _roll_up(self) -> None:
        """Write the sums of the entries taken since the last time."""
        with self._transaction() as db:
            start, held = sql.progress(db, "rolled_up"), sql.progress(db, "taken")
            if start == held:
                return
            self._catch_up(db, start, held)
            self._span = None
            stored = db.execute(sql.SAME_ROLLUPS, packed(self._recent.rollups())).fetchone()[0]
            self._recent.merge(ROLLUPS.decode(stored or "[]"))
            db.execute(sql.WRITE_ROLLUPS, packed(self._recent.rollups()))
            sql.advance(db, "rolled_up", held)
        self._recent = Tally()
        self._span = held, held

    def _give_space_back(self) -> None:
        """Shrink the file, a little per transaction, until less than a tenth of it is free."""
        with self._explained(), self._lock:
            pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
            free = self._writer.execute("PRAGMA freelist_count").fetchone()[0]
            for _ in range(0, free - pages // 10, sql.VACUUM_PAGES):
                self._writer.executescript(f"PRAGMA incremental_vacuum({sql.VACUUM_PAGES})")  # execute() frees one page

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, that sees the file as it was at its first statement."""
        with self._explained():
            db = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", BUSY_SECONDS, isolation_level=None, uri=True
            )
            with closing(db):
                db.execute("BEGIN")
                yield db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), transaction(self._writer) as db:
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite says into what to do about it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = "Another process holds it; stop that one." if "locked" in str(error) else "See that it is writable."
            raise LedgerError(f"The ledger {self._path} cannot be used: {error}.", hint=hint) from error
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                f"The ledger {self._path} is damaged: {error}.", hint="Restore it from a backup; the journal stays."
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"The ledger {self._path} cannot be used: {error}.") from error


def unrolled(db: sqlite3.Connection, start: int) -> Iterator[Entry]:
    """The entries that no stored roll-up holds."""
    return (ENTRY.decode(row[0]) for row in db.execute("SELECT doc FROM entries WHERE seq >= ?", (start,)))


def tally(entries: Iterable[Entry]) -> Tally:
    """The sums of some entries."""
    sums = Tally()
    for entry in entries:
        sums.add(entry)
    return sums


def merged(rollups: Iterable[Rollup]) -> list[Rollup]:
    """Roll-ups with those of the same hour and dimensions made one."""
    sums = Tally()
    sums.merge(rollups)
    return sums.rollups()


def packed(rollups: Sequence[Rollup]) -> dict[str, str | bytes]:
    """Roll-ups as the parameters of a statement."""
    return pack(
        [msgspec.json.encode(rollup.cell[1:]).decode() for rollup in rollups],
        [rollup.hour for rollup in rollups],
        [msgspec.json.encode(rollup) for rollup in rollups],
    )
