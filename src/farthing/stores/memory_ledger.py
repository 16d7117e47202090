"""MemoryLedger: a ledger store for tests, and for whoever needs entries for a moment only."""

import threading
from collections.abc import Iterator, Sequence

from farthing.errors import LedgerError
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify
from farthing.ports import Stored
from farthing.schema import Entry, Rollup


class MemoryLedger:
    """A ledger store that forgets everything when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._tally = Tally()
        self._positions: dict[str, int] = {}

    def position(self, journal: str = "") -> int:
        """The number of records taken so far of a journal."""
        return self._positions.get(journal, 0)

    def ingest(self, records: Sequence[Stored], position: int, journal: str = "") -> None:
        """Take the records not taken before, and move to `position`. Raises `LedgerError` on a gap."""
        first = position - len(records)
        with self._lock:
            held = self.position(journal)
            if first > held:
                raise missing_records(held, first)
            for record in records[held - first :]:
                self._entries.append(record.entry)
                self._tally.add(record.entry)
            self._positions[journal] = max(held, position)

    def rollups(self, since: int = 0, until: int = 2**63 - 1) -> Iterator[Rollup]:
        """Hourly sums of the hours that begin in [since, until)."""
        with self._lock:
            rollups = self._tally.rollups()
        return (rollup for rollup in rollups if since <= rollup.hour < until)

    def entries(
        self, since: int = 0, until: int = 2**63 - 1, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[Entry]:
        """Entries that arrived in [since, until), by arrival."""
        with self._lock:
            found = [entry for entry in self._entries if since <= entry.at < until]
        found.sort(key=lambda entry: entry.at)
        if newest_first:
            found.reverse()
        return iter(found[:limit])

    def group(self, group: str) -> list[Entry]:
        """Every entry of one exchange, in the order taken."""
        with self._lock:
            return [entry for entry in self._entries if entry.group == group]

    def prune(self, before: int) -> int:
        """Forget entries that arrived before an instant; how many went."""
        with self._lock:
            kept = [entry for entry in self._entries if entry.at >= before]
            gone = len(self._entries) - len(kept)
            self._entries = kept
        return gone

    def check(self) -> list[str]:
        """What is wrong with the entries, in sentences."""
        return list(verify(self.entries()))

    def close(self) -> None:
        """Nothing is held."""


def missing_records(position: int, first: int) -> LedgerError:
    """The error of a store that is handed records with a gap before them."""
    return LedgerError(
        f"The ledger holds {position} records and was handed record {first} next.",
        hint="Restore the missing segments of the journal from a backup.",
    )
