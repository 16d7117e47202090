"""What importers share: what was assumed and left out, rows of any layout, instants and money from text."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from farthing.errors import TrafficError
from farthing.schema import PICO_PER_USD

Row = dict[str, object]
Shape = TypeVar("Shape")

DEFAULT_MODEL = "gpt-6-luna"
"""The model that traces of lengths and arrivals are taken to have asked, unless told otherwise."""

_BUFFER = 1 << 20
_NANOSECONDS = 10**9


class Reading:
    """One reading of a file: what to assume where it is silent, and what was left out, by reason.

    `model` is taken to have been asked where the file names none.
    """

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.skipped: Counter[str] = Counter()

    @property
    def trace_model(self) -> str:
        """The model assumed for traces, which never name one."""
        return self.model or DEFAULT_MODEL


def unreadable(path: Path, place: str, what: str, hint: str) -> TrafficError:
    """The error about one place of a file: "line 7", "row 12"."""
    return TrafficError(f"{path}, {place}: {what}", hint=hint)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    with path.open("rb", buffering=_BUFFER) as file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, line


def first_names(path: Path) -> frozenset[str]:
    """The column names of a CSV file, or the member names of the first object of a JSON or JSONL one.

    The files of a directory are taken to be alike; an object that only wraps a list stands for what is in it.
    """
    if path.is_dir():
        path = next(iter(sorted(path.glob("*.csv"))), path)
    with path.open("rb") as file:
        start = file.read(_BUFFER)
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if text[:1] not in ("{", "["):
        return frozenset(next(csv.reader(text.splitlines()[:1]), ()))
    if len(start) == _BUFFER and not _whole_object(text):
        text = path.read_bytes().decode("utf-8-sig", errors="replace").lstrip()
    first = _whole_object(text) or {}
    wrapped = first.get("data")
    if isinstance(wrapped, list) and wrapped and isinstance(wrapped[0], dict):
        first = wrapped[0]
    return frozenset(first)


def _whole_object(text: str) -> Row | None:
    try:
        value, _ = json.JSONDecoder().raw_decode(text, max(text.find("{"), 0))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a table exported as CSV, JSON or JSONL, each with its place; empty cells are left out.

    A JSON file is a list of objects, or an object whose `data` is one. Cells that hold JSON are decoded.
    """
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"[" or (start[:1] == b"{" and not _is_jsonl(path)):
        yield from _json_rows(path)
    elif start[:1] == b"{":
        for number, line in lines(path):
            place = f"line {number}"
            yield place, _object(path, place, _decoded(path, place, line))
    else:
        yield from _csv_rows(path)


def shaped(path: Path, place: str, row: Row, shape: type[Shape]) -> Shape:
    """The columns of a row that an importer reads; numbers may be written as text."""
    try:
        return msgspec.convert(row, shape, strict=False)
    except msgspec.ValidationError as error:
        raise unreadable(path, place, f"{error}.", "Export the table again with all of its columns.") from None


def instant(path: Path, place: str, text: str) -> int:
    """Unix nanoseconds of an ISO 8601 date and time, to the last digit given; UTC unless it says otherwise."""
    whole, point, rest = text.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(whole + rest[len(digits) :])
    except ValueError:
        hint = "Write it like 2026-11-20T09:30:00.5Z."
        raise unreadable(path, place, f'"{text}" is not a date and time.', hint) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    fraction = int(digits[:9].ljust(9, "0")) if point else 0
    return (since.days * 86_400 + since.seconds) * _NANOSECONDS + fraction


def pico(dollars: Decimal | None) -> int | None:
    """Dollars as pico-dollars, rounded to the nearest."""
    return None if dollars is None else int((dollars * PICO_PER_USD).to_integral_value())


def _is_jsonl(path: Path) -> bool:
    """Whether the first line is an object by itself, and not one that wraps the whole table."""
    first = next(lines(path), (0, b""))[1]
    try:
        value = msgspec.json.decode(first.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(value, dict) and not isinstance(value.get("data"), list)


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    table = _decoded(path, "the whole file", path.read_bytes())
    if isinstance(table, dict):
        table = table.get("data")
    if not isinstance(table, list):
        raise TrafficError(f"{path} holds no list of rows.", hint="It should be a JSON list, or have one as `data`.")
    for number, row in enumerate(table, 1):
        place = f"row {number}"
        yield place, _object(path, place, row)


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(1 << 31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="")
        try:
            for row in reader:
                place = f"line {reader.line_num}"
                if "" in row:
                    hint = f"The header has {len(reader.fieldnames or ())}. Quote cells that hold commas."
                    raise unreadable(path, place, "there are more cells than columns.", hint)
                yield place, _object(path, place, dict(row))
        except (csv.Error, UnicodeDecodeError) as error:
            hint = "It should be CSV in UTF-8 with a header."
            raise unreadable(path, f"after line {reader.line_num}", f"{error}.", hint) from None


def _decoded(path: Path, place: str, text: bytes) -> object:
    try:
        return msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(path, place, f"this is not JSON: {error}.", "Export the file again.") from None


def _object(path: Path, place: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise unreadable(path, place, "this is not an object.", "Each row is one JSON object.")
    return {name: _cell(value) for name, value in row.items() if value not in (None, "")}


def _cell(value: object) -> object:
    """A cell, decoded if it is text that holds a JSON object or list."""
    if not isinstance(value, str) or value[:1] not in "{[":
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value
