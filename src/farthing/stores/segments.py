"""The journal's files: numbered segments of checksummed lines.

A segment is a text file. Its first line is a header: its format, the number of its first record, and the checksum
that the records before it end in. Each further line is a record: eight hexadecimal digits, a space, and an entry as
JSON. The digits are the CRC-32 of that JSON continued from the record before, so a line that is altered, missing or
out of order breaks the chain at that very line.
"""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import msgspec

from farthing.errors import LedgerError

FORMAT = 1
PREFIX = 9
"""Bytes of a line before its JSON: eight digits and a space."""


class Header(msgspec.Struct, frozen=True):
    """The first line of a segment; `chain` is the checksum that its first record continues."""

    format: int
    first: int
    chain: int


class Tail(msgspec.Struct, frozen=True):
    """The end of the sound part of a segment, which is `size` bytes long.

    `next` is the number that the next record gets, and `chain` the checksum it continues.
    """

    path: Path
    size: int
    next: int
    chain: int


def damaged(path: Path, offset: int, detail: str) -> LedgerError:
    """The error of a segment that cannot be trusted from byte `offset` on."""
    line = path.read_bytes()[:offset].count(b"\n") + 1
    return LedgerError(
        f"The journal is damaged: {path.name}, line {line} (byte {offset}): {detail}.",
        hint=f"Restore {path} from a backup; or give up what follows there with `truncate -s {offset} {path}`.",
    )


def checksummed(text: bytes, chain: int) -> bytes:
    """A line of a segment, given the checksum of `text` continued from the record before."""
    return b"%08x %b\n" % (chain, text)


def segment_path(directory: Path, number: int) -> Path:
    """The file of the segment with that number."""
    return directory / f"{number:08d}.log"


def segment_number(path: Path) -> int:
    """The number of a segment's file."""
    return int(path.stem)


def list_segments(directory: Path) -> list[Path]:
    """The segments in a directory, in order."""
    return sorted(path for path in directory.glob("*.log") if path.stem.isdigit())


def create_segment(path: Path, first: int, chain: int) -> tuple[int, int]:
    """Create a segment on disk; its descriptor, open for appending, and its size in bytes. Raises `OSError`."""
    text = msgspec.json.encode(Header(FORMAT, first, chain))
    line = checksummed(text, crc32(text))
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(f"only a part of the header of {path} could be written")
        os.fdatasync(descriptor)
        sync_directory(path.parent)
    except OSError:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor, len(line)


