"""What exports of usage and costs share: results in buckets of time, instants, and money that is never a float."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from farthing.importers.reading import Row, instant, pico, rows, shaped, unreadable
from farthing.ledger.reconcile import DAY, Bill, Line, Measure

Shape = TypeVar("Shape")
Span = tuple[int, int]
SECOND = 10**9
MOST_DOLLARS = 10**9
"""More than that on one line is no price."""


class Sheet(msgspec.Struct, frozen=True):
    """An export taken apart: each result with its place and with the members of its bucket, and every bucket."""

    path: Path
    rows: list[tuple[str, Row]]
    buckets: list[tuple[str, Row]]
    more: bool

    def shaped(self, place: str, row: Row, shape: type[Shape]) -> Shape:
        """The members of a result that are read; raises TrafficError."""
        return shaped(self.path, place, row, shape)

    def time(self, place: str, at: int | str | None) -> int:
        """An instant (Unix ns) given in Unix seconds or as ISO 8601; raises TrafficError."""
        if at is None:
            raise unreadable(self.path, place, "it does not say when.", "Export it again.")
        if isinstance(at, int) or at.isdigit():
            return int(at) * SECOND
        return instant(self.path, place, at)

    def span(self, place: str, start: int | str | None, end: int | str | None) -> Span:
        """From when to when a bucket is (Unix ns); raises TrafficError when it is not within one UTC day."""
        begins = self.time(place, start)
        ends = begins + DAY if end is None else self.time(place, end)
        if not begins < ends <= begins - begins % DAY + DAY:
            hint = "Export it by day, or by a shorter time, beginning at midnight UTC."
            raise unreadable(self.path, place, "its bucket of time is not within one UTC day.", hint)
        return begins, ends

    def pico(self, place: str, amount: Decimal, currency: str = "usd", per_dollar: int = 1) -> int:
        """Dollars, or the parts of one, as pico-dollars; raises TrafficError when they are no sane number of these."""
        if currency.lower() != "usd":
            raise unreadable(self.path, place, f"it is in {currency}, not in dollars.", "Export it in dollars.")
        if not amount.is_finite() or not -MOST_DOLLARS <= amount <= MOST_DOLLARS:
            raise unreadable(self.path, place, f"{amount} is no price.", "Export it again.")
        return pico(amount / per_dollar) or 0

    def unnamed(self, place: str, how: str) -> Exception:
        """The error about a result that does not name its model."""
        return unreadable(self.path, place, "the result names no model.", f"Export it grouped by it: {how}.")

    def bill(self, provider: str, measures: Iterable[Measure], lines: list[Line], spans: Iterable[Span]) -> Bill:
        """The bill of these lines, which tells everything of the days that the spans fill."""
        days = whole_days(spans)
        return Bill(provider, tuple(lines), dict.fromkeys(measures, days), self.more)


def read_sheet(path: Path) -> Sheet:
    """Take an export apart: pages of JSON, one or several in the file, or CSV.

    Raises TrafficError when it is neither, OSError when it cannot be read.
    """
    data = path.read_bytes()
    text = data.decode("utf-8-sig", errors="replace").lstrip()
    if text[:1] not in ("{", "["):
        table = list(rows(path))
        return Sheet(path, table, table, more=False)
    sheet, pages = Sheet(path, [], [], more=False), []
    for number, document in enumerate(_documents(path, text), 1):
        for page in document if isinstance(document, list) else [document]:
            pages.append(page)
            _take_apart(sheet, f"page {number}", page)
    last = pages[-1] if pages else None
    return msgspec.structs.replace(sheet, more=isinstance(last, dict) and bool(last.get("has_more")))


def whole_days(spans: Iterable[Span]) -> frozenset[int]:
    """The UTC days (Unix ns) that spans of time within days fill."""
    filled: Counter[int] = Counter()
    for start, end in set(spans):
        filled[start - start % DAY] += end - start
    return frozenset(day for day, length in filled.items() if length >= DAY)


def day_of(at: int) -> int:
    """The UTC day of an instant, both in Unix ns."""
    return at - at % DAY


def _documents(path: Path, text: str) -> Iterator[object]:
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=_refused)
    position = 0
    try:
        while position < len(text):
            document, position = decoder.raw_decode(text, position)
            yield document
            while position < len(text) and text[position] in " \t\r\n":
                position += 1
    except (ValueError, RecursionError) as error:
        raise unreadable(path, "the whole file", f"this is not JSON: {error}.", "Export the file again.") from None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _take_apart(sheet: Sheet, place: str, page: object) -> None:
    """A page holds buckets that hold results, or results, or one result; or it is one of these itself."""
    if not isinstance(page, dict):
        raise unreadable(sheet.path, place, "this is not an object.", "Each page is one JSON object.")
    inside = page.get("data", page)
    for item in inside if isinstance(inside, list) else [inside]:
        if not isinstance(item, dict):
            raise unreadable(sheet.path, place, "a result is not an object.", "Export the file again.")
        bucket = {name: value for name, value in item.items() if name != "results" and value is not None}
        sheet.buckets.append((place, bucket))
        results = item.get("results", [{}])
        for result in results if isinstance(results, list) else [results]:
            if not isinstance(result, dict):
                raise unreadable(sheet.path, place, "a result is not an object.", "Export the file again.")
            given = {name: value for name, value in result.items() if value is not None}
            sheet.rows.append((place, given | bucket if "results" in item else bucket))
