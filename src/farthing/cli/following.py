"""The latest entries of a ledger, and those that come after."""

import time
from collections.abc import Iterator

from farthing.cli.when import SECOND
from farthing.ports import LedgerStore
from farthing.schema import Entry

POLL_SECONDS = 0.5
SETTLING = 120 * SECOND
"""A call is entered when it is settled, up to so long after others that arrived with it; slower ones are missed."""


def latest(ledger: LedgerStore, count: int, follow: bool) -> Iterator[Entry]:
    """The last `count` entries, the oldest first; then, when `follow`, new ones as they are entered, without end."""
    first = list(ledger.entries(limit=count, newest_first=True))[::-1] if count else []
    yield from first
    if follow:
        yield from _new(ledger, first[-1].at if first else time.time_ns())


def _new(ledger: LedgerStore, newest: int) -> Iterator[Entry]:
    seen = {entry.id for entry in ledger.entries(newest - SETTLING)}
    while True:
        time.sleep(POLL_SECONDS)
        window = list(ledger.entries(newest - SETTLING))
        yield from (entry for entry in window if entry.id not in seen)
        seen = {entry.id for entry in window}
        newest = max((entry.at for entry in window), default=newest)
