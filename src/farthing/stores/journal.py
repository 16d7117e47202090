"""FileJournal: entries on disk before anything counts as settled, one write per tick of the event loop."""

import asyncio
import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4
from zlib import crc32

import msgspec

from farthing.errors import LedgerError
from farthing.ports import LedgerStore, Stored
from farthing.schema import Entry
from farthing.stores.drain import Drain, HandOver, Observer
from farthing.stores.retention import Retention
from farthing.stores.segments import (
    Tail,
    create_segment,
    delete_drained,
    list_segments,
    recover,
    segment_number,
    segment_path,
)

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 1024 * 1024
QUEUE_BYTES = 32 * 1024 * 1024
"""Bytes kept in memory while nothing can be written; a call more is refused."""
RETRY = 0.25
"""Seconds between two tries to write while writing fails."""
CLOSING = 5.0
"""Seconds that closing waits for the store; the journal keeps what it has not taken by then."""


class FileJournal:
    """An append-only, checksummed log in `directory`, drained into `store` by a thread of its own.

    The store knows it by its `name`. Outside an event loop every append is written at once. `sync` forces each commit
    to disk before what waits for it goes on (`always`), or leaves that to the drain, twice a second (`interval`).

    Opening continues where the last process stopped: it cuts off what a crash left unfinished, and raises
    `LedgerError` when another process has the directory, or when the journal is damaged.
    """

    def __init__(
        self,
        directory: Path,
        store: LedgerStore,
        *,
        name: str = "",
        sync: Literal["interval", "always"] = "interval",
        retention: Retention | None = None,
        observe: Observer | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._directory = directory
        self.name = name
        self._always = sync == "always"
        self._segment_bytes = segment_bytes
        self._queue_bytes = queue_bytes
        self._encode = msgspec.json.Encoder().encode
        self._buffer = bytearray()
        self._queued: list[Stored] = []
        self._callbacks: deque[Callable[[], None]] = deque()
        self._scheduled = self._unsynced = self._closed = False
        self._write_failure = self._sync_failure = ""
        self._file = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock_directory(directory)
        try:
            position = store.position(name)
            tail = open_tail(directory, position)
            self._number = segment_number(tail.path)
            self._size = tail.size
            self._chain = tail.chain
            self._descriptor = os.open(tail.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._handed = HandOver(tail.next)
            self._drain = Drain(directory, name, store, position, self._handed, self.sync, retention, observe)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def failure(self) -> str:
        """Why entries cannot be written, or forced to disk, at present; empty when they can."""
        return self._write_failure or self._sync_failure

    @property
    def store_failure(self) -> str:
        """Why the store takes no entries at present (the journal keeps them); empty when it does."""
        return self._drain.failure

    @property
    def backlog(self) -> int:
        """Entries written that the store has not taken."""
        return self._drain.backlog

    def append(self, entries: Sequence[Entry]) -> None:
        """Queue entries for the next commit.

        Raises `LedgerError` when `queue_bytes` wait already because nothing can be written, or when it is closed.
        """
        buffer, chain = self._buffer, self._chain
        if self._closed:
            raise LedgerError(f"The journal in {self._directory} is closed.")
        if len(buffer) > self._queue_bytes:
            raise LedgerError(
                f"{len(self._queued)} entries wait to be written, and no more fit in memory: {self.failure}.",
                hint="Free space on the disk of the ledger.",
            )
        for entry in entries:
            line = self._encode(entry)
            chain = crc32(line, chain)
            buffer += b"%08x %b\n" % (chain, line)
            self._queued.append(Stored(entry, line))
        self._chain = chain
        if not self._scheduled:
            self._schedule()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` once everything appended so far is written, or could not be (see `failure`)."""
        if self._queued and not self._write_failure:
            self._callbacks.append(callback)
        else:
            callback()

    def commit(self) -> None:
        """Write what is queued, then run what waited for it."""
        self._scheduled = False
        if self._closed:
            return
        try:
            self._write()
        except OSError as error:
            self._failed(error)
        else:
            if self._write_failure:
                log.warning("The journal in %s is written again.", self._directory)
                self._write_failure = ""
        self._run_callbacks()

    def flush(self, timeout: float) -> bool:
        """Wait until the store has all that is written; whether it did within `timeout` seconds.

        May be called from any thread; it is for the end and for tests, as it blocks.
        """
        return self._drain.flush(timeout)

    def sync(self) -> None:
        """Force to disk what is written."""
        with self._file:
            if not self._unsynced:
                return
            self._unsynced = False
            try:
                os.fdatasync(self._descriptor)
                self._sync_failure = ""
            except OSError as error:
                if not self._sync_failure:
                    log.error("The journal in %s cannot be forced to disk: %s.", self._directory, error.strerror)
                self._sync_failure = f"{error.strerror} while forcing {self._directory} to disk"
                self._unsynced = True

    def close(self) -> None:
        """Write what is queued, hand it to the store, and let another process have the directory.

        Raises `LedgerError` when entries could not be written. What the store could not take stays in the journal.
        """
        if self._closed:
            return
        self.commit()
        self._drain.flush(CLOSING)
        self._closed = True
        self._drain.close()
        self.sync()
        os.close(self._descriptor)
        os.close(self._lock)
        if self._queued:
            raise LedgerError(f"{len(self._queued)} entries were never written: {self.failure}.")

    def _schedule(self, delay: float = 0.0) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if not delay:
                self.commit()
            return
        self._scheduled = True
        if delay:
            loop.call_later(delay, self.commit)
        else:
            loop.call_soon(self.commit)

    def _write(self) -> None:
        buffer = self._buffer
        while buffer:
            written = os.write(self._descriptor, buffer)
            self._size += written
            del buffer[:written]
        if self._queued:
            self._unsynced = True
            records, self._queued = self._queued, []
            if self._handed.put(records):
                self._drain.wake()
        if self._always:
            self.sync()
        if self._size >= self._segment_bytes:
            self._rotate()

    def _rotate(self) -> None:
        """Go on in a new segment; the old one is on disk before the new one exists."""
        self.sync()
        path = segment_path(self._directory, self._number + 1)
        descriptor, size = create_segment(path, self._handed.end, self._chain)
        with self._file:
            os.close(self._descriptor)
            self._descriptor = descriptor
        self._number += 1
        self._size = size

    def _failed(self, error: OSError) -> None:
        if not self._write_failure:
            log.error("The journal in %s cannot be written: %s.", self._directory, error.strerror)
        self._write_failure = f"{error.strerror} while writing to {self._directory}"
        self._schedule(RETRY)

    def _run_callbacks(self) -> None:
        callbacks = self._callbacks
        try:
            while callbacks:
                callbacks.popleft()()
        finally:
            if callbacks:
                self._schedule()


def journal_name(directory: Path) -> str:
    """A name for the journal in a directory that no other has, made once and kept there. Raises `OSError`."""
    path = directory / "name"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError), open(path, "x", encoding="ascii", opener=_privately) as file:
        file.write(uuid4().hex)
    return path.read_text("ascii")


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def lock_directory(directory: Path) -> int:
    """The descriptor of a lock on a directory, held until it is closed.

    Raises `LedgerError`, naming the process that has it, when it is taken.
    """
    descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise LedgerError(
            f"Another farthing (process {owner}) is using {directory}.",
            hint="Stop it, or set ledger.path to another directory.",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def open_tail(directory: Path, position: int) -> Tail:
    """Where to go on writing: the recovered end of the journal, or a new segment when that is behind the store.

    A loss of power can take records from the end of the journal, but only such as the store has already.
    """
    tail, cut = recover(directory, position)
    if cut:
        log.warning("Cut %d unfinished bytes off the end of the journal in %s.", cut, directory)
    if tail is not None and tail.next >= position:
        return tail
    last = list_segments(directory)[-1:]
    path = segment_path(directory, segment_number(last[0]) + 1 if last else 1)
    descriptor, size = create_segment(path, position, 0)
    os.close(descriptor)
    delete_drained(directory, position)
    return Tail(path, size, position, 0)
