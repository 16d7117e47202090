"""Farthing's own traffic format: one JSON object of `farthing.schema.Recorded` per line."""

from collections.abc import Iterator
from pathlib import Path

from farthing.errors import TrafficError
from farthing.importers.reading import Reading, lines, unreadable
from farthing.schema import Recorded, read_recorded

NAMES = frozenset(("at", "model"))


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """The records of a file, in its order; raises TrafficError with the number of a line that is not one."""
    for number, line in lines(path):
        try:
            yield read_recorded(line)
        except TrafficError as error:
            raise unreadable(path, f"line {number}", error.message, error.hint) from None
