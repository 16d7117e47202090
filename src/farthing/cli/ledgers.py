"""The ledger as verbs read it, whether or not a gateway is running on it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from farthing.config import Settings
from farthing.errors import LedgerError
from farthing.ports import LedgerStore
from farthing.schema import Entry
from farthing.stores.journal import FileJournal, lock_directory
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.wiring.parts import ledger_path


@contextmanager
def ledger_of(settings: Settings) -> Iterator[LedgerStore]:
    """The ledger's store, with all that the journal holds; raises LedgerError when there is none, or it is damaged."""
    with store_of(settings) as store:
        _hand_over(journal_path(settings), store)
        yield store


@contextmanager
def store_of(settings: Settings) -> Iterator[LedgerStore]:
    """The ledger's store as it is; raises LedgerError when there is none."""
    directory = Path(settings.ledger.path)
    if not directory.is_dir():
        hint = "`farthing up` starts one; `ledger.path` in the configuration says where it is."
        raise LedgerError(f"There is no ledger in {directory.absolute()}", hint=hint)
    store = SqliteLedger(ledger_path(settings))
    try:
        yield store
    finally:
        store.close()


def journal_path(settings: Settings) -> Path:
    """The directory of the journal in front of the store."""
    return Path(settings.ledger.path) / "journal"


def append(settings: Settings, entries: Sequence[Entry]) -> None:
    """Add entries to the ledger; raises LedgerError while a gateway is running on it."""
    with store_of(settings) as store:
        journal = FileJournal(journal_path(settings), store)
        try:
            journal.append(entries)
        finally:
            journal.close()


def _hand_over(journal: Path, store: LedgerStore) -> None:
    """Give the store what a gateway that died had only journalled; one that runs does so itself."""
    if not journal.is_dir():
        return
    try:
        os.close(lock_directory(journal))
    except LedgerError:
        return
    FileJournal(journal, store).close()
