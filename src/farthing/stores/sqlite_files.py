"""What every SQLite file of ours has in common."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from farthing.errors import StoreError


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


@contextmanager
def explained(what: str, path: Path, remedy: str) -> Iterator[None]:
    """Turn what SQLite says of a file into a StoreError with what to do about it; `remedy` is for a damaged one."""
    try:
        yield
    except sqlite3.OperationalError as error:
        hint = "Another process holds it; stop that one." if "locked" in str(error) else "See that it is writable."
        raise StoreError(f"{what} in {path} cannot be used: {error}.", hint=hint) from error
    except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
        raise StoreError(f"{what} in {path} are damaged: {error}.", hint=remedy) from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{what} in {path} cannot be used: {error}.") from error


def write_ahead(db: sqlite3.Connection, seconds: float) -> None:
    """Switch to a write-ahead log, for which SQLite does not itself wait while other processes open the file."""
    until = time.monotonic() + seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
