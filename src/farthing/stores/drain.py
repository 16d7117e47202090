"""Drain: moves records from the journal into the ledger store, in a thread of its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from farthing.errors import LedgerError
from farthing.ports import LedgerStore, Stored
from farthing.schema import Entry
from farthing.stores.retention import Retention
from farthing.stores.segments import delete_drained, read_journal

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two looks at the journal."""
BATCH = 1000
"""Records per transaction: more would keep the interpreter from the event loop for too long at a stretch."""
BACKLOG = 4096
"""Records kept in memory for the store; beyond, it reads them from the journal's files."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries while the store fails."""

Observer = Callable[[Sequence[Stored]], None]
"""Sees every record once, when the store has taken it; called from the drain's thread."""


class HandOver:
    """Written records on their way to the store, in memory while they are few."""

    def __init__(self, end: int) -> None:
        self._lock = threading.Lock()
        self._batches: deque[tuple[int, list[Stored]]] = deque()
        self._held = 0
        self.end = end

    def put(self, records: list[Stored]) -> bool:
        """Take records that are now written; whether they complete a batch that the store should have at once."""
        with self._lock:
            if self._held > BACKLOG:
                self._batches.clear()
                self._held = 0
            held = self._held
            self._batches.append((self.end, records))
            self._held += len(records)
            self.end += len(records)
            return held < BATCH <= self._held

    def take(self, position: int) -> list[Stored]:
        """About a batch of records from `position` on, and forget those before; empty when they are not in memory."""
        taken: list[Stored] = []
        with self._lock:
            while self._batches and self._batches[0][0] < position:
                self._held -= len(self._batches.popleft()[1])
            for first, records in self._batches:
                if first != position + len(taken) or len(taken) >= BATCH:
                    break
                taken += records
        return taken

    @property
    def first(self) -> int:
        """The number of the first record in memory, or of the next to come."""
        with self._lock:
            return self._batches[0][0] if self._batches else self.end


class Drain:
    """Feeds a store from a journal: at once when many records wait, every half second otherwise.

    `name` is what the store knows the journal by; `handed` is where the journal leaves what it has written; `sync`
    forces the journal to disk, which comes before the store takes a record, so that the store never holds what a loss
    of power takes from the journal.
    `failure` says why the store takes nothing at present; the journal then grows, and nothing is lost.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        store: LedgerStore,
        position: int,
        handed: HandOver,
        sync: Callable[[], None],
        retention: Retention | None,
        observe: Observer | None,
    ) -> None:
        self._directory = directory
        self._name = name
        self._store = store
        self._handed = handed
        self._sync = sync
        self._retention = retention
        self._observe = observe
        self._position = position
        self._reading: Iterator[tuple[int, bytes]] | None = None
        self._decoder = msgspec.json.Decoder(Entry)
        self._changed = threading.Condition()
        self._hurry = self._closing = False
        self._pause = PAUSE
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name="farthing-ledger", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Records written to the journal that the store has not taken."""
        return self._handed.end - self._position

    def wake(self) -> None:
        """Begin at once rather than at the next half second."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until the store has taken all that is written now; whether it did within `timeout` seconds."""
        end = self._handed.end
        self.wake()
        with self._changed:
            return self._changed.wait_for(lambda: self._position >= end, timeout)

    def close(self) -> None:
        """Stop, after the batch in hand."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        finally:
            if not self._closing:
                self.failure = "The thread that feeds the ledger has died."

    def _turn(self) -> None:
        """Wait until there is reason to look, and move what there is."""
        with self._changed:
            self._changed.wait_for(lambda: self._hurry or self._closing, self._pause)
            self._hurry = False
        self._sync()
        try:
            while self._step():
                pass
            delete_drained(self._directory, self._position)
            self._prune()
        except (LedgerError, OSError) as error:
            self._failed(error)
        else:
            self._recovered()

    def _step(self) -> bool:
        """Move one batch; whether there was one. Raises `LedgerError`."""
        position = self._position
        if position >= self._handed.end:
            return False
        records = self._handed.take(position) or self._read(position)
        self._store.ingest(records, position + len(records), self._name)
        if self._observe is not None:
            self._observe(records)
        with self._changed:
            self._position = position + len(records)
            self._changed.notify_all()
        return not self._closing

    def _read(self, position: int) -> list[Stored]:
        """A batch of records from the journal's files, up to those in memory."""
        wanted = min(BATCH, self._handed.first - position)
        lines = list(islice(self._reading, wanted)) if self._reading else []
        if not lines or lines[0][0] != position:
            self._reading = read_journal(self._directory, position)
            lines = list(islice(self._reading, wanted))
        if not lines or lines[0][0] != position:
            raise LedgerError(
                f"Record {position} cannot be read from the journal in {self._directory}.",
                hint="Restore the missing segment, or the ledger, from a backup.",
            )
        return [Stored(self._decode(line, number), line) for number, line in lines]

    def _decode(self, line: bytes, number: int) -> Entry:
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise LedgerError(
                f"Record {number} of the journal in {self._directory} is not an entry: {error}.",
                hint="Use the version of Farthing that wrote it.",
            ) from error

    def _prune(self) -> None:
        before = self._retention.cutoff() if self._retention else None
        if before is not None:
            self._store.prune(before)

    def _failed(self, error: LedgerError | OSError) -> None:
        if not self.failure:
            log.error("The ledger takes no entries; the journal keeps them: %s", error)
        self.failure = error.message if isinstance(error, LedgerError) else str(error)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _recovered(self) -> None:
        if self.failure:
            log.warning("The ledger takes entries again.")
        self.failure = ""
        self._pause = PAUSE
