"""The tables of the SQLite ledger, and the statements that are more than a line."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from farthing.errors import LedgerError
from farthing.schema import METERS, Entry
from farthing.stores import bulk

FORMAT = 2
VACUUM_PAGES = 512
"""Pages given back to the file system at a time."""

TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS progress (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO progress VALUES ('taken', 0), ('rolled_up', 0), ('pruned', 0);
CREATE TABLE IF NOT EXISTS journals (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, grp TEXT NOT NULL, doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_arrival ON entries (at);
CREATE INDEX IF NOT EXISTS entries_by_exchange ON entries (grp);
CREATE TABLE IF NOT EXISTS rollups (
    hour INTEGER, dimensions TEXT, doc TEXT NOT NULL, PRIMARY KEY (hour, dimensions)
) WITHOUT ROWID;
"""

FROM_FORMAT_1 = """
UPDATE OR REPLACE progress SET name = 'taken' WHERE name = 'position';
INSERT OR IGNORE INTO journals SELECT '', value FROM progress WHERE name = 'taken';
"""
"""A file of format 1 had one journal, whose position was the number of entries taken."""

# Only constants of this package are formatted into statements; values are always bound.
TAKE = f"""
INSERT INTO entries (seq, at, grp, doc)
SELECT :first + {bulk.INDEX}, {bulk.NUMBER}, {bulk.TEXT}, CAST({bulk.DOCUMENT} AS TEXT) FROM {bulk.SOURCE}
"""  # noqa: S608
WRITE_ROLLUPS = f"""
INSERT INTO rollups (hour, dimensions, doc)
SELECT {bulk.NUMBER}, {bulk.TEXT}, CAST({bulk.DOCUMENT} AS TEXT) FROM {bulk.SOURCE} WHERE true
ON CONFLICT DO UPDATE SET doc = excluded.doc
"""  # noqa: S608
SAME_ROLLUPS = f"""
SELECT '[' || group_concat(doc) || ']' FROM rollups
WHERE (hour, dimensions) IN (SELECT {bulk.NUMBER}, {bulk.TEXT} FROM {bulk.SOURCE})
"""  # noqa: S608
OLDEST = "SELECT doc FROM entries WHERE at >= ? AND at < ? ORDER BY at, seq LIMIT ?"
NEWEST = "SELECT doc FROM entries WHERE at >= ? AND at < ? ORDER BY at DESC, seq DESC LIMIT ?"
MOVE = "INSERT OR REPLACE INTO journals (name, position) VALUES (?, ?)"
FORGET = "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE at < ? ORDER BY at LIMIT ?)"


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Create what is not there yet. Raises `LedgerError` when the file is of a later format."""
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise LedgerError(
            f"{path} is in ledger format {found}; this version of Farthing reads up to format {FORMAT}.",
            hint="Use the version that wrote it.",
        )
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if found < FORMAT:
        upgrade = FROM_FORMAT_1 if found else ""
        db.executescript(f"{TABLES} {upgrade} {calls_view()}; PRAGMA user_version = {FORMAT}; COMMIT;")


def position(db: sqlite3.Connection, journal: str) -> int:
    """The number of records taken so far of a journal."""
    row = db.execute("SELECT position FROM journals WHERE name = ?", (journal,)).fetchone()
    return int(row[0]) if row else 0


def progress(db: sqlite3.Connection, name: str) -> int:
    """How far the store has come in one respect."""
    return int(db.execute("SELECT value FROM progress WHERE name = ?", (name,)).fetchone()[0])


def advance(db: sqlite3.Connection, name: str, value: int) -> None:
    """Note how far the store has come; never backwards."""
    db.execute("UPDATE progress SET value = max(value, ?) WHERE name = ?", (value, name))


def check_progress(db: sqlite3.Connection) -> list[str]:
    """What is wrong with the record numbers, in sentences."""
    taken = progress(db, "taken")
    count, last = db.execute("SELECT count(*), max(seq) FROM entries").fetchone()
    problems = []
    if last is not None and last >= taken:
        problems.append(f"The ledger has taken {taken} records, yet holds record {last}.")
    if not progress(db, "pruned") and count != taken:
        problems.append(f"The ledger has taken {taken} records, yet holds {count}.")
    return problems


def calls_view() -> str:
    """The view `calls`: the fields of every entry, and every meter, as columns; money in pico-dollars."""
    columns = ["seq"]
    fields = (field for field in msgspec.structs.fields(Entry) if field.name != "usage")
    columns += [_column(f"$.{field.name}", field.name, field.default) for field in fields]
    columns += [_column(f"$.usage.{meter}", f"{meter}_used", 0) for meter in METERS]
    return f"CREATE VIEW IF NOT EXISTS calls AS SELECT {', '.join(columns)} FROM entries"  # noqa: S608


def _column(path: str, name: str, default: object) -> str:
    value = f"json_extract(doc, '{path}')"
    if isinstance(default, str):
        value = f"ifnull({value}, '{default}')"
    elif isinstance(default, int):
        value = f"ifnull({value}, {int(default)})"
    elif isinstance(default, Sequence):
        value = f"ifnull({value}, '[]')"
    return f'{value} AS "{name}"'
