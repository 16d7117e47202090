"""Rows of data files: CSV, JSON lines, Parquet, plain text and recorded traffic, each row with its place."""

import csv
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from farthing.compress.data.conversations import asked
from farthing.dialects import answer_text
from farthing.errors import ConfigError, TrafficError
from farthing.importers import farthing as traffic
from farthing.importers.reading import lines
from farthing.schema import Recorded, read_recorded

Row = dict[str, object]

LONGEST_BYTES = 1_000_000
"""A text is refused beyond this: what is longer is a file that was not cut into examples."""

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt")
_BOM = b"\xef\xbb\xbf"


class Columns(msgspec.Struct, frozen=True):
    """The names under which a text and what is said of it are to be found."""

    text: str
    label: str


class Tally:
    """What a reading of traffic used and left out, by reason; `models` counts the answers used by who gave them."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.models: Counter[str] = Counter()


def rows(path: Path, columns: Columns, tally: Tally) -> Iterator[tuple[str, Row]]:
    """The rows of a file with their places ("line 7"); recorded traffic gives the columns asked for.

    Raises TrafficError where the file cannot be read, ConfigError where what reads it is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        hint = f"The ending says how a file is read: {', '.join(FORMATS)}."
        raise TrafficError(f'{path} ends in "{path.suffix}", which is no format of examples.', hint=hint)
    try:
        yield from _rows(path, suffix, columns, tally)
    except UnicodeDecodeError:
        raise _not_text(path) from None
    except OSError as error:
        hint = "Files are looked for from the folder of the job file."
        raise TrafficError(f"{path} cannot be read: {error.strerror or error}.", hint=hint) from None


def refused(path: Path, place: str, what: str, hint: str) -> TrafficError:
    """The error about one place of a file."""
    return TrafficError(f"{path}, {place}: {what}", hint=hint)


def _rows(path: Path, suffix: str, columns: Columns, tally: Tally) -> Iterator[tuple[str, Row]]:
    if suffix in (".csv", ".tsv"):
        yield from _of_csv(path, "," if suffix == ".csv" else "\t")
    elif suffix == ".txt":
        for number, line in lines(path):
            yield f"line {number}", {columns.text: line.removeprefix(_BOM).decode().strip("\r\n")}
    else:
        found = _of_parquet(path) if suffix == ".parquet" else _of_json(path)
        yield from _plain_or_traffic(path, found, columns, tally)


def _of_csv(path: Path, delimiter: str) -> Iterator[tuple[str, Row]]:
    """The dialect is never guessed: a comma (or tab), double quotes, a header."""
    csv.field_size_limit(LONGEST_BYTES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header: list[str] = []
        start = 1
        try:
            for cells in reader:
                place, start = f"line {start}", reader.line_num + 1
                if not cells:
                    continue
                if not header:
                    header = _header(path, cells)
                elif len(cells) != len(header):
                    what = f"there are {len(cells)} cells, and the header has {len(header)} columns."
                    raise refused(path, place, what, "Put cells that hold commas between double quotes.")
                else:
                    yield place, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            if "field larger" in str(error):
                hint = "Look for a double quote that is never closed, or cut the text into examples."
                raise refused(path, f"line {start}", "a cell is larger than 1 MB.", hint) from None
            hint = "It should be CSV in UTF-8 with a header, and double quotes around cells that hold commas."
            raise refused(path, f"line {start}", f"this is not CSV: {error}.", hint) from None


def _header(path: Path, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    for name in header:
        if header.count(name) > 1:
            raise refused(path, "line 1", f'two columns are named "{name}".', "Rename one of them.")
    return header


def _of_json(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in lines(path):
        place = f"line {number}"
        try:
            row = msgspec.json.decode(line.removeprefix(_BOM))
        except (msgspec.DecodeError, RecursionError) as error:
            hint = "Each line is one JSON object; NaN and Infinity are not JSON."
            raise refused(path, place, f"this is not JSON: {error}.", hint) from None
        if not isinstance(row, dict):
            raise refused(path, place, "this is not a JSON object.", "Each line is one JSON object.")
        yield place, row


def _of_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} is Parquet, and pyarrow is not installed.", hint="pip install 'farthing[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            count = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    count += 1
                    yield f"row {count}", row
    except arrow.ArrowException as error:
        raise TrafficError(f"{path} is not Parquet: {error}.", hint="Export the table again.") from None


def _plain_or_traffic(
    path: Path, found: Iterator[tuple[str, Row]], columns: Columns, tally: Tally
) -> Iterator[tuple[str, Row]]:
    first = next(found, None)
    if first is None:
        return
    found = chain((first,), found)
    names = first[1].keys()
    if columns.text in names or not names >= traffic.NAMES:
        yield from found
        return
    for place, row in found:
        conversation = _conversation(_recorded(path, place, row), tally)
        if conversation is not None:
            yield place, {columns.text: conversation[0], columns.label: conversation[1]}


def _recorded(path: Path, place: str, row: Row) -> Recorded:
    bodies = {name: _body(row[name]) for name in ("request", "reply") if row.get(name) is not None}
    said = {name: value for name, value in row.items() if value is not None} | bodies
    try:
        return read_recorded(msgspec.json.encode(said))
    except TrafficError as error:
        raise refused(path, place, error.message, error.hint) from None


def _body(value: object) -> object:
    """A body, which a table without nesting holds as text."""
    if isinstance(value, str | bytes):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
    return value


def _conversation(recorded: Recorded, tally: Tally) -> tuple[str, str] | None:
    """What was asked last and what was answered; nothing where the exchange cannot serve as an example."""
    reason = ""
    text, answer = asked(recorded), answer_text(recorded.endpoint, bytes(recorded.reply)) or ""
    if recorded.status >= 400:
        reason = "ended in an error"
    elif not len(recorded.request):
        reason = "without a recorded body"
    elif not text.strip():
        reason = "without a text of the user's"
    elif not answer.strip():
        reason = "without a text in answer"
    if reason:
        tally.left_out[reason] += 1
        return None
    tally.models[recorded.served or recorded.model] += 1
    return text, answer


def _not_text(path: Path) -> TrafficError:
    """Where a file stops being UTF-8, found by looking at its lines again."""
    hint = "Save it as UTF-8; `iconv -f latin1 -t utf-8` converts what older programs wrote."
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                what = f"byte {error.start + 1} of the line is not UTF-8 (0x{line[error.start]:02x})."
                return refused(path, f"line {number}", what, hint)
    return TrafficError(f"{path} is not UTF-8 text.", hint=hint)
