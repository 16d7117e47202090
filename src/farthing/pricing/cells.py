"""Cells: typed access to one TOML table, with errors that name file, table, key and the nearest valid name."""

import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches

from farthing.errors import ConfigError
from farthing.pricing.edition import Ratio, Window
from farthing.schema import PICO_PER_USD

PICO_PER_TOKEN = PICO_PER_USD // 10**6
"""A price of 1 USD per million tokens, in pico-dollars per token."""

PICO_PER_USE = PICO_PER_USD // 10**3
"""A price of 1 USD per thousand uses, in pico-dollars per use."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY = (1 << len(_DAYS)) - 1
_DAY = 24 * 60
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


class Cells:
    """One table of a TOML file: `place` says where it stands, for messages."""

    def __init__(self, place: str, data: dict[str, object]) -> None:
        self.place = place
        self._data = data

    def called(self, name: str) -> "Cells":
        """The same table, under a fuller name."""
        return Cells(f"{self.place} ({name})", self._data)

    def error(self, problem: str, hint: str) -> ConfigError:
        """A ConfigError about this table."""
        return ConfigError(f"{self.place} {problem}.", hint=hint)

    def known(self, key: str, value: str, names: Collection[str]) -> None:
        """Raise ConfigError unless `value` is one of `names`."""
        if value not in names:
            near = get_close_matches(value, names, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else "Valid: " + ", ".join(sorted(names)) + "."
            raise self.error(f"{key} '{value}' is not known", hint)

    def only(self, *keys: str) -> None:
        """Raise ConfigError for a key that is not among `keys`."""
        for key in self._data:
            self.known("key", key, keys)

    def has(self, key: str) -> bool:
        """Whether the table says anything under a key."""
        return key in self._data

    def tables(self, key: str) -> Iterator["Cells"]:
        """The tables of an array of tables."""
        value = self._data.get(key, [])
        if not isinstance(value, list):
            raise self.error(f"key '{key}' is not an array of tables", f"Write [[{key}]].")
        for number, item in enumerate(value, 1):
            place = f"{self.place}, [[{key}]] {number}"
            if not isinstance(item, dict):
                raise ConfigError(f"{place} is not a table.", hint=f"Write [[{key}]].")
            yield Cells(place, item)

    def text(self, key: str, default: str | None = None) -> str:
        """A text, which may only be left out or empty when there is a default."""
        value = self._data.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.error(f"needs '{key}' as text, not {value!r}", f'Set {key} = "...".')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, which may be left out."""
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(f"needs '{key}' as a list of texts, not {value!r}", f'Set {key} = ["...", "..."].')
        return tuple(value)

    def patterns(self, key: str) -> tuple[str, ...]:
        """A list of names of models, in lower case: exact, with wildcards, or `/a regular expression/` as it is."""
        return tuple(self._pattern(key, text) for text in self.texts(key))

    def one_of(self, key: str, names: Collection[str]) -> str:
        """A text that must be one of `names`."""
        value = self.text(key)
        self.known(key, value, names)
        return value

    def count(self, key: str) -> int:
        """A whole number, 1 or more."""
        value = self._data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(f"needs '{key}' as a whole number above 0, not {value!r}", f"Set {key} = 1000.")
        return value

    def money(self, key: str, pico: int) -> int:
        """A price in USD as pico-dollars, `pico` of them per dollar; never rounded."""
        amount = self._decimal(key) * pico
        if amount < 0 or amount != amount.to_integral_value():
            raise self.error(
                f"key '{key}' is {self._data[key]} USD, which is {amount.normalize():f} pico-dollars",
                "A price is a whole number of pico-dollars (10^-12 USD), 0 or more.",
            )
        return int(amount)

    def ratio(self, key: str, default: Ratio | None = None) -> Ratio:
        """An exact factor: a number, or a fraction as text ("1/3")."""
        if default is not None and not self.has(key):
            return default
        value = self._data.get(key)
        try:
            over, _, under = str(value).partition("/")
            (a, b), (c, d) = Decimal(over).as_integer_ratio(), Decimal(under or 1).as_integer_ratio()
        except (InvalidOperation, OverflowError, ValueError) as error:
            raise self.error(
                f"needs '{key}' as a number or a fraction, not {value!r}", f'Set {key} = "1/2".'
            ) from error
        if a < 0 or c <= 0:
            raise self.error(f"key '{key}' is {value}, not a factor of 0 or more", f'Set {key} = "1/2".')
        return Ratio(a * d, b * c)

    def instant(self, key: str) -> int | None:
        """A date (its midnight) or date-time as Unix ns; UTC when it names no zone."""
        value = self._data.get(key)
        if value is None:
            return None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime):
            raise self.error(f"needs '{key}' as a date or date-time, not {value!r}", f"Set {key} = 2026-11-20.")
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000

    def date(self, key: str) -> str:
        """A date as YYYY-MM-DD, or "" when there is none."""
        value = self._data.get(key, "")
        if value != "" and (not isinstance(value, date) or isinstance(value, datetime)):
            raise self.error(f"needs '{key}' as a date, not {value!r}", f"Set {key} = 2026-11-20.")
        return str(value)

    def windows(self, hours: str, days: str) -> tuple[Window, ...]:
        """Windows from spans of hours in UTC ("01:00-04:00") and days ("mon-fri"); none when neither is given.

        A span that crosses midnight belongs to the day it begins on.
        """
        mask = sum(1 << day for day in {day for span in self.texts(days) for day in self._days(days, span)})
        if not mask and not self.has(hours):
            return ()
        spans = [self._hours(hours, span) for span in self.texts(hours) or ["00:00-24:00"]]
        return tuple(window for start, end in spans for window in _windows(mask or _EVERY_DAY, start, end))

    def _pattern(self, key: str, text: str) -> str:
        if not text[0] == "/" == text[-1]:
            return text.lower()
        try:
            re.compile(text[1:-1])
        except re.error as error:
            raise self.error(
                f"key '{key}' has {text!r}, which is no regular expression: {error}", "Correct it."
            ) from error
        return text

    def _decimal(self, key: str) -> Decimal:
        value = self._data.get(key)
        try:
            number = Decimal(value) if isinstance(value, int | str) and not isinstance(value, bool) else Decimal("NaN")
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite():
            raise self.error(f"needs '{key}' as a number, not {value!r}", f"Set {key} = 2.50.")
        return number

    def _days(self, key: str, span: str) -> list[int]:
        first, dash, last = span.lower().partition("-")
        for day in (first, last or first):
            self.known(key, day, _DAYS)
        start, end = _DAYS.index(first), _DAYS.index(last if dash else first)
        return [(start + step) % 7 for step in range((end - start) % 7 + 1)]

    def _hours(self, key: str, span: str) -> tuple[int, int]:
        parts = _HOURS.fullmatch(span)
        if parts is None:
            raise self.error(f"key '{key}' has {span!r}, not a span of hours", f'Set {key} = ["01:00-04:00"].')
        first, last = ((int(hour) * 60 + int(minute)) for hour, minute in (parts.group(1, 2), parts.group(3, 4)))
        if first == last or last > _DAY:
            raise self.error(f"key '{key}' has {span!r}, which is no time", f'Set {key} = ["01:00-04:00"].')
        return first, last


def _windows(days: int, start: int, end: int) -> tuple[Window, ...]:
    if start < end:
        return (Window(days, start, end),)
    next_days = (days << 1 | days >> len(_DAYS) - 1) & _EVERY_DAY
    return tuple(window for window in (Window(days, start, _DAY), Window(next_days, 0, end)) if window.end)
