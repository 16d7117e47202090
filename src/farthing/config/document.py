"""A TOML document, with the line on which each of its keys stands."""

import tomllib
from collections.abc import Iterable, Iterator

from msgspec import Struct

from farthing.errors import ConfigError

Step = str | int
Path = tuple[Step, ...]
"""Where a value stands: names of tables and keys, and indices into lists."""


class Document(Struct, frozen=True):
    """What a TOML text says, and the line of each key, counted from 1."""

    values: dict[str, object]
    lines: dict[Path, int]


def read_document(text: str, name: str) -> Document:
    """Parse a TOML text; `name` stands for it in messages.

    Raises ConfigError naming the line when it is not TOML.
    """
    text = text.replace("\r\n", "\n")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error).split(" (at ")[0]
        raise ConfigError(f"{name}:{_first_bad_line(text)}: this is not TOML: {reason}") from None
    return Document(values, dict(_placed_keys(text)))


def dotted(path: Path) -> str:
    """A path as it is written in messages.

    >>> dotted(("routes", 0, "upstream"))
    'routes[0].upstream'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _first_bad_line(text: str) -> int:
    """The line after the longest beginning of the text that is TOML."""
    lines = text.split("\n")
    for count in range(len(lines) - 1, 0, -1):
        if _parsed("\n".join(lines[:count])) is not None:
            return count + 1
    return 1


def _placed_keys(text: str) -> Iterator[tuple[Path, int]]:
    """Every key of a valid TOML text with its line.

    The standard parser does not say where it found a key, so the text is cut into statements, each the shortest run
    of lines that parses by itself, and what a statement alone would say shows which keys it sets.
    """
    table: Path = ()
    last_row: dict[Path, int] = {}
    for line, statement in _statements(text):
        said = _parsed(statement) or {}
        if not statement.lstrip().startswith("["):
            yield from ((path, line) for path in _paths(said, table))
            continue
        table = ()
        *outer, name = _header(said)
        for step in outer:
            table = _in_last_row((*table, step), last_row)
        table = (*table, name)
        if statement.lstrip().startswith("[["):
            last_row[table] = last_row.get(table, -1) + 1
        yield (table, line)
        table = _in_last_row(table, last_row)
        yield (table, line)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    start, held = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        held = f"{held}\n{line}" if held else line
        said = _parsed(held)
        if said is None:
            continue
        if said:
            yield start, held
        start, held = number + 1, ""


def _parsed(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _header(said: object) -> Iterator[str]:
    """The names in a table header, from what the header alone parses to."""
    while said:
        if isinstance(said, list):
            said = said[0]
        elif isinstance(said, dict):
            name, said = next(iter(said.items()))
            yield name


def _in_last_row(table: Path, last_row: dict[Path, int]) -> Path:
    return (*table, last_row[table]) if table in last_row else table


def _paths(value: object, path: Path) -> Iterator[Path]:
    inner: Iterable[tuple[Step, object]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for step, below in inner:
        yield (*path, step)
        yield from _paths(below, (*path, step))
