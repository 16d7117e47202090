"""Traffic files as verbs are given them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from farthing.errors import TrafficError
from farthing.importers import IMPORTERS, Importer, Reading, detect
from farthing.schema import Recorded

AUTO = "auto"
FORMATS = (AUTO, *(importer.name for importer in IMPORTERS))


def importer_of(file: Path, name: str) -> Importer:
    """The importer of that name, or for "auto" the one that knows the file; raises TrafficError."""
    if name == AUTO:
        return detect(file)
    if not file.exists():
        raise TrafficError(f"{file} cannot be read: No such file or directory.", hint="Name a recorded traffic file.")
    return next(importer for importer in IMPORTERS if importer.name == name)


def records(importer: Importer, file: Path, reading: Reading, limit: int | None) -> Iterator[Recorded]:
    """The records of a file, the first `limit` of them when it is given."""
    return islice(importer.read(file, reading), limit)
