"""What an API charges for tokens, as far as a plan needs it."""

from itertools import combinations

import msgspec

from farthing.economics.money.plausible import number, require, title
from farthing.errors import RequestError

DEAREST_USD_PER_1M = 10_000.0
"""No list price comes near (the dearest of the price book is 600 USD per million); a slip of the unit does."""

APART = 1000.0
"""Prices of one model are never this far apart (243 times at most in the price book); per 1k and per 1M are."""


class ApiPrice(msgspec.Struct, frozen=True):
    """List prices of one model in USD per million tokens; `None` is unknown, and refused when it is needed.

    `usd_per_1m_cache_write` is what tokens written to the provider's cache cost in all: the plain input price where
    the provider charges no more for writing.
    """

    usd_per_1m_input: float | None
    usd_per_1m_output: float | None
    usd_per_1m_cache_read: float | None = None
    usd_per_1m_cache_write: float | None = None
    name: str = ""


class Tokens(msgspec.Struct, frozen=True):
    """Tokens in buckets that do not overlap: plain input, read from and written to the provider's cache, output."""

    input: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    output: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.input + self.cache_read + self.cache_write + self.output


def usd_per_1m_of(pico_usd_per_token: int | None) -> float | None:
    """A unit price of the price book in USD per million tokens; unknown stays unknown.

    >>> usd_per_1m_of(2_500_000)
    2.5
    """
    return None if pico_usd_per_token is None else pico_usd_per_token / 1e6


def checked(price: ApiPrice) -> ApiPrice:
    """The price itself; raises RequestError for negative prices, and for prices that cannot be of one unit."""
    names = [name for name in price.__struct_fields__ if name != "name" and getattr(price, name) is not None]
    require(price, at_least_zero=tuple(names))
    who = title(price).capitalize()
    for name in names:
        if getattr(price, name) > DEAREST_USD_PER_1M:
            raise RequestError(
                f"{who} has {getattr(price, name):g} for {name}, more than any model costs.",
                hint="Prices are in USD per million tokens: a price per token times 1,000,000.",
            )
    for one, other in combinations(names, 2):
        low, high = sorted((one, other), key=lambda name: getattr(price, name))
        if getattr(price, low) and getattr(price, high) >= APART * getattr(price, low):
            raise RequestError(
                f"{who} has {getattr(price, high):g} for {high} and {getattr(price, low):g} for {low}, "
                f"{getattr(price, high) / getattr(price, low):,.0f} times less.",
                hint="One of them seems to be per thousand tokens: all are in USD per million.",
            )
    read, plain = price.usd_per_1m_cache_read, price.usd_per_1m_input
    if read is not None and plain is not None and read > 2 * plain:
        raise RequestError(
            f"{who} has {read:g} for usd_per_1m_cache_read and {plain:g} for usd_per_1m_input.",
            hint="Reading from a cache costs less than plain input: check which is which.",
        )
    return price


def api_usd(price: ApiPrice, tokens: Tokens) -> float:
    """Dollars for tokens at list prices; raises RequestError when there are tokens whose price is not known.

    >>> api_usd(ApiPrice(2.5, 10.0), Tokens(input=1000, output=100))
    0.0035
    """
    require(tokens, at_least_zero=tokens.__struct_fields__)
    usd = 0.0
    for meter in tokens.__struct_fields__:
        if count := getattr(tokens, meter):
            name = f"usd_per_1m_{meter}"
            usd += count * number(title(price), name, getattr(price, name))
    return usd / 1e6
