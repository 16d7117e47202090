"""Reports of load generators: JSON in one document or one per line, read with errors that name file and key."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from farthing.errors import TrafficError

_MS = 1e-3


class Document:
    """One JSON object: typed access by path of keys; `place` says where it stands, for messages."""

    def __init__(self, place: str, data: Mapping[str, object]) -> None:
        self.place = place
        self.data = data

    def find(self, *path: str) -> object:
        """What stands under a path of keys; None where there is nothing."""
        value: object = self.data
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def number(self, *path: str) -> float | None:
        """A finite number of 0 or more; None where there is nothing, raises TrafficError for anything else."""
        value = self.find(*path)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise self.error(f"{'.'.join(path)} is {value!r}, not a number of 0 or more")
        return float(value)

    def needed(self, *path: str) -> float:
        """A number above 0; raises TrafficError where there is none."""
        value = self.number(*path)
        if not value:
            raise self.error(f"{'.'.join(path)} is {'0' if value == 0 else 'missing'}")
        return value

    def seconds(self, *path: str) -> float | None:
        """A number of milliseconds above 0, in seconds; 0 is what is written where nothing was measured."""
        value = self.number(*path)
        return value * _MS if value else None

    def text(self, *path: str) -> str:
        """A text; "" where there is none."""
        value = self.find(*path)
        return value if isinstance(value, str) else ""

    def error(self, problem: str) -> TrafficError:
        """A TrafficError about this document."""
        return TrafficError(f"{self.place}: {problem}.", hint="Save the report again with the tool that made it.")


def documents(path: Path) -> Iterator[Document]:
    """The objects of a file of JSON: one, a list of them, or one per line. Raises TrafficError for anything else."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TrafficError(f"{path} cannot be read: {error.strerror}.", hint="Name a readable file.") from None
    except UnicodeDecodeError as error:
        raise TrafficError(f"{path} is not text in UTF-8: {error}.", hint="Name a report in JSON.") from None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2:
            raise TrafficError(f"{path} is not JSON: {error}.", hint="Name a report in JSON.") from None
        for number, line in lines:
            yield _object(f"{path}, line {number}", _decoded(f"{path}, line {number}", line))
        return
    if not isinstance(whole, list):
        yield _object(str(path), whole)
        return
    for number, item in enumerate(whole, 1):
        yield _object(f"{path}, item {number}", item)


def _decoded(place: str, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TrafficError(f"{place} is not JSON: {error}.", hint="Each line is one JSON object.") from None


def _object(place: str, value: object) -> Document:
    if not isinstance(value, dict):
        raise TrafficError(f"{place} is not a JSON object.", hint="Name a report as its tool wrote it.")
    return Document(place, value)
