"""Where state is kept: in files that the processes of one host share, or in stores that many hosts do."""

import logging
from collections.abc import Mapping
from pathlib import Path

from farthing.config import Settings, resolve_secret
from farthing.errors import LedgerError
from farthing.ports import IdempotencyStore, LedgerStore, SharedReplies
from farthing.stores.journal import FileJournal, journal_name
from farthing.stores.sqlite_ledger import SqliteLedger

log = logging.getLogger(__name__)


def ledger_path(settings: Settings) -> Path:
    """Where the ledger's own file is."""
    return Path(settings.ledger.path) / "ledger.sqlite"


def ledger_store_of(settings: Settings, environ: Mapping[str, str]) -> LedgerStore:
    """The ledger's store: PostgreSQL, else a file. Raises LedgerError when it cannot be used."""
    if postgres := resolve_secret(settings.shared.postgres, environ):
        from farthing.stores.postgres_ledger import PostgresLedger

        return PostgresLedger(postgres)
    return SqliteLedger(ledger_path(settings))


def repeats_store_of(settings: Settings, environ: Mapping[str, str]) -> IdempotencyStore:
    """Where Idempotency-Keys are kept: Redis, else PostgreSQL, else a file."""
    if redis := resolve_secret(settings.shared.redis, environ):
        from farthing.stores.redis_idempotency import RedisIdempotency

        return RedisIdempotency(redis, deadline=settings.shared.deadline)
    if postgres := resolve_secret(settings.shared.postgres, environ):
        from farthing.stores.postgres_idempotency import PostgresIdempotency

        return PostgresIdempotency(postgres, settings.shared.deadline)
    from farthing.stores.sqlite_idempotency import SqliteIdempotency

    return SqliteIdempotency(Path(settings.ledger.path) / "repeats.sqlite")


def shared_replies_of(settings: Settings, environ: Mapping[str, str]) -> SharedReplies | None:
    """The level of the exact cache that many gateways share, where there is one."""
    if not (redis := resolve_secret(settings.shared.redis, environ)):
        return None
    from farthing.stores.redis_replies import RedisReplies

    return RedisReplies(redis)


def journal_place(settings: Settings, worker: int) -> tuple[Path, str]:
    """The directory of a worker's journal, and the name that the ledger's store knows it by.

    A store of many hosts gets a journal of its own, with a name that no other has: what was numbered for another store
    means nothing to it.
    """
    root, suffix = Path(settings.ledger.path), f"-{worker}" if worker else ""
    if settings.shared.postgres:
        directory = root / f"journal-shared{suffix}"
        return directory, journal_name(directory)
    return root / f"journal{suffix}", str(worker) if worker else ""


def owner_of(settings: Settings, directory: Path, name: str) -> str:
    """Who a worker is to the store that keeps what limits count."""
    return journal_name(directory) if settings.shared.redis or settings.shared.postgres else name


def journals(settings: Settings) -> list[tuple[Path, str]]:
    """Every journal there is of a worker, of this run or an earlier one, with its name."""
    root, stem = Path(settings.ledger.path), "journal-shared" if settings.shared.postgres else "journal"
    numbers = [path.name[len(stem) + 1 :] for path in root.glob(f"{stem}-*") if path.is_dir()]
    workers = [0, *sorted(int(number) for number in numbers if number.isdigit())]
    return [(path, name) for path, name in (journal_place(settings, worker) for worker in workers) if path.is_dir()]


def hand_over_abandoned(settings: Settings, ledger: LedgerStore) -> None:
    """Give the ledger what the workers of an earlier run left in journals that none of this one goes on with."""
    kept = [journal_place(settings, worker)[0] for worker in range(settings.server.workers)]
    for directory, name in journals(settings):
        if directory not in kept:
            try:
                FileJournal(directory, ledger, name=name).close()
            except LedgerError as error:
                log.warning("The journal in %s is left as it is: %s", directory, error)
