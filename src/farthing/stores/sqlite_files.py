"""What every SQLite file of ours has in common."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_private(path: Path) -> None:
    """Create a file and its directory where there is none, for their owner only. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit at the end of the block, or undo all of it. Raises `sqlite3.Error`."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
