"""SqliteLedger: the ledger in one SQLite file.

An entry is a thin row: its record number, arrival, exchange, and the JSON that was journalled. The view `calls` shows
its fields as columns. Roll-ups are kept up to record `rolled_up`, and what reads them adds the few entries that came
since; so they are exact at any instant, and written seldom.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from farthing.errors import LedgerError
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify
from farthing.ports import Stored
from farthing.schema import Entry, Rollup
from farthing.stores import bulk
from farthing.stores.memory_ledger import missing_records

FORMAT = 1
ROLL_UP_EVERY = 4096
"""Entries between two writes of the roll-ups."""
PRUNE_CHUNK = 2000
"""Entries forgotten per transaction."""
BUSY_SECONDS = 1.0

SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE progress (name TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO progress VALUES ('position', 0), ('rolled_up', 0);
CREATE TABLE entries (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, grp TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX entries_by_arrival ON entries (at);
CREATE INDEX entries_by_exchange ON entries (grp);
CREATE TABLE rollups (hour INTEGER, dimensions TEXT, doc TEXT NOT NULL, PRIMARY KEY (hour, dimensions)) WITHOUT ROWID;
{{view}}
PRAGMA user_version = {FORMAT};
COMMIT;
"""

TAKE = f"""
INSERT INTO entries (seq, at, grp, doc)
SELECT :first + {bulk.INDEX}, {bulk.NUMBER}, {bulk.TEXT}, CAST({bulk.DOCUMENT} AS TEXT) FROM {bulk.SOURCE}
"""  # noqa: S608  # only constants of ours are formatted in
ROLL_UP = f"""
INSERT INTO rollups (hour, dimensions, doc)
SELECT {bulk.NUMBER}, {bulk.TEXT}, CAST({bulk.DOCUMENT} AS TEXT) FROM {bulk.SOURCE} WHERE true
ON CONFLICT DO UPDATE SET doc = excluded.doc
"""  # noqa: S608
TOUCHED = f"""
SELECT json_group_array(json(doc)) FROM rollups
WHERE (hour, dimensions) IN (SELECT {bulk.NUMBER}, {bulk.TEXT} FROM {bulk.SOURCE})
"""  # noqa: S608
