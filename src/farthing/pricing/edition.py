"""Edition: the whole content of a price book as stored, and the records it is made of."""

from typing import Literal

import msgspec

from farthing.errors import ConfigError
from farthing.schema import FEE_METERS

STANDARD = "standard"
"""The tier a provider serves when none is asked for; other tiers are named as the provider echoes them."""

Pattern = str | tuple[str, ...]
"""A model name: exact, with `*` wildcards, `/a regular expression/`, or several that must all match."""

_MINUTE = 60 * 10**9
_DAY = 1440 * _MINUTE
_THURSDAY = 3
"""The weekday of 1970-01-01, counting from Monday."""


class Ratio(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An exact factor, `over / under`."""

    over: int = 1
    under: int = 1

    def times(self, price: int) -> int | None:
        """The scaled price, or `None` when it is not a whole number of pico-dollars.

        >>> Ratio(1, 2).times(2500), Ratio(1, 2).times(3)
        (1250, None)
        """
        scaled, rest = divmod(price * self.over, self.under)
        return None if rest else scaled


class Window(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Minutes [start, end) of the UTC day, on the weekdays of the bit mask `days` (Monday is 1, Sunday 64)."""

    days: int
    start: int
    end: int

    def holds(self, at: int) -> bool:
        """Whether an instant (Unix ns) lies in the window."""
        weekday = (at // _DAY + _THURSDAY) % 7
        return self.start <= at // _MINUTE % 1440 < self.end and bool(self.days >> weekday & 1)


class Band(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Prices by meter, in pico-dollars per token or use, for requests of more than `above` input tokens."""

    above: int
    prices: dict[str, int]


class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The prices of one model at one tier, while valid: from `start` to before `until` (Unix ns), within `windows`.

    `bands` ascend from 0; the band that a request's total input falls in prices all of that request.
    `own` rows are the user's terms with this provider, which do not hold at others that borrow the model.
    """

    bands: tuple[Band, ...]
    start: int | None = None
    until: int | None = None
    windows: tuple[Window, ...] = ()
    source: str = ""
    own: bool = False


class Model(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One model: rows by tier, the last that is valid wins; `names` are what it is called besides its `id`."""

    id: str
    tiers: dict[str, tuple[Row, ...]]
    names: tuple[Pattern, ...] = ()


class Provider(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One seller of inference; among its models the first that matches a name is meant.

    `serves` tells its models' names from other makers' when no provider is given. A name that is not its own is
    looked up at `like`, tiers and all, at `factor` times the price; and then at `borrows`, the standard tier only.
    """

    id: str
    models: tuple[Model, ...] = ()
    serves: tuple[Pattern, ...] = ()
    like: str = ""
    factor: Ratio = Ratio()
    borrows: tuple[str, ...] = ()


class TierRule(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A tier that costs `factor` times the standard one on every token meter, where no row of its own is valid."""

    provider: str
    tier: str
    factor: Ratio
    models: tuple[Pattern, ...] = ("*",)
    source: str = ""


class MeterRule(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A meter that costs `factor` times the meter `of`, where it has no price of its own; provider "*" is all."""

    provider: str
    meter: str
    of: str
    factor: Ratio
    models: tuple[Pattern, ...] = ("*",)
    source: str = ""


class Edition(msgspec.Struct, frozen=True, gc=False):
    """Everything a price book knows, as of a date (YYYY-MM-DD). Of several rules for one thing the first applies."""

    as_of: str
    source: str
    providers: tuple[Provider, ...] = ()
    tier_rules: tuple[TierRule, ...] = ()
    meter_rules: tuple[MeterRule, ...] = ()
    format: Literal[1] = 1

    def encode(self) -> bytes:
        """The edition as JSON: the same edition gives the same bytes."""
        return _ENCODER.encode(self)


def decode(data: bytes) -> Edition:
    """Read an encoded edition; raises ConfigError when it is damaged or of another format."""
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"The price book ({len(data)} bytes) cannot be read: {error}.",
            hint="Reinstall Farthing, or restore the archived edition from a backup.",
        ) from error


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Edition)


def scaled(bands: tuple[Band, ...], factor: Ratio) -> tuple[Band, ...]:
    """Bands with token prices times `factor` and fees as they are; a price that would not be whole is left out."""
    return tuple(Band(band.above, _scaled(band.prices, factor)) for band in bands)


def _scaled(prices: dict[str, int], factor: Ratio) -> dict[str, int]:
    result = {}
    for meter, price in prices.items():
        product = price if meter in FEE_METERS else factor.times(price)
        if product is not None:
            result[meter] = product
    return result