def sync_directory(directory: Path) -> None:
    """Force to disk which files a directory holds."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_header(path: Path) -> Header | None:
    """The header of a segment; `None` when its creation was cut short.

    Raises `LedgerError` when it is damaged, or of a later format.
    """
    with path.open("rb") as file:
        line = file.readline()
        more = file.read(1)
    text = line[PREFIX:-1]
    if line != checksummed(text, crc32(text)):
        if more:
            raise damaged(path, 0, "the header does not match its checksum")
        return None
    header = msgspec.json.decode(text, type=Header)
    if header.format != FORMAT:
        raise LedgerError(
            f"{path} is in journal format {header.format}; this version of Farthing reads format {FORMAT}.",
            hint="Use the version that wrote it.",
        )
    return header


def read_records(path: Path, header: Header) -> Iterator[tuple[bytes, int]]:
    """The JSON of each record of a segment, with its checksum, up to the first line that breaks the chain."""
    chain = header.chain
    with path.open("rb", buffering=1 << 18) as file:
        file.readline()
        for line in file:
            text = line[PREFIX:-1]
            chain = crc32(text, chain)
            if line[:PREFIX] != b"%08x " % chain or line[-1:] != b"\n":
                return
            yield text, chain


def read_journal(directory: Path, position: int) -> Iterator[tuple[int, bytes]]:
    """The number and JSON of each record from `position` on, up to the first line that breaks the chain."""
    for path, header in needed_segments(directory, position):
        for number, (text, _) in enumerate(read_records(path, header), start=header.first):
            if number >= position:
                yield number, text


def needed_segments(directory: Path, position: int) -> list[tuple[Path, Header]]:
    """The segments that hold records from `position` on, and the last one whatever it holds. Raises `LedgerError`."""
    found: list[tuple[Path, Header]] = []
    for path in reversed(list_segments(directory)):
        header = read_header(path)
        if header is not None:
            found.append((path, header))
            if header.first <= position:
                break
        elif found:
            raise damaged(path, 0, "the header is unfinished, yet another segment follows")
    return found[::-1]


def delete_drained(directory: Path, position: int) -> None:
    """Delete the segments whose records all come before `position`, except the last segment. Raises `LedgerError`."""
    paths = list_segments(directory)
    if len(paths) > 1:
        oldest_needed = needed_segments(directory, position)[0][0]
        for path in paths[: paths.index(oldest_needed)]:
            path.unlink()


def recover(directory: Path, position: int) -> tuple[Tail | None, int]:
    """Where the journal ends, once what a crash left unfinished at its end is cut off; and how many bytes were cut.

    Checks every segment that holds records from `position` (the store's) on; `None` when there is none to go on with.
    What is cut is kept beside the segment in a file named `.cut`. Raises `LedgerError` when sound records follow a
    broken one, or when records from `position` on are missing.
    """
    paths = list_segments(directory)
    if paths and read_header(paths[-1]) is None:
        paths[-1].unlink()
    needed = needed_segments(directory, position)
    if not needed:
        return None, 0
    if needed[0][1].first > position:
        raise LedgerError(
            f"Records {position} to {needed[0][1].first - 1} are in neither the ledger nor the journal in {directory}.",
            hint="Restore the missing segments, or the ledger, from a backup.",
        )
    tail: Tail | None = None
    for path, header in needed:
        _require_joined(tail, path, header)
        tail = sound_part(path, header)
    assert tail is not None
    return tail, _cut_unfinished(tail)


def verify_journal(directory: Path) -> list[str]:
    """What is wrong with any segment in a directory, in sentences; empty when all are sound.

    An unfinished last line is not wrong: it is being written, or is cut off when the journal is next opened.
    """
    problems = []
    tail: Tail | None = None
    for path in list_segments(directory):
        try:
            header = read_header(path)
            if header is None:
                continue
            _require_joined(tail, path, header)
        except LedgerError as error:
            problems.append(error.message)
            tail = None
        else:
            tail = sound_part(path, header)
    if tail is not None and b"\n" in _rest(tail):
        problems.append(_broken(tail).message)
    return problems


def sound_part(path: Path, header: Header) -> Tail:
    """A segment up to the first line that breaks the chain."""
    with path.open("rb") as file:
        size = len(file.readline())
    number, chain = header.first, header.chain
    for text, checksum in read_records(path, header):
        number, chain = number + 1, checksum
        size += PREFIX + len(text) + 1
    return Tail(path, size, number, chain)


def _rest(tail: Tail) -> bytes:
    """What follows the sound part of a segment."""
    with tail.path.open("rb") as file:
        file.seek(tail.size)
        return file.read()


def _broken(tail: Tail) -> LedgerError:
    return damaged(tail.path, tail.size, "the record does not match its checksum")


def _require_joined(before: Tail | None, path: Path, header: Header) -> None:
    """Raise `LedgerError` unless a segment goes on where the one before it ends."""
    if before is None:
        return
    if _rest(before):
        raise _broken(before)
    if (header.first, header.chain) != (before.next, before.chain):
        raise damaged(path, 0, f"it does not continue {before.path.name}, which ends before record {before.next}")


def _cut_unfinished(tail: Tail) -> int:
    """Cut off what follows the sound part of the last segment, unless it holds sound records; how many bytes went."""
    rest = _rest(tail)
    if rest:
        if _holds_sound_record(rest):
            raise _broken(tail)
        tail.path.with_suffix(".cut").write_bytes(rest)
        with tail.path.open("r+b") as file:
            file.truncate(tail.size)
            os.fdatasync(file.fileno())
    return len(rest)


def _holds_sound_record(rest: bytes) -> bool:
    """Whether any line continues the checksum written on the line before it."""
    for before, line in pairwise(rest.splitlines(keepends=True)):
        try:
            chain = crc32(line[PREFIX:-1], int(before[: PREFIX - 1], 16))
        except ValueError:
            continue
        if line == checksummed(line[PREFIX:-1], chain):
            return True
    return False
