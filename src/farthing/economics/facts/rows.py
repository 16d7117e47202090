"""Rows of facts: typed access to one table of a TOML file, with errors that name file, row, key and what to write."""

import math
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from difflib import get_close_matches

from farthing.errors import ConfigError


class Row:
    """One table of a TOML file: `place` says where it stands, for messages."""

    def __init__(self, place: str, data: Mapping[str, object]) -> None:
        self.place = place
        self._data = data

    def error(self, problem: str, hint: str) -> ConfigError:
        """A ConfigError about this row."""
        return ConfigError(f"{self.place} {problem}.", hint=hint)

    def rows(self, key: str, *naming: str) -> Iterator["Row"]:
        """The tables of an array of tables; those with texts under `naming` are called by them."""
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(f"key '{key}' is not an array of tables", f"Write [[{key}]].")
        for number, item in enumerate(value, 1):
            called = " ".join(text for name in naming if isinstance(text := item.get(name), str))
            yield Row(f"{self.place}, [[{key}]] {number}" + (f" ({called})" if called else ""), item)

    def table(self, key: str) -> "Row | None":
        """The table under a key, if there is one."""
        value = self._data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(f"key '{key}' is not a table", f"Write {key} = {{ ... }}.")
        return Row(f"{self.place}, {key}", value)

    def only(self, *keys: str) -> None:
        """Raise ConfigError for a key that is not among `keys`."""
        for key in self._data:
            self.known("key", key, keys)

    def known(self, what: str, value: str, names: Collection[str]) -> None:
        """Raise ConfigError unless `value` is one of `names`."""
        if value not in names:
            near = get_close_matches(value, names, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Valid: {', '.join(names)}."
            raise self.error(f"{what} '{value}' is not known", hint)

    def has(self, key: str) -> bool:
        """Whether the row says anything under a key."""
        return key in self._data

    def text(self, key: str, default: str | None = None) -> str:
        """A text, which may only be left out when there is a default."""
        value = self._data.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.error(f"needs '{key}' as text, not {_shown(value)}", f'Set {key} = "...".')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, which may be left out."""
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.error(f"needs '{key}' as a list of texts, not {_shown(value)}", f'Set {key} = ["..."].')
        return tuple(value)

    def one_of(self, key: str, names: Collection[str], default: str | None = None) -> str:
        """A text that must be one of `names`."""
        value = self.text(key, default)
        self.known(key, value, names)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"needs '{key}' as true or false, not {_shown(value)}", f"Set {key} = true.")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number: 1 or more, or 0 or more where there is a default."""
        value = self._data.get(key, default)
        least = 1 if default is None else 0
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(
                f"needs '{key}' as a whole number of {least} or more, not {_shown(value)}", f"Set {key} = 8."
            )
        return value

    def number(self, key: str, least: float = 0.0) -> float:
        """A finite number above 0, and not below `least`."""
        value = self._data.get(key)
        number = self._finite(key, value)
        if number <= 0 or number < least:
            bound = f"of {least:g} or more" if least else "above 0"
            raise self.error(f"needs '{key}' as a number {bound}, not {_shown(value)}", f"Set {key} = {least or 1.5}.")
        return number

    def optional(self, key: str) -> float | None:
        """A finite number above 0, or None where the row does not say."""
        return self.number(key) if self.has(key) else None

    def span(self, key: str) -> tuple[float, float] | None:
        """A number, or its low and high as a list of two; None where the row does not say."""
        value = self._data.get(key)
        if not isinstance(value, list):
            return None if value is None else (self.number(key), self.number(key))
        if len(value) != 2:
            raise self.error(f"key '{key}' has {len(value)} values, not low and high", f"Set {key} = [1.1, 2.5].")
        low, high = (self._finite(key, item) for item in value)
        if not 0 < low <= high:
            raise self.error(f"key '{key}' runs from {low:g} to {high:g}", "Give low, then high, both above 0.")
        return low, high

    def day(self, key: str) -> str:
        """A date, as YYYY-MM-DD."""
        value = self._data.get(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.error(f"needs '{key}' as a date, not {_shown(value)}", f"Set {key} = 2026-11-21.")
        return str(value)

    def _finite(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"needs '{key}' as a number, not {_shown(value)}", f"Set {key} = 1.5.")
        return float(value)


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)
