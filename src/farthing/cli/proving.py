"""Whether a ledger is whole: the journal's checksums, and what must be true of its entries."""

import msgspec

from farthing.cli.ledgers import store_of
from farthing.config import Settings
from farthing.stores.segments import verify_journal
from farthing.wiring.shared import journals


class Proven(msgspec.Struct, frozen=True):
    """What was looked at, and every sentence about what is wrong with it."""

    sound: bool
    entries: int
    problems: list[str]


def prove(settings: Settings) -> Proven:
    """Check all of a ledger, whether or not a gateway is running on it; raises LedgerError when there is none."""
    with store_of(settings) as store:
        problems = [problem for directory, _ in journals(settings) for problem in verify_journal(directory)]
        problems += store.check()
        return Proven(not problems, sum(1 for _ in store.entries()), problems)
