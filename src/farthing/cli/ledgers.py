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
from farthing.wiring.shared import journal_place, journals, ledger_store_of


@contextmanager
def ledger_of(settings: Settings) -> Iterator[LedgerStore]:
    """The ledger's store, with what the journals here hold; raises LedgerError when it is missing or damaged."""
    with store_of(settings) as store:
        for directory, name in journals(settings):
            _hand_over(directory, name, store)
        yield store


@contextmanager
def store_of(settings: Settings) -> Iterator[LedgerStore]:
    """The ledger's store as it is; raises LedgerError when there is none."""
    directory = Path(settings.ledger.path)
    if not settings.shared.postgres and not directory.is_dir():
        hint = "`farthing up` starts one; `ledger.path` in the configuration says where it is."
        raise LedgerError(f"There is no ledger in {directory.absolute()}", hint=hint)
    store = ledger_store_of(settings, os.environ)
    try:
        yield store
    finally:
        store.close()


def append(settings: Settings, entries: Sequence[Entry]) -> None:
    """Add entries to the ledger; raises LedgerError while a gateway is running on its journal here."""
    with store_of(settings) as store:
        directory, name = journal_place(settings, 0)
        journal = FileJournal(directory, store, name=name)
        try:
            journal.append(entries)
        finally:
            journal.close()


def _hand_over(journal: Path, name: str, store: LedgerStore) -> None:
    """Give the store what a gateway that died had only journalled; one that runs does so itself."""
    try:
        os.close(lock_directory(journal))
    except LedgerError:
        return
    FileJournal(journal, store, name=name).close()
