"""Whether a ledger is whole: the journal's checksums, and what must be true of its entries."""

import msgspec

from farthing.cli.ledgers import journal_path, store_of
from farthing.config import Settings
from farthing.stores.segments import verify_journal


class Proven(msgspec.Struct, frozen=True):
    """What was looked at, and every sentence about what is wrong with it."""

    sound: bool
    entries: int
    problems: list[str]


def prove(settings: Settings) -> Proven:
    """Check all of a ledger, whether or not a gateway is running on it; raises LedgerError when there is none."""
    with store_of(settings) as store:
        problems = [*verify_journal(journal_path(settings)), *store.check()]
        return Proven(not problems, store.position(), problems)
