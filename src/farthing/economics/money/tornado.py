"""Which input moves a cost the most: each taken to its low and its high end, the others left alone."""

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from farthing.economics.money.plausible import number
from farthing.errors import RequestError


class Range(msgspec.Struct, frozen=True):
    """An input of a cost: what it is taken to be, and how far it may lie below and above."""

    name: str
    low: float
    base: float
    high: float


class Bar(msgspec.Struct, frozen=True):
    """Dollars with one input at its low and its high end; `swing_usd` is how far they lie apart."""

    name: str
    low: float
    high: float
    usd_at_low: float
    usd_at_high: float

    @property
    def swing_usd(self) -> float:
        """Never negative."""
        return abs(self.usd_at_high - self.usd_at_low)


class Tornado(msgspec.Struct, frozen=True):
    """The cost with every input at its base, and a bar per input, the widest first."""

    base_usd: float
    bars: tuple[Bar, ...]


def tornado(ranges: Sequence[Range], usd: Callable[[Mapping[str, float]], float]) -> Tornado:
    """How a cost swings with each of its inputs; `usd` is a pure function of the inputs by name.

    Bars of equal width stay in the order of the ranges. Raises RequestError for a range that is not in order, two of
    one name, and whatever the cost refuses at an end, with the end.

    >>> ranges = [Range("gpus", 1, 2, 4), Range("usd_per_h", 2, 3, 3.5)]
    >>> found = tornado(ranges, lambda at: at["gpus"] * at["usd_per_h"])
    >>> found.base_usd, [(bar.name, bar.usd_at_low, bar.usd_at_high) for bar in found.bars]
    (6.0, [('gpus', 3.0, 12.0), ('usd_per_h', 4.0, 7.0)])
    """
    base = {one.name: number(f"the range '{one.name}'", "base", one.base) for one in ranges}
    if len(base) < len(ranges) or not ranges:
        raise RequestError(f"{len(ranges)} ranges have {len(base)} names.", hint="Give one range or more, each once.")
    for one in ranges:
        low, high = (number(f"the range '{one.name}'", end, getattr(one, end)) for end in ("low", "high"))
        if not low <= one.base <= high:
            raise RequestError(
                f"The range '{one.name}' goes from {low:g} over {one.base:g} to {high:g}.",
                hint="Give low, base and high in this order.",
            )
    bars = [
        Bar(
            one.name,
            float(one.low),
            float(one.high),
            _at(usd, base, one.name, one.low),
            _at(usd, base, one.name, one.high),
        )
        for one in ranges
    ]
    bars.sort(key=lambda bar: -bar.swing_usd)
    return Tornado(_at(usd, base, ranges[0].name, ranges[0].base), tuple(bars))


def _at(usd: Callable[[Mapping[str, float]], float], base: Mapping[str, float], name: str, value: float) -> float:
    try:
        found = float(usd({**base, name: float(value)}))
    except RequestError as error:
        raise RequestError(f"With {name} at {value:g}: {error.message}", hint=error.hint) from None
    if not math.isfinite(found):
        raise RequestError(f"With {name} at {value:g} the cost is {found}.", hint="Narrow the range.")
    return found
