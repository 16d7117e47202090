"""Cells: typed access to one TOML table, with errors that name file, table, key and the nearest valid name."""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches

from farthing.errors import ConfigError
from farthing.pricing.edition import Ratio, Window
from farthing.schema import PICO_PER_USD

pico_per_token = PICO_PER_USD // 10**6
"""A price of 1 USD per million tokens, in pico-dollars per token."""

pico_per_use = PICO_PER_USD // 10**3
"""A price of 1 USD per thousand uses, in pico-dollars per use."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY = (1 << len(_DAYS)) - 1


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
        value = self._data.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.error(f"needs '{key}' as text, not {value!r}", f"Set {key} = \"...\".")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(f"needs '{key}' as a list of texts, not {value!r}", f'Set {key} = ["...", "..."].')
        return tuple(value)

    def one_of(self, key: str, names: Collection[str]) -> str:
        value = self.text(key)
        self.known(key, value, names)
        return value

    def count(self, key: str) -> int:
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
            raise self.error(f"needs '{key}' as a number or a fraction, not {value!r}", f'Set {key} = "1/2".') from error
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
        """Daily windows from ["01:00-04:00", ...] (UTC) and ["mon-fri", ...]; none when neither is given."""
        mask = sum(1 << day for day in {day for span in self.texts(days) for day in self._days(days, span)})
        spans = [part for span in self.texts(hours) for part in self._hours(hours, span)]
        if not spans and not mask:
            return ()
        return tuple(Window(mask or _EVERY_DAY, start, end) for start, end in spans or [(0, 1440)])

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

    def _hours(self, key: str, span: str) -> list[tuple[int, int]]:
        first, _, last = span.partition("-")
        try:
            start, end = time.fromisoformat(first.strip()), time.fromisoformat(last.strip().replace("24:00", "00:00"))
        except ValueError as error:
            raise self.error(f"key '{key}' has {span!r}, not a span of hours", f'Set {key} = ["01:00-04:00"].') from error
        begin, finish = start.hour * 60 + start.minute, (end.hour * 60 + end.minute) or 1440
        return [(begin, finish)] if begin < finish else [(begin, 1440), (0, finish)]
