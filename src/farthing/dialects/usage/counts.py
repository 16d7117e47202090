"""Counts as they come off the wire: read with suspicion, and split without overlap."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from farthing.schema import Usage

_MOST: Final = 2**53


class Tally(NamedTuple):
    """Usage in buckets (`None` when missing or unreadable), and the reported names that have no bucket."""

    usage: Usage | None
    unknown: tuple[str, ...] = ()


NOTHING: Final = Tally(None)


class UnreadableCountError(ValueError):
    """A count that is negative, not a whole number, or not a number: the report it is in cannot be trusted."""


Fields = Mapping[str, object]
_NO_FIELDS: Final[Fields] = {}


def count(fields: Fields, name: str) -> int:
    """A reported count; absent and null are 0. Raises UnreadableCountError."""
    value = fields.get(name)
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= _MOST:
        raise UnreadableCountError(name)
    return value


def nested(fields: Fields, name: str) -> Fields:
    """A reported group of counts; absent and null are empty. Raises UnreadableCountError."""
    value = fields.get(name)
    if value is None:
        return _NO_FIELDS
    if not isinstance(value, dict):
        raise UnreadableCountError(name)
    return value


def strangers(fields: Fields, known: Collection[str], under: str = "") -> tuple[str, ...]:
    """The reported names that are not known, with the group they stand in."""
    return tuple([under + name for name in fields if name not in known])


def shares(total: int, *parts: int) -> list[int]:
    """Cut `total` into the parts, first come first served, and what is left over; the sum is always `total`.

    Providers count some tokens twice, under cache and under modality say; here each is counted once.

    >>> shares(100, 80, 0, 50)
    [80, 0, 20, 0]
    """
    cut = []
    for part in parts:
        taken = min(part, total)
        cut.append(taken)
        total -= taken
    cut.append(total)
    return cut
