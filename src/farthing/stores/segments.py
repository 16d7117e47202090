"""The journal's files: numbered segments of checksummed lines.

A segment is a text file. Its first line is a header: its format, the number of its first record, and the checksum
that the records before it end in. Each further line is a record: eight hexadecimal digits, a space, and an entry as
JSON. The digits are the CRC-32 of that JSON continued from the record before, so a line that is altered, missing or
out of order breaks the chain at that very line.
"""

import os
from collections.abc import Iterator
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
    """Where a journal ends: `path` is its last segment and `size` the bytes of it that hold.

    `next` is the number that the next record gets, and `chain` the checksum it continues.
    """

    path: Path
    size: int
    next: int
    chain: int


class Damage(LedgerError):
    """A line that breaks the chain. `offset` is where it begins in its segment, in bytes."""

    def __init__(self, path: Path, line: int, offset: int, detail: str) -> None:
        super().__init__(
            f"The journal is damaged: {path.name}, line {line} (byte {offset}): {detail}.",
            hint=f"Restore {path} from a backup; or give up what follows with `truncate -s {offset} {path}`.",
        )
        self.offset = offset


def checksummed(line: bytes, chain: int) -> bytes:
    """A line of a segment, given the checksum of `line` continued from the record before."""
    return b"%08x %b\n" % (chain, line)


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
    """The header of a segment; `None` when its creation was cut short. Raises `Damage`."""
    with path.open("rb") as file:
        line = file.readline()
        rest = file.read(1)
    if not line.endswith(b"\n"):
        return None
    text = line[PREFIX:-1]
    if line != checksummed(text, crc32(text)):
        if not rest:
            return None
        raise Damage(path, 1, 0, "the header does not match its checksum")
    header = msgspec.json.decode(text, type=Header)
    if header.format != FORMAT:
        raise LedgerError(
            f"{path} is in journal format {header.format}; this version of Farthing reads format {FORMAT}.",
            hint="Use the version that wrote it.",
        )
    return header


def read_records(path: Path, header: Header) -> Iterator[tuple[bytes, int]]:
    """The JSON of each record of a segment, with its checksum; ends before an unfinished last line.

    Raises `Damage` at a line that breaks the chain.
    """
    chain = header.chain
    with path.open("rb", buffering=1 << 18) as file:
        offset = len(file.readline())
        for number, line in enumerate(file, start=2):
            text = line[PREFIX:-1]
            chain = crc32(text, chain)
            if line != b"%08x %b\n" % (chain, text):
                if not line.endswith(b"\n"):
                    return
                raise Damage(path, number, offset, "the record does not match its checksum")
            offset += len(line)
            yield text, chain


def read_journal(directory: Path, position: int) -> Iterator[tuple[int, bytes]]:
    """The number and JSON of each record from `position` on, as far as they are written. Raises `LedgerError`."""
    for path, header in needed_segments(directory, position):
        for number, (text, _) in enumerate(read_records(path, header), start=header.first):
            if number >= position:
                yield number, text


def needed_segments(directory: Path, position: int) -> list[tuple[Path, Header]]:
    """The segments that hold records from `position` on, and the last one whatever it holds. Raises `LedgerError`."""
    found: list[tuple[Path, Header]] = []
    for path in reversed(list_segments(directory)):
        header = read_header(path)
        if header is None:
            if found:
                raise Damage(path, 1, 0, "the header is unfinished, yet another segment follows")
            continue
        found.append((path, header))
        if header.first <= position:
            break
    return found[::-1]


def delete_drained(directory: Path, position: int) -> None:
    """Delete the segments whose records all come before `position`, except the last segment. Raises `LedgerError`."""
    paths = list_segments(directory)
    if len(paths) > 1:
        needed = needed_segments(directory, position)
        for path in paths[: paths.index(needed[0][0])] if needed else ():
            path.unlink()


def recover(directory: Path, position: int) -> tuple[Tail | None, int]:
    """Where the journal ends, once what a crash left unfinished at its end is cut off; and how many bytes were cut.

    Checks every segment that holds records from `position` (the store's) on; `None` when there is none to go on with.
    What is cut is kept beside the segment in a file named `.cut`. Raises `Damage` when a broken line is followed by
    sound ones, and `LedgerError` when records are missing.
    """
    _drop_unfinished_segment(directory)
    needed = needed_segments(directory, position)
    if not needed:
        return None, 0
    expected = needed[0][1]
    if expected.first > position:
        raise LedgerError(
            f"Records {position} to {expected.first - 1} are in neither the ledger nor the journal in {directory}.",
            hint="Restore the missing segments, or the ledger, from a backup.",
        )
    cut = 0
    tail = None
    for index, (path, header) in enumerate(needed):
        if (header.first, header.chain) != (expected.first, expected.chain):
            raise Damage(path, 1, 0, f"it does not continue the segment before, which ends at record {expected.first}")
        last = index == len(needed) - 1
        if last:
            cut = _cut_unfinished(path, header)
        tail = _end(path, header)
        if not last and tail.size < path.stat().st_size:
            raise Damage(path, tail.next - header.first + 2, tail.size, "the line is unfinished, yet a segment follows")
        expected = Header(FORMAT, tail.next, tail.chain)
    return tail, cut


def verify_journal(directory: Path) -> list[str]:
    """What is wrong with any segment in a directory, in sentences; empty when all are sound."""
    problems = []
    expected: Header | None = None
    for path in list_segments(directory):
        try:
            header = read_header(path)
            if header is None:
                continue
            if expected is not None and header != expected:
                problems.append(f"{path.name} does not continue the segment before, which ends at {expected.first}.")
            tail = _end(path, header)
            expected = Header(FORMAT, tail.next, tail.chain)
        except LedgerError as error:
            problems.append(error.message)
            expected = None
    return problems


def _end(path: Path, header: Header) -> Tail:
    """Where a segment's sound records end. Raises `Damage`."""
    with path.open("rb") as file:
        size = len(file.readline())
    number, chain = header.first, header.chain
    for text, checksum in read_records(path, header):
        number, chain = number + 1, checksum
        size += PREFIX + len(text) + 1
    return Tail(path, size, number, chain)


def _drop_unfinished_segment(directory: Path) -> None:
    paths = list_segments(directory)
    if paths and read_header(paths[-1]) is None:
        paths[-1].unlink()


def _cut_unfinished(path: Path, header: Header) -> int:
    """Cut off what follows the last sound record, unless sound records follow it too; how many bytes went."""
    try:
        size = _end(path, header).size
    except Damage as damage:
        if _sound_line_after(path, damage.offset):
            raise
        size = damage.offset
    cut = path.stat().st_size - size
    if cut:
        with path.open("r+b") as file:
            file.seek(size)
            path.with_suffix(".cut").write_bytes(file.read())
            file.truncate(size)
            os.fdatasync(file.fileno())
    return cut


def _sound_line_after(path: Path, offset: int) -> bool:
    """Whether any line after the one at `offset` continues the checksum written on the line before it."""
    with path.open("rb") as file:
        file.seek(offset)
        before = file.readline()
        for line in file:
            try:
                chain = crc32(line[PREFIX:-1], int(before[: PREFIX - 1], 16))
            except ValueError:
                chain = -1
            if chain >= 0 and line == checksummed(line[PREFIX:-1], chain):
                return True
            before = line
    return False
