"""Workspace: where a run keeps what it has finished, so that it goes on where it was killed."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from types import TracebackType

import msgspec

from farthing.compress.parsing import digest
from farthing.errors import ConfigError, FarthingError, Unavailable

DONE = "done.json"
LABELS = "labels.json"
_LOCK = "lock"
_PART = ".part"
_SCRATCH = ".scratch"
_KEY = 16
"""Hex digits of a digest in the name of a folder; `done.json` has them all."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 1_000_000
"""Less room than this, and a library's failure to write is put down to a full disk."""


class Done(msgspec.Struct, frozen=True):
    """What `done.json` says of a stage's folder: whose it is, and the SHA-256 of every other file in it."""

    name: str
    digest: str
    files: dict[str, str]


class Workspace:
    """The state of one line of compression, in a folder, for one process at a time.

    A stage's folder is complete or not there: it is made beside its place, its `done.json` is written last, and then it
    is renamed. `note` is told what was kept and what has to be done again.

    Entering raises ConfigError when another process has the folder, or it cannot be written.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self.folder = folder
        self._note = note
        self._lock = -1

    def __enter__(self) -> "Workspace":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder)
            for part in self.folder.glob(f"*{_PART}"):
                _take_away(part)
        except OSError as error:
            self._release()
            raise _refusal(self.folder, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._release()

    def forget(self) -> None:
        """Take out everything that was kept: the next stage begins from nothing."""
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                _take_away(path)

    def hold_to(self, labels: tuple[str, ...]) -> None:
        """Keep the labels of the first run, and raise ConfigError in a later one that has others."""
        file = self.folder / LABELS
        if not file.exists():
            with writing(self.folder):
                write_whole(file, msgspec.json.encode(labels))
            return
        try:
            before = msgspec.json.decode(file.read_bytes(), type=tuple[str, ...])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ConfigError(f"{file} cannot be read.", hint="Begin again with --anew.") from None
        if before != labels:
            gone, new = sorted(set(before) - set(labels)), sorted(set(labels) - set(before))
            told = [f"new: {', '.join(new[:5])}"] if new else []
            told += [f"gone: {', '.join(gone[:5])}"] if gone else []
            raise ConfigError(
                f"The labels are not those that the run in {self.folder} began with: "
                f"{'; '.join(told) or 'their order differs'} ({len(before)} then, {len(labels)} now).",
                hint="Begin again with --anew, or give the job another `out`.",
            )

    def stage(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of a finished stage: as it was kept under `key`, or else made by `make` in the folder it is given.

        Raises Unavailable when the disk is full; whatever `make` raises leaves nothing behind.
        """
        place = self.folder / f"{name}-{key[:_KEY]}"
        if self._is_kept(place, name, key):
            shutil.rmtree(self._scratch(name, key), ignore_errors=True)
            return place
        part = place.with_name(place.name + _PART)
        try:
            with writing(part):
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                seal(part, DONE, lambda files: msgspec.json.encode(Done(name, key, files)))
                part.rename(place)
                sync_folder(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(self._scratch(name, key), ignore_errors=True)
        return place

    def scratch(self, name: str, key: str) -> Path:
        """A folder for what a stage needs to go on within itself; it stays until the stage is finished."""
        folder = self._scratch(name, key)
        with writing(folder):
            folder.mkdir(exist_ok=True)
        return folder

    def _scratch(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key[:_KEY]}{_SCRATCH}"

    def _is_kept(self, place: Path, name: str, key: str) -> bool:
        if not place.exists():
            return False
        damage = _damage(place, name, key)
        if not damage:
            self._note(f"{name} was finished before; it is kept.")
            return True
        self._note(f"{name} is done again: {damage}.")
        shutil.rmtree(place)
        return False

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def chained(before: str, *parts: object) -> str:
    """The key of a stage: it changes with the stage's own `parts` (of a job, or digests) and with the stage before."""
    return digest([before, *parts])


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns what the system refuses while something is written at `place` into an error for people.

    Raises Unavailable when there is no room left, saying how much was written and how much is free; ConfigError when
    writing is not allowed.
    """
    try:
        yield
    except FarthingError:
        raise
    except OSError as error:
        if error.errno in (*_NO_ROOM, errno.EACCES, errno.EROFS, errno.EPERM):
            raise _refusal(place, error) from error
        raise
    except RuntimeError as error:  # libraries that write through C++ say no more than that
        if _free(place) < _FULL_BYTES:
            raise _no_room(place) from error
        raise


def require_room(place: Path, needed_bytes: int) -> None:
    """Raises Unavailable when less than that is free where `place` is, or is to be."""
    if (free := _free(place)) < needed_bytes:
        raise Unavailable(
            f"{place} needs {_mb(needed_bytes)}, and {_mb(free)} are free there.",
            hint="Make room, or name another disk; what was finished before is kept.",
        )


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, and on disk when this returns."""
    part = file.with_name(file.name + _PART)
    try:
        with part.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(file.parent)


def seal(folder: Path, name: str, manifest: Callable[[dict[str, str]], bytes]) -> None:
    """Force every file of a folder to disk, and write one more that is made of their SHA-256, by relative name."""
    files = hashes(folder)
    for file in files:
        _sync(folder / file)
    for inner in {(folder / file).parent for file in files}:
        sync_folder(inner)
    write_whole(folder / name, manifest(files))


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in and below a folder, in hex, by its name relative to the folder."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as opened:
                found[path.relative_to(folder).as_posix()] = file_digest(opened, "sha256").hexdigest()
    return found


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_away(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damage(place: Path, name: str, key: str) -> str:
    """What is wrong with a finished stage's folder; empty if nothing is."""
    try:
        done = msgspec.json.decode((place / DONE).read_bytes(), type=Done)
        found = hashes(place)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return f"{place / DONE} cannot be read"
    found.pop(DONE, None)
    if (done.name, done.digest) != (name, key):
        return f"{place / DONE} is of another stage"
    for file in sorted(done.files.keys() | found.keys()):
        if file not in found:
            return f"{place / file} is gone"
        if file not in done.files:
            return f"{place / file} does not belong there"
        if found[file] != done.files[file]:
            return f"{place / file} is not as it was written (its SHA-256 differs)"
    return ""


def _locked(folder: Path) -> int:
    """Lock a folder to this process until the descriptor is closed, or the process ends in whatever way."""
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(
            f"Another farthing compress (process {owner}) is at work in {folder}.",
            hint="Wait for it or stop it, or give the job another `out`.",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _refusal(place: Path, error: OSError) -> FarthingError:
    if error.errno in _NO_ROOM:
        return _no_room(place)
    return ConfigError(f"{place} cannot be written: {error.strerror}.", hint="Name a folder that you may write to.")


def _no_room(place: Path) -> Unavailable:
    written = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) if place.is_dir() else 0
    return Unavailable(
        f"The disk is full: {_mb(written)} of {place} had been written, it needs more, "
        f"and {_mb(_free(place))} are free.",
        hint="Make room and run the same command again: it goes on with the stage that was not finished.",
    )


def _free(place: Path) -> int:
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
