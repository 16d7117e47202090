"""What answers cost on hardware that is paid by the hour."""

from farthing.errors import PriceError
from farthing.schema import Charge

_NS_PER_HOUR = 3600 * 10**9


def hosted_cost(hourly: int, latency: int, concurrency: int) -> int:
    """Pico-dollars for one request: (hourly / 3600) x (latency in seconds / concurrency).

    `hourly` is the machine's price in pico-dollars an hour, `latency` the request's time on it in nanoseconds, and
    `concurrency` how many requests share it at once. Rounded half to even to a whole pico-dollar, so the error is at
    most half of 10^-12 USD a request. Raises PriceError for a negative price or time, or a concurrency below 1.

    >>> hosted_cost(hourly=3 * 10**12, latency=300_000_000, concurrency=8)
    31250000
    """
    if hourly < 0 or latency < 0 or concurrency < 1:
        raise PriceError(
            f"A request of {latency} ns at {hourly} pico-dollars an hour, {concurrency} at once, has no cost.",
            hint="The price and the time must be 0 or more, and the concurrency at least 1.",
        )
    return _half_even(hourly * latency, _NS_PER_HOUR * concurrency)


def hosted_charge(*, hourly: int, latency: int, concurrency: int) -> Charge:
    """The charge for one request on owned hardware, which has no list price to save on; see `hosted_cost`."""
    cost = hosted_cost(hourly, latency, concurrency)
    return Charge(amount=cost, list_amount=cost, price_version="")


def price_per_token(hourly: int, tokens_per_hour: int) -> int:
    """Pico-dollars per token when a machine at `hourly` pico-dollars an hour processes so many tokens in it.

    Rounded half to even to a whole pico-dollar: at most 0.0000005 USD per million tokens off.
    Raises PriceError for a negative price or less than one token an hour.

    >>> price_per_token(hourly=3 * 10**12, tokens_per_hour=6_000_000)
    500000
    """
    if hourly < 0 or tokens_per_hour < 1:
        raise PriceError(
            f"{hourly} pico-dollars an hour over {tokens_per_hour} tokens an hour is no price.",
            hint="The price must be 0 or more, and the tokens an hour at least 1.",
        )
    return _half_even(hourly, tokens_per_hour)


def _half_even(over: int, under: int) -> int:
    whole, rest = divmod(over, under)
    return whole + (2 * rest > under or (2 * rest == under and whole % 2 == 1))
