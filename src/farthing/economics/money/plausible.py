"""What figures of a plan must be: known, finite, on the right side of zero, and of a size that anything real has."""

import math
import re
from numbers import Real

import msgspec

from farthing.errors import RequestError

SMALLEST, LARGEST = 1e-12, 1e21
"""No figure of a plan is nearer to zero or further from it; so no product of a few of them overflows."""


def require(
    record: msgspec.Struct,
    *,
    above_zero: tuple[str, ...] = (),
    at_least_zero: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    counts: tuple[str, ...] = (),
    whole: tuple[str, ...] = (),
) -> None:
    """Raise RequestError for the first field of a record that is not what it must be.

    `above_zero` and `at_least_zero` say which; `shares` lie between 0 and 1, both included; `counts` are whole numbers
    of 1 or more, and `whole` those of 0 or more. `None` is an unknown figure, and refused wherever it is named here.
    """
    who = title(record)
    for name in above_zero:
        value = number(who, name, getattr(record, name))
        if value < SMALLEST:
            raise _out_of_bounds(who, name, value, "above 0")
    for name in at_least_zero:
        value = number(who, name, getattr(record, name))
        if value < 0:
            raise _out_of_bounds(who, name, value, "0 or more")
    for name in shares:
        value = number(who, name, getattr(record, name))
        if not 0 <= value <= 1:
            raise _out_of_bounds(who, name, value, "a share between 0 and 1")
    for name in counts + whole:
        value = number(who, name, getattr(record, name))
        least = 1 if name in counts else 0
        if value < least or value != int(value):
            raise _out_of_bounds(who, name, value, f"a whole number of {least} or more")


def number(who: str, name: str, value: object) -> float:
    """A figure that is known and finite; raises RequestError otherwise.

    >>> number("a machine", "usd_per_h", 2)
    2.0
    """
    if value is None:
        raise RequestError(
            f"{_capital(who)} has no {name}: it is not known.", hint="What is unknown is not taken for 0: give it."
        )
    if isinstance(value, bool) or not isinstance(value, Real):
        raise RequestError(f"{_capital(who)} has {value!r} for {name}.", hint="Give a number.")
    try:
        found = float(value)
    except OverflowError:  # a whole number too long for a float
        found = 2 * LARGEST
    if not math.isfinite(found):
        raise RequestError(f"{_capital(who)} has {found} for {name}.", hint="Give a finite number.")
    if abs(found) > LARGEST:
        raise RequestError(f"{_capital(who)} has {found:.0e} or beyond for {name}.", hint="Check its unit.")
    return found


def title(record: msgspec.Struct) -> str:
    """What to call a record in a message: its kind in words, and its name if it has one."""
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(record).__name__).lower()
    name = getattr(record, "name", "") if "name" in record.__struct_fields__ else ""
    return f"the {kind} '{name}'" if name else f"the {kind}"


def _capital(who: str) -> str:
    return who[:1].upper() + who[1:]


def _out_of_bounds(who: str, name: str, value: float, bound: str) -> RequestError:
    return RequestError(f"{_capital(who)} has {value:.6g} for {name}.", hint=f"It must be {bound}.")
