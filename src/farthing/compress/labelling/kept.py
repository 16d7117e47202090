"""Answers of a labeller on disk: one JSON line each, appended as they come."""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from farthing.errors import TrafficError

SYNCED_EACH: Final = 16
"""Answers that a loss of power may cost; the death of the process costs none."""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer: `digest` of the question, number of the vote, the `label`, or what was `said` where it is none.

    `cost` is in pico-dollars, `None` when unknown.
    """

    digest: str
    vote: int
    label: str = ""
    said: str = ""
    model: str = ""
    cost: int | None = None


class KeptAnswers:
    """The answers in one file, for one process at a time.

    Opening raises TrafficError when a line that was written to its end is no answer; one that was cut short is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cost = 0
        self._found: dict[tuple[str, int], Kept] = {}
        self._unsynced = 0
        self._file = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            os.ftruncate(self._file, whole)
            os.lseek(self._file, whole, os.SEEK_SET)
            self._read(data[:whole])
        except BlockingIOError as error:
            self._abandon()
            raise TrafficError(
                f"{path} is in use by another labelling.", hint="Wait for it, or give this one another folder."
            ) from error
        except OSError as error:
            self._abandon()
            raise TrafficError(
                f"{path} cannot be opened: {error.strerror}.", hint="Look at its path and permissions."
            ) from error
        except TrafficError:
            self._abandon()
            raise

    def _read(self, data: bytes) -> None:
        for number, line in enumerate(data.splitlines(), 1):
            try:
                kept = _DECODER.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise TrafficError(
                    f"{self.path}, line {number} is no answer of a labeller: {error}.",
                    hint="Remove the line, or the file to ask for everything again.",
                ) from error
            self._remember(kept)

    def _remember(self, kept: Kept) -> None:
        self.cost += kept.cost or 0
        self._found[kept.digest, kept.vote] = kept

    def of(self, digest: str, vote: int) -> Kept | None:
        """The answer to one question, if it was given."""
        return self._found.get((digest, vote))

    def add(self, kept: Kept) -> None:
        """Append an answer; raises TrafficError when it cannot be written, with the file as it was."""
        line = _ENCODER.encode(kept) + b"\n"
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, "only a part of the line could be written")
            self._unsynced += 1
            if self._unsynced >= SYNCED_EACH:
                os.fsync(self._file)
                self._unsynced = 0
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, end)
            raise TrafficError(
                f"{self.path} cannot be written: {error.strerror}.", hint="Make room on the disk, and run it again."
            ) from error
        self._remember(kept)

    def close(self) -> None:
        """Force to disk what was added, and close the file."""
        with suppress(OSError):
            os.fsync(self._file)
        self._abandon()

    def _abandon(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


_DECODER = msgspec.json.Decoder(Kept)
_ENCODER = msgspec.json.Encoder()
