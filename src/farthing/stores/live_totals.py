"""LiveTotals: what was entered since the process started, added up for metrics."""

import threading
from collections.abc import Sequence

from farthing.ledger.tally import Tally
from farthing.ports import Stored
from farthing.schema import Rollup, Sums

CELLS = 5_000
"""Combinations of dimensions kept apart; what comes later is added up as "other"."""


class LiveTotals:
    """Sums that one thread adds to, a batch at a time, and another reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally = Tally(hourly=False, cells=CELLS)

    def observe(self, records: Sequence[Stored]) -> None:
        """Add records up."""
        with self._lock:
            for record in records:
                self._tally.add(record.entry)

    def rollups(self) -> list[Rollup]:
        """The sums by every combination of dimensions, over all hours."""
        with self._lock:
            return self._tally.rollups()

    def totals(self) -> Sums:
        """The sum of everything."""
        with self._lock:
            return self._tally.totals()
