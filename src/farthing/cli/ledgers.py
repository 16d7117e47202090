"""The ledger as verbs read it, whether or not a gateway is running on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farthing.config import Settings
from farthing.errors import LedgerError
from farthing.ports import LedgerStore
from farthing.stores.journal import FileJournal, lock_directory
from farthing.stores.sqlite_ledger import SqliteLedger
from farthing.wiring import ledger_path


@contextmanager
def ledger_of(settings: Settings) -> Iterator[LedgerStore]:
    """The ledger's store, with all that the journal holds; raises LedgerError when there is none, or it is damaged."""
    directory = Path(settings.ledger.path)
    if not directory.is_dir():
        hint = "`farthing up` starts one; `ledger.path` in the configuration says where it is."
        raise LedgerError(f"There is no ledger in {directory.absolute()}", hint=hint)
    store = SqliteLedger(ledger_path(settings))
    try:
        _hand_over(directory / "journal", store)
        yield store
    finally:
        store.close()


def _hand_over(journal: Path, store: LedgerStore) -> None:
    """Give the store what a gateway that died had only journalled; one that runs does so itself."""
    if not journal.is_dir():
        return
    try:
        os.close(lock_directory(journal))
    except LedgerError:
        return
    FileJournal(journal, store).close()
