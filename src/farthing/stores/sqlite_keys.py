"""SqliteKeys: gateway keys in one small SQLite file, shared by the processes of one machine."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from farthing.errors import RequestError, StoreError
from farthing.schema import GatewayKey
from farthing.stores.sqlite_files import make_private, transaction

FORMAT = 1
BUSY_SECONDS = 1.0
"""How long to wait for a lock that another process holds on the file."""

TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS revision (number INTEGER NOT NULL);
INSERT INTO revision SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM revision);
PRAGMA user_version = 1;
COMMIT;
"""
ADD = "INSERT OR IGNORE INTO keys (name, doc) VALUES (?, ?)"
CHANGE = "UPDATE keys SET doc = ? WHERE name = ?"

KEY = msgspec.json.Decoder(GatewayKey)
T = TypeVar("T")


class SqliteKeys:
    """A key store in one file, which the first key creates; it is opened anew each time, and so outlives a restore."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def revision(self) -> int:
        """A number that grows with every change; 0 while there never was a key."""
        return self._read(lambda db: int(db.execute("SELECT number FROM revision").fetchone()[0]), 0)

    def keys(self) -> list[GatewayKey]:
        """Every key, revoked ones too, oldest first."""
        return self._read(lambda db: [KEY.decode(doc) for (doc,) in db.execute("SELECT doc FROM keys ORDER BY id")], [])

    def add(self, key: GatewayKey) -> None:
        """Keep a new key. Raises `RequestError` when its name is taken."""
        if not self._write(ADD, (key.name, _document(key))):
            raise RequestError(f'There is a key "{key.name}" already.', hint="A name stands for one key for good.")

    def change(self, key: GatewayKey) -> None:
        """Put a key in the place of the one of its name. Raises `RequestError` when there is none."""
        if not self._write(CHANGE, (_document(key), key.name)):
            raise RequestError(f'There is no key "{key.name}".', hint="See `farthing key list`.")

    def close(self) -> None:
        """Nothing is open between two questions."""

    def _read(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        with self._explained():
            if not self._path.exists():
                return nothing
            with closing(self._open()) as db:
                self._check_format(db)
                return question(db)

    def _write(self, statement: str, values: tuple[str, str]) -> bool:
        """Change one row and the revision with it; whether there was one to change."""
        with self._explained():
            make_private(self._path)
            with closing(self._open()) as db:
                if not _format(db):
                    db.executescript(TABLES)
                self._check_format(db)
                with transaction(db):
                    changed = db.execute(statement, values).rowcount == 1
                    if changed:
                        db.execute("UPDATE revision SET number = number + 1")
                return changed

    def _open(self) -> sqlite3.Connection:
        """The file as it is; none is created by looking for it."""
        address = f"{self._path.absolute().as_uri()}?mode=rw"
        return sqlite3.connect(address, BUSY_SECONDS, isolation_level=None, uri=True)

    def _check_format(self, db: sqlite3.Connection) -> None:
        if (found := _format(db)) != FORMAT:  # an emptied file is not a store without keys: that would let everyone in
            message = f"{self._path} is in key format {found}; this version of Farthing reads format {FORMAT}."
            raise StoreError(message, hint="Restore it from a backup, or use the version that wrote it.")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"The keys in {self._path} cannot be used: {error}.",
                hint="Check that the file can be written and the disk is not full; restore it when it is damaged.",
            ) from error


def _document(key: GatewayKey) -> str:
    return msgspec.json.encode(key).decode()


def _format(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
